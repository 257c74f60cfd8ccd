"""Backpressure: the kernel takes a block before the application is asked for the next, and memory
stays flat."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import (
    GREEN,
    THREADED,
    Client,
    Server,
    beats,
    eventually,
    forget_peak_memory,
    memory_kib,
    request,
    settled,
)
from wellness import assert_comes_to_rest

APP = """
from apps.notes import note
from apps.routes import Routes, text

app = Routes()
BLOCK = 65536


def blocks(count, name):
    try:
        for number in range(count):
            note(f"{name} block")
            yield b"%08d" % number * (BLOCK // 8)
    finally:
        note(f"{name} closed")


@app.route
def stream(environ, start_response):
    count, name = environ["PATH_INFO"].split("/")[2:4]
    start_response("200 OK", [("Content-Length", str(int(count) * BLOCK))])
    return blocks(int(count), name)


@app.route
def quiet(environ, start_response):
    count = int(environ["PATH_INFO"].split("/")[2])
    start_response("200 OK", [("Content-Length", str(count * BLOCK))])
    return (b"%08d" % number * (BLOCK // 8) for number in range(count))


@app.route
def write(environ, start_response):
    count, name = environ["PATH_INFO"].split("/")[2:4]
    write = start_response("200 OK", [("Content-Length", str(int(count) * BLOCK))])
    try:
        for block in blocks(int(count), name):
            write(block)
    except OSError as error:
        note(f"{name} raised OSError")
        raise
    note(f"{name} written")
    return []


@app.route
def upload(environ, start_response):
    note("upload called")
    return text(start_response, str(len(environ["wsgi.input"].read())))
"""
BLOCK = 65536
MIB = 1 << 20
KERNEL = 24 * MIB
"""More than the socket buffers of both ends ever hold (tcp_wmem and tcp_rmem end at 4 to 6 MiB
each)."""

#: An answer that waits for its socket keeps its thread, or its greenlet, and nobody else.
OTHERS_ARE_CALLED = THREADED or GREEN


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP, "--keep-alive", "30", "--timeout", "60") as server:
        yield server


def produced(server: Server, name: str) -> int:
    return server.notes().count(f"{name} block") * BLOCK


def expected(count: int) -> bytes:
    return b"".join(b"%08d" % number * (BLOCK // 8) for number in range(count))


@pytest.mark.parametrize("way", ["stream", "write"])
def test_a_client_that_does_not_read_stops_the_application(server: Server, way: str) -> None:
    name = f"unread-{way}"
    with server.client(receive_buffer=8192) as client:
        client.send(request("GET", f"/{way}/2000/{name}"))
        eventually(lambda: produced(server, name), "the first block")
        before = settled(lambda: produced(server, name))
        assert before < KERNEL
        for _ in range(4):
            client.read_exactly(4 * MIB)
        assert settled(lambda: produced(server, name)) < 16 * MIB + KERNEL
        client.reset()
    server.wait_for_note(f"{name} closed")
    assert server.notes().count(f"{name} closed") == 1
    if way == "write":
        server.wait_for_note(f"{name} raised OSError")


@pytest.mark.parametrize("way", ["stream", "write"])
def test_a_slow_reader_gets_every_byte_in_order(server: Server, way: str) -> None:
    with server.client(receive_buffer=16384) as client:
        client.send(request("GET", f"/{way}/300/slow-{way}"))
        assert client.response().body == expected(300)
    server.wait_for_note(f"slow-{way} closed")


def test_a_gibibyte_to_a_slow_reader_keeps_memory_flat(server: Server) -> None:
    assert server.get("/quiet/10").body == expected(10)
    pid = server.worker_pid()
    forget_peak_memory(pid)
    before = memory_kib(pid, "VmHWM")
    with server.client(receive_buffer=1 << 18) as client:
        client.send(request("GET", "/quiet/16384"))
        client.read_until(b"\r\n\r\n")
        received = len(client.buffer)
        while received < 1 << 30:
            block = client.socket.recv(1 << 17)
            assert block
            received += len(block)
    assert received == 1 << 30
    assert memory_kib(pid, "VmHWM") - before < 8 * 1024


def stalled(server: Server, client: Client, way: str, name: str) -> None:
    """Leaves a response waiting for its socket."""
    client.send(request("GET", f"/{way}/1000/{name}"))
    eventually(lambda: produced(server, name), "the first block")
    settled(lambda: produced(server, name))


@pytest.mark.parametrize("way", ["stream", "write"])
def test_meanwhile_other_connections_are_accepted_and_read(server: Server, way: str) -> None:
    name, size = f"meanwhile-{way}", 32 * MIB
    with server.client(receive_buffer=8192) as client, server.client() as other:
        stalled(server, client, way, name)
        called = server.notes().count("upload called")
        other.send(request("POST", "/upload", {"Content-Length": str(size)}))
        other.send(bytes(size))
        if OTHERS_ARE_CALLED:
            assert other.response().text == str(size)
        else:
            assert server.notes().count("upload called") == called
        assert len(client.response().body) == 1000 * BLOCK
        if not OTHERS_ARE_CALLED:
            assert other.response().text == str(size)


@pytest.mark.parametrize("way", ["stream", "write"])
def test_meanwhile_the_heart_beats(server: Server, way: str) -> None:
    pid = server.worker_pid()
    with server.client(receive_buffer=8192) as client:
        stalled(server, client, way, f"beating-{way}")
        for _ in range(2):
            last = beats(pid)
            eventually(lambda last=last: beats(pid) != last, "the heart beats")  # type: ignore[misc]
        client.reset()
    server.wait_for_note(f"beating-{way} closed")


@pytest.mark.parametrize("way", ["stream", "write"])
def test_a_waiting_response_uses_no_processor_time_and_the_next_request_is_served(
    server: Server, way: str
) -> None:
    with server.client(receive_buffer=8192) as client, server.client() as other:
        stalled(server, client, way, f"next-{way}")
        other.send(request("GET", "/quiet/1"))
        if OTHERS_ARE_CALLED:
            assert other.response().body == expected(1)
            other.send(request("GET", "/quiet/1"))
            assert other.response().body == expected(1)
        assert_comes_to_rest(server.worker_pid())
        if not OTHERS_ARE_CALLED:
            assert other.is_quiet()
        assert len(client.response().body) == 1000 * BLOCK
        if not OTHERS_ARE_CALLED:
            assert other.response().body == expected(1)
