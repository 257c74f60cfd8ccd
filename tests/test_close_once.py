"""`close()` of the iterable is called exactly once, whatever happens."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

import pytest
from harness import Server, Truncated, eventually, request

APP = """
from apps.notes import note
from apps.routes import Routes, text

app = Routes()


class Body:
    def __init__(self, name, blocks, closing=None):
        self.name, self.blocks, self.closing = name, iter(blocks), closing

    def __iter__(self):
        return self

    def __next__(self):
        block = next(self.blocks)
        if isinstance(block, BaseException):
            raise block
        return block

    def close(self):
        note("closed " + self.name)
        if self.closing:
            raise self.closing


def answer(name, blocks, status="200 OK", headers=(), **more):
    def application(environ, start_response):
        start_response(status, list(headers))
        return Body(name, blocks, **more)

    application.__name__ = name
    app.route(application)


answer("whole", [b"one", b"two"])
answer("empty", [])
answer("no_content", [b"one"], "204 No Content")
answer("fails_at_first", [ValueError("at first")])
answer("fails_later", [b"one", ValueError("later")])
answer("exits", [b"one", SystemExit(3)])
answer("overruns", [b"one", b"two"], headers=[("Content-Length", "4")])
answer("underruns", [b"one"], headers=[("Content-Length", "4")])
answer("yields_text", [b"one", "two"])
answer(
    "fails_in_close", [b"one"], headers=[("Content-Length", "3")], closing=ValueError("in close")
)
answer("fails_twice", [b"one", ValueError("later")], closing=ValueError("in close"))


@app.route
def without_start_response(environ, start_response):
    return Body("without_start_response", [b"one"])


@app.route
def endless(environ, start_response):
    start_response("200 OK", [])

    def blocks():
        while True:
            note("block")
            yield bytes(65536)

    return Body("endless", blocks())


@app.route
def generator(environ, start_response):
    start_response("200 OK", [])
    try:
        while True:
            yield bytes(65536)
    finally:
        note("closed generator")


@app.route
def other(environ, start_response):
    return text(start_response, "other")
"""
PATHS = [
    "whole",
    "empty",
    "no_content",
    "fails_at_first",
    "fails_later",
    "exits",
    "overruns",
    "underruns",
    "yields_text",
]
PATHS += ["fails_in_close", "fails_twice", "without_start_response"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP, "--keep-alive", "30") as server:
        yield server


def assert_closed_once_more(server: Server, name: str, before: int) -> None:
    server.wait_for_note(f"closed {name}", before + 1)
    assert server.get("/other").text == "other"
    assert server.notes().count(f"closed {name}") == before + 1


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", PATHS)
def test_however_the_iteration_ends_close_is_called_once(
    server: Server, path: str, method: str
) -> None:
    before = server.notes().count(f"closed {path}")
    pid = server.worker_pid()
    with server.client() as client, contextlib.suppress(Truncated, ConnectionError):
        client.request(method, f"/{path}")
    assert_closed_once_more(server, path, before)
    assert server.worker_pid() == pid


@pytest.mark.parametrize("path", ["endless", "generator"])
def test_a_client_that_leaves_ends_the_iteration(server: Server, path: str) -> None:
    before = server.notes().count(f"closed {path}")
    with server.client() as client:
        client.send(request("GET", f"/{path}"))
        client.read_until(b"\r\n\r\n")
        client.reset()
    assert_closed_once_more(server, path, before)


def test_a_client_that_leaves_is_no_error_of_the_application(server: Server) -> None:
    said = server.stderr_text()
    before = server.notes().count("closed endless")
    with server.client() as client:
        client.send(request("GET", "/endless"))
        client.read_until(b"\r\n\r\n")
        client.reset()
    assert_closed_once_more(server, "endless", before)
    assert "Traceback" not in server.stderr_text()[len(said) :]


def test_an_error_in_close_is_logged_and_the_answer_is_still_complete(server: Server) -> None:
    before = server.stderr_text().count("ValueError: in close")
    assert server.get("/fails_in_close").body == b"one"
    server.wait_for_log("ValueError: in close", before + 1)


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGINT])
def test_a_quick_stop_in_the_middle_of_an_answer_closes_it(number: signal.Signals) -> None:
    with Server.start(APP) as server, server.client(receive_buffer=8192) as client:
        client.send(request("GET", "/endless"))
        eventually(lambda: server.notes().count("block"), "the first block")
        server.signal(number)
        assert server.wait() == 0
        assert server.notes().count("closed endless") == 1
