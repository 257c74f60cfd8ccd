"""Receiving, sending, watching and waiting fail in the kernel: the one connection pays for it, its
client never sees an answer that looks complete and is not, and nobody else notices."""

from __future__ import annotations

import select
from collections.abc import Iterator
from contextlib import suppress

import pytest
from harness import THREADED, Client, Server, Truncated, eventually, request
from syscalls import traced
from wellness import WELL, WELL_ROUTE, assert_answers, unharmed

APP = """
import tempfile
from apps.notes import note
from apps.routes import Routes, text

app = Routes()
SIZE = 300_000


@app.route
def noted(environ, start_response):
    note("called")
    return text(start_response, "noted")


@app.route
def whole(environ, start_response):
    return text(start_response, "x" * SIZE)


@app.route
def blocks(environ, start_response):
    start_response("200 OK", [])
    return (bytes(30_000) for _ in range(10))


@app.route
def small_blocks(environ, start_response):
    start_response("200 OK", [])
    return (b"block" for _ in range(10))


@app.route
def endless(environ, start_response):
    start_response("200 OK", [])
    while True:
        yield bytes(30_000)


@app.route
def write(environ, start_response):
    write = start_response("200 OK", [])
    for _ in range(10):
        write(bytes(30_000))
    return []


@app.route
def file(environ, start_response):
    copy = tempfile.TemporaryFile()
    copy.truncate(SIZE)
    start_response("200 OK", [])
    return environ["wsgi.file_wrapper"](copy)
"""
SIZE = 300_000


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP + WELL_ROUTE, "--keep-alive", "60") as server:
        yield server


def ask(client: Client, path: str, version: str = "HTTP/1.1") -> None:
    client.send(request("GET", path, {"Connection": "close"}, version=version))


def was_reset(client: Client) -> bool:
    """Whether a reset has come, behind whatever is still to be read."""
    poll = select.poll()
    poll.register(client.socket, 0)
    return bool(poll.poll(0))


# Receiving


@pytest.mark.parametrize("error", ["ECONNRESET", "ETIMEDOUT", "EHOSTUNREACH", "ENOMEM", "EIO"])
def test_a_failed_recv_ends_that_connection(server: Server, error: str) -> None:
    noted = server.notes()
    with unharmed(server):
        injection = f"recvfrom:error={error}:when=1"
        with (
            traced(server.worker_pid(), "recvfrom", inject=[injection]) as trace,
            server.client() as client,
        ):
            ask(client, "/noted")
            assert client.is_closed_by_peer()
    assert trace.injected() == 1
    assert server.notes() == noted


@pytest.mark.parametrize("error", ["EINTR", "EAGAIN"])
def test_an_interrupted_recv_is_done_again(server: Server, error: str) -> None:
    with unharmed(server):
        injection = f"recvfrom:error={error}:when=1..5"
        with (
            traced(server.worker_pid(), "recvfrom", inject=[injection]) as trace,
            server.client() as client,
        ):
            ask(client, "/noted")
            assert client.response().body == b"noted"
    # strace counts for each thread, and the look for more before the end may be another one's.
    assert trace.injected() in ((5, 6) if THREADED else (5,))


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
def test_a_recv_that_fails_during_an_answer_never_leaves_one_that_looks_complete(
    server: Server, version: str
) -> None:
    with unharmed(server), server.client(receive_buffer=4096) as client:
        ask(client, "/endless", version)
        client.read_until(b"\r\n\r\n")
        with traced(server.worker_pid(), "recvfrom", inject=["recvfrom:error=EIO:when=1"]) as trace:
            client.send(b"early")
            with pytest.raises(ConnectionError):
                while client.receive():
                    pass
    assert trace.injected() == 1


# Sending


@pytest.mark.parametrize("path", ["whole", "blocks", "small_blocks", "write", "file"])
@pytest.mark.parametrize("call", ["EINTR", "EAGAIN"])
def test_an_interrupted_send_is_gone_on_with(server: Server, path: str, call: str) -> None:
    with unharmed(server):
        injections = [f"sendto,writev,sendfile:error={call}:when=1..4"]
        with (
            traced(server.worker_pid(), "sendto,writev,sendfile", inject=injections) as trace,
            server.client() as client,
        ):
            ask(client, f"/{path}")
            body = client.response().body
            assert len(body) == (50 if path == "small_blocks" else SIZE)
            assert client.is_closed_by_peer()
    assert trace.injected() > 0


