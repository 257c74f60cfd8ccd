"""The ``socket`` module with sockets that give the loop up, under the names that it had in 1.0.2.

Its sockets do so without :mod:`meinheld.patch`; that is what makes libraries use such sockets, too.
``wait_read``, ``wait_write`` and ``wait_readwrite`` are its own.
"""

from __future__ import annotations

import select as _select
import socket as _socket
from socket import (
    SocketType,
    error,
    gaierror,
    getdefaulttimeout,
    getfqdn,
    gethostname,
    getprotobyname,
    getservbyname,
    getservbyport,
    herror,
    htonl,
    htons,
    inet_aton,
    inet_ntoa,
    inet_ntop,
    inet_pton,
    ntohl,
    ntohs,
    setdefaulttimeout,
    timeout,
)
from typing import Any

from meinheld_worker import green

green.require("meinheld.msocket")

from meinheld.green_dns import getaddrinfo, gethostbyname  # noqa: E402
from meinheld.green_hub import hub_here  # noqa: E402
from meinheld.green_socket import Socket  # noqa: E402

_constants = {
    name: value
    for name in _socket.__all__
    if isinstance(value := getattr(_socket, name), (int, str))
}
globals().update(_constants)

_GLOBAL_DEFAULT_TIMEOUT: object = _socket._GLOBAL_DEFAULT_TIMEOUT  # type: ignore[attr-defined]
_poll = _select.poll

patched = True


class socket(Socket):
    """A standard socket that gives the loop up instead of blocking it."""

    patched = True

    def __init__(
        self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None
    ) -> None:
        """As the standard one; as in 1.0.2, TCP sends at once, whatever is still on its way."""
        super().__init__(family, type, proto, fileno)
        is_stream = self.type == _socket.SOCK_STREAM and self.proto in (0, _socket.IPPROTO_TCP)
        if is_stream and self.family in (_socket.AF_INET, _socket.AF_INET6):
            self.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)

    def accept(self) -> tuple[socket, Any]:
        """As the standard one does; the new socket is of this class."""
        fd, address = self._accept()
        one = socket(self.family, self.type, self.proto, fileno=fd)
        if getdefaulttimeout() is None and self.gettimeout():
            one.setblocking(True)
        return one, address


def fromfd(fd: int, family: int, type: int, proto: int = 0) -> socket:
    """A socket of a duplicate of the descriptor."""
    return socket(family, type, proto, fileno=_socket.dup(fd))


def socketpair(
    family: int | None = None, type: int = _socket.SOCK_STREAM, proto: int = 0
) -> tuple[socket, socket]:
    """Two sockets that are connected with each other."""
    family = _socket.AF_UNIX if family is None else family
    one, other = _socket.socketpair(family, type, proto)
    return (
        socket(family, type, proto, fileno=one.detach()),
        socket(family, type, proto, fileno=other.detach()),
    )


def _wait(fileno: int, timeout: float | None, *, read: bool = False, write: bool = False) -> None:
    hub = hub_here()
    if hub is not None:
        hub.wait_fd(fileno, read=read, write=write, timeout=timeout or None)
        return
    poller = _poll()
    poller.register(fileno, _select.POLLIN * read | _select.POLLOUT * write)
    if not poller.poll(timeout * 1000 if timeout else None):
        raise TimeoutError("timed out")


def wait_read(fileno: int, timeout: float | None = None) -> None:
    """Wait until a descriptor can be read from. timeout: seconds, ``None`` or 0 for ever.

    Raises:
        TimeoutError: so many seconds have passed.
    """
    _wait(fileno, timeout, read=True)


def wait_write(fileno: int, timeout: float | None = None) -> None:
    """Wait until a descriptor can be written to: see :func:`wait_read`."""
    _wait(fileno, timeout, write=True)


def wait_readwrite(fileno: int, timeout: float | None = None) -> None:
    """Wait until a descriptor can be read from or written to: see :func:`wait_read`."""
    _wait(fileno, timeout, read=True, write=True)


__all__ = [
    "SocketType",
    "error",
    "fromfd",
    "gaierror",
    "getaddrinfo",
    "getdefaulttimeout",
    "getfqdn",
    "gethostbyname",
    "gethostname",
    "getprotobyname",
    "getservbyname",
    "getservbyport",
    "herror",
    "htonl",
    "htons",
    "inet_aton",
    "inet_ntoa",
    "inet_ntop",
    "inet_pton",
    "ntohl",
    "ntohs",
    "setdefaulttimeout",
    "socket",
    "socketpair",
    "timeout",
    "wait_read",
    "wait_readwrite",
    "wait_write",
    *_constants,
]
