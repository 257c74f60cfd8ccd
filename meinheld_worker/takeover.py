"""The socket of an application that takes its connection over, as WebSocket libraries do."""

import errno
import os
import socket
import threading
from typing import Any


class TakenSocket(socket.socket):
    """A client socket that first yields what the server had read already.

    A selector does not see those octets: whoever selects should receive once before it waits.
    """

    #: Octets to be read before the socket's own; a duplicate shares them.
    leftover = bytearray()
    #: One for all: it is only used while there are such octets.
    _guard = threading.Lock()
    #: Whether nobody uses this any more.
    _is_given_back = False

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """Receive up to ``bufsize`` octets."""
        if self.leftover:
            with self._guard:
                taken = bytes(self.leftover[:bufsize])
                if not flags & socket.MSG_PEEK:
                    del self.leftover[:bufsize]
            # Otherwise another thread had the last of them.
            if taken or not bufsize:
                return taken
        return super().recv(bufsize, flags)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """Receive up to ``nbytes`` octets, or as many as fit, into ``buffer``."""
        if not self.leftover:
            return super().recv_into(buffer, nbytes, flags)
        room = memoryview(buffer).cast("B")
        taken = self.recv(nbytes or len(room), flags)
        room[: len(taken)] = taken
        return len(taken)

    def recvfrom(self, bufsize: int, flags: int = 0) -> tuple[bytes, Any]:
        """As :meth:`recv`; a stream socket names no sender."""
        if not self.leftover:
            return super().recvfrom(bufsize, flags)
        return self.recv(bufsize, flags), None

    def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        """As :meth:`recv_into`; a stream socket names no sender."""
        if not self.leftover:
            return super().recvfrom_into(buffer, nbytes, flags)
        return self.recv_into(buffer, nbytes, flags), None

    def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0) -> Any:
        """As :meth:`recv`; what was read already came without ancillary data."""
        if not self.leftover:
            return super().recvmsg(bufsize, ancbufsize, flags)
        return self.recv(bufsize, flags), [], 0, None

    def dup(self) -> "TakenSocket":
        """Another socket object for the same connection."""
        other = super().dup()
        other.leftover = self.leftover
        return other

    def detach(self) -> int:
        """Give the descriptor away.

        Raises:
            OSError: octets that no descriptor can carry were not received yet.
        """
        if self.leftover:
            raise OSError(errno.EBUSY, f"receive the {len(self.leftover)} buffered octets first")
        return super().detach()

    def give_back(self, descriptor: int) -> None:
        """Have the worker end the connection, of which this is the only descriptor, with the
        request. This object had to be closed before."""
        super().__init__(fileno=descriptor)
        self._is_given_back = True

    def request_over(self) -> None:
        """The worker has a duplicate of the descriptor, and ends the connection: for the worker."""
        if self._is_given_back:
            self.close()


def take_over(descriptor: int, leftover: bytes) -> TakenSocket:
    """A blocking socket for a connection that is the application's from now on."""
    taken = TakenSocket(fileno=os.dup(descriptor))
    taken.leftover = bytearray(leftover)
    taken.setblocking(True)
    return taken


def observe(descriptor: int) -> socket.socket:
    """A socket object over a duplicate of the connection, for looking only."""
    return socket.socket(fileno=os.dup(descriptor))
