"""The numbers to reach, and whether they are.

Where a goal speaks of requests a second, a server has to do as many more of them in a second of its
processor time, and in a second of the clock as well, unless it was wrk whose core was the limit.
Each is compared with the best of the peers in it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import boot
import idle
from candidates import BARE, GTHREAD, LOGGED, MEINHELD, THREADED
from outcome import ALONE, CaseResult, Result, ratios

IDLE_MIB = 10.0
IDLE_CPU = 0.001
"""The share of a core below which a server counts as idle: a tenth of a percent."""
CLIENT_BUSY = 0.9
"""The share of its core from which on wrk is the limit."""
BOOT_SECONDS = 0.030


@dataclass(frozen=True)
class Goal:
    case: str
    goal: str
    measured: str
    met: bool | None
    """None where there was nothing to compare."""


@dataclass
class Measured:
    """All that one run has found."""

    cases: dict[str, CaseResult]
    idle: list[idle.Idle]
    boots: list[boot.Boot]


NOTHING = "not measured"


def goals(run: Measured) -> list[Goal]:
    judged = [
        below_bare(run, "hello", 1.18),
        below_bare(run, "browser", 1.22),
        pipelined(run),
        below_peers(run, "post-1k"),
        below_peers(run, "post-100k"),
        above_peers(run, "memory", "at least the best peer", 1.0),
        above_peers(run, "file", "at least twice the best peer", 2.0),
        blocks(run),
        above_peers(run, "close", "at least 1.2 times the best peer", 1.2),
        own_share(run, "flask"),
        own_share(run, "django"),
        many(run),
        threaded(run),
        access_log(run),
        idle_connections(run),
        start_up(run),
    ]
    return [goal for goal in judged if goal]


def title(run: Measured, case: str) -> str:
    return run.cases[case].case.title


def best(results: list[Result], figure: Callable[[Result], float]) -> Result:
    """The one with the least."""
    return min(results, key=figure)


def below_bare(run: Measured, case: str, limit: float) -> Goal | None:
    if case not in run.cases:
        return None
    goal = f"at most {limit:g} times the bare loop's CPU per request, and below every peer"
    found = run.cases[case]
    ours, peers = found.get(MEINHELD.name), found.peers()
    if not ours or ours.ratio is None or not peers:
        return Goal(title(run, case), goal, NOTHING, None)
    peer = best(peers, lambda one: one.median("cpu"))
    beside = statistics.median(ratios(ours, peer, "cpu"))
    text = f"{ours.ratio:.2f} times the bare loop's, {beside:.2f} times that of {peer.name}"
    return Goal(title(run, case), goal, text, ours.ratio <= limit and beside < 1)


def outdoes(ours: Result, others: list[Result], factor: float) -> tuple[bool, str]:
    """Whether ours does at least `factor` times the requests of each of the others, and a text."""
    frugal = best(others, lambda one: one.median("cpu"))
    fast = best(others, lambda one: -one.median("per_second"))
    by_cpu = 1 / statistics.median(ratios(ours, frugal, "cpu"))
    by_clock = statistics.median(ratios(ours, fast, "per_second"))
    held_back = ours.median("client_busy") >= CLIENT_BUSY
    text = f"{by_cpu:.2f} times {frugal.name} per CPU second, "
    text += f"{by_clock:.2f} times {fast.name} per second"
    if held_back:
        text += " (wrk's core is the limit)"
    return by_cpu >= factor and (by_clock >= factor or held_back), text


def pipelined(run: Measured) -> Goal | None:
    if "pipelined" not in run.cases:
        return None
    goal = "at least half of the bare loop's requests a second: eight times the best peer"
    found = run.cases["pipelined"]
    ours, bare, peers = found.get(MEINHELD.name), found.get(BARE.name), found.peers()
    if not ours or not bare:
        return Goal(title(run, "pipelined"), goal, NOTHING, None)
    met, text = outdoes(ours, [bare], 0.5)
    if peers:
        text += "; " + outdoes(ours, peers, 8.0)[1]
    return Goal(title(run, "pipelined"), goal, text, met)


def below_peers(run: Measured, case: str) -> Goal | None:
    if case not in run.cases:
        return None
    goal = "below every peer in CPU per request"
    ours, peers = run.cases[case].get(MEINHELD.name), run.cases[case].peers()
    if not ours or not peers:
        return Goal(title(run, case), goal, NOTHING, None)
    peer = best(peers, lambda one: one.median("cpu"))
    beside = statistics.median(ratios(ours, peer, "cpu"))
    text = f"{ours.median('cpu') * 1e6:.1f} us, {beside:.2f} times that of {peer.name}"
    return Goal(title(run, case), goal, text, beside < 1)


def above_peers(run: Measured, case: str, goal: str, factor: float) -> Goal | None:
    if case not in run.cases:
        return None
    ours, peers = run.cases[case].get(MEINHELD.name), run.cases[case].peers()
    if not ours or not peers:
        return Goal(title(run, case), goal, NOTHING, None)
    met, text = outdoes(ours, peers, factor)
    return Goal(title(run, case), goal, text, met)


def blocks(run: Measured) -> Goal | None:
    if "blocks" not in run.cases:
        return None
    goal = "at least twice granian, each block on the wire before the next is asked for"
    found = run.cases["blocks"]
    ours, granian = found.get(MEINHELD.name), found.get("granian")
    if not ours or not granian:
        return Goal(title(run, "blocks"), goal, NOTHING, None)
    met, text = outdoes(ours, [granian], 2.0)
    text += "; it streams" if ours.streams else "; it does NOT stream"
    return Goal(title(run, "blocks"), goal, text, met and ours.streams is True)


def shares(result: Result, alone: Result) -> list[float]:
    """The server's own part of the processor time for a request, in each round."""
    pairs = zip(result.values("cpu"), alone.values("cpu"), strict=False)
    return [total - application for total, application in pairs]


