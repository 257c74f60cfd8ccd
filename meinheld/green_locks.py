"""Locks and queues for which greenlets wait in line, while real threads wait as they always did.

What is locked or queued is the interpreter's own lock or queue, so threads block on that. A
greenlet that would have to gives the loop up instead, and tries again when whoever released wakes
it.
"""

from __future__ import annotations

from _queue import Empty
from _queue import SimpleQueue as _SimpleQueue
from _thread import TIMEOUT_MAX, allocate_lock
from _thread import get_ident as _thread_ident
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import TypeVar

from greenlet import greenlet

from meinheld.green_hub import hub_here
from meinheld.green_threads import get_ident
from meinheld_worker.hub import Hub, current, running
from meinheld_worker.waiting import Waiter

T = TypeVar("T")


class _Place:
    """A greenlet's place in a line."""

    __slots__ = ("waiter",)

    def __init__(self, waiter: Waiter) -> None:
        self.waiter = waiter


class _Line:
    """Greenlets in the order in which they came. The first one tries, the others wait for it to
    leave.

    Nothing here holds a lock: a signal handler or a finalizer may come in between. No wake-up is
    lost, because a waiter is in line before the attempt that fails, and whoever wakes the line has
    made the next attempt possible before.
    """

    __slots__ = ("_places",)

    def __init__(self) -> None:
        self._places: deque[_Place] = deque()

    def __bool__(self) -> bool:
        return bool(self._places)

    def wait(self, hub: Hub, attempt: Callable[[], bool], timeout: float | None) -> bool:
        """Give the loop up until an attempt succeeds; return whether one has.

        timeout: seconds.
        """
        until = None if timeout is None else monotonic() + timeout
        place = _Place(Waiter(hub))
        self._places.append(place)
        succeeded = False
        try:
            while True:
                if self._places[0] is place and attempt():
                    succeeded = True
                    return True
                left = None if until is None else until - monotonic()
                if left is not None and left <= 0:
                    return False
                try:
                    place.waiter.wait(left)
                except TimeoutError:
                    return False
                place.waiter = Waiter(hub)
        finally:
            self._leave(place)
            if not succeeded:
                # What this one may have been woken for is another's.
                self.wake()

    def _leave(self, place: _Place) -> None:
        # The first one, as a rule.
        self._places.remove(place)

    def wake(self) -> None:
        """Let the first one try again. Any thread may call this."""
        # In a forked child they are ghosts.
        if self._places and running() is not None:
            try:
                first = self._places[0]
            except IndexError:
                return
            first.waiter.wake()


class _Context(ABC):
    """A lock as a context manager."""

    __slots__ = ()

    @abstractmethod
    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it."""

    @abstractmethod
    def release(self) -> None:
        """Free it."""

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


class Lock(_Context):
    """As ``threading.Lock``."""

    __slots__ = ("__weakref__", "_line", "_lock")

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._line = _Line()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Wait until it is free and take it; return whether it was in time. timeout: seconds, -1
        for ever."""
        hub = hub_here(importing=True, in_coroutine=True)
        if hub is None or not blocking or not (timeout == -1 or 0 < timeout <= TIMEOUT_MAX):
            return self._lock.acquire(blocking, timeout)
        # Who has waited longer comes first: with one thread, nothing else makes it fair.
        if not self._line and self._lock.acquire(False):
            return True
        return self._line.wait(
            hub, lambda: self._lock.acquire(False), None if timeout == -1 else timeout
        )

    def release(self) -> None:
        """Free it. Any thread may do so.

        Raises:
            RuntimeError: it is free.
        """
        self._lock.release()
        self._line.wake()

    def locked(self) -> bool:
        """Whether somebody has it."""
        return self._lock.locked()

    def _at_fork_reinit(self) -> None:
        self._lock._at_fork_reinit()  # type: ignore[attr-defined]
        self._line = _Line()

    def __repr__(self) -> str:
        state = "locked" if self.locked() else "unlocked"
        return f"<{state} {type(self).__module__}.{type(self).__name__} object at {id(self):#x}>"


