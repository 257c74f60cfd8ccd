"""WebSockets under application threads: Flask-Sock (simple-websocket) takes the socket over.

The client is websocket-client, which shares no code with the other side.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import struct
from collections.abc import Iterator

import pytest
from harness import OURS, Server, eventually, request
from support import gunicorn, noise, replaced
from websocket import (
    ABNF,
    WebSocket,
    WebSocketConnectionClosedException,
    create_connection,
)

pytestmark = [pytest.mark.own_threads, pytest.mark.timeout(120)]

THREADS = 32
TEXT = "Grüße, 世界 "
HANDSHAKE = request(
    target="/echo",
    headers={
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    },
)


def start(*args: str, ping: str = "") -> Server:
    return gunicorn(
        "sites.websocket_site:app",
        *("--threads", str(THREADS), "--keep-alive", "60", *args),
        env={"SITE_PING": ping} if ping else {},
    )


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    with start() as running:
        yield running


@pytest.fixture
def server(shared: Server) -> Iterator[Server]:
    """The server, whose notes begin anew; every handler of the test has ended behind it."""
    (shared.directory / "notes").write_text("")
    yield shared
    notes = eventually(
        lambda: notes if (notes := shared.notes()).count("begun") == notes.count("over") else [],
        "all handlers end",
    )
    assert notes


better_than_gthread = pytest.mark.skipif(not OURS, reason="gunicorn's gthread does not do this")


@contextlib.contextmanager
def opened(server: Server, path: str = "/echo") -> Iterator[WebSocket]:
    ws: WebSocket = create_connection(f"ws://127.0.0.1:{server.port}{path}", timeout=15)
    with tcp(ws):
        yield ws


def tcp(ws: WebSocket) -> socket.socket:
    """The socket below; to close it is to vanish."""
    assert isinstance(ws.sock, socket.socket)
    return ws.sock


def next_frame(ws: WebSocket) -> ABNF:
    """Without the answer that websocket-client gives a ping, or a close that has no more reader."""
    frame: ABNF = ws.recv_frame()  # type: ignore[no-untyped-call]
    return frame


def expect_close(ws: WebSocket, code: int, reason: str = "") -> None:
    """A close frame is next, and then the end of the connection."""
    frame = next_frame(ws)
    assert frame.opcode == ABNF.OPCODE_CLOSE
    assert frame.data == struct.pack("!H", code) + reason.encode()
    assert tcp(ws).recv(1) == b""


# Messages


@pytest.mark.parametrize("text", ["", "text", TEXT, TEXT * 100_000], ids=len)
def test_a_text_comes_back(server: Server, text: str) -> None:
    with opened(server) as ws:
        ws.send(text)
        assert ws.recv() == text


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 4_000_000])
def test_binary_data_comes_back(server: Server, size: int) -> None:
    data = noise(size)
    with opened(server) as ws:
        ws.send_binary(data)
        assert ws.recv() == data


def test_messages_come_back_in_order(server: Server) -> None:
    with opened(server) as ws:
        for number in range(1000):
            ws.send(f"message {number}")
        assert [ws.recv() for _ in range(1000)] == [f"message {n}" for n in range(1000)]


def test_a_message_in_fragments_comes_back_whole(server: Server) -> None:
    with opened(server) as ws:
        ws.send_frame(ABNF.create_frame("one ", ABNF.OPCODE_TEXT, 0))
        ws.ping("between")
        ws.send_frame(ABNF.create_frame("two", ABNF.OPCODE_CONT, 1))
        frames = [ws.recv_data_frame(control_frame=True) for _ in range(2)]
        # The extension answers pings on a thread of its own: either may come first.
        assert {(opcode, frame.data) for opcode, frame in frames} == {
            (ABNF.OPCODE_PONG, b"between"),
            (ABNF.OPCODE_TEXT, b"one two"),
        }


@better_than_gthread
def test_a_message_that_came_with_the_handshake_is_not_lost(server: Server) -> None:
    first = ABNF.create_frame("early", ABNF.OPCODE_TEXT).format()
    with server.client() as client:
        client.send(HANDSHAKE + first)
        assert client.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
        assert client.read_exactly(7) == b"\x81\x05early"


# Pings


def test_a_ping_is_answered_with_its_data(server: Server) -> None:
    with opened(server) as ws:
        ws.ping("are you there?")
        opcode, frame = ws.recv_data_frame(control_frame=True)
        assert (opcode, frame.data) == (ABNF.OPCODE_PONG, b"are you there?")


def test_pings_of_the_application_keep_a_quiet_connection_open() -> None:
    with start(ping="0.2") as server, opened(server) as ws:
        for _ in range(5):
            # recv_data_frame answers a ping.
            opcode, _ = ws.recv_data_frame(control_frame=True)
            assert opcode == ABNF.OPCODE_PING
        ws.send("still here")
        assert ws.recv() == "still here"


def test_a_client_that_answers_no_ping_is_closed() -> None:
    with start(ping="0.2") as server, opened(server) as ws:
        assert next_frame(ws).opcode == ABNF.OPCODE_PING
        expect_close(ws, 1008, "Ping/Pong timeout")
        server.wait_for_note("over")


# Many at once


def test_thirty_sockets_and_ordinary_requests_are_served_at_once(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(opened(server)) for _ in range(30)]
        client = stack.enter_context(server.client())
        for turn in range(10):
            for number, ws in enumerate(sockets):
                ws.send(f"{turn} for {number}")
            assert client.request().status == 200
            assert [ws.recv() for ws in sockets] == [f"{turn} for {n}" for n in range(30)]
        assert server.notes().count("opened") == 30


def test_a_request_that_finds_all_threads_taken_gets_the_first_that_is_free(
    server: Server,
) -> None:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(opened(server)) for _ in range(THREADS)]
        server.wait_for_note("opened", THREADS)
        client = stack.enter_context(server.client())
        client.send(request())
        for ws in sockets:
            ws.send("before")
            assert ws.recv() == "before"
        assert client.is_quiet()
        sockets[0].close()
        assert client.response().status == 200
        for ws in sockets[1:]:
            ws.send("after")
            assert ws.recv() == "after"


# The end


def test_the_client_closes_with_a_code_and_a_reason(server: Server) -> None:
    with opened(server) as ws:
        ws.send_close(4001, b"enough")
        # The extension wakes the application before it answers: that may end the connection first.
        with contextlib.suppress(WebSocketConnectionClosedException):
            expect_close(ws, 4001, "enough")
        server.wait_for_note("closed 4001 enough")
        server.wait_for_note("over")


@pytest.mark.parametrize(
    ("message", "code", "reason"), [("4002 no more", 4002, "no more"), ("", 1000, "")]
)
def test_the_application_closes(server: Server, message: str, code: int, reason: str) -> None:
    with opened(server, "/farewell") as ws:
        ws.send(message)
        expect_close(ws, code, reason)
        server.wait_for_note("over")


@better_than_gthread
def test_an_error_ends_the_connection_and_not_the_worker(server: Server) -> None:
    with opened(server, "/broken") as ws:
        ws.send("now")
        # No close frame, and no answer of HTTP's either.
        assert tcp(ws).recv(1000) == b""
    server.wait_for_note("over")
    server.wait_for_log("RuntimeError: asked for")
    assert server.get().status == 200


@pytest.mark.parametrize("way", ["reset", "fin"])
def test_a_client_that_vanishes_ends_its_handler(server: Server, way: str) -> None:
    with opened(server) as ws:
        ws.send("hello")
        assert ws.recv() == "hello"
        if way == "reset":
            tcp(ws).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        tcp(ws).close()
        server.wait_for_note("over")
    with contextlib.ExitStack() as stack:
        # Its thread is free again: all of them are.
        for ws in [stack.enter_context(opened(server)) for _ in range(THREADS)]:
            ws.send("all")
            assert ws.recv() == "all"


def test_a_client_that_vanishes_ends_a_handler_that_only_sends(server: Server) -> None:
    with opened(server, "/talk") as ws:
        server.wait_for_note("talking")
        assert len(ws.recv()) == 65_536
        tcp(ws).close()
        server.wait_for_note("over")
    assert server.get().status == 200


# The end of the worker


def test_term_ends_a_worker_whose_sockets_stay_open() -> None:
    with start("--graceful-timeout", "1") as server, contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(opened(server)) for _ in range(5)]
        stack.enter_context(opened(server, "/talk"))
        server.wait_for_note("opened", 5)
        server.wait_for_note("talking")
        worker = server.worker_pid()
        # To the worker alone: the arbiter, which would kill it in the end, does not wait for it.
        server.signal(signal.SIGTERM, worker)
        replaced(server, [worker])
        for ws in sockets:
            assert tcp(ws).recv(1000) == b""
        assert server.get().status == 200


def test_hup_leaves_open_sockets_to_the_old_worker_until_they_close() -> None:
    with start("--graceful-timeout", "60") as server, opened(server) as ws:
        before = server.worker_pid()
        ws.send("one")
        assert ws.recv() == "one"
        server.signal(signal.SIGHUP)
        eventually(lambda: server.get().text.find(str(before)) < 0, "the new worker answers")
        ws.send("two")
        assert ws.recv() == "two"
        assert before in server.worker_pids()
        ws.close()
        replaced(server, [before])
