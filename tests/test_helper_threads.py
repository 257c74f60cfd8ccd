"""Threads that an application starts itself may use its request, at the same time as its own."""

from __future__ import annotations

from harness import Server

BLOCKS, BLOCK = 64, 64 * 1024

APP = f"""
import threading
from apps.notes import note


def app(environ, start_response):
    def read():
        note("first " + environ["wsgi.input"].read(5).decode())
        note("second " + environ["wsgi.input"].read(5).decode())

    reader = threading.Thread(target=read)
    reader.start()
    start_response("200 OK", [("Content-Length", "{BLOCKS * BLOCK + 3}")])
    for _ in range({BLOCKS}):
        yield bytes({BLOCK})
    reader.join()
    yield b"end"
"""


def test_one_thread_may_wait_for_the_body_while_another_waits_for_room() -> None:
    with Server.start(APP, "--threads", "2") as server, server.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello")
        server.wait_for_note("first hello")
        # The thread that writes has to wait for this client many times.
        client.read_until(b"\r\n\r\n")
        client.read_exactly(BLOCKS * BLOCK)
        client.send(b"world")
        server.wait_for_note("second world")
        assert client.read_exactly(3) == b"end"
