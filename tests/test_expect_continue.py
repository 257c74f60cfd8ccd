"""`Expect: 100-continue`: RFC 9110 section 10.1.1."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import Client, Response, Server, chunked, request

EXPECT = {"Expect": "100-continue"}
SHOW = """
def app(environ, start_response):
    body = environ["wsgi.input"].read()
    answer = environ.get("HTTP_EXPECT", "none").encode() + b" " + body
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(SHOW, "--keep-alive", "30") as server:
        yield server


def final(client: Client) -> Response:
    """The answer, after any interim ones."""
    while (response := client.response()).status < 200:
        assert response.status == 100
    return response


def test_the_client_is_told_to_go_on_before_it_sends_the_body(server: Server) -> None:
    with server.client() as client:
        client.send(request("POST", "/", {**EXPECT, "Content-Length": "4"}))
        interim = client.response()
        assert (interim.version, interim.status, interim.headers) == ("HTTP/1.1", 100, [])
        assert client.is_quiet()
        client.send(b"body")
        assert client.response().body == b"100-continue body"


def test_it_works_for_chunked_bodies_too(server: Server) -> None:
    with server.client() as client:
        client.send(request("POST", "/", {**EXPECT, "Transfer-Encoding": "chunked"}))
        assert client.response().status == 100
        client.send(chunked(b"bo", b"dy"))
        assert client.response().body == b"100-continue body"


def test_the_expectation_is_read_in_any_case(server: Server) -> None:
    with server.client() as client:
        client.send(request("POST", "/", {"expect": "100-Continue", "Content-Length": "4"}))
        assert client.response().status == 100
        client.send(b"body")
        assert client.response().body == b"100-Continue body"


def test_it_is_sent_at_most_once_for_each_request_on_a_connection(server: Server) -> None:
    with server.client() as client:
        for _ in range(3):
            client.send(request("POST", "/", {**EXPECT, "Content-Length": "4"}))
            assert client.response().status == 100
            client.send(b"body")
            assert client.response().status == 200
        assert client.request("POST", "/", body=b"plain").body == b"none plain"


def test_a_client_that_does_not_wait_is_answered(server: Server) -> None:
    with server.client() as client:
        client.send(request("POST", "/", EXPECT, b"body") + request("POST", "/", body=b"next"))
        assert final(client).body == b"100-continue body"
        assert client.response().body == b"none next"


def test_a_http_1_0_client_is_not_told_to_go_on(server: Server) -> None:
    with server.client() as client:
        client.send(request("POST", "/", {**EXPECT, "Content-Length": "4"}, version="HTTP/1.0"))
        client.send(b"body")
        assert client.response().status == 200


@pytest.mark.parametrize("expectation", ["200-ok", "100-continue, 200-ok", "x"])
def test_any_other_expectation_fails(server: Server, expectation: str) -> None:
    pid = server.worker_pid()
    with server.client() as client:
        client.send(request("POST", "/", {"Expect": expectation, "Content-Length": "4"}))
        response = client.response()
        assert response.status == 417
        assert response.header("Connection") == "close"
        assert client.is_closed_by_peer()
    assert server.worker_pid() == pid
