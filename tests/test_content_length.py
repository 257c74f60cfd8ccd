"""The application's Content-Length is a promise: never more is sent, and less breaks the
connection."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import Server, Truncated, request

APP = """
import io
from apps.routes import Routes

app = Routes()


def size(environ):
    return int(environ["QUERY_STRING"])


def declared(environ, start_response):
    return start_response("200 OK", [("Content-Length", str(size(environ)))])


@app.route
def returned(environ, start_response):
    declared(environ, start_response)
    return [b"0123456789"]


@app.route
def yielded(environ, start_response):
    declared(environ, start_response)
    yield b"01234"
    yield b"56789"


@app.route
def written(environ, start_response):
    write = declared(environ, start_response)
    write(b"01234")
    write(b"56789")
    return []


@app.route
def mixed(environ, start_response):
    declared(environ, start_response)(b"01234")
    return [b"56789"]


@app.route
def wrapped(environ, start_response):
    declared(environ, start_response)
    return environ["wsgi.file_wrapper"](io.BytesIO(b"0123456789"), 4)


@app.route
def file(environ, start_response):
    with open("ten", "wb") as out:
        out.write(b"0123456789")
    declared(environ, start_response)
    return environ["wsgi.file_wrapper"](open("ten", "rb"))
"""
WAYS = ["returned", "yielded", "written", "mixed", "wrapped", "file"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP, "--keep-alive", "30") as server:
        yield server


@pytest.mark.parametrize("way", WAYS)
def test_exactly_that_much_is_one_answer_of_many(server: Server, way: str) -> None:
    with server.client() as client:
        for _ in range(2):
            assert client.request("GET", f"/{way}?10").body == b"0123456789"


@pytest.mark.parametrize("length", [0, 3, 5, 7])
@pytest.mark.parametrize("way", WAYS)
def test_what_exceeds_it_is_not_sent(server: Server, way: str, length: int) -> None:
    with server.client() as client:
        client.send(
            request("GET", f"/{way}?{length}")
            + request("GET", "/returned?10", {"Connection": "close"})
        )
        assert client.response().body == b"0123456789"[:length]
        assert client.response().body == b"0123456789"
        assert client.read_until_closed() == b""


@pytest.mark.parametrize("way", WAYS)
def test_less_than_it_breaks_the_connection(server: Server, way: str) -> None:
    with server.client() as client:
        client.send(request("GET", f"/{way}?11") + request("GET", "/returned?10"))
        with pytest.raises((Truncated, ConnectionError)) as broken:
            client.response()
    if isinstance(broken.value, Truncated):
        assert broken.value.partial in (b"0123456789", b"")
    assert server.get("/returned?10").body == b"0123456789"


def test_less_than_it_is_said_in_the_error_log(server: Server) -> None:
    before = len(server.stderr_text())
    with server.client() as client, pytest.raises((Truncated, ConnectionError)):
        client.request("GET", "/returned?12")
    server.wait_for_log(r"(?i)content-length|declared|12")
    assert server.stderr_text()[before:].strip()


def test_a_head_request_may_promise_anything(server: Server) -> None:
    with server.client() as client:
        assert client.request("HEAD", "/returned?99999").header("Content-Length") == "99999"
        assert client.request("GET", "/returned?10").body == b"0123456789"
