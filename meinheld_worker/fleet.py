"""The workers of one arbiter: who leaves, and when."""

import contextlib
import os
from typing import Any

from gunicorn.workers.workertmp import WorkerTmp

from meinheld_worker import _core, status


class Fleet:
    """The scoreboard of this arbiter."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._board = _core.Scoreboard()
        self._cfg: Any = None
        self._address: status.Address | None = None
        self.status_socket: Any = None

    def open_status(self, cfg: Any, log: Any) -> None:
        """Open the status endpoint, if there is to be one.

        Raises:
            RuntimeError: one line that says why it cannot be had.
        """
        self._address = status.configured()
        if self._address is not None:
            self.status_socket = status.listen(self._address, cfg, log)

    def enrol(self, age: int, cfg: Any, log: Any) -> _core.Seat:
        """Give a seat to the worker that is about to be forked.

        cfg: on HUP, gunicorn makes a new one before the new workers.
        """
        if cfg is not self._cfg:
            self._cfg = cfg
            self._board.reload(age)
            # A wrong one is refused by the new workers.
            with contextlib.suppress(RuntimeError):
                if status.configured() != self._address:
                    log.warning("%s has changed: only a restart or USR2 heeds it", status.STATUS)
        return self._board.enrol(age)

    def is_ours(self) -> bool:
        """Whether this process is the arbiter that the fleet belongs to."""
        return self._pid == os.getpid()


_fleet: Fleet | None = None


def fleet() -> Fleet:
    """The fleet of this process, an arbiter."""
    global _fleet
    if _fleet is None or not _fleet.is_ours():
        _fleet = Fleet()
    return _fleet


class Tmp:
    """gunicorn's file for the heartbeat, of which the arbiter lets go when it has reaped the worker
    (``Arbiter.reap_workers``): then the seat is free. New workers let go of those of their siblings
    as well."""

    def __init__(self, tmp: WorkerTmp, seat: _core.Seat) -> None:
        self._tmp = tmp
        self._seat = seat
        self._fleet = fleet()
        self.notify = tmp.notify
        self.last_update = tmp.last_update
        self.fileno = tmp.fileno

    def close(self) -> None:
        """Close the file."""
        if self._fleet.is_ours():
            self._seat.vacate()
        self._tmp.close()
