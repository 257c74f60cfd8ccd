"""What was measured: a sample a turn, a result a candidate and case."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

from cases import Case

ALONE = "the application alone"
"""The name under which an application called without a server is found among the results."""


@dataclass(frozen=True)
class Sample:
    """One turn. Times in seconds; those of the processor are for each request."""

    requests: int
    per_second: float
    cpu: float
    user: float
    system: float
    busy: float = 0.0
    """The share of the server's core that it used."""
    client_busy: float = 0.0
    """The same of wrk and its core."""
    p50: float = 0.0
    p99: float = 0.0
    wrong: int = 0
    beside_per_second: float = 0.0
    """Requests a second of the case's second load, with other connections."""


@dataclass
class Result:
    """What came of one candidate in one case."""

    name: str
    command: str
    ceiling: bool = False
    ours: bool = False
    samples: list[Sample] = field(default_factory=list)
    """One for each round."""
    ratios: list[float] = field(default_factory=list)
    """Of `cpu` to the bare loop's in the same round."""
    broken: str | None = None
    """Why it was not measured to the end."""
    absent: bool = False
    """Whether it is not even installed; `broken` says why."""
    streams: bool | None = None
    """Whether blocks leave before the next is asked for; None where that was not tried."""

    @property
    def peer(self) -> bool:
        return not self.ceiling and not self.ours

    @property
    def measured(self) -> bool:
        return bool(self.samples) and self.broken is None

    def values(self, figure: str) -> list[float]:
        """Of a Sample's attribute, one for each round."""
        return [getattr(sample, figure) for sample in self.samples]

    def median(self, figure: str) -> float:
        return statistics.median(self.values(figure))

    @property
    def ratio(self) -> float | None:
        return statistics.median(self.ratios) if self.ratios else None


@dataclass
class CaseResult:
    case: Case
    results: dict[str, Result]

    def measured(self) -> list[Result]:
        """Those that served the case, the ceilings among them."""
        return [result for result in self.results.values() if result.measured]

    def get(self, name: str) -> Result | None:
        """None where it was not measured, or broke."""
        result = self.results.get(name)
        return result if result and result.measured else None

    def peers(self) -> list[Result]:
        """Who can be compared with: of streams only those that stream."""
        return [result for result in self.measured() if result.peer and result.streams is not False]


def ratios(ours: Result, theirs: Result, figure: str) -> list[float]:
    """Ours to theirs, each within one round."""
    return [
        one / other
        for one, other in zip(ours.values(figure), theirs.values(figure), strict=False)
        if other
    ]
