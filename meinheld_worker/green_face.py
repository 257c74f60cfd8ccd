"""What the native loop is told by, where requests run in greenlets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from meinheld_worker import _core
from meinheld_worker.waiting import Waiter

if TYPE_CHECKING:
    from meinheld_worker.hub import Hub


class GreenFace:
    """A face whose logs and hooks are called between two steps of a request, not from within one:
    they may wait."""

    def __init__(self, face: Any, hub: Hub) -> None:
        self._face = face
        # As long as the loop runs.
        self._hub: Hub | None = hub
        for name in ("pre_request", "log_access", "log_line", "post_request"):
            function = getattr(face, name)
            setattr(self, name, None if function is None else self._later(function))
        for name in ("rejected", "failed", "shed", "warn"):
            setattr(self, name, self._later(getattr(face, name)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._face, name)

    def green_write(self, write: _core.Write) -> GreenWrite:
        """What ``start_response`` returns."""
        assert self._hub is not None
        return GreenWrite(self._hub, write)

    def draining(self) -> None:
        """The worker has stopped accepting."""
        self._face.draining()
        if self._hub:
            self._hub.drain()

    def let_go(self) -> None:
        """The loop has ended."""
        self._hub = None

    def _later(self, function: Callable[..., object]) -> Callable[..., None]:
        def call(*args: Any) -> None:
            if self._hub:
                self._hub.call_after_step(function, args)
            else:
                function(*args)

        return call


class GreenWrite:
    """``write`` of PEP 3333: returns when the kernel has all of a block."""

    __slots__ = ("_hub", "_write")

    def __init__(self, hub: Hub, write: _core.Write) -> None:
        self._hub = hub
        self._write = write

    def __call__(self, block: bytes, /) -> None:
        """Send a block.

        Raises:
            ConnectionResetError: the client has gone, or the request is over.
        """
        self._write.give(block)
        if self._hub.may_switch():
            waiter = Waiter(self._hub)
            while not self._write.has_room(waiter):
                waiter.wait()
                waiter = Waiter(self._hub)
            self._hub.breathe()
        else:
            thread = _Thread()
            while not self._write.has_room(thread):
                thread.wait()


class _Thread:
    """A wait of another thread's."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def ready(self) -> None:
        self._event.set()

    def wait(self) -> None:
        self._event.wait()
        self._event.clear()
