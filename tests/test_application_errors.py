"""What the application raises is a 500 and a traceback in the error log, or a broken response once
headers are out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from harness import Server, Truncated, request

APP = """
import errno
from apps.routes import Routes, text

app = Routes()


class Unprintable(Exception):
    def __str__(self):
        raise ValueError("no words")

    __repr__ = __str__


class Outermost(BaseException):
    pass


def deep():
    return deep()


ERRORS = {
    "ValueError": ValueError("secret"),
    "SystemExit": SystemExit(3),
    "SystemExit0": SystemExit(),
    "KeyboardInterrupt": KeyboardInterrupt("secret"),
    "GeneratorExit": GeneratorExit("secret"),
    "Outermost": Outermost("secret"),
    "FileNotFoundError": FileNotFoundError(2, "secret"),
    "ConnectionResetError": ConnectionResetError(errno.ECONNRESET, "secret"),
    "BrokenPipeError": BrokenPipeError(errno.EPIPE, "secret"),
    "NotConnected": OSError(errno.ENOTCONN, "secret"),
    "BlockingIOError": BlockingIOError(errno.EAGAIN, "secret"),
    "InterruptedError": InterruptedError(errno.EINTR, "secret"),
    "TimeoutError": TimeoutError("secret"),
    "MemoryError": MemoryError("secret"),
    "Unprintable": Unprintable(),
    "UnicodeError": ValueError("secret \\udcff \\u2603"),
}


def fail(environ):
    name = environ["QUERY_STRING"]
    if name == "RecursionError":
        deep()
    raise ERRORS[name]


@app.route
def at_once(environ, start_response):
    fail(environ)


@app.route
def after_start_response(environ, start_response):
    start_response("200 OK", [("X-Own", "1")])
    fail(environ)


@app.route
def before_the_first_block(environ, start_response):
    start_response("200 OK", [("X-Own", "1")])
    fail(environ)
    yield b"never"


@app.route
def after_an_empty_block(environ, start_response):
    start_response("200 OK", [("X-Own", "1")])
    yield b""
    fail(environ)


@app.route
def after_a_block(environ, start_response):
    start_response("200 OK", [])
    yield b"a block"
    fail(environ)


@app.route
def after_a_block_of_some_length(environ, start_response):
    start_response("200 OK", [("Content-Length", "100")])
    yield b"a block"
    fail(environ)


@app.route
def after_write(environ, start_response):
    start_response("200 OK", [])(b"a block")
    fail(environ)


@app.route
def fine(environ, start_response):
    return text(start_response, "fine")
"""
NAMES = [
    "ValueError",
    "SystemExit",
    "SystemExit0",
    "KeyboardInterrupt",
    "GeneratorExit",
    "Outermost",
    "FileNotFoundError",
]
NAMES += [
    "ConnectionResetError",
    "BrokenPipeError",
    "NotConnected",
    "BlockingIOError",
    "InterruptedError",
    "TimeoutError",
]
NAMES += ["MemoryError", "Unprintable", "UnicodeError", "RecursionError"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP, "--keep-alive", "30") as server:
        yield server


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("moment", ["at_once", "after_start_response", "before_the_first_block"])
def test_before_headers_are_out_it_is_a_500_and_a_traceback(
    server: Server, moment: str, name: str
) -> None:
    pid, before = server.worker_pid(), server.stderr_text().count("Traceback")
    with server.client() as client:
        response = client.request("GET", f"/{moment}?{name}")
        assert response.status == 500
        assert response.header("X-Own") is None
        assert b"secret" not in response.body and b"Traceback" not in response.body
        assert response.header("Connection") == "close"
        assert client.is_closed_by_peer()
    server.wait_for_log("Traceback", before + 1)
    assert server.get("/fine").text == "fine"
    assert server.worker_pid() == pid


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("moment", ["after_a_block", "after_a_block_of_some_length", "after_write"])
def test_once_headers_are_out_the_connection_is_aborted(
    server: Server, moment: str, name: str
) -> None:
    pid, before = server.worker_pid(), server.stderr_text().count("Traceback")
    with server.client() as client:
        client.send(request("GET", f"/{moment}?{name}") + request("GET", "/fine"))
        with pytest.raises((Truncated, ConnectionError)):
            client.response()
    server.wait_for_log("Traceback", before + 1)
    assert server.get("/fine").text == "fine"
    assert server.worker_pid() == pid


def test_an_empty_block_sends_no_headers_yet_or_breaks_what_it_sent(server: Server) -> None:
    with server.client() as client, contextlib.suppress(Truncated, ConnectionError):
        assert client.request("GET", "/after_an_empty_block?ValueError").status == 500


def test_the_log_names_the_request(server: Server) -> None:
    server.get("/at_once/named?ValueError")
    server.wait_for_log(r"\[ERROR\].*GET.*/at_once/named")


def test_wsgi_errors_is_the_error_log() -> None:
    writing = """
def app(environ, start_response):
    print("a line of the application", file=environ["wsgi.errors"])
    environ["wsgi.errors"].write("caf\\u00e9\\n")
    environ["wsgi.errors"].flush()
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""
    with Server.start(writing) as server:
        assert server.get().body == b"ok"
        server.wait_for_log("^a line of the application$")
        server.wait_for_log("^caf\u00e9$")
