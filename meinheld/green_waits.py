"""``select.select``, ``select.poll`` and ``time.sleep`` that give the loop up.

``select.epoll`` stays as it is: on it stands asyncio, whose loop belongs to a thread as a whole and
must not be left half way by one greenlet for another.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select as _select
import time
from _thread import TIMEOUT_MAX
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, TypeVar

from meinheld.green_hub import hub_here
from meinheld_worker.hub import Hub

Ready = TypeVar("Ready", bound=Iterable[Sized])

_original_select = _select.select
_original_poll = _select.poll
_original_sleep = time.sleep

_READ = _select.POLLIN | _select.POLLPRI
_WRITE = _select.POLLOUT
#: Which events of poll(2) make a descriptor ready for each of the three lists: select(2).
_LISTS = (
    (_select.POLLIN, _select.POLLIN | _select.POLLHUP | _select.POLLERR),
    (_select.POLLOUT, _select.POLLOUT | _select.POLLERR),
    (_select.POLLPRI, _select.POLLPRI),
)
#: What the system's select() takes, and a loop with many requests is beyond: FD_SETSIZE.
_SELECTABLE = 1024


def sleep(seconds: float, /) -> None:
    """As ``time.sleep``."""
    hub = hub_here()
    # What is no number of seconds, or too large a one, the original refuses.
    if hub is None or not 0 <= seconds <= TIMEOUT_MAX:
        _original_sleep(seconds)
    else:
        hub.sleep(seconds)


def _fileno(file: Any) -> int:
    return file if isinstance(file, int) else int(file.fileno())


@contextlib.contextmanager
def _waiting(hub: Hub, events: dict[int, int]) -> Iterator[Callable[[float | None], None]]:
    """What gives the loop up, for so many seconds at most, until any descriptor has one of its
    events.

    Raises:
        TimeoutError: so many seconds have passed.
    """
    if len(events) == 1:
        [(fd, wanted)] = events.items()
        # One that has an error, or has been hung up, can be read from.
        if wanted in (_select.POLLIN, _select.POLLIN | _select.POLLOUT):
            write = bool(wanted & _select.POLLOUT)
            yield lambda timeout: hub.wait_fd(fd, read=True, write=write, timeout=timeout)
            return
    # A descriptor that is readable when any of many has one of its events: epoll(7).
    with _select.epoll(len(events) or 1) as one:
        for fd, wanted in events.items():
            # A regular file has none that is still to come.
            with contextlib.suppress(PermissionError):
                # Those of poll(2) have the same numbers. Errors and hang-ups are events that nobody
                # can leave out: each is to be told once.
                one.register(fd, wanted | _select.EPOLLET)

        def wait(timeout: float | None) -> None:
            hub.wait_fd(one.fileno(), read=True, timeout=timeout)
            one.poll(0)

        yield wait


def _look_until(
    hub: Hub, look: Callable[[], Ready], events: dict[int, int], seconds: float | None
) -> Ready:
    """Look what is ready, as often as it takes; return what is, or that nothing was in time."""
    until = None if seconds is None else time.monotonic() + seconds
    with _waiting(hub, events) as wait:
        while True:
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                return look()
            with contextlib.suppress(TimeoutError):
                wait(left)
            if any(ready := look()):
                return ready


def select(
    rlist: Iterable[Any],
    wlist: Iterable[Any],
    xlist: Iterable[Any],
    timeout: float | None = None,
    /,
) -> tuple[list[Any], list[Any], list[Any]]:
    """As ``select.select``."""
    hub = hub_here()
    if hub is None or (timeout is not None and not timeout >= 0):
        return _original_select(rlist, wlist, xlist, timeout)
    lists = (list(rlist), list(wlist), list(xlist))
    ready = _look(lists)
    if any(ready) or timeout == 0:
        return ready
    return _look_until(hub, lambda: _look(lists), _events(lists), timeout)


def _events(lists: tuple[list[Any], list[Any], list[Any]]) -> dict[int, int]:
    events: dict[int, int] = {}
    for files, (wanted, _) in zip(lists, _LISTS, strict=True):
        for file in files:
            fd = _fileno(file)
            events[fd] = events.get(fd, 0) | wanted
    return events


def _look(lists: tuple[list[Any], list[Any], list[Any]]) -> tuple[list[Any], list[Any], list[Any]]:
    try:
        return _original_select(*lists, 0)
    except ValueError:
        events = _events(lists)
        if not events or min(events) < 0 or max(events) < _SELECTABLE:
            raise
    poller = _original_poll()
    for fd, wanted in events.items():
        poller.register(fd, wanted)
    found = dict(poller.poll(0))
    if any(has & _select.POLLNVAL for has in found.values()):
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    readable, writable, exceptional = (
        [file for file in files if found.get(_fileno(file), 0) & ready]
        for files, (_, ready) in zip(lists, _LISTS, strict=True)
    )
    return readable, writable, exceptional


class poll:
    """As ``select.poll()``: what waits for events of descriptors."""

    def __init__(self) -> None:
        self._poll = _original_poll()
        self._events: dict[int, int] = {}

    def register(self, fd: Any, eventmask: int = _READ | _WRITE, /) -> None:
        """Look for events of a descriptor, in the place of others if it is registered."""
        self._poll.register(fd, eventmask)
        self._events[_fileno(fd)] = eventmask

    def modify(self, fd: Any, eventmask: int, /) -> None:
        """Look for other events.

        Raises:
            OSError: ENOENT, it is not registered.
        """
        self._poll.modify(fd, eventmask)
        self._events[_fileno(fd)] = eventmask

    def unregister(self, fd: Any, /) -> None:
        """Look for it no more.

        Raises:
            KeyError: it is not registered.
        """
        self._poll.unregister(fd)
        del self._events[_fileno(fd)]

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        """The descriptors that have events, and which. timeout: milliseconds; ``None`` and less
        than 0 for ever."""
        hub = hub_here()
        if hub is None or timeout == 0:
            return self._poll.poll(timeout)
        ready = self._poll.poll(0)
        if ready:
            return ready
        seconds = None if timeout is None or timeout < 0 else timeout / 1000
        return _look_until(hub, lambda: self._poll.poll(0), self._events, seconds)
