"""Timers, greenlets and waits of :mod:`meinheld.server`, over the hub that runs the loop.

They need greenlet. The first use before the server starts chooses that it serves with greenlets;
afterwards it is too late for that.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from meinheld.checks import seconds as checked
from meinheld_worker import green

if TYPE_CHECKING:
    from meinheld_worker.hub import Hub
    from meinheld_worker.tasks import Timer


def _hubs(what: str) -> ModuleType:
    """Where hubs are found.

    Raises:
        ImportError: there is no greenlet.
        RuntimeError: a loop runs without.
    """
    green.want(what)
    from meinheld_worker import hub

    return hub


class Call:
    """Something that is to be called when its time has come."""

    def __init__(
        self, seconds: float, function: Callable[..., object], args: Any, kwargs: dict[str, Any]
    ) -> None:
        self._seconds = seconds
        self._function = function
        self._args = args
        self._kwargs = kwargs
        self._timer: Timer | None = None
        self._is_cancelled = False
        #: Whether it was, or is being, called.
        self.called = False

    def start(self, hub: Hub) -> None:
        """The time begins."""
        if not self._is_cancelled:
            self._timer = hub.call_later(self._seconds, self._call)

    def cancel(self) -> None:
        """Take it back, if it is not running yet."""
        self._is_cancelled = True
        if self._timer:
            self._timer.cancel()

    def _call(self) -> object:
        self.called = True
        return self._function(*self._args, **self._kwargs)


def schedule_call(
    seconds: float, function: Callable[..., object], /, *args: Any, **kwargs: Any
) -> Call:
    """Call a function, in a greenlet of its own, after so many seconds, counted from the server's
    start where that is later. The result has ``cancel()`` and ``called``. Any thread may call
    this."""
    _must_be_called(function)
    call = Call(_seconds("seconds", seconds), function, args, kwargs)
    hub = _hubs("schedule_call").running()
    if hub:
        call.start(hub)
    else:
        green.at_start(call.start)
    return call


def spawn(function: Callable[..., object], /, *args: Any, **kwargs: Any) -> None:
    """Call a function in a greenlet of its own, soon, or when the server starts. Any thread may
    call this. As in 1.x, ``args=(…)`` and ``kwargs={…}`` alone are what it is called with."""
    _must_be_called(function)
    if not args and kwargs and kwargs.keys() <= {"args", "kwargs"}:
        args, kwargs = tuple(kwargs.get("args", ())), dict(kwargs.get("kwargs", {}))
    hub = _hubs("spawn").running()
    if hub:
        hub.spawn(function, *args, **kwargs)
    else:
        green.at_start(lambda hub: hub.spawn(function, *args, **kwargs))


def sleep(seconds: float) -> None:
    """Let others run for so many seconds; where nobody else can, just sleep."""
    patience = _seconds("seconds", seconds)
    hub = _hubs("sleep").current()
    if hub:
        hub.sleep(patience)
    else:
        time.sleep(patience)


def trampoline(
    fileno: int | Any,
    read: Any = None,
    write: Any = None,
    timeout: float | None = None,
    timeout_exc: Any = TimeoutError,
) -> None:
    """Let others run until a descriptor, or a file, can be read from or written to.

    timeout: seconds; 0 and ``None`` are for ever. timeout_exc: what is raised then, if anything.

    Raises:
        OSError: EBADF after `cancel_wait`, or where there is no such descriptor.
        ValueError: neither ``read`` nor ``write``, and no ``timeout``.
    """
    descriptor = _descriptor(fileno)
    patience = _seconds("timeout", timeout or 0) or None
    if not read and not write and patience is None:
        raise ValueError("trampoline waits for read, for write, or for a timeout: say which")
    os.fstat(descriptor)
    hub = _hubs("trampoline").current()
    try:
        if not read and not write:
            sleep(patience or 0)
            raise TimeoutError
        if hub:
            hub.wait_fd(descriptor, read=bool(read), write=bool(write), timeout=patience)
        else:
            _block(descriptor, read, write, patience)
    except TimeoutError:
        if timeout_exc is TimeoutError:
            raise TimeoutError("timed out") from None
        if timeout_exc is not None:
            raise timeout_exc from None


def cancel_wait(fileno: int | Any) -> None:
    """Whoever waits for a descriptor gets an OSError (EBADF): it is about to be closed."""
    descriptor = _descriptor(fileno)
    hub = _hubs("cancel_wait").running()
    if hub:
        hub.cancel_wait(descriptor)


def get_ident() -> Any:
    """The greenlet that calls this."""
    green.require("get_ident")
    import greenlet

    return greenlet.getcurrent()


def _block(descriptor: int, read: Any, write: Any, patience: float | None) -> None:
    poll = select.poll()
    events = (select.POLLIN | select.POLLPRI if read else 0) | (select.POLLOUT if write else 0)
    poll.register(descriptor, events)
    if not poll.poll(None if patience is None else patience * 1000):
        raise TimeoutError


def _descriptor(fileno: int | Any) -> int:
    if not isinstance(fileno, int) and not hasattr(fileno, "fileno"):
        raise TypeError(f"fileno = {fileno!r}: not a descriptor. Accepted: one, or an open file.")
    descriptor = fileno if isinstance(fileno, int) else fileno.fileno()
    if descriptor < 0:
        raise ValueError(f"fileno = {descriptor!r}: out of range. Accepted: 0 or more.")
    return int(descriptor)


def _seconds(name: str, value: float) -> float:
    return checked(name, value, may_be_zero=True)


def _must_be_called(function: Any) -> None:
    if not callable(function):
        raise TypeError(f"{function!r} cannot be called")
