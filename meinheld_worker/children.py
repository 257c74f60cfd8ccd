"""Children that the application forks: TERM ends them, whatever they do, as it ends any program.

A handler of the server's would come too late in one that is busy in C, or is about to wait for a
semaphore (a pool of multiprocessing's). And what comes before the interpreter has set itself up in
the child it forgets: so TERM waits until nobody handles it there.
"""

from __future__ import annotations

import os
import signal
from _thread import get_ident
from collections.abc import Callable
from types import FrameType

Handler = Callable[[int, "FrameType | None"], object]

#: Ours, which no child is to have.
_handler: Handler | None = None
#: Threads that fork, and have TERM wait meanwhile.
_forking: set[int] = set()


def end_by_term(handler: Handler | None) -> None:
    """From now on this handler of TERM is left behind by children; ``None`` is left to all."""
    global _handler
    _handler = handler


def end(number: int) -> None:
    """End this process, a child, by a signal as if nobody handled it: for handlers of its parent's
    server."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _before_fork() -> None:
    if _handler is None or signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        return
    _forking.add(get_ident())
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))


def _after_fork() -> None:
    if get_ident() in _forking:
        _forking.remove(get_ident())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))


def _in_child() -> None:
    global _handler
    if _handler is not None and signal.getsignal(signal.SIGTERM) == _handler:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _handler = None
    _after_fork()
    _forking.clear()


os.register_at_fork(before=_before_fork, after_in_child=_in_child, after_in_parent=_after_fork)
