"""What the kernel has charged a server for: processor time and memory of all its processes.

The total is exact: the scheduler's own nanoseconds of every thread (/proc/PID/task/*/schedstat).
How it divides into user and system is sampled by the kernel in ticks of 10 ms (/proc/PID/stat), so
that it is coarser. Over loopback the kernel receives a segment in the time of who sends it: a
server pays for its client's receiving, and the client for the server's, whoever serves.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from procfs import children, cpu_ticks, memory_kib


def processes(pid: int) -> list[int]:
    """The process and all its descendants, parents first."""
    found = [pid]
    for child in children(pid):
        found += processes(child)
    return found


class Replaced(Exception):
    """A process or a thread of the server went, and took what it had used with it."""


@dataclass(frozen=True)
class Usage:
    """Up to one moment, of all processes and threads."""

    nanoseconds: dict[tuple[int, str], int]
    """Of each thread, by process and thread id."""
    user: int
    """Ticks, as system."""
    system: int

    @classmethod
    def of(cls, pid: int) -> Usage:
        nanoseconds, user, system = {}, 0, 0
        try:
            for one in processes(pid):
                for task in Path(f"/proc/{one}/task").iterdir():
                    used = (task / "schedstat").read_text().split()[0]
                    nanoseconds[one, task.name] = int(used)
                ticks = cpu_ticks(one)
                user, system = user + ticks[0], system + ticks[1]
        except (FileNotFoundError, ProcessLookupError) as error:
            raise Replaced(f"{error}") from error
        return cls(nanoseconds, user, system)

    def since(self, before: Usage) -> Spent:
        if gone := {pid for pid, _ in before.nanoseconds} - {pid for pid, _ in self.nanoseconds}:
            raise Replaced(f"{len(gone)} of its processes died")
        total = sum(self.nanoseconds.values()) - sum(
            used for thread, used in before.nanoseconds.items() if thread in self.nanoseconds
        )
        user, system = self.user - before.user, self.system - before.system
        share = user / (user + system) if user + system else 0.0
        return Spent(total / 1e9, share * total / 1e9)


@dataclass(frozen=True)
class Spent:
    """Processor time between two moments, in seconds."""

    total: float
    user: float

    @property
    def system(self) -> float:
        return self.total - self.user


def resident_kib(pid: int) -> int:
    """Of all its processes; what they share is counted for each."""
    return sum(memory_kib(one) for one in processes(pid))
