"""How long does a server take from its start to its first answer?

gunicorn's own boot is that of its sync worker, in the same environment with the same application;
what another worker adds to it is the difference of two boots that follow each other.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from accounting import Usage
from candidates import MEINHELD, SYNC, Candidate
from cases import Case
from crowd import ask
from servers import BOOT, Broken, launch

CASE = Case("boot", "from the start to the first answer")
CANDIDATES = [SYNC, MEINHELD]
POLL = 0.0005
"""Seconds between two attempts to connect."""


@dataclass
class Boot:
    name: str
    command: str
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    """Seconds of processor time, of all processes, up to the first answer."""


def measure(times: int) -> list[Boot]:
    boots = [Boot(candidate.name, candidate.shown(CASE.name)) for candidate in CANDIDATES]
    with tempfile.TemporaryDirectory(prefix="meinheld-bench-") as scratch:
        # The first round fills the caches of files and bytecode.
        for number in range(times + 1):
            for candidate, boot in zip(CANDIDATES, boots, strict=True):
                seconds, cpu = once(candidate, Path(scratch) / "server")
                if number:
                    boot.seconds.append(seconds)
                    boot.cpu.append(cpu)
    return boots


def once(candidate: Candidate, directory: Path) -> tuple[float, float]:
    since = time.monotonic()
    server = launch(candidate, CASE, directory)
    try:
        while time.monotonic() - since < BOOT:
            with contextlib.suppress(ConnectionError), server.client() as client:
                ask(client, 1)
                seconds = time.monotonic() - since
                # All that it has used since it began.
                spent = Usage.of(server.pid).since(Usage({}, 0, 0))
                return seconds, spent.total
            time.sleep(POLL)
        raise Broken(f"no answer within {BOOT:g} s: {server.last_words()}")
    finally:
        server.kill()


def added(boots: list[Boot], figure: str) -> float:
    """Seconds that our worker adds to gunicorn's own boot; the median of all pairs."""
    theirs: list[float]
    ours: list[float]
    theirs, ours = (getattr(boot, figure) for boot in boots)
    return statistics.median(one - other for one, other in zip(ours, theirs, strict=True))
