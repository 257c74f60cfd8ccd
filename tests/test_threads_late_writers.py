"""Threads of the application's own that write while their request ends: they come back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import OURS, Client, Server, eventually, request, settled
from thread_pool import SMALL, SMALL_BUFFERS

BLOCK = 65536
APP = """
import threading

from apps.hold import wait_for_file
from apps.notes import note
from apps.routes import Routes, text

app = Routes()


def tag_of(environ):
    return environ["PATH_INFO"].split("/")[2]


def writing(tag, write):
    def produce():
        try:
            for _ in range(1000):
                note(f"{tag} block")
                write(bytes(65536))
        except BaseException as error:
            note(f"{tag} writer: {type(error).__name__}")

    threading.Thread(target=produce, daemon=True).start()


@app.route
def left_writing(environ, start_response):
    tag = tag_of(environ)
    writing(tag, start_response("200 OK", []))
    wait_for_file(f"release-{tag}")
    return []


@app.route
def left_by_a_generator(environ, start_response):
    tag = tag_of(environ)
    writing(tag, start_response("200 OK", []))
    wait_for_file(f"release-{tag}")
    yield from ()


@app.route
def left_by_an_error(environ, start_response):
    tag = tag_of(environ)
    writing(tag, start_response("200 OK", []))
    wait_for_file(f"release-{tag}")
    raise ValueError("enough")


@app.route
def well(environ, start_response):
    return text(start_response, "all is well")
"""
WAYS = ["left_writing", "left_by_a_generator"]
pytestmark = [
    pytest.mark.own_threads,
    pytest.mark.skipif(not OURS, reason="gunicorn's own workers do not promise it"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP, "--threads", "4", "--keep-alive", "60", config=SMALL_BUFFERS) as server:
        yield server


def blocks(server: Server, tag: str) -> int:
    return server.notes().count(f"{tag} block")


def left_waiting(server: Server, client: Client, way: str, tag: str) -> None:
    """Asks, does not read until the writer waits for room, and lets the request end."""
    client.send(request("GET", f"/{way}/{tag}"))
    eventually(lambda: blocks(server, tag), "the first block")
    settled(lambda: blocks(server, tag))
    assert f"{tag} writer: ConnectionResetError" not in server.notes()
    (server.directory / f"release-{tag}").touch()


@pytest.mark.parametrize("way", WAYS)
def test_a_writer_that_waits_when_its_request_ends_comes_back_while_nobody_reads(
    server: Server, tag: str, way: str
) -> None:
    with server.client(receive_buffer=SMALL) as client:
        left_waiting(server, client, way, tag)
        server.wait_for_note(f"{tag} writer: ConnectionResetError")
        client.reset()


@pytest.mark.parametrize("way", WAYS)
def test_so_it_does_when_the_client_reads_everything(server: Server, tag: str, way: str) -> None:
    """Which is a complete answer, and the connection lives on."""
    with server.client(receive_buffer=SMALL) as client:
        left_waiting(server, client, way, tag)
        body = client.response().body
        # The request may end between the note of a block and its write.
        given = blocks(server, tag)
        assert body in (bytes(given * BLOCK), bytes((given - 1) * BLOCK))
        server.wait_for_note(f"{tag} writer: ConnectionResetError")
        assert client.request("GET", "/well").text == "all is well"


@pytest.mark.parametrize("way", [*WAYS, "left_by_an_error"])
def test_so_it_does_when_the_client_resets(server: Server, tag: str, way: str) -> None:
    with server.client(receive_buffer=SMALL) as client:
        left_waiting(server, client, way, tag)
        client.reset()
    server.wait_for_note(f"{tag} writer: ConnectionResetError")
    assert server.get("/well").text == "all is well"
