"""`wsgi.early_hints`: 103 responses before the final one (RFC 8297)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import Server, request

APP = """
from apps.routes import Routes, text

app = Routes()


@app.route
def twice(environ, start_response):
    environ["wsgi.early_hints"]([("Link", "</a.css>; rel=preload")])
    environ["wsgi.early_hints"]([("Link", "</b.js>; rel=preload"), ("X-B", "2")])
    return text(start_response, "done")


@app.route
def late(environ, start_response):
    start_response("200 OK", [])
    yield b"one"
    environ["wsgi.early_hints"]([("Link", "</late>")])
    yield b"two"


@app.route
def injects(environ, start_response):
    environ["wsgi.early_hints"]([("Link", "a\\r\\nX-Injected: 1")])
    return text(start_response, "done")
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP, "--keep-alive", "30") as server:
        yield server


def test_each_call_is_a_103_before_the_answer(server: Server) -> None:
    with server.client() as client:
        for _ in range(2):
            client.send(request("GET", "/twice"))
            hints = [client.response(), client.response()]
            assert [(hint.status, hint.headers) for hint in hints] == [
                (103, [("Link", "</a.css>; rel=preload")]),
                (103, [("Link", "</b.js>; rel=preload"), ("X-B", "2")]),
            ]
            assert client.response().text == "done"


def test_a_http_1_0_client_gets_none(server: Server) -> None:
    with server.client() as client:
        client.send(request("GET", "/twice", version="HTTP/1.0"))
        assert client.response().text == "done"


def test_once_headers_are_out_they_are_ignored(server: Server) -> None:
    assert server.get("/late").body == b"onetwo"


def test_a_line_break_in_a_hint_is_a_500(server: Server) -> None:
    response = server.get("/injects")
    assert response.status == 500
    assert response.header("X-Injected") is None
