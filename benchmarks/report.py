"""What is written: one JSON file with everything, one Markdown page to read."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import boot
import idle
from candidates import CANDIDATES, MEINHELD, ROOM, SYNC
from goals import Goal, Measured, shares
from outcome import ALONE, CaseResult, Result, Sample

FIGURES = ("per_second", "cpu", "user", "system", "busy", "client_busy", "p50", "p99")
IN_BRIEF = ("hello", "browser", "post-1k", "post-100k", "memory", "close", "flask", "django")
"""The cases that the project's README shows."""


@dataclass(frozen=True)
class Conditions:
    """Under which a run was made."""

    machine: dict[str, str]
    versions: dict[str, str]
    rounds: int
    seconds: float

    def caption(self) -> str:
        wanted = ("processor", "system", "Python")
        return (
            f"{', '.join(self.machine[name] for name in wanted)}; median of {self.rounds} round(s)"
        )


def as_json(conditions: Conditions, run: Measured, judged: list[Goal]) -> str:
    """Seconds throughout. What a run has found is written as it is, with medians added."""
    cases = {
        name: {
            "title": found.case.title,
            "results": {result.name: result_as_json(result) for result in found.results.values()},
        }
        for name, found in run.cases.items()
    }
    everything = {
        "conditions": dataclasses.asdict(conditions),
        "goals": [dataclasses.asdict(goal) for goal in judged],
        "cases": cases,
        "idle": [dataclasses.asdict(one) for one in run.idle],
        "boot": [dataclasses.asdict(one) for one in run.boots],
    }
    return json.dumps(rounded(everything), indent=1) + "\n"


def rounded(known: object) -> object:
    """No more digits than were measured."""
    if isinstance(known, dict):
        return {name: rounded(value) for name, value in known.items()}
    if isinstance(known, list):
        return [rounded(value) for value in known]
    return float(f"{known:.5g}") if isinstance(known, float) else known


def result_as_json(result: Result) -> dict[str, object]:
    known: dict[str, object] = dataclasses.asdict(result)
    del known["samples"]
    figures = [field.name for field in dataclasses.fields(Sample)]
    known["rounds"] = {figure: result.values(figure) for figure in figures}
    if result.measured:
        known["medians"] = {
            **{figure: result.median(figure) for figure in FIGURES},
            "ratio": result.ratio,
        }
    return known


def as_markdown(conditions: Conditions, run: Measured, judged: list[Goal]) -> str:
    parts = [
        "# What `make bench` has measured",
        "How, and what the columns mean: [README.md](../README.md).",
        listed(conditions.machine),
        listed(conditions.versions),
        f"{conditions.rounds} rounds of {conditions.seconds:g} s for each candidate and case.",
        "## The numbers to reach",
        goals_table(judged),
    ]
    if run.cases:
        cases = [found for found in run.cases.values() if found.case.name != "access-log"]
        parts += ["## CPU microseconds per request", overview(cases, cpu_cell)]
        parts += ["In brackets the ratio to the bare loop. b: buffers, does not stream."]
        parts += ["## Requests a second", overview(cases, rate_cell)]
        parts += ["## Each case"]
    for found in run.cases.values():
        parts += [f"### {found.case.title[0].upper()}{found.case.title[1:]}", case_table(found)]
    if run.idle:
        parts += [f"## {idle.CASE.title}", idle_table(run.idle)]
    if run.boots:
        parts += [f"## Start-up, {boot.CASE.title}", boot_table(run.boots)]
    parts += ["## What was run", commands(run)]
    parts += [
        "`{app}` is the case's application as `{module}:{callable}`, `{connections}` the number of "
        f"connections, `{{held}}` at least 1,024 and {ROOM} more than those."
    ]
    return "\n\n".join(parts) + "\n"


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """The first column is text, the others are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def listed(known: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in known.items()) + "."


def goals_table(judged: list[Goal]) -> str:
    verdict = {True: "met", False: "**not met**", None: "-"}
    rows = [[goal.case, goal.goal, goal.measured, verdict[goal.met]] for goal in judged]
    return "\n".join(
        "| " + " | ".join(cells) + " |"
        for cells in [["case", "goal", "measured", ""], ["---"] * 4, *rows]
    )


def us(seconds: float) -> str:
    return f"{seconds * 1e6:,.1f}"


def ms(seconds: float) -> str:
    # wrk counts no latencies of pipelined requests.
    return f"{seconds * 1e3:,.2f}" if seconds else "-"


def cpu_cell(result: Result) -> str:
    mark = " b" if result.streams is False else ""
    return f"{us(result.median('cpu'))} ({result.ratio or 0:.2f}){mark}"


def rate_cell(result: Result) -> str:
    mark = " b" if result.streams is False else ""
    return f"{result.median('per_second'):,.0f}{mark}"


def in_brief(conditions: Conditions, run: Measured) -> str:
    """What the project's README shows."""
    cases = [run.cases[name] for name in IN_BRIEF if name in run.cases]
    told = "Microseconds of processor time for a request; in brackets the ratio to the bare loop"
    return f"{overview(cases, cpu_cell)}\n\n{told}. {conditions.caption()}."


