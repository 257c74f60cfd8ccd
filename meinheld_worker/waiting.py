"""How a greenlet gives the loop up until something has happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenlet import GreenletExit, getcurrent, greenlet

if TYPE_CHECKING:
    from meinheld_worker.hub import Hub


class Waiter:
    """One wait, of one greenlet. It is over once: what comes later does not count."""

    __slots__ = ("_ends", "_greenlet", "_hub", "_outcome")

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._greenlet: greenlet | None = None
        # Attempts to end it: the first one counts. A lock would be held when a finalizer or a
        # signal handler comes in between and ends another wait; appending is atomic.
        self._ends: list[object] = []
        # A value and an error, once the wait is over.
        self._outcome: tuple[Any, BaseException | None] | None = None

    def wait(self, timeout: float | None = None) -> Any:
        """Give the loop up until the wait is over; return the value that it ended with.

        timeout: seconds.

        Raises:
            TimeoutError: so many seconds have passed.
            RuntimeError: this greenlet cannot give the loop up.
            BaseException: what was thrown.
        """
        if self._outcome is None:
            self._hub.park(self, timeout)
        assert self._outcome is not None
        value, error = self._outcome
        if error is not None:
            try:
                raise error
            finally:
                # The error holds this frame.
                del error
                self._outcome = (None, None)
        return value

    def wake(self, value: Any = None) -> bool:
        """End the wait with a value; return whether it was not over. Any thread may call this."""
        return self._end(value, None)

    def throw(self, error: BaseException) -> bool:
        """End the wait with an error; return whether it was not over. Any thread may call this."""
        return self._end(None, error)

    def ready(self) -> None:
        """What the loop was to look for has come."""
        self._end(None, None)

    def expire(self, error: BaseException) -> None:
        """What was waited for cannot come any more, or not in time: for the hub."""
        self._end(None, error)

    def resume(self) -> None:
        """Let the greenlet go on, if it waits here: for the hub."""
        if self._greenlet is not None:
            self._hub.switch_to(self._greenlet)

    def sleep(self) -> None:
        """Switch to the hub until the wait is over: for the hub."""
        self._greenlet = getcurrent()
        try:
            while self._outcome is None:
                self._hub.switch()
        finally:
            self._greenlet = None

    def _end(self, value: Any, error: BaseException | None) -> bool:
        if not self._is_first(value, error):
            return False
        self._hub.run_soon(self)
        return True

    def _is_first(self, value: Any, error: BaseException | None) -> bool:
        attempt = object()
        self._ends.append(attempt)
        if self._ends[0] is not attempt:
            return False
        self._outcome = value, error
        return True


class Suspension(Waiter):
    """A wait that others know of, and end. It is not over before its greenlet goes on: in between
    they would find it over, and the greenlet could not have told them yet."""

    __slots__ = ()

    def expire(self, error: BaseException) -> None:
        """As a :class:`Waiter`, when the hub comes to it; until then the wait may end otherwise."""
        self._hub.run_soon(_Expiry(self, error))

    def fail(self, error: BaseException) -> None:
        """End the wait, and let the greenlet go on at once: for the hub."""
        if self._is_first(None, error):
            self.resume()


class _Expiry:
    """Ends a suspension when the hub comes to it."""

    __slots__ = ("_error", "_suspension")

    def __init__(self, suspension: Suspension, error: BaseException) -> None:
        self._suspension = suspension
        self._error = error

    def resume(self) -> None:
        """It is its turn: for the hub."""
        self._suspension.fail(self._error)


class Failing:
    """Ends a wait with an error when this is ready."""

    __slots__ = ("_kind", "_text", "_waiter")

    def __init__(self, waiter: Waiter, kind: type[OSError], text: str) -> None:
        self._waiter = waiter
        self._kind = kind
        self._text = text

    def ready(self) -> None:
        """It has come to that."""
        self._waiter.expire(self._kind(self._text))


class Waker:
    """Wakes a waiter when the hub comes to it."""

    __slots__ = ("_waiter",)

    def __init__(self, waiter: Waiter) -> None:
        self._waiter = waiter

    def resume(self) -> None:
        """The others had their turn: for the hub."""
        self._waiter.wake()


class Cancelled(GreenletExit):
    """A request has to end; the text says why, to its client."""
