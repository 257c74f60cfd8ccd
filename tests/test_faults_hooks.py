"""Hooks and loggers raise, whatever they raise: beyond test_hooks.py, the request has its answer or
its 500, `close()` is called, and the worker lives."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

import pytest
from harness import Server, eventually, request
from wellness import WELL_ROUTE, assert_answers, assert_serves, unharmed

APP = """
import sys
from apps.hold import wait_for_file
from apps.notes import note
from apps.routes import Routes, text

app = Routes()


class Body(list):
    def close(self):
        note("closed")


@app.route
def body(environ, start_response):
    start_response("200 OK", [("Content-Length", "4")])
    return Body([b"body"])


@app.route
def error(environ, start_response):
    raise ValueError("on purpose")


@app.route
def exits(environ, start_response):
    note("called")
    if "hold" in environ["QUERY_STRING"]:
        wait_for_file("release")
    sys.exit(3)
"""
RAISING = """
keepalive = 60


class Outermost(BaseException):
    pass


def deep():
    return deep()


ERRORS = {
    "ValueError": lambda: ValueError("secret"),
    "Outermost": lambda: Outermost("secret"),
    "SystemExit": lambda: SystemExit(3),
    "KeyboardInterrupt": lambda: KeyboardInterrupt("secret"),
    "GeneratorExit": lambda: GeneratorExit("secret"),
    "StopIteration": lambda: StopIteration("secret"),
    "MemoryError": lambda: MemoryError("secret"),
    "OSError": lambda: OSError(5, "secret"),
    "RecursionError": deep,
}


def fail(where, query):
    if where in query:
        raise ERRORS[query.split("-")[1]]()
"""
HOOKS = (
    RAISING
    + """
def pre_request(worker, req):
    fail("pre", req.query)


def post_request(worker, req, environ, resp):
    fail("post", req.query)
"""
)
LOGGER = (
    RAISING
    + """
from gunicorn.glogging import Logger


class OwnLogger(Logger):
    def access(self, resp, req, environ, request_time):
        fail("access", req.query)


logger_class = OwnLogger
"""
)
MUTE = (
    RAISING
    + """
from gunicorn.glogging import Logger


class Mute(Logger):
    def access(self, *_, **__):
        raise Outermost("access")

    def exception(self, *_, **__):
        raise Outermost("exception")

    def warning(self, *_, **__):
        raise Outermost("warning")


logger_class = Mute
"""
)
ERRORS = [
    "ValueError",
    "Outermost",
    "SystemExit",
    "KeyboardInterrupt",
    "GeneratorExit",
    "StopIteration",
    "MemoryError",
    "OSError",
    "RecursionError",
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP + WELL_ROUTE, config=HOOKS) as server:
        yield server


@pytest.fixture(scope="module")
def logging() -> Iterator[Server]:
    with Server.start(APP + WELL_ROUTE, config=LOGGER) as logging:
        yield logging


# StopIteration says to gunicorn, and to us, that the connection was somebody else's affair.
@pytest.mark.parametrize("error", [error for error in ERRORS if error != "StopIteration"])
def test_pre_request_raises_and_it_is_a_500(server: Server, error: str) -> None:
    before = server.notes().count("closed")
    with unharmed(server, tracebacks=None), server.client() as client:
        response = client.request("GET", f"/body?pre-{error}")
        assert response.status == 500
        assert b"secret" not in response.body
        assert client.is_closed_by_peer()
        server.wait_for_log(rf"{error}.*\n|{error}$")
    assert server.notes().count("closed") == before, "the application was called"


@pytest.mark.parametrize("error", ERRORS)
def test_post_request_raises_and_the_answer_is_complete(server: Server, error: str) -> None:
    before = server.notes().count("closed")
    with unharmed(server, tracebacks=1), server.client() as client:
        assert client.request("GET", f"/body?post-{error}").body == b"body"
        assert_answers(client)
    assert server.notes().count("closed") == before + 1


@pytest.mark.parametrize("error", ERRORS)
def test_the_access_logger_raises_and_the_answer_is_complete(logging: Server, error: str) -> None:
    before = logging.notes().count("closed")
    with unharmed(logging, tracebacks=1), logging.client() as client:
        assert client.request("GET", f"/body?access-{error}").body == b"body"
        assert_answers(client)
    assert logging.notes().count("closed") == before + 1


def test_a_logger_that_always_raises_ends_nothing() -> None:
    with Server.start(APP + WELL_ROUTE, config=MUTE) as server:
        pid = server.worker_pid()
        with server.client() as witness:
            for _ in range(3):
                assert server.get("/error").status == 500
                assert_answers(witness)
                with server.client() as client:
                    client.send(b"nonsense\r\n\r\n")
                    assert client.response().status == 400
                assert_answers(witness)
        assert server.worker_pid() == pid


def test_a_statsd_that_is_down_costs_no_answer() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with Server.start(
        APP + WELL_ROUTE, "--keep-alive", "60", "--statsd-host", f"127.0.0.1:{port}"
    ) as server:
        pid = server.worker_pid()
        with server.client() as witness:
            for _ in range(10):
                assert_answers(witness)
                assert server.get("/error").status == 500
        assert_serves(server)
        assert server.worker_pid() == pid


def test_an_error_in_post_fork_is_an_error_at_start() -> None:
    config = "def post_fork(server, worker):\n    raise ValueError('in post_fork')\n"
    with Server.start(APP + WELL_ROUTE, config=config, ready=False) as server:
        server.wait_for_log("in post_fork")


# An application's SystemExit is a 500, whatever else goes on


def test_the_last_request_before_a_restart_may_exit_without_halting_the_site() -> None:
    """gunicorn's arbiter halts when a worker's exit code is 3."""
    with Server.start(APP + WELL_ROUTE, "--keep-alive", "60", "--max-requests", "3") as server:
        first = server.worker_pid()
        assert server.get("/well").status == 200
        assert server.get("/well").status == 200
        assert server.get("/exits").status == 500
        eventually(lambda: server.worker_pids() not in ([], [first]), "the worker is replaced")
        assert_serves(server)
        assert server.process.poll() is None
        assert "Shutting down" not in server.stderr_text()


def test_a_request_may_exit_while_its_worker_leaves_without_halting_the_site() -> None:
    """As on a reload: others are still owed their answers by that worker."""
    with (
        Server.start(APP + WELL_ROUTE, "--keep-alive", "60") as server,
        server.client() as exiting,
        server.client() as other,
    ):
        first = server.worker_pid()
        exiting.send(request("GET", "/exits?hold"))
        server.wait_for_note("called")
        other.send(request("GET", "/body"))
        os.kill(first, signal.SIGTERM)
        (server.directory / "release").touch()
        assert exiting.response().status == 500
        assert other.response().body == b"body"
        eventually(lambda: server.worker_pids() not in ([], [first]), "the worker is replaced")
        assert_serves(server)
        assert server.process.poll() is None
