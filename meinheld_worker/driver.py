"""Who takes the turns of the loop: the native code itself, or a hub of greenlets."""

from collections.abc import Callable
from typing import Any, Protocol

from meinheld_worker import _core, config, green


class Driver(Protocol):
    """Takes the turns of a loop."""

    def face(self, face: Any) -> Any:
        """What the loop is to be given in the place of ``face``."""

    def run(self, loop: _core.Loop) -> None:
        """Serve until the loop has ended.

        Raises:
            SystemExit: of a signal handler.
        """


class Native:
    """Applications are called by the loop, or by threads of its own."""

    def face(self, face: Any) -> Any:
        """The same."""
        return face

    def run(self, loop: _core.Loop) -> None:
        """Serve until the loop has ended."""
        loop.run()


def driver_of(application: Callable[..., Any]) -> Driver:
    """Choose, once the application is loaded, which may have asked for greenlets."""
    if not green.choose():
        return Native()
    # There only where it is used: greenlet is an optional dependency.
    from meinheld_worker.hub import Hub

    return Hub(application, config.request_timeout())
