"""How connections and workers end: nothing that was answered is lost, nothing stays for ever."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from harness import Server, eventually, request

APP = """
from apps.notes import note
from apps.routes import Routes, text

app = Routes()


@app.route
def large(environ, start_response):
    return text(start_response, "x" * 3_000_000)


@app.route
def endless(environ, start_response):
    start_response("200 OK", [])
    try:
        note("streaming")
        while True:
            yield bytes(65536)
    finally:
        note("closed")


class Watched(bytes):
    def __del__(self):
        self.socket.fileno()


@app.route
def watched(environ, start_response):
    block = Watched(10_000_000)
    block.socket = environ["gunicorn.socket"]
    start_response("200 OK", [("Content-Length", str(len(block)))])
    return [block]
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP, "--graceful-timeout", "1") as server:
        yield server


def test_octets_behind_the_last_request_do_not_destroy_its_answer(server: Server) -> None:
    """As the line end that some clients send behind a POST (RFC 9112 2.2)."""
    head = {"Content-Length": "5", "Connection": "close"}
    with server.client(receive_buffer=8192) as client:
        client.send(request("POST", "/large", head))
        client.send(b"hello\r\n")
        assert len(client.response().body) == 3_000_000
        assert client.is_closed_by_peer()


def test_freeing_a_block_may_run_python_code(server: Server) -> None:
    with server.client(receive_buffer=8192) as client:
        assert client.request("GET", "/watched").body == bytes(10_000_000)
        assert client.request("GET", "/watched").status == 200


def test_a_stream_to_a_slow_reader_does_not_outlast_graceful_timeout(server: Server) -> None:
    worker = server.worker_pid()
    with server.client(receive_buffer=8192) as client:
        client.send(request("GET", "/endless"))
        server.wait_for_note("streaming")
        server.signal(signal.SIGHUP)
        with pytest.raises(ConnectionResetError):
            while client.receive():
                pass
    eventually(lambda: worker not in server.worker_pids(), "the worker has left")
    server.wait_for_note("closed")
    assert server.get("/large").status == 200


def test_a_request_that_comes_too_late_is_counted() -> None:
    with Server.start("apps.echo:app") as server, server.client() as client:
        assert client.request("GET", "/").status == 200
        server.signal(signal.SIGHUP)
        assert client.is_closed_by_peer()
        client.send(request("GET", "/"))
        server.wait_for_log("Requests lost on connections closed while leaving: 1")
