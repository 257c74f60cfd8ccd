"""`wsgiref.validate` around an application, for a table of methods and bodies: silent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, nullcontext, suppress

import pytest
from harness import THREADED, Client, Server, chunked, request

APP = """
import io, warnings
from wsgiref.validate import validator
from apps.routes import Routes, text

warnings.simplefilter("error")
routes = Routes()


@routes.route
def reads(environ, start_response):
    return text(start_response, str(len(environ["wsgi.input"].read(1 << 30))))


@routes.route
def lines(environ, start_response):
    return text(start_response, str(sum(len(line) for line in environ["wsgi.input"].readlines())))


@routes.route
def iterates(environ, start_response):
    return text(start_response, str(sum(len(line) for line in environ["wsgi.input"])))


@routes.route
def ignores(environ, start_response):
    environ["wsgi.errors"].write("")
    environ["wsgi.errors"].flush()
    environ["wsgi.errors"].writelines([])
    return text(start_response, "ignored")


@routes.route
def generates(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"one"
    yield b""
    yield b"two"


@routes.route
def writes(environ, start_response):
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    write(b"one")
    return [b"two"]


@routes.route
def nothing(environ, start_response):
    start_response("204 No Content", [])
    return []


@routes.route
def wraps(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return environ["wsgi.file_wrapper"](io.BytesIO(b"one" * 10000))


@routes.route
def again(environ, start_response):
    import sys

    start_response("200 OK", [("Content-Type", "text/plain")])
    try:
        raise ValueError
    except ValueError:
        start_response("500 Oh", [("Content-Type", "text/plain")], sys.exc_info())
    return [b"oh"]


app = validator(routes)
"""
PATHS = [
    "reads",
    "lines",
    "iterates",
    "ignores",
    "generates",
    "writes",
    "nothing",
    "wraps",
    "again",
]
BODIES = {
    "none": ({}, b""),
    "empty": ({"Content-Length": "0"}, b""),
    "short": ({"Content-Type": "text/plain"}, b"a\nb"),
    "spooled": ({"Content-Type": "text/plain"}, b"line\n" * 200_000),
    "chunked": ({"Transfer-Encoding": "chunked"}, chunked(b"one\n", b"two")),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP, "--keep-alive", "30") as server:
        yield server


def assert_silent(server: Server, client: Client) -> None:
    log = server.stderr_text()
    assert "Traceback" not in log and "AssertionError" not in log and "WSGIWarning" not in log, log[
        -3000:
    ]


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_the_validator_has_nothing_to_say(
    server: Server, method: str, body: tuple[dict[str, str], bytes]
) -> None:
    headers, data = body
    with ExitStack() as stack:
        client = stack.enter_context(server.client())
        for path in PATHS:
            # With threads, the answer need not wait for the end of the body.
            with suppress(ConnectionError) if THREADED else nullcontext():
                client.send(request(method, f"/{path}?a=b", headers, data))
            response = client.response(method)
            assert response.status == {"nothing": 204, "again": 500}.get(path, 200), path
            if THREADED and response.header("Connection") == "close":
                # More is left of the body than is read for the sake of the connection.
                client = stack.enter_context(server.client())
        assert_silent(server, client)


def test_the_validator_is_content_with_http_1_0_too(server: Server) -> None:
    for path in PATHS:
        with server.client() as client:
            client.send(request("GET", f"/{path}", version="HTTP/1.0"))
            assert client.response().status in (200, 204, 500)
            assert_silent(server, client)