def own_share(run: Measured, case: str) -> Goal | None:
    if case not in run.cases:
        return None
    goal = "the server's own share at most half of the best peer's"
    found = run.cases[case]
    ours, alone, peers = found.get(MEINHELD.name), found.get(ALONE), found.peers()
    if not ours or not alone or not peers:
        return Goal(title(run, case), goal, NOTHING, None)
    peer = best(peers, lambda one: statistics.median(shares(one, alone)))
    mine, theirs = (statistics.median(shares(one, alone)) for one in (ours, peer))
    text = f"{mine * 1e6:.1f} us; {peer.name} {theirs * 1e6:.1f} us"
    text += f", the application alone {alone.median('cpu') * 1e6:.1f} us"
    return Goal(title(run, case), goal, text, mine <= theirs / 2)


def many(run: Measured) -> Goal | None:
    if "many" not in run.cases:
        return None
    goal = "throughput within 5% of 64 connections, p99 below every peer"
    found = run.cases["many"]
    ours, peers = found.get(MEINHELD.name), found.peers()
    if not ours or not peers:
        return Goal(title(run, "many"), goal, NOTHING, None)
    kept = statistics.median(kept_throughput(ours))
    peer = best(peers, lambda one: one.median("p99"))
    p99 = ours.median("p99")
    text = f"{kept:.0%} of the throughput of 64 connections; p99 {p99 * 1e3:.1f} ms, "
    text += f"{peer.name} {peer.median('p99') * 1e3:.1f} ms"
    if bare := found.get(BARE.name):
        text += f" (the bare loop keeps {statistics.median(kept_throughput(bare)):.0%})"
    return Goal(title(run, "many"), goal, text, kept >= 0.95 and p99 < peer.median("p99"))


def kept_throughput(result: Result) -> list[float]:
    """What is left of the throughput with fewer connections, in each round."""
    return [
        sample.per_second / sample.beside_per_second
        for sample in result.samples
        if sample.beside_per_second
    ]


def threaded(run: Measured) -> Goal | None:
    if "hello" not in run.cases:
        return None
    goal, found = "below granian's CPU per request", run.cases["hello"]
    ours, granian = found.get(THREADED.name), found.get("granian")
    if not ours or not granian:
        return Goal("hello, --threads 4", goal, NOTHING, None)
    beside = statistics.median(ratios(ours, granian, "cpu"))
    text = f"{ours.median('cpu') * 1e6:.1f} us, {beside:.2f} times that of granian"
    return Goal("hello, --threads 4", goal, text, beside < 1)


def access_log(run: Measured) -> Goal | None:
    if "access-log" not in run.cases:
        return None
    goal = "at most a third of gthread's cost for the line"
    lines = []
    for candidate in (MEINHELD, GTHREAD):
        found = run.cases["access-log"]
        without, logged = found.get(candidate.name), found.get(candidate.name + LOGGED)
        if not without or not logged:
            return Goal("access log", goal, NOTHING, None)
        lines.append(statistics.median(shares(logged, without)))
    ours, gthread = lines
    text = f"{ours * 1e6:.1f} us a line, gthread {gthread * 1e6:.1f} us"
    return Goal("access log", goal, text, ours <= gthread / 3)


def idle_connections(run: Measured) -> Goal | None:
    ours = next((one for one in run.idle if one.name == MEINHELD.name and not one.broken), None)
    if not ours:
        return None
    goal = f"add at most {IDLE_MIB:g} MiB of resident memory and no CPU"
    text = f"{ours.memory:.1f} MiB, {ours.cpu:.3%} of a core"
    met = ours.memory <= IDLE_MIB and ours.cpu <= IDLE_CPU
    return Goal(idle.CASE.title, goal, text, met)


def start_up(run: Measured) -> Goal | None:
    if not run.boots:
        return None
    goal = f"the worker adds at most {BOOT_SECONDS * 1e3:.0f} ms to gunicorn's own boot"
    seconds, cpu = boot.added(run.boots, "seconds"), boot.added(run.boots, "cpu")
    text = f"{seconds * 1e3:.1f} ms, and {cpu * 1e3:.1f} ms of processor time"
    return Goal("start-up", goal, text, max(seconds, cpu) <= BOOT_SECONDS)
