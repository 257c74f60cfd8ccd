"""Malformed input gets its status, one line of reason, `Connection: close` and one warning; the
worker lives on."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from harness import Server, chunked, request

TAIL = request("GET", "/tail")
APP = """
from apps.notes import note


def app(environ, start_response):
    note(environ["PATH_INFO"])
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


def head(*lines: bytes) -> bytes:
    return b"\r\n".join([*lines, b"", b""])


def field(line: bytes) -> bytes:
    return head(b"GET / HTTP/1.1", b"Host: a", line)


def body(framing: bytes, data: bytes) -> bytes:
    return head(b"POST / HTTP/1.1", b"Host: a", framing) + data


CHUNKED = b"Transfer-Encoding: chunked"
CASES = {
    "no-http": (b"hello\r\n\r\n", 400),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64)) + b"\r\n\r\n", 400),
    "two-parts": (head(b"GET /", b"Host: a"), 400),
    "no-target": (head(b"GET  HTTP/1.1", b"Host: a"), 400),
    "four-parts": (head(b"GET / / HTTP/1.1", b"Host: a"), 400),
    "method": (head(b"G(T / HTTP/1.1", b"Host: a"), 400),
    "lower-case-method": (head(b"get / HTTP/1.1", b"Host: a"), 400),
    "target-control": (head(b"GET /\x01 HTTP/1.1", b"Host: a"), 400),
    "version": (head(b"GET / HTTP/2.0", b"Host: a"), 505),
    "version-word": (head(b"GET / HTPP/1.1", b"Host: a"), 400),
    "bare-lf": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "no-colon": (field(b"nothing"), 400),
    "no-name": (field(b": value"), 400),
    "space-before-colon": (field(b"X-A : 1"), 400),
    "folding": (field(b"X-A: 1\r\n 2"), 400),
    "nul": (field(b"X-A: \0"), 400),
    "bare-cr": (field(b"X-A: 1\r2"), 400),
    "no-host": (head(b"GET / HTTP/1.1"), 400),
    "two-hosts": (field(b"Host: b"), 400),
    "two-content-types": (
        head(b"POST / HTTP/1.1", b"Host: a", b"Content-Type: a", b"Content-Type: a"),
        400,
    ),
    "length-letters": (body(b"Content-Length: ten", b""), 400),
    "length-sign": (body(b"Content-Length: +4", b"body"), 400),
    "length-list": (body(b"Content-Length: 4, 4", b"body"), 400),
    "length-twice": (body(b"Content-Length: 4\r\nContent-Length: 4", b"body"), 400),
    "length-and-chunked": (body(b"Content-Length: 4\r\n" + CHUNKED, chunked(b"body")), 400),
    "coding-unknown": (body(b"Transfer-Encoding: rot13, chunked", chunked(b"body")), 501),
    "coding-not-last": (body(b"Transfer-Encoding: chunked, gzip", chunked(b"body")), 400),
    "chunked-1.0": (head(b"POST / HTTP/1.0", CHUNKED) + chunked(b"body"), 400),
    "chunk-size": (body(CHUNKED, b"xyz\r\nbody\r\n0\r\n\r\n"), 400),
    "chunk-size-sign": (body(CHUNKED, b"+4\r\nbody\r\n0\r\n\r\n"), 400),
    "chunk-size-huge": (body(CHUNKED, b"f" * 17 + b"\r\nbody"), 400),
    "chunk-end": (body(CHUNKED, b"4\r\nbodyXX0\r\n\r\n"), 400),
    "trailer": (body(CHUNKED, b"4\r\nbody\r\n0\r\nno colon\r\n\r\n"), 400),
    "trailer-length": (body(CHUNKED, b"4\r\nbody\r\n0\r\nContent-Length: 4\r\n\r\n"), 400),
    "schemes": (
        head(b"GET / HTTP/1.1", b"Host: a", b"X-Forwarded-Proto: https", b"X-Forwarded-Ssl: off"),
        400,
    ),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP, "--keep-alive", "30") as server:
        yield server


def warnings(server: Server) -> list[str]:
    return [line for line in server.stderr_text().splitlines() if "[WARNING]" in line]


@pytest.mark.parametrize("tail", [b"", TAIL], ids=["alone", "with-a-tail"])
@pytest.mark.parametrize(("data", "status"), CASES.values(), ids=CASES.keys())
def test_it_is_answered_once_and_nothing_after_it_is_a_request(
    server: Server, data: bytes, status: int, tail: bytes
) -> None:
    pid, before, noted = server.worker_pid(), len(warnings(server)), server.notes()
    with server.client() as client:
        client.send(data + tail)
        response = client.response()
        assert response.status == status
        assert response.header("Connection") == "close"
        assert re.fullmatch(rb"[\x20-\x7e]+\n?", response.body), response.body
        assert client.is_closed_by_peer()
    server.wait_for_log("WARNING", before + 1)
    said = warnings(server)[before:]
    assert len(said) == 1
    assert "127.0.0.1" in said[0]
    assert server.notes() == noted
    assert server.worker_pid() == pid


def test_requests_before_the_bad_one_are_answered(server: Server) -> None:
    with server.client() as client:
        client.send(
            request("POST", "/", body=b"one")
            + request("POST", "/", body=b"two")
            + CASES["no-colon"][0]
            + TAIL
        )
        assert client.response().body == b"one"
        assert client.response().body == b"two"
        assert client.response().status == 400
        assert client.is_closed_by_peer()


def test_the_log_cannot_be_forged_through_the_warning(server: Server) -> None:
    with server.client() as client:
        client.send(
            b"GET /\x1b[31m\n[2026-01-01 00:00:00 +0000] [1] [INFO] forged HTTP/1.1\r\n\r\n"
        )
        assert client.response().status == 400
    assert not re.search(r"^\[2026-01-01.*forged", server.stderr_text(), re.MULTILINE)
    assert "\x1b" not in server.stderr_text()


def test_an_answer_to_bad_input_is_not_lost_in_a_reset(server: Server) -> None:
    """The rest of a large body is on its way when the answer is sent; RFC 9112 section 9.6."""
    with server.client() as client:
        client.send(body(CHUNKED, b"zz\r\n" + bytes(1 << 18)))
        assert client.response().status == 400
