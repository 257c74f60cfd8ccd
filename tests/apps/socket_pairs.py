"""Two sockets that are connected with each other, and what is sent from one to the other."""

import contextlib
import socket
from collections.abc import Iterator

BIG = bytes(range(256)) * 20_000
"""More than any socket's buffers."""


@contextlib.contextmanager
def pair(timeout: float | None = None) -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        one.settimeout(timeout)
        other.settimeout(timeout)
        yield one, other


def fill(one: socket.socket) -> int:
    """Send until there is no room; returns how many octets that took."""
    timeout = one.gettimeout()
    one.settimeout(0)
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            count += one.send(b"x" * 65536)
    with contextlib.suppress(BlockingIOError):
        while True:
            count += one.send(b"x")
    one.settimeout(timeout)
    return count


def receive_all(one: socket.socket, count: int) -> int:
    received = 0
    while received < count:
        received += len(one.recv(count - received))
    return received
