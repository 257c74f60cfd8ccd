"""What the code that serves knows of the process it serves in."""

from collections.abc import Sequence
from typing import Any, Protocol

from meinheld_worker import _core
from meinheld_worker.threads import Threads


class Host(Protocol):
    """A process that serves: a worker of gunicorn's, or one without an arbiter."""

    #: gunicorn's: whether it has not begun to leave.
    alive: bool
    #: gunicorn's settings, and its logger or one that is like it.
    cfg: Any
    log: Any
    #: These are there while it serves, the third where there is a status endpoint.
    loop: _core.Loop | None
    threads: Threads | None
    status: _core.Status | None
    seat: _core.Seat
    #: Whether a signal handler has raised SystemExit to end it.
    exiting: bool
    #: Whether its log files are to be opened anew.
    reopens_logs: bool
    #: The pipe that signals write to.
    PIPE: Sequence[int]
    #: Its listening sockets.
    sockets: Any

    def notify(self) -> None:
        """The heart beats."""

    def leaves(self) -> bool:
        """Whether to stop accepting now."""
