"""A request that ends after any of its octets, by a reset or by a FIN, costs nobody else anything
and never reaches the application as a whole one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import THREADED, Client, Server, chunked, request
from wellness import WELL_ROUTE, assert_answers, unharmed

APP = """
from apps.notes import note
from apps.routes import Routes, text

app = Routes()


@app.route
def first(environ, start_response):
    return text(start_response, "the first answer")


@app.route
def cut(environ, start_response):
    note("called for " + environ["PATH_INFO"])
    body = environ["wsgi.input"].read()
    note("whole for " + environ["PATH_INFO"])
    return text(start_response, str(len(body)))
"""
FIRST = request("GET", "/first")
REQUESTS = {
    "get": request("GET", "/cut/get?a=b", {"Accept": "*/*"}),
    "length": request("POST", "/cut/length", body=b"0123456789"),
    "chunked": request("POST", "/cut/chunked", {"Transfer-Encoding": "chunked"})
    + chunked(b"0123456789", b"a" * 17, trailer=b"X-Sum: 27\r\nX-Other: 1\r\n"),
    "pipelined": FIRST + request("POST", "/cut/pipelined", body=b"0123456789"),
    "expect": request(
        "POST", "/cut/expect", {"Content-Length": "10", "Expect": "100-continue"}, b"0123456789"
    ),
    "http10": request("POST", "/cut/http10", body=b"0123456789", version="HTTP/1.0"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP + WELL_ROUTE, "--keep-alive", "60") as server:
        yield server


@pytest.fixture(scope="module")
def witness(server: Server) -> Iterator[Client]:
    """A correct client beside all of this."""
    with server.client() as witness:
        yield witness


def reached(server: Server) -> list[str]:
    """What the application has noted of requests that it must not see: threads call it at the
    head, and there its read must not return."""
    return [note for note in server.notes() if not (THREADED and note.startswith("called"))]


def test_the_whole_requests_are_good_ones(server: Server) -> None:
    """Or else the tests below would prove nothing."""
    for name, data in REQUESTS.items():
        with server.client() as client:
            client.send(data)
            response = client.response()
            while response.status == 100 or response.body == b"the first answer":
                response = client.response()
            assert response.status == 200, name
            assert response.body in (b"0", b"10", b"27"), name


@pytest.mark.parametrize("seen", [True, False], ids=["seen", "unseen"])
@pytest.mark.parametrize("data", REQUESTS.values(), ids=REQUESTS.keys())
def test_a_reset_after_any_octet_of_a_request_leaves_nothing_behind(
    server: Server, witness: Client, data: bytes, seen: bool
) -> None:
    """Whether the worker has read those octets before the reset, or meets both at once."""
    assert_answers(witness)
    noted = reached(server)
    with unharmed(server):
        for count in range(len(data)):
            with server.client() as client:
                client.send(data[:count])
                if seen:
                    assert_answers(witness)
                client.reset()
        assert_answers(witness)
    assert reached(server) == noted


@pytest.mark.parametrize("data", REQUESTS.values(), ids=REQUESTS.keys())
def test_a_fin_after_any_octet_of_a_request_leaves_nothing_behind(
    server: Server, witness: Client, data: bytes
) -> None:
    assert_answers(witness)
    noted = reached(server)
    with unharmed(server):
        for count in range(len(data)):
            with server.client() as client:
                client.send(data[:count])
                client.half_close()
                if data.startswith(FIRST) and count >= len(FIRST):
                    assert client.response().body == b"the first answer"
                rest = client.read_until_closed().removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
                assert rest == b"", f"answered after {count} octets and a FIN"
        assert_answers(witness)
    assert reached(server) == noted


@pytest.mark.parametrize("data", REQUESTS.values(), ids=REQUESTS.keys())
def test_a_reset_between_any_two_octets_ends_no_other_connection(
    server: Server, witness: Client, data: bytes
) -> None:
    """Each cut connection has a twin that stopped at the same octet, and goes on after the
    reset."""
    with unharmed(server):
        for count in range(0, len(data), 7):
            with server.client() as twin, server.client() as client:
                twin.send(data[:count])
                client.send(data[:count])
                assert_answers(witness)
                client.reset()
                assert_answers(witness)
                twin.send(data[count:])
                response = twin.response()
                while response.status == 100 or response.body == b"the first answer":
                    response = twin.response()
                assert response.body in (b"0", b"10", b"27")
