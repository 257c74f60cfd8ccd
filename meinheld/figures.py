"""What the status endpoint says of a fleet, read from its text."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

#: A line of Prometheus' text format, as our endpoint writes it: no escapes, no time stamps.
_SAMPLE = re.compile(r"(?P<name>\w+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


@dataclass
class Worker:
    """One worker. Times are seconds, ``memory`` is octets."""

    pid: int
    state: str = "?"
    age: float = 0.0
    requests: float = 0.0
    in_flight: float = 0.0
    oldest: float = 0.0
    active: float = 0.0
    idle: float = 0.0
    busy: float = 0.0
    memory: float | None = None


@dataclass
class Fleet:
    """All workers, and what they have done together with those that were there before."""

    at: float
    workers: dict[int, Worker] = field(default_factory=dict)
    requests: dict[str, float] = field(default_factory=dict)
    backlog: dict[str, float] = field(default_factory=dict)
    started: float = 0.0

    @property
    def total(self) -> float:
        """Answers of all classes."""
        return sum(self.requests.values())


_FIGURES = {
    "meinheld_worker_age_seconds": "age",
    "meinheld_requests_in_flight": "in_flight",
    "meinheld_request_oldest_seconds": "oldest",
    "meinheld_worker_busy_seconds_total": "busy",
    "meinheld_worker_resident_memory_bytes": "memory",
}


def read(text: str, at: float) -> Fleet:
    """Read the text of a scrape that was taken ``at`` a time, in seconds."""
    fleet = Fleet(at)
    for name, labels, value in _samples(text):
        match name:
            case "meinheld_requests_total":
                fleet.requests[labels["code"]] = value
            case "meinheld_worker_started_total":
                fleet.started = value
            case "meinheld_accept_backlog":
                fleet.backlog[labels["listener"]] = value
            case _ if "worker" in labels:
                pid = int(labels["worker"])
                _tell(fleet.workers.setdefault(pid, Worker(pid)), name, labels, value)
    return fleet


def _tell(worker: Worker, name: str, labels: dict[str, str], value: float) -> None:
    match name:
        case "meinheld_worker_state":
            if value:
                worker.state = labels["state"]
        case "meinheld_worker_requests_total":
            worker.requests += value
        case "meinheld_connections":
            setattr(worker, labels["state"], value)
        case _ if name in _FIGURES:
            setattr(worker, _FIGURES[name], value)


def _samples(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for line in text.splitlines():
        if not line.startswith("#") and (sample := _SAMPLE.fullmatch(line)):
            labels = dict(_LABEL.findall(sample["labels"] or ""))
            yield sample["name"], labels, float(sample["value"])


@dataclass(frozen=True)
class Change:
    """What happened between two looks."""

    before: Fleet
    now: Fleet

    @property
    def seconds(self) -> float:
        """The time between them."""
        return self.now.at - self.before.at

    def rate(self, code: str = "") -> float:
        """Answers a second whose class begins so."""
        return sum(
            count - self.before.requests.get(name, 0.0)
            for name, count in self.now.requests.items()
            if name.startswith(code)
        ) / max(self.seconds, 1e-9)

    def worker_rate(self, pid: int) -> float:
        """Answers a second of one worker."""
        return self._grown(pid, "requests")

    def busy(self, pid: int) -> float:
        """The part of its time that one worker was busy; more than 1 with threads."""
        return self._grown(pid, "busy")

    def _grown(self, pid: int, figure: str) -> float:
        now = self.now.workers[pid]
        # A worker that is younger than the last look began with nothing.
        before = self.before.workers.get(pid, Worker(pid))
        grown: float = getattr(now, figure) - getattr(before, figure)
        return max(grown, 0.0) / max(self.seconds, 1e-9)
