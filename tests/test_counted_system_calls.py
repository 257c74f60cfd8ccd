"""System calls for each request, counted one by one: the floor is one receive and one send, and a
share of one wait.

The connection is warm, one request follows another, the application's own calls and those of the
heartbeat are not counted (see turns.py).
"""

from __future__ import annotations

import fcntl
import statistics
import struct
import termios
from collections import Counter
from collections.abc import Iterator

import pytest
from harness import OURS, Client, Server, eventually, request
from syscalls import Trace, traced
from turns import BEGINS, ENDS, kinds, turns
from workloads import BROWSER, FILE, HELLO, LARGE_POST, MEMORY, POST, ask, warmed

pytestmark = [
    pytest.mark.own_threads,
    pytest.mark.skipif(not OURS, reason="it is about our own worker's system calls"),
]

COUNT = 200
PIPELINED = 16
BLOCKS = 10
APP = """
from apps.hold import wait_for_file
from apps.marked import begins, ends, marked
from apps.measured import app as measured
from apps.notes import note


@marked
def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/blocks":
        start_response("200 OK", [("Content-Length", "1000")])
        return blocks()
    if path.startswith("/hold/"):
        note(path)
        wait_for_file(path.replace("/", "-"))
        environ["PATH_INFO"] = "/"
    return measured(environ, start_response)


def blocks():
    for _ in range(10):
        begins()
        block = bytes(100)
        ends()
        yield block
"""
TURN = ("send", "wait", "receive")
FILE_TURN = ("fcntl", "lseek", "statx", "send", "sendfile", "close", *TURN[1:])
"""The application keeps its file: the worker's copy of the descriptor is closed."""
CLOSING = ("send", "receive", "close")
"""The receive only looks whether the client has said more: closing would answer that by a reset."""
THREADED_CALLS = 20
"""For each request: a hand-over sleeps and wakes, which strace(1) makes slower and dearer. Measured
here: 11 to 13."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP, "--keep-alive", "60", "--threads", "1") as server:
        yield server


def counted(server: Server, what: bytes, count: int = COUNT) -> Trace:
    """One request after another on a warm connection; one more, because a turn ends with the next
    request."""
    with warmed(server, what) as client, traced(server.worker_pid()) as trace:
        ask(client, what, count + 1)
    return trace


@pytest.mark.parametrize("what", [HELLO, BROWSER, POST], ids=["hello", "browser", "post-1-kib"])
def test_a_request_costs_one_receive_and_one_send(server: Server, what: bytes) -> None:
    assert Counter(turns(counted(server, what))) == {TURN: COUNT}


def turns_of_bursts(server: Server) -> Counter[tuple[str, ...]]:
    burst = HELLO * PIPELINED
    with server.client() as client:

        def ask_for_bursts(count: int) -> None:
            for _ in range(count):
                client.send(burst)
                for _ in range(PIPELINED):
                    assert client.response().status == 200

        ask_for_bursts(5)
        with traced(server.worker_pid()) as trace:
            ask_for_bursts(COUNT + 1)
    # The thread that looks after what waits is woken, or has to be waited for.
    return Counter(tuple(call for call in turn if call != "futex") for turn in turns(trace))


def test_answers_to_pipelined_requests_leave_in_one_write() -> None:
    """All but one of a burst cost nothing; what is behind the last burst's last answer is not seen.
    Where the clock has moved on, answers that are ready are sent, and the sockets looked at; where
    a worker was stopped for long, answers do not wait for a while: then another one is tried."""
    for _ in range(5):
        with Server.start(APP, "--keep-alive", "60", "--threads", "1") as server:
            found = turns_of_bursts(server)
        assert found.pop(TURN) == COUNT
        together = found.pop(())
        assert set(found) <= {("send",), ("wait",), ("send", "wait")}
        if together > 0.8 * (COUNT + 1) * (PIPELINED - 1):
            return
    pytest.fail(f"of {(COUNT + 1) * (PIPELINED - 1)} answers only {together} left with the next")


def test_a_body_of_100_kib_costs_few_receives(server: Server) -> None:
    """As many as there are segments, and one more: the head comes in a smaller buffer."""
    found = turns(counted(server, LARGE_POST))
    assert len(found) == COUNT
    assert statistics.mode(turn.count("receive") for turn in found) <= 3, Counter(found)
    for turn, count in Counter(found).items():
        assert set(turn) == set(TURN), (turn, count)
        assert turn.count("send") == 1, (turn, count)
        # A segment has 32 KiB at least.
        assert turn.count("wait") <= turn.count("receive") <= 5, (turn, count)


@pytest.mark.parametrize(
    ("what", "usual"), [(MEMORY, TURN), (FILE, FILE_TURN)], ids=["memory", "file"]
)
def test_1_mib_leaves_in_one_call(server: Server, what: bytes, usual: tuple[str, ...]) -> None:
    """Now and then the kernel may not take all of it at once."""
    found = Counter(turns(counted(server, what)))
    assert found.total() == COUNT
    assert found[usual] > COUNT / 2, found
    for turn in found:
        assert set(turn) <= {*usual, "epoll_ctl"}, found
        assert turn.count("receive") == 1, found


def test_each_block_leaves_by_itself_before_the_next_is_asked_for(server: Server) -> None:
    found = turns(counted(server, request("GET", "/blocks")))
    # The call of the application ends, and the first block is asked for.
    one = [(), *[("send",)] * (BLOCKS - 1), TURN]
    assert found == (one * (COUNT + 1))[:-1]


def wait_until_delivered(client: Client) -> None:
    """Until the other side's kernel has all that was sent."""

    def waiting() -> bool:
        octets = fcntl.ioctl(client.socket, termios.TIOCOUTQ, bytes(4))
        return struct.unpack("i", octets) != (0,)

    eventually(lambda: not waiting(), "what was sent is in the worker's kernel")


def test_a_connection_for_one_request_is_never_registered(server: Server) -> None:
    """Its request is there when it is accepted: the worker is busy with another one until then."""
    quick = request("GET", "/", {"Connection": "close"})
    rounds = 20
    with server.client() as busy:
        ask(busy, HELLO)
        with traced(server.worker_pid()) as trace:
            for number in range(rounds + 1):
                busy.send(request("GET", f"/hold/{number}"))
                server.wait_for_note(f"/hold/{number}")
                with server.client() as client:
                    client.send(quick)
                    wait_until_delivered(client)
                    (server.directory / f"-hold-{number}").touch()
                    assert busy.response().status == 200
                    assert client.response().status == 200
                    assert client.is_closed_by_peer()
    assert Counter(turns(trace)) == {
        ("send", "wait", "accept", "receive", "accept"): rounds + 1,
        (*CLOSING, "wait", "receive"): rounds,
    }


def test_threads_cost_a_bounded_number_of_calls() -> None:
    with Server.start("apps.marked:app", "--keep-alive", "60", "--threads", "4") as server:
        found = kinds(counted(server, HELLO))
    first, last = found.index(BEGINS), len(found) - found[::-1].index(BEGINS) - 1
    tally = Counter(found[first:last])
    assert tally.pop(BEGINS) == tally.pop(ENDS) == COUNT
    assert tally["receive"] == tally["send"] == COUNT
    assert tally.total() <= THREADED_CALLS * COUNT, tally
