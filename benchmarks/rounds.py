"""One case for all candidates: checked, warmed up, then measured in turns.

The candidates of a round take turns, and every other round goes backwards, so that whatever else
the machine does meets all of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import sys
from collections.abc import Iterator

from accounting import Replaced, Usage
from answers import check, streams
from candidates import BARE, Candidate
from cases import GETS, Case
from load import Wrk
from outcome import ALONE, CaseResult, Result, Sample, ratios
from servers import APPLICATIONS, SERVER_CORE, Broken, Running, on_core, started

WARM_UP = 1.0
"""Seconds of load before the first round."""
TOLERATED = 0.001
"""The share of answers that may be wrong before the candidate counts as broken."""
ALONE_AT_MOST = 60.0
"""Seconds that an application called without a server may take beyond its time."""


class Contestant:
    """A candidate that runs, and what is known of it."""

    def __init__(self, server: Running, case: Case, result: Result, wrk: Wrk) -> None:
        self.server, self.result, self.wrk = server, result, wrk
        # What the bare loop cannot serve it is not asked: hello is its measure for all cases.
        stands_in = server.candidate is BARE and BARE.name not in case.ceilings
        self.case = GETS if stands_in else case

    @contextlib.contextmanager
    def may_break(self) -> Iterator[None]:
        try:
            yield
        except (Broken, Replaced, OSError) as error:
            exited = self.server.process.poll() is not None
            last_words = f"; it exited: {self.server.last_words()}" if exited else ""
            self.result.broken = f"{error}{last_words}"
            self.server.kill()

    def prepare(self) -> None:
        check(self.server, self.case)
        if self.case.streams:
            self.result.streams = streams(self.server)
        self.load(WARM_UP, self.case.connections)

    def turn(self, seconds: float) -> None:
        beside = self.load(seconds, self.case.beside) if self.case.beside else None
        sample = self.load(seconds, self.case.connections)
        if beside:
            sample = dataclasses.replace(sample, beside_per_second=beside.per_second)
        self.result.samples.append(sample)

    def load(self, seconds: float, connections: int) -> Sample:
        before = Usage.of(self.server.pid)
        seen = self.wrk.run(self.server.port, connections, seconds, lua=self.case.lua)
        spent = Usage.of(self.server.pid).since(before)
        if self.server.process.poll() is not None:
            raise Broken("the server died under load")
        if not seen.requests:
            raise Broken("no answer under load")
        if seen.wrong > TOLERATED * seen.requests:
            raise Broken(f"{seen.wrong} of {seen.requests} answers went wrong under load")
        return Sample(
            seen.requests,
            seen.per_second,
            spent.total / seen.requests,
            spent.user / seen.requests,
            spent.system / seen.requests,
            spent.total / seen.seconds,
            seen.busy,
            seen.p50,
            seen.p99,
            seen.wrong,
        )


def run(
    case: Case,
    candidates: list[Candidate],
    rounds: int,
    seconds: float,
    wrk: Wrk,
    absent: dict[str, str],
) -> CaseResult:
    """seconds: of each turn. absent: why a distribution is not installed, by its name."""
    results = {
        candidate.name: Result(
            candidate.name,
            candidate.shown(case.name),
            ceiling=candidate.ceiling,
            ours=candidate.ours,
            broken=absent.get(candidate.distribution),
            absent=candidate.distribution in absent,
        )
        for candidate in candidates
    }
    present = [candidate for candidate in candidates if results[candidate.name].broken is None]
    contestants = []
    with started(present, case) as servers:
        for name, server in servers.items():
            if isinstance(server, Broken):
                results[name].broken = str(server)
                continue
            contestant = Contestant(server, case, results[name], wrk)
            with contestant.may_break():
                contestant.prepare()
                contestants.append(contestant)
        for number in range(rounds):
            for contestant in contestants if number % 2 == 0 else reversed(contestants):
                if contestant.result.broken is None:
                    with contestant.may_break():
                        contestant.turn(seconds)
            if case.alone:
                alone = results.setdefault(ALONE, Result(ALONE, f"alone.py {case.app}", True))
                alone.samples.append(called_alone(case.app, seconds))
    bare = results[BARE.name]
    for result in results.values():
        if bare.measured and result.measured:
            result.ratios = ratios(result, bare, "cpu")
    return CaseResult(case, results)


def called_alone(app: str, seconds: float) -> Sample:
    """The application's own cost, called in a loop on the server's core."""
    told = subprocess.run(
        [*on_core(SERVER_CORE), sys.executable, "alone.py", app, str(seconds)],
        cwd=APPLICATIONS,
        stdout=subprocess.PIPE,
        timeout=seconds + ALONE_AT_MOST,
        check=True,
    ).stdout.split()
    calls, used = int(told[0]), int(told[1]) / 1e9
    return Sample(calls, calls / used, used / calls, used / calls, 0.0, 1.0)
