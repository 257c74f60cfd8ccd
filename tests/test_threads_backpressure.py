"""A body costs a window of memory with `--threads`, however long it is, and whether or not the
application reads it: beyond that, TCP makes its sender wait."""

from __future__ import annotations

import os
import socket
import zlib
from collections.abc import Iterator

import pytest
from harness import Client, Server, forget_peak_memory, memory_kib
from uploads import FRAMINGS, WINDOW, Upload, pour

KIB = 1024
MIB = KIB * KIB
GIB = KIB * MIB
UPLOAD = 10 * GIB
BUFFER = 64 * KIB
SMALL_BUFFERS = f"""
import socket

keepalive = 60
threads = 4
# The kernel lets a buffer grow with the sender's eagerness, unless its size was set: connections
# inherit that of their listener.


def when_ready(arbiter):
    for listener in arbiter.LISTENERS:
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, {BUFFER})
"""
SUMMING = """
import zlib
from apps.routes import Routes, text

app = Routes()


@app.route
def sum(environ, start_response):
    stream, size = environ["wsgi.input"], int(environ["HTTP_X_SIZE"])
    length, checked = 0, 0
    while piece := stream.read(size):
        length += len(piece)
        checked = zlib.crc32(piece, checked)
    return text(start_response, f"{length} {checked}")
"""
pytestmark = pytest.mark.own_threads


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start("apps.reading:app", config=SMALL_BUFFERS) as server:
        yield server


def eager_client(server: Server) -> Client:
    """Its kernel, too, keeps no more than BUFFER for it."""
    client = server.client()
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    return client


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("before", [[], [["read", 1]], [["read", 300_000]]])
def test_an_application_that_does_not_read_stops_the_sender(
    server: Server, tag: str, before: list[list[object]], framing: str
) -> None:
    """And when it goes on, nothing is missing."""
    body = os.urandom(8 * MIB)
    calls = [*before, ["hold"], ["read", 100]]
    with eager_client(server) as client:
        upload = Upload(server, f"/strict/{tag}", len(body), framing, calls, client=client)
        wire = upload.framed(body) + (b"0\r\n\r\n" if upload.chunked else b"")
        [taken] = pour([client], wire)
        upload.wait_for("hold ...")
        read = sum(int(str(call[1])) for call in before)
        # One window is in the reader's hands, the next one waits for it; and the kernel doubles
        # what it is asked for, at either end.
        assert taken < read + 2 * WINDOW + 4 * BUFFER + 128 * KIB
        upload.release()
        upload.wait_for(f"read 100 = {body[read : read + 100].decode('latin-1')!r}")


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_sender_that_was_stopped_goes_on_when_the_application_reads(
    server: Server, tag: str, framing: str
) -> None:
    body = os.urandom(4 * MIB)
    calls = [["hold"], ["read"]]
    with eager_client(server) as client:
        upload = Upload(server, f"/calls/{tag}", len(body), framing, calls, client=client)
        wire = upload.framed(body) + (b"0\r\n\r\n" if upload.chunked else b"")
        [taken] = pour([client], wire)
        assert taken < len(wire)
        upload.release()
        client.send(wire[taken:])
        assert upload.results() == [None, body.decode("latin-1")]


def test_forty_bodies_that_nobody_reads_cost_a_window_each(server: Server, tag: str) -> None:
    """Four of them hold a thread each, the others wait for one."""
    assert server.get("/well").status == 200
    pid = server.worker_pid()
    forget_peak_memory(pid)
    before = memory_kib(pid)
    uploads = [
        Upload(server, f"/strict/{tag}-{number}", GIB, calls=[["hold"]]) for number in range(40)
    ]
    pour([upload.client for upload in uploads], bytes(2 * MIB))
    assert (memory_kib(pid, "VmHWM") - before) * KIB < len(uploads) * 2 * WINDOW
    for upload in uploads:
        upload.release()
        upload.client.reset()
    assert server.get("/well").status == 200


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("framing", "size", "length"),
    [
        ("length", 64 * KIB, UPLOAD),
        ("chunked", 64 * KIB, 256 * MIB),
        ("length", 10_007, 64 * MIB),
        ("length", 4 * MIB, 256 * MIB),
    ],
)
def test_an_upload_read_in_pieces_keeps_memory_flat(framing: str, size: int, length: int) -> None:
    block = os.urandom(MIB)
    headers = {"X-Size": str(size)}

    with Server.start(SUMMING, "--threads", "2", "--keep-alive", "60") as server:
        pid = server.worker_pid()

        def upload(length: int) -> None:
            with Upload(server, "/sum", length, framing, headers=headers) as upload:
                checked = 0
                for _ in range(length // len(block)):
                    upload.send(block)
                    checked = zlib.crc32(block, checked)
                upload.end()
                assert upload.response().text == f"{length} {checked}"

        upload(8 * MIB)
        forget_peak_memory(pid)
        before = memory_kib(pid, "VmHWM")
        upload(length)
        # The pieces are the application's own: the one that it holds, and the next one, which
        # exists twice while it is handed over, and grows by doubling. As much again may lie
        # between them in the heap.
        assert (memory_kib(pid, "VmHWM") - before) * KIB < 4 * MIB + 8 * size
