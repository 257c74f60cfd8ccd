"""HUP and TERM with open WebSockets: peers are told to go when a successor serves."""

from __future__ import annotations

import contextlib
import signal

import pytest
from harness import eventually
from standalone import Standalone
from websocket_peer import HANDSHAKE, Peer, serving

pytestmark = pytest.mark.own_threads


def test_a_reload_closes_with_1012_and_reconnects_land_on_the_new_worker() -> None:
    with serving("--graceful-timeout", "20") as server, contextlib.ExitStack() as stack:
        peers = [stack.enter_context(Peer.open(server)) for _ in range(20)]
        before = server.worker_pid()
        server.signal(signal.SIGHUP)
        for peer in peers:
            close = peer.hear_close()
            assert (close.code, close.reason) == (1012, "service restart")
            # At once, as a client may: nobody who was told to go finds the old worker again.
            answer = server.get("/plain").text
            assert f"pid: {before}" not in answer
            peer.say_close(1012)
            assert peer.read_until_closed() == b""
        server.wait_for_note("closed", 20)
        eventually(lambda: before not in server.worker_pids(), "the old worker has left")
        with Peer.open(server) as peer:
            peer.say("hello")
            assert peer.hear() == "hello"


def test_the_old_worker_waits_for_close_handshakes_inside_the_grace() -> None:
    with serving("--graceful-timeout", "60") as server, Peer.open(server) as peer:
        before = server.worker_pid()
        server.signal(signal.SIGHUP)
        assert peer.hear_close().code == 1012
        eventually(lambda: len(server.worker_pids()) == 2, "both workers are there")
        peer.say_close(1012)
        assert peer.read_until_closed() == b""
        eventually(lambda: before not in server.worker_pids(), "the old worker has left")


def test_a_peer_that_does_not_answer_holds_no_worker_beyond_its_grace() -> None:
    with (
        serving("--graceful-timeout", "1", close_timeout=600) as server,
        Peer.open(server) as peer,
    ):
        before = server.worker_pid()
        server.signal(signal.SIGHUP)
        assert peer.hear_close().code == 1012
        eventually(lambda: before not in server.worker_pids(), "the old worker has left")
        server.wait_for_note("over")
        assert peer.is_closed_by_peer()


def test_an_application_that_is_busy_elsewhere_is_ended_with_the_grace() -> None:
    with serving("--graceful-timeout", "1") as server, Peer.open(server, "/busy") as peer:
        server.wait_for_note("busy")
        before = server.worker_pid()
        server.signal(signal.SIGHUP)
        assert peer.hear_close().code == 1012
        peer.say_close(1012)
        eventually(lambda: before not in server.worker_pids(), "the old worker has left")


def test_a_handshake_that_finds_the_worker_leaving_is_closed_with_1012() -> None:
    with (
        serving("--graceful-timeout", "60") as server,
        Peer.open(server, "/busy"),
        server.client() as client,
    ):
        server.wait_for_note("busy")
        assert client.request(target="/plain").status == 200
        with Peer.open(server) as told:
            server.signal(signal.SIGHUP)
            assert told.hear_close().code == 1012
        late = Peer.__new__(Peer)
        late.socket, late.buffer = client.socket, client.buffer
        assert late.request(target="/echo", headers=HANDSHAKE).status == 101
        assert late.hear_close().code == 1012
        (server.directory / "look").touch()


def test_messages_that_came_before_the_close_are_still_the_applications() -> None:
    with serving("--graceful-timeout", "60") as server, Peer.open(server, "/busy") as peer:
        server.wait_for_note("busy")
        for size in range(3):
            peer.say("x" * size)
        server.signal(signal.SIGHUP)
        assert peer.hear_close().code == 1012
        peer.say_close(1012)
        assert peer.read_until_closed() == b""
        (server.directory / "look").touch()
        server.wait_for_note("closed")
        assert [note for note in server.notes() if note.startswith("str")] == [
            "str 0",
            "str 1",
            "str 2",
        ]


def test_more_messages_than_may_wait_do_not_hold_a_leaving_worker() -> None:
    with (
        serving("--graceful-timeout", "60", close_timeout=60) as server,
        Peer.open(server, "/looks_away") as peer,
    ):
        server.wait_for_note("busy")
        for _ in range(100):
            peer.say("x")
        server.signal(signal.SIGHUP)
        assert peer.hear_close().code == 1012
        peer.say_close(1012)
        (server.directory / "look").touch()
        assert peer.read_until_closed() == b""


def test_a_worker_that_has_served_its_requests_closes_with_1012() -> None:
    with serving("--max-requests", "2", "--graceful-timeout", "20") as server:
        with Peer.open(server) as peer:
            before = server.worker_pid()
            assert server.get("/plain").text.endswith(f"pid: {before}")
            assert peer.hear_close().code == 1012
            peer.say_close(1012)
            assert peer.read_until_closed() == b""
        eventually(lambda: before not in server.worker_pids(), "the old worker has left")


def test_term_ends_the_server_with_open_websockets() -> None:
    with serving("--graceful-timeout", "20") as server, Peer.open(server) as peer:
        server.signal(signal.SIGTERM)
        assert peer.hear_close().code == 1012
        peer.say_close(1012)
        assert peer.read_until_closed() == b""
        assert server.wait() == 0


def test_a_standalone_server_leaves_nothing_behind() -> None:
    source = """
import os
from meinheld import server
from meinheld.middleware import WebSocketMiddleware

def echo(environ, start_response):
    ws = environ["wsgi.websocket"]
    while (message := ws.wait()) is not None:
        ws.send(message)
    return []

app = WebSocketMiddleware(echo)
before = len(os.listdir("/proc/self/fd"))
server.listen(("127.0.0.1", 0))
server.run(app)
print(len(os.listdir("/proc/self/fd")) - before, "descriptors more")
"""
    with Standalone.start(source) as server:
        with Peer.open(server, "/") as peer:
            peer.say("hello")
            assert peer.hear() == "hello"
            server.signal(signal.SIGTERM)
            assert peer.hear_close().code == 1012
            peer.say_close(1012)
            assert peer.read_until_closed() == b""
        assert server.wait() == 0
        assert server.stdout_text() == "0 descriptors more\n"


def test_what_is_sent_when_the_worker_quits_interrupts_nobody() -> None:
    with serving() as server, Peer.open(server, "/says_goodbye") as peer:
        server.wait_for_note("waits")
        # A turn later.
        assert server.get("/plain").status == 200
        server.signal(signal.SIGQUIT)
        assert [peer.hear(), peer.hear()] == ["good", "bye"]
        assert server.wait() == 0
        assert server.notes() == ["waits", "said"]


def test_however_many_there_are_each_is_told_within_the_grace() -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serving("--graceful-timeout", "2"))
        peers = [stack.enter_context(Peer.open(server)) for _ in range(600)]
        server.signal(signal.SIGTERM)
        codes = set()
        for peer in peers:
            codes.add(peer.hear_close().code)
            peer.say_close(1012)
        assert codes == {1012}
        assert server.wait() == 0
