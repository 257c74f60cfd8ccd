"""Sockets that give the loop up where the standard ones block.

The methods keep no state of their own: timeouts, and whether a descriptor blocks, stay what the
standard socket says. So they serve a class of ours (``meinheld.msocket.socket``), and the standard
class itself, into which ``patch_socket`` puts them: whoever holds that class or a socket has them.
Where :func:`~meinheld.green_hub.hub_here` is ``None`` they are the originals.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import os
import select
import socket
from collections.abc import Callable, Iterable
from functools import partial
from time import monotonic
from typing import IO, TYPE_CHECKING, Any, TypeVar

from meinheld import green_dns
from meinheld.green_hub import hub_here
from meinheld_worker.hub import Hub, running

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

T = TypeVar("T")

#: The methods of sockets that system calls stand behind.
_System = _socket.socket
_system_accept: Callable[[Any], tuple[int, Any]] = _System._accept  # type: ignore[attr-defined]
_poll = select.poll
_sendfile_use_sendfile = socket.socket._sendfile_use_sendfile  # type: ignore[attr-defined]
#: How often a unix socket's full backlog is tried again, in seconds: nothing reports its room.
_BACKLOG_RETRY = 0.01


class Deadline:
    """When an operation that may wait several times has taken too long."""

    __slots__ = ("_at", "_message")

    def __init__(self, timeout: float | None, message: str = "timed out") -> None:
        """timeout: seconds, ``None`` for never. message: of the error."""
        self._at = None if timeout is None else monotonic() + timeout
        self._message = message

    def left(self) -> float | None:
        """Seconds until then.

        Raises:
            TimeoutError: none are left.
        """
        if self._at is None:
            return None
        left = self._at - monotonic()
        if left <= 0:
            raise TimeoutError(self._message)
        return left

    def wait(self, hub: Hub, fd: int, *, read: bool = False, write: bool = False) -> None:
        """Give the loop up until the descriptor is ready.

        Raises:
            TimeoutError: too late.
            OSError: EBADF, it has been closed meanwhile.
        """
        left = self.left()
        try:
            hub.wait_fd(fd, read=read, write=write, timeout=left)
        except TimeoutError:
            raise TimeoutError(self._message) from None


def _is_ready(fd: int, events: int, milliseconds: int | None = 0) -> bool:
    """milliseconds: how long to block until it is, ``None`` for ever."""
    poller = _poll()
    poller.register(fd, events)
    return bool(poller.poll(milliseconds))


def _cooperate(
    sock: _socket.socket,
    transfer: Callable[[int], T],
    flags: int,
    *,
    write: bool = False,
    deadline: Deadline | None = None,
) -> T:
    """Call ``transfer`` with flags that keep it from blocking, as often as it takes.

    The system's own methods poll for as long as the socket's timeout before they transfer anything:
    with one, they are called when the socket is ready.
    """
    hub = hub_here()
    timeout = _System.gettimeout(sock)
    if hub is None or timeout == 0.0:
        return transfer(flags)
    # A peer that is always ready would never let others have their turn.
    hub.breathe()
    deadline = deadline or Deadline(timeout)
    while True:
        fd = _System.fileno(sock)
        if timeout is None:
            try:
                return transfer(flags | socket.MSG_DONTWAIT)
            except BlockingIOError:
                if flags & socket.MSG_DONTWAIT:
                    raise
        elif fd < 0 or _is_ready(fd, select.POLLOUT if write else select.POLLIN):
            return transfer(flags)
        deadline.wait(hub, fd, read=not write, write=write)


def _without_waiting(sock: _socket.socket, function: Callable[[], T]) -> T:
    """Call something that has no flag for it."""
    timeout = _System.gettimeout(sock)
    _System.settimeout(sock, 0.0)
    try:
        return function()
    finally:
        _System.settimeout(sock, timeout)


def _accept_at_once(sock: _socket.socket, fd: int, timeout: float | None) -> tuple[int, Any]:
    if timeout is not None:
        return _without_waiting(sock, lambda: _system_accept(sock))
    # The socket's timeout stays what it is, for threads that look at it meanwhile.
    os.set_blocking(fd, False)
    try:
        return _system_accept(sock)
    finally:
        if _System.fileno(sock) == fd:
            os.set_blocking(fd, True)


def _accept_in_thread(sock: _socket.socket, timeout: float | None) -> tuple[int, Any]:
    while True:
        fd = _System.fileno(sock)
        try:
            return _system_accept(sock)
        except BlockingIOError:
            if timeout is not None:
                raise
            # A greenlet accepts from it at this moment.
            _is_ready(fd, select.POLLIN, None)


def _resolved(sock: _socket.socket, address: Any) -> Any:
    """The address with its host's number, which the system's methods would block for."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or not isinstance(address, tuple):
        return address
    host = address[0] if address else None
    if not isinstance(host, (str, bytes, bytearray)) or green_dns.is_immediate(host):
        return address
    name = host if isinstance(host, str) else bytes(host)
    found = green_dns.getaddrinfo(name, None, sock.family, sock.type)
    return (found[0][4][0], *address[1:])


