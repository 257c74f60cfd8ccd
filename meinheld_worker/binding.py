"""Listening sockets of a process that has no arbiter to open them."""

import errno
import os
import socket
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from gunicorn.sock import TCP6Socket, TCPSocket, UnixSocket
from gunicorn.util import is_ipv6

from meinheld_worker.listeners import answers


class UnixListener:
    """A unix socket, whose path goes when its process is done with it."""

    def __init__(self, path: str, conf: Any) -> None:
        if answers(path):
            raise OSError(errno.EADDRINUSE, "another process listens there")
        self._listener = UnixSocket(path, conf, None)
        self._path = path
        self._pid = os.getpid()
        self._name = _file(path)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._listener.sock, name)

    def close(self) -> None:
        """Close it; remove its path, unless that has become another's."""
        if self._listener.sock is None:
            return
        self._listener.close()
        if self._pid == os.getpid() and self._name is not None and _file(self._path) == self._name:
            os.unlink(self._path)


def _file(path: str) -> tuple[int, int] | None:
    """What file it is."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def bind(address: tuple[str, int] | str, backlog: int) -> Any:
    """Listen at host and port, or at the path of a unix socket. A stale socket there goes.

    Raises:
        OSError: the address cannot be had; it is named.
        ValueError: it is none; one line.
    """
    if "\0" in (address if isinstance(address, str) else address[0]):
        raise ValueError(f"address = {address!r}: not an address. Accepted: one without a NUL.")
    conf = SimpleNamespace(
        # The kernel knows an int of C, and has a lower bound of its own.
        backlog=min(backlog, 2**31 - 1),
        is_ssl=False,
        reuse_port=False,
        umask=0,
        uid=os.geteuid(),
        gid=os.getegid(),
    )
    try:
        if isinstance(address, str):
            listener: Any = UnixListener(address, conf)
        else:
            kind = TCP6Socket if is_ipv6(address[0]) else TCPSocket
            listener = kind(address, conf, None)
    except (TypeError, UnicodeError) as error:
        raise ValueError(f"address = {address!r}: not an address: {error}") from None
    except OSError as error:
        said = f"cannot listen at {address!r}: {error.strerror or error}"
        raise (OSError(error.errno, said) if error.errno else OSError(said)) from None
    # gunicorn's arbiter hands its sockets down; nobody is handed these.
    listener.set_inheritable(False)
    return listener


def adopt(descriptors: Sequence[int]) -> list[socket.socket]:
    """Sockets that somebody else has opened, and that are this process's to close from now on.

    Raises:
        ValueError: one is none that listens, or there twice; they are what they were.
    """
    if len(set(descriptors)) < len(descriptors):
        raise ValueError(f"socket_fd = {descriptors!r}: a socket is there twice. Accepted: once.")
    adopted: list[socket.socket] = []
    try:
        for descriptor in descriptors:
            adopted.append(_socket(descriptor))
            if not adopted[-1].getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                raise ValueError(f"the socket {descriptor} does not listen")
    except ValueError:
        for one in adopted:
            one.detach()
        raise
    for one in adopted:
        one.setblocking(False)
    return adopted


def _socket(descriptor: int) -> socket.socket:
    try:
        return socket.socket(fileno=descriptor)
    except OSError as error:
        raise ValueError(f"{descriptor} is not a socket: {error.strerror}") from None
