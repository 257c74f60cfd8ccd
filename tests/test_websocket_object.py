"""`environ["wsgi.websocket"]`: what an application does with it, from wherever."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import Server, eventually, open_sockets, request, settled
from websocket import create_connection
from websocket_peer import PONG, TEXT, Frame, Peer, frame, serving

pytestmark = pytest.mark.own_threads


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(close_timeout=60) as server:
        yield server


def test_text_is_str_and_binary_is_bytes(server: Server) -> None:
    with Peer.open(server) as peer:
        for message in ("text", b"binary", "", b""):
            peer.say(message)
            assert peer.hear() == message
        peer.leave()
    server.wait_for_note("closed")


def test_another_library_speaks_with_it(server: Server) -> None:
    ws = create_connection(f"ws://127.0.0.1:{server.port}/echo", timeout=15)
    for size in (0, 125, 126, 70_000, 1_000_000):
        ws.send("x" * size)
        assert ws.recv() == "x" * size
        ws.send_binary(bytes(size))
        assert ws.recv() == bytes(size)
    ws.close()
    server.wait_for_note("closed")


def test_pings_are_answered_while_the_application_does_something_else(server: Server) -> None:
    with Peer.open(server, "/busy") as peer:
        server.wait_for_note("busy")
        for number in range(3):
            peer.ping(b"%d" % number)
            assert peer.frame() == Frame(PONG, b"%d" % number)
            peer.say("unread")


def test_a_close_is_answered_while_the_application_does_something_else(server: Server) -> None:
    with Peer.open(server, "/busy") as peer:
        peer.say("before")
        peer.say_close(4000)
        assert peer.hear_close().code == 4000
        assert peer.read_until_closed() == b""
        (server.directory / "look").touch()
        # What came before the close is not lost.
        server.wait_for_note("str 6")
        server.wait_for_note("closed")


def test_a_peer_that_vanishes_ends_the_wait(server: Server) -> None:
    with Peer.open(server) as peer:
        peer.say("x")
        assert peer.hear() == "x"
        peer.reset()
        server.wait_for_note("closed")
    with Peer.open(server) as peer:
        peer.close()
        server.wait_for_note("closed", 2)


def test_the_application_closes_with_a_code_and_a_reason(server: Server) -> None:
    with Peer.open(server, "/closing") as peer:
        peer.say("4001 enough")
        close = peer.hear_close()
        assert (close.code, close.reason) == (4001, "enough")
        # It does not wait for the peer: its request is over when the peer has answered.
        server.wait_for_note("wait: None, True")
        assert any("the WebSocket is closed" in line for line in server.notes())
        assert peer.is_quiet()
        peer.say("crossing it")
        peer.say_close(4001)
        assert peer.read_until_closed() == b""


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("1005 x", "close code 1005: not one that an endpoint may send"),
        ("999 x", "close code 999: not one that an endpoint may send"),
        ("1000 " + "é" * 62, "close reason: 124 octets of UTF-8, and only 123 are allowed"),
    ],
)
def test_a_close_that_may_not_be_sent_is_refused(server: Server, said: str, answer: str) -> None:
    with Peer.open(server, "/closing") as peer:
        peer.say(said)
        assert peer.hear() == answer
        assert peer.hear_close().code == 1000


def test_what_is_no_message_is_refused(server: Server) -> None:
    with Peer.open(server, "/refused") as peer:
        assert [peer.hear() for _ in range(4)] == ["TypeError"] * 3 + ["UnicodeEncodeError"]
        assert [peer.hear(), peer.hear()] == [b"array", b"view"]


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        ("200+OK", 1000, ""),
        ("404+Not+Found", 1008, "404 Not Found"),
        ("500+Internal", 1011, "500 Internal"),
    ],
)
def test_an_application_that_does_not_close_it_has_it_closed(
    server: Server, status: str, code: int, reason: str
) -> None:
    with Peer.open(server, f"/status?{status}") as peer:
        close = peer.hear_close()
        assert (close.code, close.reason) == (code, reason)
        peer.say_close(code)
        assert peer.read_until_closed() == b""


def test_an_application_that_fails_has_it_closed_with_1011(server: Server) -> None:
    with Peer.open(server, "/broken") as peer:
        peer.say("now")
        close = peer.hear_close()
        assert (close.code, close.reason) == (1011, "internal error")
        peer.say_close(1011)
        assert peer.read_until_closed() == b""
    server.wait_for_log("RuntimeError: asked for")
    assert server.get("/plain").status == 200


def test_an_oserror_of_the_applications_is_in_the_error_log(server: Server) -> None:
    with Peer.open(server, "/lacks_a_file") as peer:
        peer.say("now")
        assert peer.hear_close().code == 1011
        peer.say_close(1011)
        assert peer.read_until_closed() == b""
    server.wait_for_log("FileNotFoundError: no such thing")


def test_an_application_that_lets_the_loss_of_its_peer_out_has_done_nothing_wrong() -> None:
    with serving() as server:
        with Peer.open(server, "/lets_the_loss_of_its_peer_out"):
            pass
        server.wait_for_note("knows")
        assert server.get("/plain").status == 200
        assert "Traceback" not in server.stderr_text()


def test_an_application_may_be_a_generator(server: Server) -> None:
    with Peer.open(server, "/generator") as peer:
        assert peer.hear() == "from a generator"
        peer.leave()
        server.wait_for_note("generator closed")


def test_a_coroutine_that_sends_is_not_left_half_way(server: Server) -> None:
    with Peer.open(server, "/sends_in_a_coroutine") as peer:
        assert [peer.hear(), peer.hear()] == ["first", "False"]


def test_coroutines_that_wait_for_messages_do_not_get_in_each_others_way(server: Server) -> None:
    path = "/echoes_in_a_coroutine"
    with Peer.open(server, path) as one, Peer.open(server, path) as another:
        for peer, word in ((another, "two"), (one, "one")):
            peer.say(word)
            assert peer.hear() == word


@pytest.mark.parametrize(("how", "code"), [("exits", "7"), ("fails", "1"), ("returns", "1")])
def test_a_child_of_the_application_leaves_it_to_its_parent(
    server: Server, how: str, code: str
) -> None:
    with Peer.open(server, f"/forks?{how}") as peer:
        assert peer.hear() == code
        peer.say("still there")
        assert peer.hear() == "still there"
        assert peer.hear_close().code == 1000


def test_what_is_kept_beyond_its_request_touches_nobody(server: Server) -> None:
    with Peer.open(server, "/keeps") as peer:
        assert peer.hear_close().code == 1000
        peer.say_close()
        assert peer.is_closed_by_peer()
    # One of these has the descriptor's number now.
    with Peer.open(server) as one, Peer.open(server) as other:
        assert server.get("/uses_what_it_kept").text == "BrokenPipeError None -1 True"
        for peer in (one, other):
            peer.say("mine")
            assert peer.hear() == "mine"


def test_threads_send_while_the_request_waits(server: Server) -> None:
    with Peer.open(server, "/pushed") as peer:
        heard = [str(peer.hear()).split() for _ in range(400)]
        for number in range(4):
            mine = [count for who, count in heard if who == str(number)]
            assert mine == [str(count) for count in range(100)]
        peer.say("enough")
        server.wait_for_note("wait: enough")


@pytest.mark.parametrize("who", ["greenlet", "thread"])
def test_another_may_close_it_while_the_request_waits(server: Server, who: str) -> None:
    with Peer.open(server, f"/closed_by?{who}") as peer:
        close = peer.hear_close()
        assert (close.code, close.reason) == (4000, who)
        server.wait_for_note("wait: None")


@pytest.mark.parametrize("who", ["greenlet", "thread"])
def test_a_request_that_waits_for_its_peer_goes_on_when_another_closes(
    server: Server, who: str
) -> None:
    with Peer.open(server, f"/closed_while_it_sends?{who}") as peer:
        server.wait_for_note("sending")
        (server.directory / "look").touch()
        server.wait_for_note("no longer")
        # What it has sent comes first.
        assert len(peer.hear()) == 64 << 20
        assert peer.hear_close().code == 1000


def test_a_thread_may_close_it_while_messages_come(server: Server) -> None:
    for _ in range(50):
        with Peer.open(server, "/closed_with_unread") as peer:
            peer.send(b"".join(frame(TEXT, b"x") for _ in range(300)))
            assert peer.hear_close().code == 1000
            peer.say_close()
    server.wait_for_note("closed", 50)


def test_a_thread_cannot_wait(server: Server) -> None:
    with Peer.open(server, "/waits_elsewhere") as peer:
        assert peer.hear() == "refused"


def test_the_chat_of_the_old_readme_works(server: Server) -> None:
    with Peer.open(server, "/chat") as ada, Peer.open(server, "/chat") as bob:
        server.wait_for_note("joined", 2)
        ada.say("hello")
        assert ada.hear() == bob.hear() == "hello"
        ada.leave()
        server.wait_for_note("left")
        bob.say("alone")
        assert bob.hear() == "alone"


def test_who_leaves_a_chat_breaks_off_nobody_who_speaks_at_that_moment(server: Server) -> None:
    with Peer.open(server, "/chat") as ada, Peer.open(server, "/chat") as bob:
        server.wait_for_note("joined", 2)
        with server.client() as client:
            client.send(request("GET", "/blocks?0.1"))
            server.wait_for_note("blocks")
            bob.say("hello")
            ada.say_close(1000)
            (server.directory / "look").touch()
            client.response()
        # The loop has found both at once, and has known that ada was gone when bob was heard.
        server.wait_for_note("left")
        bob.say("still here")
        assert (bob.hear(), bob.hear()) == ("hello", "still here")


def test_a_request_with_a_websocket_can_be_suspended_as_any(server: Server) -> None:
    with Peer.open(server, "/suspends") as peer:
        server.wait_for_note("suspended")
        assert server.get("/resumes").text == "done"
        assert peer.hear() == "resumed"


def test_a_kept_websocket_keeps_no_descriptor(server: Server) -> None:
    # It is up.
    assert server.get("/plain").status == 200
    pid = server.worker_pid()
    before = settled(lambda: open_sockets(pid))
    for _ in range(5):
        with Peer.open(server, "/keeps") as peer:
            assert peer.hear_close().code == 1000
            peer.say_close()
            assert peer.is_closed_by_peer()
    eventually(lambda: open_sockets(pid) == before, "their sockets are closed")


def test_descriptors_go_with_their_connections(server: Server) -> None:
    # It is up.
    assert server.get("/plain").status == 200
    pid = server.worker_pid()
    before = settled(lambda: open_sockets(pid))
    peers = [Peer.open(server, "/chat") for _ in range(20)]
    server.wait_for_note("joined", 20)
    # One each.
    assert open_sockets(pid) == before + 20
    for peer in peers:
        peer.leave()
        peer.close()
    eventually(lambda: open_sockets(pid) == before, "their sockets are closed")
