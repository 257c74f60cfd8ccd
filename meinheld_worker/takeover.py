"""The socket of an application that takes its connection over, as WebSocket libraries do."""

import socket
from typing import Any


class TakenSocket(socket.socket):
    """A blocking client socket that first yields what the server had read already."""

    def __init__(self, descriptor: int, leftover: bytes) -> None:
        super().__init__(fileno=descriptor)
        self._leftover = leftover
        self.setblocking(True)

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """Receive up to ``bufsize`` octets."""
        if self._leftover:
            taken = self._leftover[:bufsize]
            if not flags & socket.MSG_PEEK:
                self._leftover = self._leftover[bufsize:]
            return taken
        return super().recv(bufsize, flags)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """Receive up to ``nbytes`` octets, or as many as fit, into ``buffer``."""
        if self._leftover:
            room = memoryview(buffer).cast("B")
            taken = self.recv(nbytes or len(room), flags)
            room[: len(taken)] = taken
            return len(taken)
        return super().recv_into(buffer, nbytes, flags)


def observe(descriptor: int) -> socket.socket:
    """A socket object over a duplicate of the connection, for looking only."""
    return socket.socket(fileno=descriptor)
