"""Peers that are slow, silent or many cost no more than was agreed, and nobody else anything."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest
from harness import Server, eventually, memory_kib, open_sockets, request, settled
from websocket_peer import (
    BINARY,
    CLOSE,
    HANDSHAKE,
    PING,
    PONG,
    TEXT,
    Frame,
    Peer,
    close_payload,
    frame,
    serving,
)

pytestmark = pytest.mark.own_threads

MANY = 5000


def test_a_reader_that_takes_nothing_is_dropped_and_stops_nobody() -> None:
    with (
        serving(max_pending=1 << 20) as server,
        Peer.open(server, "/chat", receive_buffer=4096),
        Peer.open(server, "/chat") as quick,
    ):
        server.wait_for_note("joined", 2)
        before = memory_kib(server.worker_pid())
        reached = []
        for _ in range(60):
            reached.append(server.get("/broadcast?300000").text)
            assert len(quick.hear()) == 300_000
        # Its application was told.
        server.wait_for_note("left")
        assert (reached[0], reached[-1]) == ("2", "1")
        assert memory_kib(server.worker_pid()) - before < 16 << 10
        quick.say(b"still served")
        assert quick.hear() == b"still served"


def test_a_peer_that_pings_and_reads_no_pongs_is_dropped() -> None:
    with serving(max_pending=10_000) as server, Peer.open(server, receive_buffer=4096) as peer:
        pings = frame(PING, bytes(125)) * 1000
        with pytest.raises(ConnectionError):
            while True:
                peer.send(pings)
        server.wait_for_note("closed")


def test_a_message_larger_than_what_may_wait_is_sent_to_who_takes_it() -> None:
    with serving(max_pending=1) as server, Peer.open(server, "/chat") as peer:
        server.wait_for_note("joined")
        assert server.get("/broadcast?8000000").text == "1"
        assert len(peer.hear()) == 8_000_000


def test_who_sends_from_its_own_request_waits_for_its_peer() -> None:
    with serving(max_pending=1) as server:
        worker = server.worker_pid()
        with Peer.open(server, "/large", receive_buffer=65_536) as peer:
            before = memory_kib(worker)
            for _ in range(64):
                assert len(peer.hear()) == 1 << 20
                assert memory_kib(worker) - before < 16 << 10
            server.wait_for_note("sent")
            # Meanwhile others are served.
            assert server.get("/plain").status == 200


@pytest.mark.parametrize(("opcode", "times"), [(TEXT, 1), (PONG, 1), (PING, 1000)])
def test_a_peer_that_speaks_while_it_takes_a_large_message_gets_all_of_it(
    opcode: int, times: int
) -> None:
    with (
        serving(max_pending=10_000) as server,
        Peer.open(server, "/largest?8000000", receive_buffer=65_536) as peer,
    ):
        server.wait_for_note("sending")
        peer.send(frame(opcode) * times)
        message = peer.frame()
        assert (message.opcode, len(message.payload)) == (BINARY, 8_000_000)
        while (message := peer.frame()).opcode == PONG:
            pass
        assert message == Frame(TEXT, b"done")


@pytest.mark.parametrize("doing", ["digests", "pours"])
def test_a_peer_that_is_faster_than_its_request_holds_nobody_up(doing: str) -> None:
    with serving() as server, Peer.open(server, f"/{doing}") as peer:
        server.wait_for_note(doing)

        def speak() -> None:
            messages = frame(BINARY) * 10_000
            with contextlib.suppress(OSError):
                while True:
                    peer.send(messages)

        def take() -> None:
            with contextlib.suppress(OSError):
                while peer.socket.recv(1 << 20):
                    pass

        threads = [threading.Thread(target=speak), threading.Thread(target=take)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(3):
                assert server.get("/plain").status == 200
        finally:
            peer.socket.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


def test_without_descriptors_the_worker_turns_and_open_websockets_are_served() -> None:
    with serving(max_files=100) as server, server.client() as other:
        assert other.request("GET", "/plain").status == 200
        with Peer.open(server, "/takes_all_descriptors") as peer:
            server.wait_for_note("takes all")
            assert other.request("GET", "/plain").status == 200
            peer.say("while there is none")
            assert peer.hear() == "while there is none"
            (server.directory / "look").touch()
            with Peer.open(server) as late:
                late.say("once there are")
                assert late.hear() == "once there are"
            peer.leave()


def test_messages_that_nobody_takes_are_left_to_the_kernel() -> None:
    with serving() as server, Peer.open(server, "/busy") as peer:
        server.wait_for_note("busy")
        before = memory_kib(server.worker_pid())
        sent = 0
        peer.socket.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            while sent < 1000:
                peer.say(bytes(100_000))
                sent += 1
        assert sent < 500
        assert memory_kib(server.worker_pid()) - before < 16 << 10
        (server.directory / "look").touch()
        server.wait_for_note("bytes 100000", sent)


def test_texts_that_nobody_takes_are_counted_by_their_memory() -> None:
    # 250 characters, and 1,000 octets.
    text = "\N{GRINNING FACE}" * 250
    with (
        serving(max_message_size=1000) as server,
        Peer.open(server, "/busy") as peer,
        Peer.open(server) as other,
    ):
        server.wait_for_note("busy")
        for _ in range(2):
            peer.say(text)
        peer.ping()
        for _ in range(2):
            # By the second turn everybody has been looked at.
            other.say("x")
            assert other.hear() == "x"
        assert peer.is_quiet()
        (server.directory / "look").touch()
        assert peer.frame().opcode == PONG


def test_a_silent_peer_is_pinged_and_one_that_answers_is_kept() -> None:
    with serving(ping_interval=0.1, ping_timeout=60) as server, Peer.open(server) as peer:
        for _ in range(3):
            ping = peer.frame()
            assert ping.opcode == PING
            peer.send(frame(PONG, ping.payload))
        peer.say("alive")
        assert Frame(1, b"alive") in (peer.frame(), peer.frame())


def test_a_silent_peer_that_answers_no_ping_is_dropped() -> None:
    with serving(ping_interval=0.1, ping_timeout=0.1) as server, Peer.open(server) as peer:
        assert peer.frame().opcode == PING
        server.wait_for_note("closed")
        assert peer.is_closed_by_peer()


def test_a_peer_that_says_much_and_takes_nothing_is_dropped() -> None:
    with (
        serving(ping_interval=0.2, ping_timeout=0.2) as server,
        Peer.open(server, receive_buffer=4096) as peer,
    ):
        with pytest.raises(ConnectionError):
            while True:
                peer.say(bytes(100_000))
        server.wait_for_note("over")


def test_a_peer_that_has_answered_is_kept_when_the_loop_was_held_up() -> None:
    with (
        serving(ping_interval=0.2, ping_timeout=2) as server,
        Peer.open(server) as peer,
        server.client() as client,
    ):
        ping = peer.frame()
        client.send(request(target="/blocks?2.5"))
        server.wait_for_note("blocks")
        peer.send(frame(PONG, ping.payload))
        (server.directory / "look").touch()
        assert client.response().text == "done"
        peer.say("kept")
        heard = peer.frame()
        while heard.opcode == PING:
            peer.send(frame(PONG, heard.payload))
            heard = peer.frame()
        assert heard == Frame(TEXT, b"kept")


def test_a_peer_that_speaks_is_not_pinged() -> None:
    with serving(ping_interval=60) as server, Peer.open(server) as peer:
        for _ in range(20):
            peer.say("x")
            assert peer.frame() == Frame(1, b"x")


def test_an_open_websocket_is_no_request_that_takes_too_long() -> None:
    env = {"MEINHELD_REQUEST_TIMEOUT": "0.2"}
    with serving(env=env, ping_interval=0.5, ping_timeout=60) as server, Peer.open(server) as peer:
        # That is later.
        assert peer.frame().opcode == PING
        peer.say("hello")
        assert peer.frame() == Frame(1, b"hello")
        assert "Cancelled" not in server.stderr_text()


def test_a_peer_that_never_answers_a_close_is_given_up() -> None:
    with serving(close_timeout=0.2) as server, Peer.open(server, "/keeps") as peer:
        assert peer.frame() == Frame(CLOSE, close_payload(1000))
        assert peer.read_until_closed() == b""


@pytest.mark.parametrize("who", ["the application", "the peer"])
def test_a_peer_that_takes_nothing_is_given_up_when_it_is_closed(who: str) -> None:
    with serving(close_timeout=0.2, ping_interval=None) as server:
        # It is up.
        assert server.get("/plain").status == 200
        before = settled(lambda: open_sockets(server.worker_pid()))
        with Peer.open(server, "/closed_while_it_sends?greenlet", receive_buffer=4096) as peer:
            server.wait_for_note("sending")
            if who == "the peer":
                peer.say_close()
            else:
                (server.directory / "look").touch()
            server.wait_for_note("no longer")
            eventually(lambda: open_sockets(server.worker_pid()) == before, "its socket is closed")
            (server.directory / "look").touch()


def test_open_websockets_take_no_place_of_other_connections() -> None:
    with serving("--worker-connections", "2") as server, contextlib.ExitStack() as stack:
        peers = [stack.enter_context(Peer.open(server)) for _ in range(10)]
        assert server.get("/plain").status == 200
        for peer in peers:
            peer.say("still here")
            assert peer.hear() == "still here"


def open_many(server: Server, count: int) -> list[socket.socket]:
    """So many connections in `/chat`, whose handshakes are answered."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in HANDSHAKE.items())
    handshake = f"GET /chat HTTP/1.1\r\nHost: test\r\n{lines}\r\n".encode()
    connections = []
    address = ("127.0.0.1", server.port)
    for _ in range(count):
        connection = socket.create_connection(address, timeout=30)
        connection.sendall(handshake)
        connections.append(connection)
    for connection in connections:
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += connection.recv(1000)
        assert answer.startswith(b"HTTP/1.1 101 "), answer
    return connections


def test_a_worker_holds_5000_and_reaches_all_of_them() -> None:
    with serving("--worker-connections", "6000", max_files=MANY + 500) as server:
        pid = server.worker_pid()
        assert server.get("/plain").status == 200
        memory, sockets = memory_kib(pid), open_sockets(pid)
        connections = open_many(server, MANY)
        try:
            # A descriptor, and some 20 KiB, each.
            assert open_sockets(pid) <= sockets + MANY + 10
            assert (memory_kib(pid) - memory) / MANY < 40
            assert server.get("/broadcast?100").text == str(MANY)
            expected = b"\x82\x64" + bytes(100)
            for connection in connections:
                assert connection.recv(1000) == expected
            connections[0].sendall(frame(1, b"from one of them"))
            expected = b"\x81\x10from one of them"
            for connection in connections:
                assert connection.recv(1000) == expected
        finally:
            for connection in connections:
                connection.close()
        eventually(lambda: server.get("/figures").text.startswith("0 "), "all have left", 30)
        eventually(lambda: open_sockets(pid) <= sockets + 10, "their descriptors are closed", 30)