@pytest.mark.parametrize("error", ["EPIPE", "ECONNRESET", "ENOBUFS"])
@pytest.mark.parametrize("path", ["whole", "blocks", "write", "file"])
def test_a_failed_first_send_ends_that_connection(server: Server, path: str, error: str) -> None:
    with unharmed(server):
        injection = f"sendto,writev:error={error}:when=1"
        with (
            traced(server.worker_pid(), "sendto,writev", inject=[injection]) as trace,
            server.client() as client,
        ):
            ask(client, f"/{path}")
            assert client.is_closed_by_peer()
    assert trace.injected() == 1


@pytest.mark.parametrize("error", ["EPIPE", "ENOBUFS"])
@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
@pytest.mark.parametrize("path", ["blocks", "small_blocks", "write", "file"])
def test_a_failed_later_send_never_leaves_an_answer_that_looks_complete(
    server: Server, path: str, version: str, error: str
) -> None:
    """HTTP/1.0 has no framing here: nothing but a reset says that more was to come."""
    # One buffer is sent, several are written together.
    call = {"file": "sendfile", "small_blocks": "sendto"}.get(path, "writev")
    with unharmed(server):
        injection = f"{call}:error={error}:when={1 if path == 'file' else 2}"
        with (
            traced(server.worker_pid(), call, inject=[injection]) as trace,
            server.client() as client,
        ):
            ask(client, f"/{path}", version)
            with pytest.raises((Truncated, ConnectionError)):
                client.response()
    assert trace.injected() == 1


# Watching and waiting


@pytest.mark.parametrize("error", ["ENOMEM", "ENOSPC"])
def test_a_connection_that_cannot_be_watched_ends(server: Server, error: str) -> None:
    """A request that came with the connection may be answered before; one that comes later, even
    by the time that it takes to connect, finds it reset."""
    with unharmed(server):
        injection = f"epoll_ctl:error={error}:when=1"
        with (
            traced(server.worker_pid(), "epoll_ctl", inject=[injection]) as trace,
            suppress(ConnectionError),
            server.client() as client,
        ):
            client.send(request("GET", "/well"))
            assert client.response().body == WELL
            assert client.is_closed_by_peer()
    assert trace.injected() == 1


@pytest.mark.parametrize("path", ["whole", "blocks", "file"])
def test_an_answer_whose_room_cannot_be_watched_for_is_broken_off(
    server: Server, path: str
) -> None:
    with unharmed(server), server.client(receive_buffer=4096) as client:
        assert_answers(client)
        injection = "epoll_ctl:error=ENOMEM:when=1+"
        with traced(server.worker_pid(), "epoll_ctl", inject=[injection]) as trace:
            client.send(request("GET", f"/{path}") * 40)
            eventually(lambda: was_reset(client), "the connection is reset")
            with pytest.raises((Truncated, ConnectionError)):
                for _ in range(40):
                    client.response()
    assert trace.injected() >= 1


def test_an_interrupted_wait_loses_nothing(server: Server) -> None:
    with server.client() as witness:
        assert_answers(witness)
        with unharmed(server):
            with traced(
                server.worker_pid(), inject=["epoll_pwait:error=EINTR:when=1..30"]
            ) as trace:
                for _ in range(5):
                    assert_answers(witness)
                    with server.client() as client:
                        ask(client, "/whole")
                        assert len(client.response().body) == SIZE
            assert trace.injected() == 30


def test_a_shutdown_that_fails_leaves_no_connection_open(server: Server) -> None:
    with unharmed(server, warnings=5):
        injection = "shutdown:error=ENOTCONN:when=1+"
        with traced(server.worker_pid(), "shutdown", inject=[injection]) as trace:
            for _ in range(5):
                with server.client() as client:
                    client.send(b"nonsense\r\n\r\n")
                    assert client.response().status == 400
                    assert client.rest() == b""
    assert trace.injected() == 5
