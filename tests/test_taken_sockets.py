"""The socket of an application that has taken its connection over: what the worker had read already
comes first, and to one of the threads that receive."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from harness import OURS
from thread_pool import side_by_side

if OURS:
    from meinheld_worker.takeover import TakenSocket, take_over

pytestmark = [
    pytest.mark.own_threads,
    pytest.mark.skipif(not OURS, reason="it is a socket of our own"),
]
ROUNDS = 100
LEFTOVER = bytes(range(200))
LATER = bytes(range(200, 256))
Receive = Callable[["TakenSocket", int], bytes]


@pytest.fixture
def hasty_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def recv_into(taken: TakenSocket, size: int) -> bytes:
    buffer = bytearray(size)
    return bytes(buffer[: taken.recv_into(buffer)])


def recvfrom_into(taken: TakenSocket, size: int) -> bytes:
    buffer = bytearray(size)
    return bytes(buffer[: taken.recvfrom_into(buffer)[0]])


CALLS: dict[str, Receive] = {
    "recv": lambda taken, size: taken.recv(size),
    "recv_into": recv_into,
    "recvfrom": lambda taken, size: taken.recvfrom(size)[0],
    "recvfrom_into": recvfrom_into,
    "recvmsg": lambda taken, size: bytes(taken.recvmsg(size)[0]),
}


def received(taken: TakenSocket, receive: Receive, size: int) -> bytes:
    """All up to the end of the connection, which has to stay its end."""
    octets = b"".join(iter(partial(receive, taken, size), b""))
    assert receive(taken, size) == b"", "an end that was none"
    return octets


@pytest.mark.parametrize("duplicate", [False, True], ids=["shared", "duplicated"])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.usefixtures("hasty_switches")
def test_two_threads_that_receive_get_each_octet_once(call: str, duplicate: bool) -> None:
    for number in range(ROUNDS):
        ours, theirs = socket.socketpair()
        theirs.sendall(LATER)
        theirs.close()
        with take_over(ours.detach(), LEFTOVER) as taken, taken.dup() as other:
            both = (taken, other if duplicate else taken)
            receive = partial(received, receive=CALLS[call], size=number % 3 + 1)
            octets = side_by_side([partial(receive, end) for end in both])
        assert sorted(b"".join(octets)) == list(range(256))
