"""Whatever a connection sends, and however much of it, the memory that it costs is bounded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
from harness import THREADED, Client, Server, forget_peak_memory, memory_kib, request, settled
from wellness import WELL_ROUTE, assert_answers, assert_serves

APP = """
from apps.routes import Routes, text

app = Routes()


@app.route
def upload(environ, start_response):
    length = 0
    while block := environ["wsgi.input"].read(65536):
        length += len(block)
    return text(start_response, str(length))
"""
MIB = 1 << 20
SENT = 8 * MIB
CONNECTIONS = 16
EACH = 2 * MIB
"""Well above what gunicorn's limits let a head have (100 fields of 8190 octets), and above what a
body may have in memory; far below what is sent."""
CHUNKED = request("POST", "/upload", {"Transfer-Encoding": "chunked"})
HEAD = b"GET /well HTTP/1.1\r\nHost: a\r\n"
LARGEST_HEAD = b"".join(b"X-%02d: %b\r\n" % (n, b"a" * 8180) for n in range(98))


def endless(beginning: bytes, repeated: bytes) -> bytes:
    return beginning + repeated * ((SENT - len(beginning)) // len(repeated))


SENDING = {
    "request-line": endless(b"GET /", b"a"),
    "empty-lines": endless(b"", b"\r\n"),
    "field": endless(HEAD + b"X-A: ", b"a"),
    "fields": endless(HEAD, b"X-A: 1\r\n"),
    "largest-head": HEAD + LARGEST_HEAD,
    "pipelined-requests": endless(b"", request("GET", "/well")),
    "pipelined-largest-heads": endless(b"", HEAD + LARGEST_HEAD + b"\r\n"),
    "body": endless(request("POST", "/upload", {"Content-Length": str(1 << 40)}), b"a"),
    "unexpected-body": endless(
        request("POST", "/upload", {"Content-Length": str(1 << 40), "Expect": "100-continue"}),
        b"a",
    ),
    "bodies": endless(b"", request("POST", "/upload", body=bytes(65536))),
    "chunk": endless(CHUNKED + b"fffffffff\r\n", b"a"),
    "chunks-of-one-octet": endless(CHUNKED, b"1\r\na\r\n"),
    "chunk-size": endless(CHUNKED, b"0"),
    "chunk-extension": endless(CHUNKED + b"5;", b"a"),
    "chunk-extensions": endless(CHUNKED, b"1;a=b;c=d\r\na\r\n"),
    "trailer": endless(CHUNKED + b"0\r\nX-A: ", b"a"),
    "trailers": endless(CHUNKED + b"0\r\n", b"X-A: 1\r\n"),
    "nothing-known": endless(b"", bytes(range(256))),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    settings = ["--keep-alive", "60"]
    if THREADED:
        # An endless body keeps the thread that reads it: there must be one left for the witness.
        settings += ["--threads", str(CONNECTIONS + 2)]
    with Server.start(APP + WELL_ROUTE, *settings) as server:
        yield server


def most(data: bytes) -> int:
    """Octets that a connection may cost. With threads the requests of all of them are with the
    application at once: each has a head and an `environ`, besides what was read ahead."""
    crowded = THREADED and data == SENDING["pipelined-largest-heads"]
    return EACH * 3 if crowded else EACH


def pour(clients: list[Client], data: bytes) -> None:
    """Everybody sends, without reading an answer, until all is sent, or as long as he is let."""
    left = [memoryview(data) for _ in clients]

    def push() -> int:
        for number, client in enumerate(clients):
            with suppress(BlockingIOError, ConnectionError):
                while left[number]:
                    taken = client.socket.send(left[number][:65536])
                    left[number] = left[number][taken:]
        return sum(map(len, left))

    for client in clients:
        client.socket.setblocking(False)
    settled(push, during=0.25)


@pytest.mark.parametrize("data", SENDING.values(), ids=SENDING.keys())
def test_memory_is_bounded_for_one_that_sends_an_endless(server: Server, data: bytes) -> None:
    pid = server.worker_pid()
    with server.client() as witness:
        assert_answers(witness)
        clients = [server.client() for _ in range(CONNECTIONS)]
        forget_peak_memory(pid)
        before = memory_kib(pid)
        pour(clients, data)
        assert_answers(witness)
        grown = (memory_kib(pid, "VmHWM") - before) * 1024
        for client in clients:
            client.close()
        assert_serves(server)
    assert grown < CONNECTIONS * most(data), f"{grown / CONNECTIONS:.0f} octets for each connection"
    assert server.worker_pid() == pid


@pytest.mark.parametrize("path", ["/well", "/upload"])
def test_an_answer_that_is_not_read_costs_no_memory_for_each_request(
    server: Server, path: str
) -> None:
    """A client may ask as often as it likes: what it does not read is not made."""
    pid = server.worker_pid()
    assert_serves(server)
    with server.client(receive_buffer=1) as client:
        forget_peak_memory(pid)
        before = memory_kib(pid)
        pour([client], request("GET", path) * (SENT * 4 // len(request("GET", path))))
        assert (memory_kib(pid, "VmHWM") - before) * 1024 < EACH
        assert_serves(server)
        client.reset()


@pytest.mark.parametrize(
    "part", [b"", b"G", request("GET", "/well")[:-2]], ids=["nothing", "an-octet", "a-head"]
)
def test_ten_thousand_that_send_next_to_nothing_must_fit(part: bytes) -> None:
    """So each costs a few KiB, even one that has said nothing since it was accepted."""
    with Server.start(APP + WELL_ROUTE, "--keep-alive", "60") as server:
        pid = server.worker_pid()
        with server.client() as witness:
            assert_answers(witness)
            before = memory_kib(pid)
            clients = [server.client() for _ in range(800)]
            assert_answers(witness)
            for client in clients:
                if part:
                    client.send(part)
            assert_answers(witness)
            each = (memory_kib(pid) - before) * 1024 / len(clients)
            for client in clients:
                client.close()
    assert each < 8192, f"{each:.0f} octets for each"
