"""What happened so far: counts, wrong answers, and the moments when failing was allowed."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

MOST_WRONG = 30
"""Wrong answers after which the soak ends early: more would teach nothing."""


@dataclass
class Tally:
    """Shared by all clients; every method may be called from any thread."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    marks: list[tuple[float, str]] = field(default_factory=list)
    """Disturbances, by the second."""
    forbidden: set[str] = field(default_factory=set)
    """Markers behind a framing error: none of them may ever be served."""
    started: float = field(default_factory=time.monotonic)
    stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _scarce: dict[str, float] = field(default_factory=dict)
    """When a server last lacked descriptors or disk space."""

    ended: float = 0.0

    def end(self) -> None:
        """The clients are to stop."""
        self.ended = time.monotonic()
        self.stop.set()

    def count(self, what: str, number: int = 1) -> None:
        with self._lock:
            self.counts[what] += number

    def mark(self, what: str) -> None:
        with self._lock:
            self.marks.append((time.monotonic() - self.started, what))

    def forbid(self, marker: str) -> None:
        with self._lock:
            self.forbidden.add(marker)

    def fail(self, who: str, what: str) -> None:
        """A wrong answer; printed at once, with the disturbances before it."""
        with self._lock:
            at = time.monotonic() - self.started
            before = ", ".join(f"{when:.2f} s {mark}" for when, mark in self.marks[-4:])
            text = f"WRONG at {at:.3f} s, {who}: {what}\n    after {before or 'nothing'}"
            self.wrong.append(text)
            print(text, flush=True)
            if len(self.wrong) >= MOST_WRONG:
                self.stop.set()

    @contextlib.contextmanager
    def scarcity(self, server: str) -> Iterator[None]:
        """While it lasts, what needs a file may fail at that server."""
        with self._lock:
            self._scarce[server] = float("inf")
        try:
            yield
        finally:
            with self._lock:
                self._scarce[server] = time.monotonic()

    def was_scarce(self, server: str, since: float) -> bool:
        with self._lock:
            return self._scarce.get(server, 0.0) >= since
