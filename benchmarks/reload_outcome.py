"""What a reload has cost, and how it is written down: JSON with each bucket, Markdown to read."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from report import listed, rounded, table
from steady import CROSSED, KEPT, TIMEOUT, Seen

BUCKET = 0.1
"""Seconds."""
ALLOWED = 0.05
"""Seconds that a pause under HUPs may be longer than without."""


@dataclass
class Reload:
    """One candidate with one number of workers."""

    name: str
    command: str
    workers: int
    ours: bool
    with_hups: Seen | None = None
    without: Seen | None = None
    broken: str | None = None
    """Why it was not measured."""

    @property
    def met(self) -> bool | None:
        """Whether the reload cost no request and no pause; None where it was not measured."""
        if self.with_hups is None or self.without is None:
            return None
        return (
            not self.with_hups.failures
            and self.with_hups.pause <= self.without.pause + ALLOWED
            and self.with_hups.longest <= self.without.longest + ALLOWED
        )


@dataclass(frozen=True)
class Conditions:
    """Under which it was made. Moments and durations in seconds."""

    machine: dict[str, str]
    versions: dict[str, str]
    rate: float
    """Requests a second."""
    seconds: float
    hups: tuple[float, ...]
    loading: float
    """How long the application loads."""

    def caption(self) -> str:
        wanted = ("processor", "system", "Python")
        return (
            f"{self.rate:g} requests a second; {', '.join(self.machine[name] for name in wanted)}"
        )


def per_bucket(moments: Iterable[float], seconds: float) -> list[int]:
    """How many fall into each; what comes after the last is left out."""
    counts = [0] * round(seconds / BUCKET)
    for moment in moments:
        if 0 <= moment < seconds:
            counts[min(int(moment / BUCKET), len(counts) - 1)] += 1
    return counts


def as_json(conditions: Conditions, found: list[Reload]) -> str:
    """Seconds throughout."""
    everything = {
        "conditions": vars(conditions),
        "bucket": BUCKET,
        "allowed": ALLOWED,
        "reloads": [
            {
                "name": one.name,
                "command": one.command,
                "workers": one.workers,
                "broken": one.broken,
                "met": one.met,
                "with HUPs": seen_as_json(one.with_hups),
                "without": seen_as_json(one.without),
            }
            for one in found
        ],
    }
    return json.dumps(rounded(everything), indent=1) + "\n"


def seen_as_json(seen: Seen | None) -> dict[str, object] | None:
    if seen is None:
        return None
    return {
        "requests": seen.requests,
        "failed": seen.failed,
        "retried": seen.retried,
        "pause": seen.pause,
        "longest": seen.longest,
        "client late": seen.late,
        "answers in each bucket": per_bucket((moment for moment, _ in seen.answers), seen.seconds),
        "failures in each bucket": per_bucket(
            (moment for moment, _ in seen.failures), seen.seconds
        ),
    }


def as_markdown(conditions: Conditions, found: list[Reload]) -> str:
    hups = ", ".join(f"{moment:g}" for moment in conditions.hups)
    parts = [
        "# What `make bench-reload` has measured",
        "How, and how to read it: [README.md](../README.md#reload).",
        listed(conditions.machine),
        listed(conditions.versions),
        f"{conditions.rate:g} requests a second for {conditions.seconds:g} s, half of them over "
        f"{KEPT} kept connections, half over a new one each. HUP after {hups} s; the application "
        f"loads for {conditions.loading:g} s.",
    ]
    for workers in dict.fromkeys(one.workers for one in found):
        rows = [row for one in found if one.workers == workers for row in rows_of(one)]
        head = ["", "", "requests", "failed", "retried", "pause ms", "longest ms", "client late ms"]
        parts += [f"## `--workers={workers}`", table([*head, "verdict"], rows)]
    parts += [
        "failed: without a whole answer with status 200, by kind. retried: requests that crossed "
        f"the close of an idle kept connection (no octet of an answer, within {CROSSED * 1e3:g} ms)"
        " and were asked again. pause: the longest time without any answer from any worker. "
        "longest: that one request took. client late: the most that the client itself was late; a "
        f"pause shorter than that is not the server's. A request fails after {TIMEOUT:g} s. "
        f"met: no request failed, and pause and longest are at most {ALLOWED * 1e3:g} ms more "
        "than without HUPs.",
        "## What was run",
        "\n".join(f"- {one.name}, {one.workers}: `{one.command.strip()}`" for one in found),
    ]
    return "\n\n".join(parts) + "\n"


def rows_of(one: Reload) -> list[list[str]]:
    name = f"**{one.name}**" if one.ours else one.name
    if one.with_hups is None or one.without is None:
        return [[name, f"breaks: {one.broken}", *[""] * 7]]
    verdict = "met" if one.met else "**not met**"
    return [
        [name, "three HUPs", *cells(one.with_hups), verdict],
        ["", "no HUP", *cells(one.without), ""],
    ]


def cells(seen: Seen) -> list[str]:
    kinds = ", ".join(f"{count} {kind}" for kind, count in seen.failed.items())
    return [
        f"{seen.requests:,}",
        f"{len(seen.failures):,}" + (f" ({kinds})" if kinds else ""),
        f"{seen.retried:,}",
        *(f"{seconds * 1e3:,.0f}" for seconds in (seen.pause, seen.longest, seen.late)),
    ]
