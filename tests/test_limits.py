"""gunicorn's limits of a request head, and MEINHELD_MAX_BODY."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import Response, Server, request

MAX_BODY = 1_000_000


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    limits = {
        "limit_request_line": 100,
        "limit_request_fields": 5,
        "limit_request_field_size": 60,
        "keepalive": 30,
    }
    with Server.start(config=limits, env={"MEINHELD_MAX_BODY": str(MAX_BODY)}) as server:
        yield server


@pytest.fixture(scope="module")
def default() -> Iterator[Server]:
    with Server.start(config={"keepalive": 30}) as server:
        yield server


def ask(server: Server, data: bytes) -> Response:
    with server.client() as client:
        client.send(data)
        response = client.response()
        if response.status != 200:
            assert response.header("Connection") == "close"
            assert client.is_closed_by_peer()
        return response


def line_of(length: int) -> bytes:
    """A request whose request line has `length` bytes, its CRLF not counted."""
    return b"GET /" + b"a" * (length - 14) + b" HTTP/1.1\r\nHost: a\r\n\r\n"


def fields(count: int) -> bytes:
    return (
        b"GET / HTTP/1.1\r\nHost: a\r\n"
        + b"".join(b"X-%d: 1\r\n" % number for number in range(count - 1))
        + b"\r\n"
    )


def field_of(size: int) -> bytes:
    """A request with a field line of `size` bytes, its CRLF counted as gunicorn does."""
    return b"GET / HTTP/1.1\r\nHost: a\r\nX-A: " + b"v" * (size - 7) + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "status"), [(line_of(100), 200), (line_of(101), 414), (line_of(100_000), 414)]
)
def test_limit_request_line_is_honoured(server: Server, data: bytes, status: int) -> None:
    assert ask(server, data).status == status


@pytest.mark.parametrize(
    ("data", "status"), [(fields(5), 200), (fields(6), 431), (fields(1000), 431)]
)
def test_limit_request_fields_is_honoured(server: Server, data: bytes, status: int) -> None:
    assert ask(server, data).status == status


@pytest.mark.parametrize(
    ("data", "status"), [(field_of(60), 200), (field_of(61), 431), (field_of(100_000), 431)]
)
def test_limit_request_field_size_is_honoured(server: Server, data: bytes, status: int) -> None:
    assert ask(server, data).status == status


@pytest.mark.parametrize(
    ("data", "status"),
    [(line_of(4094), 200), (line_of(4095), 414), (fields(100), 200), (fields(101), 431)],
)
def test_the_defaults_are_those_of_gunicorn(default: Server, data: bytes, status: int) -> None:
    assert ask(default, data).status == status


@pytest.mark.parametrize(("data", "status"), [(field_of(8190), 200), (field_of(8191), 431)])
def test_a_field_has_8190_bytes_by_default(default: Server, data: bytes, status: int) -> None:
    assert ask(default, data).status == status


def test_a_request_line_without_limit_may_be_long() -> None:
    with Server.start(config={"limit_request_line": 0}) as server:
        assert ask(server, line_of(100_000)).status == 200


def test_an_endless_request_line_is_refused_before_it_ends(server: Server) -> None:
    assert ask(server, b"GET /" + b"a" * 200).status == 414


def test_an_endless_field_is_refused_before_it_ends(server: Server) -> None:
    assert ask(server, b"GET / HTTP/1.1\r\nX-A: " + b"a" * 200).status == 431


def test_endless_fields_are_refused_before_they_end(server: Server) -> None:
    assert ask(server, b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 7).status == 431


def test_a_body_of_max_body_is_served(server: Server) -> None:
    assert ask(server, request("POST", "/", body=bytes(MAX_BODY))).status == 200


@pytest.mark.parametrize(("env", "bound"), [({}, 10), ({"MEINHELD_MAX_BODY": "20"}, 20)])
def test_the_application_may_bound_bodies_where_the_operator_does_not(
    env: dict[str, str], bound: int
) -> None:
    app = """
from meinheld import server
server.set_max_content_length(10)
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "0")])
    return [environ["wsgi.input"].read()[:0]]
"""
    with Server.start(app, env=env) as server:
        assert ask(server, request("POST", "/", body=bytes(bound))).status == 200
        assert ask(server, request("POST", "/", body=bytes(bound + 1))).status == 413


@pytest.mark.parametrize("length", [MAX_BODY + 1, 10**15])
def test_a_longer_body_is_refused_by_its_declared_length(server: Server, length: int) -> None:
    assert ask(server, request("POST", "/", {"Content-Length": str(length)})).status == 413


def test_a_longer_body_is_refused_without_a_100_continue(server: Server) -> None:
    assert (
        ask(
            server,
            request("POST", "/", {"Content-Length": str(MAX_BODY + 1), "Expect": "100-continue"}),
        ).status
        == 413
    )


def test_a_chunked_body_is_refused_where_it_exceeds(server: Server) -> None:
    with server.client() as client:
        client.send(
            request("POST", "/", {"Transfer-Encoding": "chunked"})
            + b"f0000\r\n"
            + bytes(0xF0000)
            + b"\r\nffff\r\n"
        )
        response = client.response()
        assert response.status == 413
        assert response.header("Connection") == "close"