def overview(cases: Sequence[CaseResult], cell: Callable[[Result], str]) -> str:
    rows = []
    for candidate in CANDIDATES:
        cells = []
        for found in cases:
            result = found.results.get(candidate.name)
            stands_in = candidate.ceiling and candidate.name not in found.case.ceilings
            if result is None or stands_in:
                cells.append("")
            else:
                cells.append(cell(result) if result.measured else broken_cell(result))
        if any(cells):
            rows.append([candidate.name, *cells])
    return table(["", *(found.case.name for found in cases)], rows)


def broken_cell(result: Result) -> str:
    return "absent" if result.absent else "breaks"


def case_table(found: CaseResult) -> str:
    """Cheapest first; whoever breaks last, with the reason."""
    alone = found.get(ALONE)
    head = ["", "requests/s", "CPU us", "user", "system", "/ bare loop", "busy", "wrk busy"]
    head += ["p50 ms", "p99 ms", "wrong"] + (["own share us"] if alone else [])
    head += [f"requests/s over {found.case.beside}"] if found.case.beside else []
    rows = []
    for result in sorted(found.measured(), key=lambda one: one.median("cpu")):
        row = [named(result, found)]
        row += [f"{result.median('per_second'):,.0f}"]
        row += [us(result.median(figure)) for figure in ("cpu", "user", "system")]
        row += ["-" if result.ratio is None else f"{result.ratio:.2f}"]
        row += [f"{result.median(figure):.0%}" for figure in ("busy", "client_busy")]
        row += [ms(result.median(figure)) for figure in ("p50", "p99")]
        row += [f"{sum(result.values('wrong')):g}"]
        if alone:
            row += ["" if result.ceiling else us(statistics.median(shares(result, alone)))]
        if found.case.beside:
            row += [f"{result.median('beside_per_second'):,.0f}"]
        rows.append(row)
    broken = [result for result in found.results.values() if not result.measured]
    reasons = [f"- {one.name} {broken_cell(one)}: {one.broken or 'no round'}" for one in broken]
    return "\n\n".join([table(head, rows), *(["\n".join(reasons)] if reasons else [])])


def named(result: Result, found: CaseResult) -> str:
    if result.ceiling and result.name != ALONE and result.name not in found.case.ceilings:
        return f"{result.name}, asked for hello"
    if result.streams is False:
        return f"{result.name} (buffers)"
    return f"**{result.name}**" if result.ours else result.name


def idle_table(found: list[idle.Idle]) -> str:
    rows = []
    for one in found:
        if one.broken:
            rows.append([one.name, f"breaks: {one.broken}", "", ""])
            continue
        rows.append([one.name, f"{one.memory:.1f}", f"{one.cpu:.3%}", f"{one.cpu_without:.3%}"])
    return table(["", "MiB added", "of a core added", "of a core without them"], rows)


def boot_table(boots: list[boot.Boot]) -> str:
    rows = [
        [
            one.name,
            f"{statistics.median(one.seconds) * 1e3:.0f}",
            f"{statistics.median(one.cpu) * 1e3:.0f}",
        ]
        for one in boots
    ]
    seconds, cpu = boot.added(boots, "seconds"), boot.added(boots, "cpu")
    rows.append([f"{MEINHELD.name} less {SYNC.name}", f"{seconds * 1e3:.1f}", f"{cpu * 1e3:.1f}"])
    return table(["", "ms", "ms of processor time"], rows)


def commands(run: Measured) -> str:
    """Each command once, with the cases that it was run in where it differs between them."""
    lines: dict[tuple[str, str], list[str]] = {}
    for name, found in run.cases.items():
        for result in found.results.values():
            if result.name != ALONE:
                lines.setdefault((result.name, result.command), []).append(name)
    counts: dict[str, int] = {}
    for name, _ in lines:
        counts[name] = counts.get(name, 0) + 1
    shown = []
    for (name, command), cases in lines.items():
        where = f" ({', '.join(cases)})" if counts[name] > 1 else ""
        shown.append(f"- {name}{where}: `{command.strip()}`")
    return "\n".join(shown)
