"""A FIN alone says that the client sends no more, not that it listens no more."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import THREADED, Server, request

STREAMING = """
from apps.notes import note


def app(environ, start_response):
    note("called " + environ["PATH_INFO"])
    environ["wsgi.input"].read()
    note("whole " + environ["PATH_INFO"])
    start_response("200 OK", [])
    return (b"%d\\n" % number * 1000 for number in range(1000))
"""


def reached(server: Server) -> list[str]:
    """What the application has noted of requests that it must not see: threads call it at the
    head, and there its read must not return."""
    return [note for note in server.notes() if not (THREADED and note.startswith("called"))]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start("apps.echo:app", "--keep-alive", "30") as server:
        yield server


@pytest.fixture(scope="module")
def streaming() -> Iterator[Server]:
    with Server.start(STREAMING, "--keep-alive", "30") as server:
        yield server


def test_a_half_closed_client_is_still_answered(server: Server) -> None:
    with server.client() as client:
        client.send(request("POST", "/asked", body=b"all of it"))
        client.half_close()
        assert client.response().body == b"POST /asked\nall of it"
        assert client.read_until_closed() == b""


def test_every_pipelined_request_of_a_half_closed_client_is_answered(server: Server) -> None:
    with server.client() as client:
        client.send(b"".join(request("GET", f"/{number}") for number in range(50)))
        client.half_close()
        for number in range(50):
            assert client.response().body == b"GET /%d\n" % number
        assert client.read_until_closed() == b""


def test_a_long_answer_to_a_half_closed_client_is_complete(streaming: Server) -> None:
    with streaming.client() as client:
        client.send(request("GET", "/long"))
        client.half_close()
        assert client.response().body == b"".join(b"%d\n" % number * 1000 for number in range(1000))
        assert client.read_until_closed() == b""


def test_a_client_that_closes_between_requests_gets_a_fin_back(server: Server) -> None:
    with server.client() as client:
        client.request()
        client.half_close()
        assert client.read_until_closed() == b""


@pytest.mark.parametrize("cut", [1, 10, 30])
def test_a_head_cut_short_is_never_answered_as_a_request(streaming: Server, cut: int) -> None:
    before = streaming.notes()
    with streaming.client() as client:
        client.send(request("GET", "/cut")[:cut])
        client.half_close()
        assert client.read_until_closed() == b""
    assert streaming.notes() == before


@pytest.mark.parametrize("cut_body", [b"12345", b""])
def test_a_body_cut_short_never_reaches_the_application_as_a_whole_one(
    streaming: Server, cut_body: bytes
) -> None:
    before = reached(streaming)
    with streaming.client() as client:
        client.send(request("POST", "/cut", {"Content-Length": "10"}, cut_body))
        client.half_close()
        assert client.read_until_closed() == b""
    assert reached(streaming) == before


def test_a_chunked_body_without_its_last_chunk_never_reaches_the_application(
    streaming: Server,
) -> None:
    before = reached(streaming)
    with streaming.client() as client:
        client.send(request("POST", "/cut", {"Transfer-Encoding": "chunked"}, b"5\r\n12345\r\n"))
        client.half_close()
        assert client.read_until_closed() == b""
    assert reached(streaming) == before


def test_with_threads_a_whole_answer_outlives_a_body_that_nobody_has_read() -> None:
    """The application has answered without it; the client sends no more, and listens."""
    large = """
from apps.notes import note


def app(environ, start_response):
    note("called")
    start_response("200 OK", [("Content-Length", "20000000")])
    return [bytes(20_000_000)]
"""
    with (
        Server.start(large, "--threads", "2") as server,
        server.client(receive_buffer=8192) as client,
    ):
        client.send(request("POST", "/", {"Content-Length": "10"}, b"12345"))
        server.wait_for_note("called")
        client.read_until(b"\r\n\r\n")
        # Time for the worker to notice the FIN before there is room for the rest.
        client.half_close()
        with server.client() as other:
            other.request()
        assert client.read_until_closed() == bytes(20_000_000)