class Socket(socket.socket):
    """A standard socket that gives the loop up. Errors, timeouts and their messages are the
    same."""

    __slots__ = ()

    def connect(self, address: Any) -> None:
        if hub_here() is None or _System.gettimeout(self) == 0.0:
            return _System.connect(self, address)
        if error := _connect(self, address):
            raise OSError(error, os.strerror(error))
        return None

    def connect_ex(self, address: Any) -> int:
        if hub_here() is None or _System.gettimeout(self) == 0.0:
            return _System.connect_ex(self, address)
        try:
            return _connect(self, address)
        except TimeoutError:
            return errno.EAGAIN
        except socket.gaierror:
            raise
        except OSError as error:
            if error.errno is None:
                raise
            return error.errno

    def _accept(self) -> tuple[int, Any]:
        hub = hub_here()
        timeout = _System.gettimeout(self)
        if hub is None:
            return _accept_in_thread(self, timeout)
        if timeout == 0.0:
            return _system_accept(self)
        deadline = Deadline(timeout)
        while True:
            fd = _System.fileno(self)
            if fd < 0:
                return _system_accept(self)
            # Threads may accept from it, too: it is to block again as soon as can be.
            if _is_ready(fd, select.POLLIN):
                # Another may have been faster.
                with contextlib.suppress(BlockingIOError):
                    return _accept_at_once(self, fd, timeout)
            deadline.wait(hub, fd, read=True)

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        if bufsize <= 0:
            # There is nothing to wait for.
            return _System.recv(self, bufsize, flags)
        if flags & socket.MSG_WAITALL:
            buffer = bytearray(bufsize)
            return bytes(buffer[: self.recv_into(buffer, bufsize, flags)])
        return _cooperate(self, lambda flags: _System.recv(self, bufsize, flags), flags)

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> int:
        if nbytes < 0 or not memoryview(buffer).nbytes:
            return _System.recv_into(self, buffer, nbytes, flags)
        if not flags & socket.MSG_WAITALL or _System.gettimeout(self) is not None:
            return _cooperate(
                self, lambda flags: _System.recv_into(self, buffer, nbytes, flags), flags
            )
        # What cannot block cannot wait for all of it either.
        received = 0
        with memoryview(buffer) as view, view.cast("B") as octets:
            wanted = nbytes or len(octets)
            while received < wanted:
                receive = partial(_System.recv_into, self, octets[received:wanted], 0)
                count = _cooperate(self, receive, flags)
                received += count
                if not count or flags & socket.MSG_PEEK:
                    break
        return received

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        return _cooperate(self, lambda flags: _System.recvfrom(self, bufsize, flags), flags)

    def recvfrom_into(
        self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0
    ) -> tuple[int, Any]:
        return _cooperate(
            self, lambda flags: _System.recvfrom_into(self, buffer, nbytes, flags), flags
        )

    def recvmsg(
        self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /
    ) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]:
        return _cooperate(
            self, lambda flags: _System.recvmsg(self, bufsize, ancbufsize, flags), flags
        )

    def recvmsg_into(
        self, buffers: Iterable[WriteableBuffer], ancbufsize: int = 0, flags: int = 0, /
    ) -> tuple[int, list[tuple[int, int, bytes]], int, Any]:
        buffers = list(buffers)
        return _cooperate(
            self, lambda flags: _System.recvmsg_into(self, buffers, ancbufsize, flags), flags
        )

    def send(self, data: ReadableBuffer, flags: int = 0, /) -> int:
        return _cooperate(self, lambda flags: _System.send(self, data, flags), flags, write=True)

    def sendall(self, data: ReadableBuffer, flags: int = 0, /) -> None:
        timeout = _System.gettimeout(self)
        if hub_here() is None or timeout == 0.0:
            return _System.sendall(self, data, flags)
        deadline = Deadline(timeout)
        sent = 0
        with memoryview(data) as view, view.cast("B") as octets:
            while True:
                send = partial(_System.send, self, octets[sent:])
                sent += _cooperate(self, send, flags, write=True, deadline=deadline)
                if sent >= len(octets):
                    return None

    def sendto(self, data: ReadableBuffer, *arguments: Any) -> int:
        if hub_here() is None or not 1 <= len(arguments) <= 2:
            return _System.sendto(self, data, *arguments)
        flags, address = arguments if len(arguments) == 2 else (0, arguments[0])
        address = _resolved(self, address)
        return _cooperate(
            self, lambda flags: _System.sendto(self, data, flags, address), flags, write=True
        )

    def sendmsg(
        self,
        buffers: Iterable[ReadableBuffer],
        ancdata: Iterable[tuple[int, int, ReadableBuffer]] = (),
        flags: int = 0,
        address: Any = None,
        /,
    ) -> int:
        buffers, ancdata = list(buffers), list(ancdata)
        if hub_here() is not None:
            address = _resolved(self, address)
        return _cooperate(
            self,
            lambda flags: _System.sendmsg(self, buffers, ancdata, flags, address),
            flags,
            write=True,
        )

    def _sendfile_use_sendfile(
        self, file: IO[bytes], offset: int = 0, count: int | None = None
    ) -> Any:
        """``sendfile(2)`` blocks, so ``send`` does it: see ``socket.sendfile``."""
        if hub_here() is not None:
            raise socket._GiveupOnSendfile  # type: ignore[attr-defined]
        return _sendfile_use_sendfile(self, file, offset, count)

    def _real_close(
        self,
        _ss: type[_socket.socket] = _System,
        # While the interpreter ends, globals are gone.
        _running: Callable[[], Hub | None] = running,
    ) -> None:
        hub = _running()
        fd = _ss.fileno(self)
        if hub is not None and fd >= 0:
            hub.cancel_wait(fd)
        _ss.close(self)


def _connect(sock: _socket.socket, address: Any) -> int:
    """Connect; return 0 or an error's number.

    Raises:
        TimeoutError: the socket's timeout has passed.
        OSError: the host has no address, or the socket has been closed meanwhile.
    """
    deadline = Deadline(_System.gettimeout(sock))
    address = _resolved(sock, address)
    hub = hub_here()
    assert hub is not None
    while True:
        error = _without_waiting(sock, lambda: _System.connect_ex(sock, address))
        if error != errno.EAGAIN:
            break
        # The peer's backlog is full: unix(7).
        left = deadline.left()
        hub.sleep(_BACKLOG_RETRY if left is None else min(left, _BACKLOG_RETRY))
    if error == errno.EINPROGRESS:
        deadline.wait(hub, _System.fileno(sock), write=True)
        error = _System.getsockopt(sock, socket.SOL_SOCKET, socket.SO_ERROR)
    return error


#: What makes a socket cooperative; ``accept()`` calls ``_accept()``, ``close()`` calls
#: ``_real_close()``, ``makefile()`` reads by ``recv_into()`` and writes by ``send()``.
METHODS = {
    name: method
    for name, method in vars(Socket).items()
    if callable(method) and name not in ("__init__", "__new__")
}
