"""A server under the soak, and what its processes use over their lives."""

from __future__ import annotations

import contextlib
import re
import signal
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path

from harness import Server, eventually, memory_kib, open_files

from soak.logs import LATE, is_bad, records
from soak.tally import Tally

INTERVAL = 1.0
"""Seconds between two samples."""
BOOTED = 3.0
"""Seconds after which a worker has certainly loaded its application."""
ROTATED = 3
"""Rotated logs that somebody may still write to."""


@dataclass
class Life:
    """Of one process: (seconds, resident KiB, descriptors) at each sample."""

    samples: list[tuple[float, int, int]] = field(default_factory=list)

    def floor(self, since: float, until: float) -> int:
        """The least resident KiB between two moments: large answers come and go above it."""
        return min((kib for at, kib, _ in self.samples if since <= at <= until), default=0)


class Watched:
    """Its processes are sampled from `start` to `stop`; its log is read as it is rotated."""

    def __init__(self, name: str, server: Server, tally: Tally) -> None:
        self.name = name
        self.server = server
        self.tally = tally
        self.lives: dict[int, Life] = {}
        self.late = 0
        """Requests that came on connections that a leaving worker had closed."""
        self._rotated: deque[Path] = deque()
        self._rotations = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"watch {name}", daemon=True)
        # What is written to descriptor 2 itself stays in the first log.
        self._first_log = server.directory / "log.0"
        self._log.rename(self._first_log)
        server.signal(signal.SIGUSR1)
        eventually(self._log.exists, "the log is reopened")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def grown_up(self) -> list[int]:
        """The workers that have certainly loaded their application."""
        now = time.monotonic()
        return [
            pid
            for pid in self.server.worker_pids()
            if (life := self.lives.get(pid)) and life.samples[0][0] < now - BOOTED
        ]

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL):
            if self.server.process.poll() is not None:
                self.tally.fail(self.name, "gunicorn has exited")
                self.tally.stop.set()
                return
            self.sample()

    def sample(self) -> None:
        for pid in [self.server.process.pid, *self.server.worker_pids()]:
            # A worker may leave between two looks at it.
            with contextlib.suppress(FileNotFoundError, ProcessLookupError, AssertionError):
                now = (time.monotonic(), memory_kib(pid), len(open_files(pid)))
                self.lives.setdefault(pid, Life()).samples.append(now)

    # The log

    @property
    def _log(self) -> Path:
        return self.server.directory / "stderr"

    def rotate_log(self) -> None:
        """As logrotate does, by USR1; a log that nobody writes to any more is read and removed."""
        if not self._log.exists():
            # The last rotation is still under way.
            return
        self._rotations += 1
        self._rotated.append(self._log.rename(self.server.directory / f"log.{self._rotations}"))
        self.server.signal(signal.SIGUSR1)
        while len(self._rotated) > ROTATED:
            path = self._rotated.popleft()
            self._read(path)
            path.unlink()

    def read_logs(self) -> None:
        """All that is left, once gunicorn has stopped."""
        for path in (self._first_log, *self._rotated, self._log):
            if path.exists():
                self._read(path)

    def _read(self, path: Path) -> None:
        before: list[str] = []
        for record in records(path.read_text(errors="backslashreplace")):
            self.tally.count(f"log records of {self.name}")
            if late := LATE.search(record[0]):
                self.late += int(late.group(1))
            if is_bad(record):
                context = "\n    ".join([*before, *record])
                self.tally.fail(f"log of {self.name}", context)
            before = [*before[-10:], record[0]]


def kinds_of_files(pid: int) -> Counter[str]:
    """What the process has open, without what tells one socket or file from another. The
    heartbeat files of workers are left out: a worker inherits those of its elder siblings."""
    names = [re.sub(r"(socket|pipe):\[\d+\]", r"\1", name) for name in open_files(pid)]
    names = [re.sub(r"/log\.\d+$|/stderr$", "/log", name) for name in names]
    return Counter(name for name in names if "/wgunicorn-" not in name)
