"""A client's connection that keeps the last octets of both directions, as evidence, and that
reads no faster than it is told."""

from __future__ import annotations

import socket
import time
from typing import Any

from harness import Address, Client

KEPT = 500
"""Octets of evidence, a direction."""


class Wire(socket.socket):
    """A connected socket, for `Client`, which sends by `sendall` and receives by `recv` alone."""

    limit = 1 << 20
    """Octets a read, at most."""
    pause = 0.0
    """Seconds before each read."""

    def __init__(self, connected: socket.socket) -> None:
        timeout = connected.gettimeout()
        super().__init__(fileno=connected.detach())
        self.settimeout(timeout)
        self.sent = bytearray()
        self.received = bytearray()
        self.came = 0
        """Octets received so far."""
        self.sent_at = time.monotonic()
        """When the last octets were given to the kernel, or the connection was made."""

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        _keep(self.sent, data)
        super().sendall(data, flags)
        self.sent_at = time.monotonic()

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        if self.pause:
            time.sleep(self.pause)
        data = super().recv(min(size, self.limit), flags)
        if not flags & socket.MSG_PEEK:
            self.came += len(data)
            _keep(self.received, data)
        return data


class Connection(Client):
    """See above. Nagle's algorithm is off: segments leave as they are given."""

    def __init__(self, address: Address, timeout: float, receive_buffer: int | None = None) -> None:
        super().__init__(address, timeout, receive_buffer)
        self.wire = Wire(self.socket)
        self.socket = self.wire
        if not isinstance(address, str):
            self.wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def read_slowly(self, limit: int, pause: float) -> None:
        """At most `limit` octets a read, `pause` seconds before each."""
        self.wire.limit, self.wire.pause = limit, pause

    def send_segments(self, data: bytes, cuts: list[int], pause: float) -> None:
        """In segments that end at `cuts`, `pause` seconds between them."""
        begin = 0
        for end in [*cuts, len(data)]:
            self.send(data[begin:end])
            time.sleep(pause)
            begin = end

    def evidence(self) -> str:
        return f"\n    sent ..{bytes(self.wire.sent)!r}\n    came ..{bytes(self.wire.received)!r}"


def _keep(kept: bytearray, data: Any) -> None:
    kept += bytes(data[-KEPT:])
    del kept[:-KEPT]
