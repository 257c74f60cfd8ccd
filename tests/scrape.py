"""The status endpoint, as Prometheus reads it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness import Response, Truncated, eventually
from prometheus_client.parser import text_string_to_metric_families
from raw_client import Address, Client

TRIES = 5


class Endpoint:
    """Where a server tells how it is."""

    def __init__(self, address: Address) -> None:
        self.address = address

    @property
    def setting(self) -> str:
        """`MEINHELD_STATUS` for it."""
        if isinstance(self.address, str):
            return f"unix:{self.address}"
        return f"{self.address[0]}:{self.address[1]}"

    @property
    def env(self) -> dict[str, str]:
        return {"MEINHELD_STATUS": self.setting}

    def get(self, target: str) -> Response:
        """One GET, and another where a worker ended in the middle of its answer."""
        for _ in range(TRIES - 1):
            with contextlib.suppress(ConnectionError, Truncated):
                return self._get(target)
        return self._get(target)

    def _get(self, target: str) -> Response:
        with Client(self.address) as client:
            return client.request("GET", target)

    def scrape(self) -> Figures:
        response = self.get("/metrics")
        assert response.status == 200, response
        return Figures(response.text)

    def states(self) -> tuple[int, int]:
        """The statuses of /healthz and /readyz."""
        return self.get("/healthz").status, self.get("/readyz").status

    def value(self, name: str, **labels: str) -> float:
        return self.scrape().value(name, **labels)

    def wait_for(self, value: float, name: str, **labels: str) -> None:
        eventually(lambda: self.value(name, **labels) == value, f"{name} {labels} is {value}")

    @contextlib.contextmanager
    def grows(self, by: float, name: str, **labels: str) -> Iterator[None]:
        """After the block the figure comes to be greater `by` as much. (What is counted when an
        answer has left may be counted after it was received.)"""
        before = self.value(name, **labels)
        yield
        self.wait_for(before + by, name, **labels)


class Figures:
    """One scrape."""

    def __init__(self, text: str) -> None:
        self.families = list(text_string_to_metric_families(text))

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples of this name that have these labels."""
        found = [
            sample.value
            for family in self.families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        return sum(found)

    def counters(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """What only grows as long as the arbiter lives: no worker's own figure."""
        return {
            (sample.name, tuple(sample.labels.items())): sample.value
            for family in self.families
            if family.type in ("counter", "histogram")
            for sample in family.samples
            if "worker" not in sample.labels
        }

    def workers(self) -> dict[int, str]:
        """The state of each worker, by pid."""
        return {
            int(sample.labels["worker"]): sample.labels["state"]
            for family in self.families
            for sample in family.samples
            if sample.name == "meinheld_worker_state" and sample.value
        }


@contextlib.contextmanager
def unix_endpoint() -> Iterator[Endpoint]:
    """An endpoint in a folder of its own: pytest's have paths that are too long for a socket."""
    with tempfile.TemporaryDirectory(prefix="meinheld-status-") as folder:
        yield Endpoint(str(Path(folder) / "status"))
