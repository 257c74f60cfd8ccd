"""HEAD, 204 and 304 carry no body, whatever the application yields, and the connection goes on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import Server, request

APP = """
import io
from apps.routes import Routes

app = Routes()


def headers(environ):
    return [("Content-Length", "5")] if environ["PATH_INFO"].endswith("/length") else []


def status(environ):
    return environ["QUERY_STRING"].replace("+", " ") or "200 OK"


@app.route
def yielded(environ, start_response):
    start_response(status(environ), headers(environ))
    return [b"st", b"ray"]


@app.route
def generated(environ, start_response):
    start_response(status(environ), headers(environ))
    yield b"st"
    yield b"ray"


@app.route
def written(environ, start_response):
    write = start_response(status(environ), headers(environ))
    write(b"st")
    write(b"ray")
    return []


@app.route
def wrapped(environ, start_response):
    start_response(status(environ), headers(environ))
    return environ["wsgi.file_wrapper"](io.BytesIO(b"stray"))


@app.route
def file(environ, start_response):
    with open("stray", "wb") as out:
        out.write(b"stray")
    start_response(status(environ), headers(environ))
    return environ["wsgi.file_wrapper"](open("stray", "rb"))


@app.route
def nothing(environ, start_response):
    start_response(status(environ), headers(environ))
    return []
"""
WAYS = ["yielded", "generated", "written", "wrapped", "file", "nothing"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP, "--keep-alive", "30") as server:
        yield server


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("length", ["", "/length"])
@pytest.mark.parametrize(
    ("method", "query"),
    [
        ("HEAD", ""),
        ("GET", "?204+No+Content"),
        ("GET", "?304+Not+Modified"),
        ("HEAD", "?204+No+Content"),
    ],
)
def test_no_body_byte_comes_before_the_next_answer(
    server: Server, way: str, length: str, method: str, query: str
) -> None:
    with server.client() as client:
        client.send(request(method, f"/{way}{length}{query}") + request("GET", "/yielded/length"))
        response = client.response(method)
        assert response.status == int(query[1:4] or 200)
        assert response.header("Transfer-Encoding") is None
        assert client.response().body == b"stray"
        assert client.rest() == b""


def test_head_keeps_the_content_length_that_get_would_have(server: Server) -> None:
    with server.client() as client:
        assert client.request("HEAD", "/yielded/length").header("Content-Length") == "5"


def test_304_keeps_the_content_length_and_204_drops_it(server: Server) -> None:
    with server.client() as client:
        assert (
            client.request("GET", "/nothing/length?304+Not+Modified").header("Content-Length")
            == "5"
        )
        assert (
            client.request("GET", "/nothing/length?204+No+Content").header("Content-Length") is None
        )


def test_an_empty_200_is_complete_and_the_connection_goes_on(server: Server) -> None:
    with server.client() as client:
        for _ in range(2):
            response = client.request("GET", "/nothing")
            assert (response.status, response.body) == (200, b"")
            assert response.framing in ("chunked", "length")


def test_head_on_http_1_0_closes_without_a_body(server: Server) -> None:
    with server.client() as client:
        client.send(request("HEAD", "/yielded", version="HTTP/1.0"))
        assert client.response("HEAD").status == 200
        assert client.read_until_closed() == b""
