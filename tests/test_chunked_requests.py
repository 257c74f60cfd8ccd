"""Chunked request bodies: RFC 9112 section 7.1, as far as they are well formed (see test_bad_input
for the rest)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import pytest
from harness import Response, Server, chunked, request

APP = """
import hashlib, json


def app(environ, start_response):
    body = environ["wsgi.input"].read()
    names = ("CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING", "HTTP_X_TRAILER", "wsgi.input_terminated")
    shown = {
        "length": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
        "start": body[:99].decode("latin-1"),
    }
    answer = json.dumps({**shown, **{name: environ.get(name) for name in names}}).encode()
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]
"""
CHUNKED = {"Transfer-Encoding": "chunked"}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP, "--keep-alive", "30") as server:
        yield server


def post(server: Server, body: bytes, coding: str = "chunked") -> Response:
    """The answer to a chunked POST, after making sure that the framing held."""
    with server.client() as client:
        client.send(
            request("POST", "/", {"Transfer-Encoding": coding}, body)
            + request("GET", "/next", {"Connection": "close"})
        )
        response = client.response()
        assert client.response().status == 200
        assert client.read_until_closed() == b""
        return response


@pytest.mark.parametrize(
    ("wire", "body"),
    [
        (chunked(), ""),
        (chunked(b"one"), "one"),
        (chunked(b"one", b" ", b"two"), "one two"),
        (b"A\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
        (b"a\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
        (b"0003\r\none\r\n0\r\n\r\n", "one"),
        (b"3\r\none\r\n000\r\n\r\n", "one"),
        (b"3;name\r\none\r\n0\r\n\r\n", "one"),
        (b'3;name=value;other="quo;ted"\r\none\r\n0;last\r\n\r\n', "one"),
        (chunked(b"0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"), "0\r\n\r\nGET / HTTP/1.1\r\n\r\n"),
        (chunked(b"one", trailer=b"X-Trailer: two\r\n"), "one"),
    ],
)
def test_the_body_is_unframed(server: Server, wire: bytes, body: str) -> None:
    assert json.loads(post(server, wire).body)["start"] == body


@pytest.mark.parametrize("coding", ["Chunked", "CHUNKED"])
def test_the_coding_is_read_in_any_case(server: Server, coding: str) -> None:
    assert json.loads(post(server, chunked(b"one"), coding).body)["start"] == "one"


def test_the_application_sees_no_content_length_and_an_input_that_ends(server: Server) -> None:
    shown = json.loads(post(server, chunked(b"one")).body)
    assert shown["CONTENT_LENGTH"] is None
    assert shown["HTTP_TRANSFER_ENCODING"] == "chunked"
    assert shown["wsgi.input_terminated"] is True


def test_a_trailer_does_not_become_a_header(server: Server) -> None:
    assert (
        json.loads(post(server, chunked(b"one", trailer=b"X-Trailer: two\r\n")).body)[
            "HTTP_X_TRAILER"
        ]
        is None
    )


def test_a_body_may_arrive_byte_by_byte(server: Server) -> None:
    wire = request("POST", "/", CHUNKED, chunked(b"one", b"two" * 10, trailer=b"A: b\r\n"))
    with server.client() as client:
        client.send_bytewise(wire + wire)
        for _ in range(2):
            assert json.loads(client.response().body)["start"] == "one" + "two" * 10


@pytest.mark.parametrize("size", [1, 4095, 4096, 65535, 65536, 1 << 20])
def test_chunks_of_any_size_are_joined(server: Server, size: int) -> None:
    chunks = [bytes([number]) * size for number in range(1, 6)]
    shown = json.loads(post(server, chunked(*chunks)).body)
    assert shown["length"] == 5 * size
    assert shown["sha256"] == hashlib.sha256(b"".join(chunks)).hexdigest()


def test_ten_thousand_chunks_of_one_byte_are_one_body(server: Server) -> None:
    assert json.loads(post(server, chunked(*[b"x"] * 10_000)).body)["length"] == 10_000
