"""Looking names up in helper threads: the system's resolver can only block."""

from __future__ import annotations

import os
import socket
from _queue import SimpleQueue
from _thread import start_new_thread
from collections.abc import Callable
from typing import Any, TypeVar

from meinheld.green_hub import hub_here
from meinheld_worker.hub import Hub
from meinheld_worker.waiting import Waiter

T = TypeVar("T")

#: Lookups at once; more wait for their turn.
THREADS = 10

_getaddrinfo = socket.getaddrinfo
_gethostbyname = socket.gethostbyname
_gethostbyname_ex = socket.gethostbyname_ex
_gethostbyaddr = socket.gethostbyaddr
_getnameinfo = socket.getnameinfo


class _Helpers:
    """Threads that call what blocks, for greenlets."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[tuple[Waiter, Callable[..., Any], tuple[Any, ...]]] = SimpleQueue()
        self._threads = 0
        # One for each lookup that is not over. Two threads may change a list at once.
        self._open: list[None] = []

    def call(self, hub: Hub, function: Callable[..., T], *args: Any) -> T:
        """What ``function`` returns, or raises, in one of the threads."""
        waiter = Waiter(hub)
        if len(self._open) >= self._threads and self._threads < THREADS:
            start_new_thread(self._work, ())
            self._threads += 1
        self._open.append(None)
        self._jobs.put((waiter, function, args))
        result: T = waiter.wait()
        return result

    def _work(self) -> None:
        while True:
            waiter, function, args = self._jobs.get()
            try:
                waiter.wake(function(*args))
            except BaseException as error:
                waiter.throw(error)
            self._open.pop()
            # Until the next job comes, nobody's.
            del waiter, function, args


_helpers = _Helpers()


def _start_anew() -> None:
    global _helpers
    _helpers = _Helpers()


# A child has none of the threads.
os.register_at_fork(after_in_child=_start_anew)


def is_immediate(host: object) -> bool:
    """Whether a host is a number, or stands for one, and needs no lookup."""
    if host in ("", b"", "<broadcast>", b"<broadcast>"):
        return True
    if isinstance(host, (bytes, bytearray)):
        host = bytes(host).decode("ascii", "replace")
    if not isinstance(host, str):
        # Let the original say what is wrong with it.
        return True
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host.partition("%")[0])
        except (OSError, ValueError):
            continue
        return True
    return False


def getaddrinfo(
    host: bytes | str | None,
    port: bytes | str | int | None,
    family: int = 0,
    type: int = 0,
    proto: int = 0,
    flags: int = 0,
) -> list[Any]:
    """As ``socket.getaddrinfo``."""
    hub = hub_here()
    if hub is None or is_immediate(host):
        return _getaddrinfo(host, port, family, type, proto, flags)
    return _helpers.call(hub, _getaddrinfo, host, port, family, type, proto, flags)


def gethostbyname(hostname: str, /) -> str:
    """As ``socket.gethostbyname``."""
    hub = hub_here()
    if hub is None or is_immediate(hostname):
        return _gethostbyname(hostname)
    return _helpers.call(hub, _gethostbyname, hostname)


def gethostbyname_ex(hostname: str, /) -> tuple[str, list[str], list[str]]:
    """As ``socket.gethostbyname_ex``."""
    hub = hub_here()
    if hub is None:
        return _gethostbyname_ex(hostname)
    return _helpers.call(hub, _gethostbyname_ex, hostname)


def gethostbyaddr(ip_address: str, /) -> tuple[str, list[str], list[str]]:
    """As ``socket.gethostbyaddr``."""
    hub = hub_here()
    if hub is None:
        return _gethostbyaddr(ip_address)
    return _helpers.call(hub, _gethostbyaddr, ip_address)


def getnameinfo(sockaddr: Any, flags: int, /) -> tuple[str, str]:
    """As ``socket.getnameinfo``."""
    hub = hub_here()
    if hub is None:
        return _getnameinfo(sockaddr, flags)
    return _helpers.call(hub, _getnameinfo, sockaddr, flags)


FUNCTIONS = {
    "getaddrinfo": getaddrinfo,
    "gethostbyname": gethostbyname,
    "gethostbyname_ex": gethostbyname_ex,
    "gethostbyaddr": gethostbyaddr,
    "getnameinfo": getnameinfo,
}
