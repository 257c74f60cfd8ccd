"""TLS that gives the loop up: the methods of ``ssl.SSLSocket`` that shake hands, read and write.

They call the originals with the socket's timeout at 0 for as long as no other greenlet can run,
and wait for what OpenSSL then asks for. They are put into the class itself, so contexts and sockets
that are older have them, too.
"""

from __future__ import annotations

import _socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from meinheld.green_hub import hub_here
from meinheld.green_socket import Deadline

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

T = TypeVar("T")

_System = _socket.socket
_do_handshake = ssl.SSLSocket.do_handshake
_read = ssl.SSLSocket.read
_write = ssl.SSLSocket.write
_send = ssl.SSLSocket.send
_unwrap = ssl.SSLSocket.unwrap


def _cooperate(sock: ssl.SSLSocket, what: str, step: Callable[[], T], *, blocks: bool = False) -> T:
    """Take a step as often as it takes. blocks: also where the socket does not."""
    hub = hub_here()
    timeout = _System.gettimeout(sock)
    if hub is None or (timeout == 0.0 and not blocks):
        return step()
    # As sockets do: a peer may always be ready.
    hub.breathe()
    deadline = Deadline(timeout or None, f"The {what} operation timed out")
    while True:
        _System.settimeout(sock, 0.0)
        try:
            return step()
        except ssl.SSLWantReadError:
            write = False
        except ssl.SSLWantWriteError:
            write = True
        finally:
            if _System.fileno(sock) >= 0:
                _System.settimeout(sock, timeout)
        deadline.wait(hub, _System.fileno(sock), read=not write, write=write)


def do_handshake(self: ssl.SSLSocket, block: bool = False) -> None:
    if hub_here() is None:
        _do_handshake(self, block)
    else:
        _cooperate(self, "handshake", lambda: _do_handshake(self), blocks=block)


def read(self: ssl.SSLSocket, len: int = 1024, buffer: WriteableBuffer | None = None) -> Any:
    return _cooperate(self, "read", lambda: _read(self, len, buffer))


def write(self: ssl.SSLSocket, data: ReadableBuffer) -> int:
    return _cooperate(self, "write", lambda: _write(self, data))


def send(self: ssl.SSLSocket, data: ReadableBuffer, flags: int = 0) -> int:
    if self._sslobj is None:  # type: ignore[attr-defined]
        return _send(self, data, flags)
    return _cooperate(self, "write", lambda: _send(self, data, flags))


def unwrap(self: ssl.SSLSocket) -> Any:
    return _cooperate(self, "shutdown", lambda: _unwrap(self))


METHODS: dict[str, Callable[..., Any]] = {
    "do_handshake": do_handshake,
    "read": read,
    "write": write,
    "send": send,
    "unwrap": unwrap,
}
