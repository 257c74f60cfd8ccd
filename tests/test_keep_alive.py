"""How long a connection lives: RFC 9112 section 9.3 and gunicorn's `keepalive`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import Server, request

ANOTHER = request("GET", "/another")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start("apps.echo:app", "--keep-alive", "30") as server:
        yield server


def test_a_http_1_1_connection_serves_request_after_request(server: Server) -> None:
    with server.client() as client:
        for number in range(20):
            response = client.request("GET", f"/{number}")
            assert response.body == b"GET /%d\n" % number
            assert response.header("Connection") in (None, "keep-alive")


def test_connection_close_is_honoured_and_announced(server: Server) -> None:
    with server.client() as client:
        response = client.request(headers={"Connection": "close"})
        assert response.header("Connection") == "close"
        assert client.is_closed_by_peer()


@pytest.mark.parametrize("value", ["Close", "keep-alive, close", "close, te"])
def test_close_is_found_in_any_case_and_anywhere_in_the_list(server: Server, value: str) -> None:
    with server.client() as client:
        assert client.request(headers={"Connection": value}).status == 200
        assert client.is_closed_by_peer()


def test_nothing_after_a_request_that_asked_to_close_is_served(server: Server) -> None:
    with server.client() as client:
        client.send(request("GET", "/last", {"Connection": "close"}) + ANOTHER)
        assert client.response().body == b"GET /last\n"
        assert client.is_closed_by_peer()


def test_a_http_1_0_connection_is_closed_after_its_answer(server: Server) -> None:
    with server.client() as client:
        client.send(request("GET", "/old", version="HTTP/1.0"))
        response = client.response()
        assert response.body == b"GET /old\n"
        assert response.header("Connection") == "close"
        assert client.is_closed_by_peer()


def test_a_http_1_0_connection_stays_when_it_asks_to(server: Server) -> None:
    with server.client() as client:
        for number in range(3):
            client.send(
                request("GET", f"/{number}", {"Connection": "Keep-Alive"}, version="HTTP/1.0")
            )
            response = client.response()
            assert response.body == b"GET /%d\n" % number
            assert response.header("Connection") == "keep-alive"


def test_a_connection_that_idles_past_keepalive_is_closed() -> None:
    with Server.start("apps.echo:app", "--keep-alive", "1") as server, server.client() as client:
        assert client.request().status == 200
        assert client.is_closed_by_peer()


def test_keepalive_0_closes_after_each_answer() -> None:
    with Server.start("apps.echo:app", "--keep-alive", "0") as server:
        for _ in range(3):
            with server.client() as client:
                client.send(request() + ANOTHER)
                response = client.response()
                assert response.status == 200
                assert response.header("Connection") == "close"
                assert client.is_closed_by_peer()


def test_an_empty_line_before_a_request_is_ignored(server: Server) -> None:
    """RFC 9112 section 2.2: some clients send an extra CRLF after a POST."""
    with server.client() as client:
        assert client.request("POST", "/", body=b"body").status == 200
        client.send(b"\r\n" + ANOTHER)
        assert client.response().body == b"GET /another\n"


def test_a_client_that_leaves_between_requests_leaves_no_word_in_the_log(server: Server) -> None:
    before = server.stderr_text()
    with server.client() as client:
        client.request()
    assert server.get().status == 200
    assert server.stderr_text() == before
