"""What happens to the servers meanwhile: signals, and nothing left to open or to write to."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import threading
from collections.abc import Callable, Iterator

from soak.tally import Tally
from soak.watched import Watched

CYCLE = 20.0
"""Seconds in which every disturbance comes once, in any order."""
PAUSES = [0.1, 0.5, 1.5, 4.0]
"""Seconds of a SIGSTOP."""
NO_DESCRIPTORS = 8
"""RLIMIT_NOFILE: beneath what a worker has open, so that nothing more can be opened."""
FULL_DISK = 640 * 1024
"""RLIMIT_FSIZE: a little beyond the octets of a body that are kept in memory."""


class Disturbances:
    """In a thread of its own until `stop`; then everything is as it was."""

    def __init__(self, reloaded: Watched, steady: Watched, tally: Tally, seed: int) -> None:
        """reloaded: gets everything. steady: keeps its worker."""
        self.reloaded = reloaded
        self.steady = steady
        self.tally = tally
        self.chance = random.Random(f"{seed} disturbances")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="disturbances", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)
        if self._thread.is_alive():
            self.tally.fail("disturbances", "do not end")

    def _run(self) -> None:
        both = (self.reloaded, self.steady)
        kinds: list[Callable[[], None]] = [
            lambda: self._signal(signal.SIGHUP),
            lambda: self._more_and_fewer(),
            lambda: self._rotate(both),
            lambda: self._pause(self.reloaded),
            lambda: self._pause(self.steady),
            lambda: self._lack(both, resource.RLIMIT_NOFILE, NO_DESCRIPTORS, "descriptors"),
            lambda: self._lack(both, resource.RLIMIT_FSIZE, FULL_DISK, "disk space"),
        ]
        while not self._stop.is_set():
            for disturb in self.chance.sample(kinds, len(kinds)):
                if self._stop.wait(self.chance.uniform(0.5, 1.5) * CYCLE / len(kinds) / 2):
                    return
                try:
                    disturb()
                except OSError as error:
                    self.tally.fail("disturbances", repr(error))

    def _signal(self, number: signal.Signals) -> None:
        self.tally.mark(number.name)
        self.tally.count(f"disturbance: {number.name}")
        self.reloaded.server.signal(number)

    def _more_and_fewer(self) -> None:
        self._signal(signal.SIGTTIN)
        self._stop.wait(self.chance.uniform(0, 2))
        self._signal(signal.SIGTTOU)

    def _rotate(self, servers: tuple[Watched, ...]) -> None:
        self.tally.count("disturbance: SIGUSR1")
        for watched in servers:
            watched.rotate_log()

    def _pause(self, watched: Watched) -> None:
        """A worker stands still for a while, which no client must pay for: not even where it is
        longer than the worker's own patience with clients."""
        pid = self.chance.choice(watched.server.worker_pids() or [0])
        if not pid:
            return
        self.tally.mark(f"SIGSTOP of a {watched.name} worker")
        self.tally.count("disturbance: SIGSTOP")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            try:
                self._stop.wait(self.chance.choice(PAUSES))
            finally:
                os.kill(pid, signal.SIGCONT)
        self.tally.mark("SIGCONT")

    def _lack(self, servers: tuple[Watched, ...], limit: int, value: int, what: str) -> None:
        with contextlib.ExitStack() as stack:
            for watched in servers:
                # The log must stay far under RLIMIT_FSIZE.
                watched.rotate_log()
                stack.enter_context(self.tally.scarcity(watched.name))
                for pid in watched.grown_up():
                    stack.enter_context(lowered(pid, limit, value))
            self.tally.mark(f"no {what}")
            self.tally.count(f"disturbance: no {what}")
            self._stop.wait(self.chance.uniform(0.3, 1.5))
        self.tally.mark(f"{what} again")


@contextlib.contextmanager
def lowered(pid: int, limit: int, value: int) -> Iterator[None]:
    """Another process's soft limit, for a while; it may end meanwhile."""
    with contextlib.suppress(ProcessLookupError):
        before = resource.prlimit(pid, limit)
        resource.prlimit(pid, limit, (value, before[1]))
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, limit, before)
        return
    yield
