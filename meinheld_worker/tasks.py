"""Functions that run in greenlets of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from greenlet import GreenletExit

from meinheld_worker import _core

if TYPE_CHECKING:
    from meinheld_worker.hub import Hub


class Task:
    """A function that runs in a greenlet of its own."""

    __slots__ = ("_args", "_function", "_hub", "_kwargs")

    def __init__(
        self, hub: Hub, function: Callable[..., object], args: Any, kwargs: dict[str, Any]
    ) -> None:
        self._hub = hub
        self._function = function
        self._args = args
        self._kwargs = kwargs

    def resume(self) -> None:
        """Run it, until it waits: for the hub."""
        self._hub.start(self._run)

    ready = resume

    def _run(self) -> None:
        try:
            self._function(*self._args, **self._kwargs)
        except GreenletExit:
            pass
        except BaseException as error:
            self._hub.survive(error, "Error in a greenlet")


class Timer:
    """A :class:`Task` that is to be run later."""

    __slots__ = ("_name", "_turns")

    def __init__(self, turns: _core.Turns, seconds: float, task: Task) -> None:
        self._turns = turns
        self._name = turns.set_timer(seconds, task)

    def cancel(self) -> None:
        """Take it back, if it is not running yet. Any thread may call this."""
        self._turns.cancel_timer(self._name)
