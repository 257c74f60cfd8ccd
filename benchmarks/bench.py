"""`make bench`: meinheld beside its peers, on this machine.

    python benchmarks/bench.py --cases hello,browser --candidates meinheld,bjoern --rounds 3

Every candidate is run at its best settings on one core, wrk on another one. What is measured, and
how, is in README.md; written are results/bench.json, bench.md and bench.svg, and the table in the
project's README; of a part of the cases or candidates results/part.json and so on. Run it with the
interpreter of the environment that install.py has made. Loopback only.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import boot
import idle
from candidates import BARE, CANDIDATES, LOGGED, PEERS, Candidate, with_and_without_access_log
from cases import CASES, Case
from crowd import raise_descriptor_limit
from goals import Measured, goals
from install import ABSENT
from load import Wrk
from machine import machine, versions
from outcome import CaseResult
from picture import picture
from report import Conditions, as_json, as_markdown, commands, in_brief, listed
from rounds import run
from servers import CLIENT_CORE, SERVER_CORE, on_core

RESULTS = Path(__file__).resolve().parent / "results"
README = RESULTS.parent.parent / "README.md"
BEGIN, END = "<!-- made by `make bench` -->", "<!-- until here -->"
DESCRIPTORS = 10_500
"""Each connection has one in wrk or here, and one in the server."""
BOOTS = 15
TIMEOUT = 2.0
"""Seconds after which an answer under load counts as wrong."""
IN_THE_PICTURE = ("hello", "browser")
DISTRIBUTIONS = [
    *dict.fromkeys(one.distribution for one in CANDIDATES if one.distribution),
    "gunicorn_h1c",
    "Flask",
    "Django",
]


def options() -> argparse.Namespace:
    names = [*(case.name for case in CASES), idle.CASE.name, boot.CASE.name]
    people = [candidate.name for candidate in CANDIDATES]

    def some(known: list[str]) -> Callable[[str], list[str]]:
        def chosen(given: str) -> list[str]:
            wanted = [name.strip() for name in given.split(",") if name.strip()]
            if unknown := [name for name in wanted if name not in known]:
                raise argparse.ArgumentTypeError(f"{unknown}: choose from {', '.join(known)}")
            return wanted

        return chosen

    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("--cases", type=some(names), default=names, help="comma-separated")
    parser.add_argument("--candidates", type=some(people), default=people, help="comma-separated")
    parser.add_argument("--rounds", type=positive, default=4)
    parser.add_argument("--seconds", type=positive, default=1, help="of each turn")
    given = parser.parse_args()
    given.whole = given.cases == names and given.candidates == people
    return given


def positive(given: str) -> int:
    if (number := int(given)) < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def contestants(case: Case, chosen: list[str]) -> list[Candidate]:
    """The bare loop is always there: it is what the others are compared with."""
    others = with_and_without_access_log() if case.name == "access-log" else CANDIDATES
    serving = [one for one in others if not one.ceiling or one.name in case.ceilings]
    wanted = [one for one in serving if one.name.removesuffix(LOGGED) in chosen]
    return [BARE, *(one for one in wanted if one is not BARE)]


def show(found: CaseResult, took: float) -> None:
    """One line for each, as soon as it is known."""
    print(f"\n{found.case.title} ({took:.0f} s): CPU us, / bare loop, requests a second")
    for one in found.results.values():
        if one.measured:
            figures = f"{one.median('cpu') * 1e6:9.1f} {one.ratio or 0:8.2f}"
            print(f"  {one.name:30}{figures} {one.median('per_second'):12,.0f}", flush=True)
        else:
            print(f"  {one.name:30}  {'absent' if one.absent else 'BREAKS'}: {one.broken}")


def write(given: argparse.Namespace, conditions: Conditions, measured: Measured) -> None:
    judged = goals(measured)
    print("\nThe numbers to reach")
    for goal in judged:
        verdict = {True: "met", False: "NOT MET", None: "-"}[goal.met]
        print(f"  {verdict:8} {goal.case}: {goal.goal}\n           {goal.measured}")
    print(f"\nWhat was run\n{commands(measured)}")
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / ("bench" if given.whole else "part")
    path.with_suffix(".json").write_text(as_json(conditions, measured, judged))
    path.with_suffix(".md").write_text(as_markdown(conditions, measured, judged))
    if given.whole:
        show_in(README, in_brief(conditions, measured))
    drawn = [measured.cases[name] for name in IN_THE_PICTURE if name in measured.cases]
    if drawn:
        path.with_suffix(".svg").write_text(picture(drawn, conditions.caption()))
    print(f"\nwritten: {path.relative_to(RESULTS.parent.parent)}.* (JSON, Markdown, SVG)")


def show_in(page: Path, text: str) -> None:
    """Puts the text between the page's two marks."""
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{page.name} has no {BEGIN} and {END} to put the table between")
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}")


def main() -> None:
    given = options()
    if (os.cpu_count() or 1) <= max(SERVER_CORE, CLIENT_CORE):
        sys.exit("the benchmark needs two cores: one for the servers, one for wrk")
    raise_descriptor_limit(DESCRIPTORS)
    # So that no server outlives us: a plain SIGTERM would leave them behind.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    conditions = Conditions(machine(), versions(DISTRIBUTIONS), given.rounds, given.seconds)
    # We wait while wrk works, and share its core.
    os.sched_setaffinity(0, {CLIENT_CORE})
    absent: dict[str, str] = json.loads((PEERS / ABSENT).read_text())
    wrk = Wrk(on_core(CLIENT_CORE), TIMEOUT)
    conditions.versions["wrk"] = wrk.version()
    print(listed(conditions.machine), listed(conditions.versions), sep="\n")
    measured = Measured({}, [], [])
    for case in CASES:
        if case.name in given.cases:
            since = time.monotonic()
            found = run(
                case, contestants(case, given.candidates), given.rounds, given.seconds, wrk, absent
            )
            measured.cases[case.name] = found
            show(found, time.monotonic() - since)
    if idle.CASE.name in given.cases:
        who = [one for one in CANDIDATES if one.name in given.candidates and one.name in idle.NAMES]
        measured.idle = idle.measure(who, wrk, absent)
    if boot.CASE.name in given.cases:
        measured.boots = boot.measure(BOOTS)
    write(given, conditions, measured)


if __name__ == "__main__":
    main()
