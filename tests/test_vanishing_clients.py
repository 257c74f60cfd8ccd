"""A client that resets at any stage costs nothing but its own request."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from harness import Server, chunked, eventually, open_files, open_sockets, request

APP = """
from apps.routes import Routes, text

app = Routes()


@app.route
def whole(environ, start_response):
    return text(start_response, "x" * 1_000_000)


@app.route
def blocks(environ, start_response):
    start_response("200 OK", [])
    return (bytes(65536) for _ in range(1000))


@app.route
def file(environ, start_response):
    with open("data", "wb") as out:
        out.truncate(50_000_000)
    start_response("200 OK", [])
    return environ["wsgi.file_wrapper"](open("data", "rb"))


@app.route
def upload(environ, start_response):
    return text(start_response, str(len(environ["wsgi.input"].read())))


@app.route
def small(environ, start_response):
    return text(start_response, "small")
"""
STAGES = {
    "connected": b"",
    "in-the-method": b"GE",
    "in-the-head": b"GET /small HTTP/1.1\r\nHost",
    "head-sent": request("GET", "/small"),
    "many-heads-sent": request("GET", "/small") * 100,
    "body-awaited": request("POST", "/upload", {"Content-Length": "10"}),
    "continue-awaited": request(
        "POST", "/upload", {"Content-Length": "10", "Expect": "100-continue"}
    ),
    "in-the-body": request("POST", "/upload", {"Content-Length": "10"}, b"12345"),
    "in-a-spooled-body": request(
        "POST", "/upload", {"Content-Length": "2000000"}, bytes(1_000_000)
    ),
    "in-a-chunk": request("POST", "/upload", {"Transfer-Encoding": "chunked"}, b"ff\r\n1234"),
    "before-the-last-chunk": request(
        "POST", "/upload", {"Transfer-Encoding": "chunked"}, chunked(b"1234")[:-5]
    ),
    "large-answer": request("GET", "/whole"),
    "large-answers": request("GET", "/whole") * 20,
    "streamed-answer": request("GET", "/blocks"),
    "file-answer": request("GET", "/file"),
    "bad-input": b"nonsense\r\n\r\n" + bytes(100_000),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP, "--keep-alive", "60") as server:
        yield server


@pytest.mark.parametrize("reading", [False, True], ids=["unread", "half-read"])
@pytest.mark.parametrize("stage", STAGES.values(), ids=STAGES.keys())
def test_the_worker_serves_on_and_keeps_no_descriptor(
    server: Server, stage: bytes, reading: bool
) -> None:
    pid = server.worker_pid()
    assert server.get("/small").text == "small"
    before = eventually_steady(server)
    for _ in range(10):
        with server.client(receive_buffer=8192) as client:
            client.send(stage)
            if reading and stage.startswith(b"GET") and stage.endswith(b"\r\n\r\n"):
                client.receive(100)
            client.reset()
    for _ in range(3):
        assert server.get("/small").text == "small"
    eventually(lambda: len(open_files(pid)) <= before, "the descriptors are closed")
    assert server.worker_pid() == pid


def eventually_steady(server: Server) -> int:
    """The worker's descriptors once no connection is left."""
    pid = server.worker_pid()
    eventually(lambda: open_sockets(pid) <= 1 + len(server.addresses), "only listeners are open")
    return len(open_files(pid))


def test_a_thousand_connections_that_say_nothing_and_reset_are_forgotten(server: Server) -> None:
    pid = server.worker_pid()
    clients = [server.client() for _ in range(900)]
    assert server.get("/small").text == "small"
    for client in clients:
        client.reset()
    assert server.get("/small").text == "small"
    eventually(lambda: len(open_files(pid)) < 100, "the descriptors are closed")


def test_no_traceback_was_written_for_any_of_them(server: Server) -> None:
    with server.client() as client:
        client.send(STAGES["streamed-answer"])
        client.receive(100)
        client.reset()
    assert server.get("/small").text == "small"
    assert "Traceback" not in server.stderr_text()


def test_urgent_data_ends_the_connection(server: Server) -> None:
    """It never becomes readable: a worker that went on watching would do nothing else."""
    with server.client() as client:
        assert client.request("GET", "/small").text == "small"
        client.socket.send(b"!", socket.MSG_OOB)
        assert client.is_closed_by_peer()
    assert server.get("/small").text == "small"