#: What a condition gives up and takes back: count, owner, thread and outermost greenlet.
_Held = tuple[int, int | None, int | None, greenlet | None]


def _outermost() -> greenlet | None:
    hub = current()
    return None if hub is None else hub.outermost()


class RLock(_Context):
    """As ``threading.RLock``; each greenlet is an owner of its own.

    Where its thread can only block (the hub's own greenlet), what another greenlet of that thread
    has is its own, as it is with the standard lock: nobody else could release it. So is in a
    coroutine what another greenlet has that runs for the same loop of asyncio.
    """

    __slots__ = ("__weakref__", "_count", "_lock", "_outermost", "_owner", "_thread")

    def __init__(self) -> None:
        self._lock = Lock()
        self._forget_owner()

    def _forget_owner(self) -> None:
        self._count = 0
        self._owner: int | None = None
        self._thread: int | None = None
        self._outermost: greenlet | None = None

    def _is_mine(self) -> bool:
        if self._thread != _thread_ident():
            return False
        if self._owner == get_ident() or hub_here(importing=True, in_coroutine=True) is None:
            return True
        return hub_here(importing=True) is None and self._outermost is _outermost()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Wait until it is free or one's own and take it once more; return whether it was in
        time. timeout: seconds, -1 for ever."""
        if self._is_mine():
            self._count += 1
            return True
        owner, thread = get_ident(), _thread_ident()
        if not self._lock.acquire(blocking, timeout):
            return False
        self._owner, self._thread, self._outermost, self._count = owner, thread, _outermost(), 1
        return True

    def release(self) -> None:
        """Take one acquisition back; the last one frees it.

        Raises:
            RuntimeError: it is not one's own.
        """
        if not self._is_mine():
            raise RuntimeError("cannot release un-acquired lock")
        self._count -= 1
        if not self._count:
            self._forget_owner()
            self._lock.release()

    # What threading.Condition uses.

    def _is_owned(self) -> bool:
        return self._is_mine()

    def _release_save(self) -> _Held:
        if not self._is_mine():
            raise RuntimeError("cannot release un-acquired lock")
        state = self._count, self._owner, self._thread, self._outermost
        self._forget_owner()
        self._lock.release()
        return state

    def _acquire_restore(self, state: _Held) -> None:
        self._lock.acquire()
        self._count, self._owner, self._thread, self._outermost = state

    def _recursion_count(self) -> int:
        return self._count if self._is_mine() else 0

    def _at_fork_reinit(self) -> None:
        self._lock._at_fork_reinit()
        self._forget_owner()

    def __repr__(self) -> str:
        state = "locked" if self._lock.locked() else "unlocked"
        return (
            f"<{state} {type(self).__module__}.{type(self).__qualname__} object "
            f"owner={self._owner or 0} count={self._count} at {id(self):#x}>"
        )


class SimpleQueue(_SimpleQueue[T]):
    """As ``queue.SimpleQueue``."""

    __slots__ = ("_line",)

    def __init__(self) -> None:
        self._line = _Line()

    def put(self, item: T, block: bool = True, timeout: float | None = None) -> None:
        """Add an item; there is always room."""
        super().put(item)
        self._line.wake()

    def put_nowait(self, item: T) -> None:
        """Add an item."""
        self.put(item)

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """Take the oldest item. timeout: seconds to wait for one.

        Raises:
            queue.Empty: there is none.
        """
        hub = hub_here(importing=True, in_coroutine=True)
        if hub is None or not block or (timeout is not None and not timeout > 0):
            return super().get(block, timeout)
        taken: list[T] = []

        def take() -> bool:
            try:
                taken.append(_SimpleQueue.get(self, False))
            except Empty:
                return False
            return True

        if (self._line or not take()) and not self._line.wait(hub, take, timeout):
            raise Empty
        # Several items may have woken one greenlet.
        if not self.empty():
            self._line.wake()
        return taken[0]
