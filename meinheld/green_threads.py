"""Who runs: greenlets have idents of their own, threads stay real ones that greenlets may join."""

from __future__ import annotations

import os
import threading
from _thread import get_ident as _thread_ident
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from meinheld.green_hub import hub_here, without_switching
from meinheld.green_identity import identity
from meinheld_worker.hub import current

_start = threading.Thread.start
_join = threading.Thread.join
_bootstrap_inner = threading.Thread._bootstrap_inner  # type: ignore[attr-defined]
_submit = ThreadPoolExecutor.submit

#: Whether the loop's thread forks, and threading is about to ask in the child who it is.
_forks = False


def get_ident() -> int:
    """As ``threading.get_ident``, and of greenlets that can give the loop up their own."""
    task = None if _forks or current() is None else identity()
    return _thread_ident() if task is None else task.number


def current_thread() -> threading.Thread:
    """As ``threading.current_thread``: the thread, whichever greenlet of it runs."""
    thread: threading.Thread | None = threading._active.get(  # type: ignore[attr-defined]
        _thread_ident()
    )
    return threading._DummyThread() if thread is None else thread


def _set_ident(self: threading.Thread) -> None:
    self._ident = _thread_ident()  # type: ignore[attr-defined]


def start(self: threading.Thread) -> None:
    """As ``threading.Thread.start``."""
    self._meinheld_ended = threading.Event()  # type: ignore[attr-defined]
    # Whoever starts one may hold a lock meanwhile.
    without_switching(lambda: _start(self))


def _run_and_tell(self: threading.Thread) -> None:
    try:
        _bootstrap_inner(self)
    finally:
        ended: threading.Event | None = getattr(self, "_meinheld_ended", None)
        if ended is not None:
            ended.set()


def join(self: threading.Thread, timeout: float | None = None) -> None:
    """As ``threading.Thread.join``."""
    ended: threading.Event | None = getattr(self, "_meinheld_ended", None)
    hub = hub_here(in_coroutine=True)
    if ended is None or hub is None or self is current_thread() or not self.is_alive():
        _join(self, timeout)
    elif ended.wait(timeout):
        # It has nothing left to do.
        _join(self)


def submit(
    self: ThreadPoolExecutor, function: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Future[Any]:
    """As ``ThreadPoolExecutor.submit``."""
    future: Future[Any] = without_switching(lambda: _submit(self, function, *args, **kwargs))
    return future


def _before_fork() -> None:
    global _forks
    # One that has no identity yet would be the thread in the child.
    _forks = identity() is not None


def _after_fork() -> None:
    global _forks
    _forks = False


os.register_at_fork(before=_before_fork, after_in_child=_after_fork, after_in_parent=_after_fork)

THREAD_METHODS: dict[str, Callable[..., Any]] = {
    "_set_ident": _set_ident,
    "_bootstrap_inner": _run_and_tell,
    "start": start,
    "join": join,
}
