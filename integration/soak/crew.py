"""Clients in threads, each doing its step again and again until the soak stops."""

from __future__ import annotations

import threading
from collections.abc import Callable

from harness import Truncated
from load import Failed

from soak.tally import Tally

ENDS_WITHIN = 90.0


class Crew:
    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self._threads: list[threading.Thread] = []

    def add(self, name: str, step: Callable[[], None], evidence: Callable[[], str]) -> None:
        """evidence: what to print with a failed step; it also ends what the step left behind."""

        def run() -> None:
            while not self.tally.stop.is_set():
                try:
                    step()
                except (Failed, Truncated, OSError, AssertionError) as error:
                    self.tally.fail(name, f"{error!r}{evidence()}")
            evidence()

        self._threads.append(threading.Thread(target=run, name=name, daemon=True))

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(ENDS_WITHIN)
            if thread.is_alive():
                self.tally.fail(thread.name, "does not end")
