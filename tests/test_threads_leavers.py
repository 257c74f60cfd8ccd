"""Clients that close their connection in order while an answer streams: over TCP the blocks that
are sent to them tell, over a unix socket the close itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from harness import OURS, Client, Server, eventually, request
from thread_pool import UNIX

APP = """
import time

from apps.hold import wait_for_file
from apps.notes import note
from apps.routes import Routes, text

app = Routes()


@app.route
def stream(environ, start_response):
    name = environ["PATH_INFO"].split("/")[2]
    start_response("200 OK", [])
    try:
        for number in range(5):
            note(f"{name} asked for {number}")
            wait_for_file(f"{name}-{number}")
            yield b"block %d" % number
    finally:
        note(f"{name} closed")


@app.route
def write(environ, start_response):
    name = environ["PATH_INFO"].split("/")[2]
    write = start_response("200 OK", [])
    try:
        for number in range(5):
            note(f"{name} asked for {number}")
            wait_for_file(f"{name}-{number}")
            write(b"block %d" % number)
    except ConnectionResetError:
        note(f"{name} told")
        raise
    finally:
        note(f"{name} closed")
    return []


@app.route
def well(environ, start_response):
    return text(start_response, "all is well")


@app.route
def watch(environ, start_response):
    name = environ["PATH_INFO"].split("/")[2]
    sock = environ["gunicorn.socket"]
    start_response("200 OK", [])
    yield b"block 0"
    note(f"{name} watching")
    for number in range(6000):
        if sock.fileno() == -1:
            note(f"{name} noticed")
            break
        time.sleep(0.01)
    yield b"block 1"
    note(f"{name} asked for more")
"""
WAYS = ["stream", "write"]
pytestmark = [
    pytest.mark.own_threads,
    pytest.mark.skipif(not OURS, reason="gunicorn's own workers do not promise it"),
]


def started(binds: Sequence[str]) -> Iterator[Server]:
    with Server.start(APP, "--threads", "4", "--keep-alive", "60", binds=binds) as server:
        yield server


@pytest.fixture(scope="module")
def tcp() -> Iterator[Server]:
    yield from started(["127.0.0.1:0"])


@pytest.fixture(scope="module")
def unix() -> Iterator[Server]:
    yield from started(UNIX)


def let_go(server: Server, name: str, number: int) -> None:
    """The application gives its next block."""
    (server.directory / f"{name}-{number}").touch()


def first_block(server: Server, client: Client, way: str) -> str:
    """Asks, and reads all that is there: who closes before that resets."""
    name = f"leaver-{way}"
    client.send(request("GET", f"/{way}/{name}"))
    let_go(server, name, 0)
    client.read_until(b"block 0\r\n")
    assert client.is_quiet()
    return name


@pytest.mark.parametrize("way", WAYS)
def test_over_tcp_the_second_block_behind_it_ends_the_answer(tcp: Server, way: str) -> None:
    """The first one is answered by an RST, which may come while it is being sent; until then it
    could be a client that half-closed."""
    with tcp.client() as client:
        name = first_block(tcp, client, way)
        tcp.wait_for_note(f"{name} asked for 1")
    let_go(tcp, name, 1)
    told = {f"{name} asked for 2", f"{name} closed"}
    eventually(lambda: told & set(tcp.notes()), "the first block is sent")
    let_go(tcp, name, 2)
    tcp.wait_for_note(f"{name} closed")
    assert f"{name} asked for 3" not in tcp.notes()
    assert way != "write" or f"{name} told" in tcp.notes()


@pytest.mark.parametrize("way", WAYS)
def test_over_a_unix_socket_the_next_block_is_not_asked_for(unix: Server, way: str) -> None:
    with unix.client() as client:
        name = first_block(unix, client, way)
        unix.wait_for_note(f"{name} asked for 1")
    # A request of another client goes all the way, so that the loop has turned.
    assert unix.get("/well").text == "all is well"
    let_go(unix, name, 1)
    unix.wait_for_note(f"{name} closed")
    assert f"{name} asked for 2" not in unix.notes()


def test_over_a_unix_socket_the_application_sees_it_without_a_write(unix: Server) -> None:
    with unix.client() as client:
        name = first_block(unix, client, "watch")
        unix.wait_for_note(f"{name} watching")
    unix.wait_for_note(f"{name} noticed")
    assert f"{name} asked for more" not in unix.notes()
