"""A client that makes no progress is answered 408 or closed; one that does is left alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import Server, request

APP = """
from apps.notes import note


def app(environ, start_response):
    body = environ["wsgi.input"].read()
    if environ["PATH_INFO"] == "/endless":
        start_response("200 OK", [])
        return endless()
    if environ["PATH_INFO"] == "/written":
        write = start_response("200 OK", [])
        try:
            while True:
                write(bytes(65536))
        except OSError as error:
            note(f"write raised {type(error).__name__}")
            raise
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


def endless():
    try:
        while True:
            yield bytes(65536)
    finally:
        note("closed")
"""
DEADLINES = {
    "MEINHELD_HEAD_TIMEOUT": "1.0",
    "MEINHELD_BODY_TIMEOUT": "1.0",
    "MEINHELD_SEND_TIMEOUT": "1.0",
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP, "--keep-alive", "30", env=DEADLINES) as server:
        yield server


@pytest.mark.parametrize(
    "part", [b"G", b"GET / HT", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nX-A"]
)
def test_a_stalled_head_is_answered_408(server: Server, part: bytes) -> None:
    with server.client() as client:
        client.send(part)
        response = client.response()
        assert response.status == 408
        assert response.header("Connection") == "close"
        assert client.is_closed_by_peer()


@pytest.mark.parametrize(
    "part",
    [
        request("POST", "/", {"Content-Length": "10"}),
        request("POST", "/", {"Content-Length": "10"}, b"12345"),
        request("POST", "/", {"Content-Length": "1000000"}, bytes(900_000)),
        request("POST", "/", {"Transfer-Encoding": "chunked"}, b"5\r\n123"),
        request("POST", "/", {"Transfer-Encoding": "chunked"}, b"5\r\n12345\r\n0\r\n"),
    ],
)
def test_a_stalled_body_is_answered_408(server: Server, part: bytes) -> None:
    with server.client() as client:
        client.send(part)
        response = client.response()
        assert response.status == 408
        assert response.header("Connection") == "close"
        assert client.is_closed_by_peer()


def test_a_head_that_trickles_without_end_is_answered_408(server: Server) -> None:
    """Progress of one byte at a time does not prolong the deadline of a head."""
    with server.client(timeout=0.05) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        for _ in range(400):
            client.send(b"X-A: 1\r\n")
            try:
                assert client.read_until(b"\r\n").startswith(b"HTTP/1.1 408")
                return
            except TimeoutError:
                continue
    raise AssertionError("the head went on for ever")


def test_a_connection_that_never_says_anything_is_closed(server: Server) -> None:
    with server.client() as client:
        answer = client.read_until_closed()
        assert answer == b"" or answer.startswith(b"HTTP/1.1 408 ")


def test_a_reader_that_makes_no_progress_is_aborted(server: Server) -> None:
    with server.client(receive_buffer=8192) as client:
        client.send(request("GET", "/endless"))
        server.wait_for_note("closed", server.notes().count("closed") + 1)
        assert server.get().status == 200
        with pytest.raises((ConnectionError, EOFError)):
            while True:
                if not client.socket.recv(1 << 20):
                    raise EOFError


def test_write_raises_when_its_reader_makes_no_progress(server: Server) -> None:
    with server.client(receive_buffer=8192) as client:
        client.send(request("GET", "/written"))
        server.wait_for_note("write raised ConnectionResetError")
    assert server.get().status == 200
    assert "Traceback" not in server.stderr_text()


def test_an_idle_connection_between_requests_is_left_to_keepalive(server: Server) -> None:
    with server.client() as idle, server.client() as stalled:
        assert idle.request().status == 200
        stalled.send(b"GET / HT")
        assert stalled.response().status == 408
        assert idle.request().status == 200


def test_a_body_that_goes_on_arriving_is_not_cut_off(server: Server) -> None:
    """Its parts come more slowly than the deadline altogether, each well within it."""
    parts = [bytes([number]) * 512 for number in range(12)]
    with server.client() as client, server.client() as stalled:
        client.send(request("POST", "/", {"Content-Length": str(12 * 512)}, parts[0]))
        stalled.send(b"GET / HT")
        client.socket.settimeout(0.15)
        for part in parts[1:]:
            with pytest.raises(TimeoutError):
                client.receive()
            client.send(part)
        client.socket.settimeout(10)
        assert client.response().body == b"".join(parts)
        assert stalled.response().status == 408


@pytest.mark.parametrize(
    ("head", "octet"),
    [
        (request("POST", "/", {"Content-Length": "100000"}), b"x"),
        (request("POST", "/", {"Transfer-Encoding": "chunked"}, b"ffff\r\n"), b"x"),
        (request("POST", "/", {"Transfer-Encoding": "chunked"}), b"1\r\nx\r\n"),
    ],
    ids=["length", "one long chunk", "chunks of one octet"],
)
def test_a_body_that_trickles_without_end_is_answered_408(
    server: Server, head: bytes, octet: bytes
) -> None:
    """Twenty octets a second are not progress, however regular they are."""
    with server.client(timeout=0.05 * len(octet)) as client:
        client.send(head)
        for _ in range(400):
            client.send(octet)
            try:
                assert client.read_until(b"\r\n").startswith(b"HTTP/1.1 408")
                return
            except TimeoutError:
                continue
    raise AssertionError("the body went on for ever")
