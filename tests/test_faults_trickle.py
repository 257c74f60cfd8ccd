"""A request that comes octet by octet, an answer that is taken octet by octet: the octets are
those of the whole ones."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest
from harness import Client, Server, chunked, request
from wellness import WELL_ROUTE, unharmed

APP = """
import tempfile
from apps.routes import Routes, text

app = Routes()
SIZE = 12_000
DATA = b"".join(b"%05d\\n" % number for number in range(SIZE // 6))


@app.route
def whole(environ, start_response):
    environ["wsgi.input"].read()
    return text(start_response, DATA.decode())


@app.route
def pieces(environ, start_response):
    start_response("200 OK", [("X-Own", "1")])
    return [DATA[:10], b"", DATA[10:100], DATA[100:]]


@app.route
def blocks(environ, start_response):
    start_response("200 OK", [])
    return (DATA[start : start + 777] for start in range(0, SIZE, 777))


@app.route
def single_octets(environ, start_response):
    start_response("200 OK", [])
    return (DATA[start : start + 1] for start in range(2000))


@app.route
def write(environ, start_response):
    write = start_response("200 OK", [("Content-Length", str(SIZE))])
    write(DATA[:1])
    write(DATA[1:5_000])
    return [DATA[5_000:]]


@app.route
def file(environ, start_response):
    copy = tempfile.TemporaryFile()
    copy.write(DATA)
    copy.seek(0)
    start_response("200 OK", [])
    return environ["wsgi.file_wrapper"](copy)


@app.route
def file_of_some_length(environ, start_response):
    start_response("200 OK", [("Content-Length", str(SIZE))])
    copy = tempfile.TemporaryFile()
    copy.write(DATA)
    copy.seek(0)
    return environ["wsgi.file_wrapper"](copy)


@app.route
def hinted(environ, start_response):
    environ["wsgi.early_hints"]([("Link", "</style.css>; rel=preload")])
    return text(start_response, DATA.decode())


@app.route
def nothing(environ, start_response):
    start_response("204 No Content", [])
    return []


@app.route
def echo(environ, start_response):
    return text(start_response, environ["wsgi.input"].read().decode())


@app.route
def error(environ, start_response):
    raise ValueError("on purpose")
"""
CLOSE = {"Connection": "close"}
REQUESTS = {
    "list": request("GET", "/whole"),
    "list-http10": request("GET", "/whole", version="HTTP/1.0"),
    "list-of-pieces": request("GET", "/pieces"),
    "chunked": request("GET", "/blocks"),
    "close-delimited": request("GET", "/blocks", version="HTTP/1.0"),
    "chunks-of-one-octet": request("GET", "/single_octets"),
    "write": request("GET", "/write"),
    "file": request("GET", "/file"),
    "file-http10": request("GET", "/file", version="HTTP/1.0"),
    "file-of-some-length": request("GET", "/file_of_some_length"),
    "early-hints": request("GET", "/hinted"),
    "head": request("HEAD", "/whole"),
    "no-content": request("GET", "/nothing"),
    "length": request("POST", "/echo", body=b"0123456789" * 20),
    "chunked-request": request("POST", "/echo", {"Transfer-Encoding": "chunked"})
    + chunked(b"0123456789", b"a" * 300, trailer=b"X-Sum: 27\r\n"),
    "expect": request(
        "POST", "/echo", {"Content-Length": "10", "Expect": "100-continue"}, b"0123456789"
    ),
    "pipelined": request("POST", "/echo", body=b"one")
    + request("GET", "/pieces")
    + request("GET", "/blocks", CLOSE),
    "refused": b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
    "failed": request("GET", "/error"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP + WELL_ROUTE, "--keep-alive", "60") as server:
        yield server


def undated(answer: bytes) -> bytes:
    return re.sub(rb"(?m)^Date: [^\r]+", b"Date: now", answer)


def taken_at_once(server: Server, data: bytes) -> bytes:
    """What a client gets that sends and takes as much as it can."""
    with server.client() as client:
        client.send(data)
        client.half_close()
        return undated(client.read_until_closed())


def taken_by_octets(client: Client) -> bytes:
    answer = bytearray()
    while octet := client.socket.recv(1):
        answer += octet
    return undated(bytes(answer))


def without_continue(answer: bytes) -> bytes:
    """A client that does not wait to be told may or may not be told."""
    return answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")


@pytest.mark.parametrize("data", REQUESTS.values(), ids=REQUESTS.keys())
def test_an_answer_taken_by_octets_is_the_whole_one(server: Server, data: bytes) -> None:
    with server.client(receive_buffer=4096) as client:
        client.send(data)
        client.half_close()
        assert taken_by_octets(client) == taken_at_once(server, data)


@pytest.mark.parametrize("data", REQUESTS.values(), ids=REQUESTS.keys())
def test_a_request_given_by_octets_gets_the_same_answer(server: Server, data: bytes) -> None:
    with server.client(receive_buffer=4096) as client:
        client.send_bytewise(data)
        client.half_close()
        answer = without_continue(taken_by_octets(client))
    assert answer == without_continue(taken_at_once(server, data))


def test_fifty_clients_that_trickle_at_once_get_each_its_own_answer(server: Server) -> None:
    """Octet by octet in turn: no two octets of one client follow one another."""
    kinds = {name: data for name, data in REQUESTS.items() if name not in ("refused", "failed")}
    expected = {name: without_continue(taken_at_once(server, kinds[name])) for name in kinds}
    names = [*kinds] * 3
    with unharmed(server):
        clients = [server.client(receive_buffer=4096) for _ in names]
        for client in clients:
            client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for position in range(max(map(len, kinds.values()))):
            for client, name in zip(clients, names, strict=True):
                if octet := kinds[name][position : position + 1]:
                    client.send(octet)
        for client, name in zip(clients, names, strict=True):
            client.half_close()
            assert without_continue(taken_by_octets(client)) == expected[name], name
            client.close()
