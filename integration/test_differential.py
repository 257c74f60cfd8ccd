"""The same octets under the same settings: the outcome is that of gunicorn's `gthread` worker, or a
rule says why not.

Issue 3 asks for this. An outcome is the status of the first answer, the `environ` and the body that
the application saw, and what became of a request that follows on the connection.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field

import pytest
from differential.corpus import Case
from differential.exchange import APP, Answer, Outcome, differing, exchange
from differential.rules import RULES, Difference, Rule
from differential.settings import GROUPS, Group
from harness import OURS, WORKER, Server

pytestmark = pytest.mark.skipif(not OURS, reason="compares our worker with gunicorn's")
TOLD = 12
"""Cases that a failure shows in full."""


@dataclass
class Comparison:
    """What came of all cases of a group."""

    unexcused: list[str] = field(default_factory=list)
    needed: set[str] = field(default_factory=set)
    """Names of the rules that excused something."""
    statuses: set[int] = field(default_factory=set)
    tails: int = 0
    """Cases after which both servers took another request."""


def start(group: Group, worker: str, *args: str) -> Server:
    return Server.start(
        APP,
        *args,
        config={"keepalive": 30, **group.settings},
        env=group.environment,
        binds=(group.bind,),
        worker=worker,
    )


@functools.cache
def compared(name: str) -> Comparison:
    """Both servers, and all cases on each. Whoever asks first has to wait."""
    group = next(group for group in GROUPS if group.name == name)
    comparison = Comparison()
    with start(group, "gthread", "--threads", "2") as theirs, start(group, WORKER) as server:
        for case in group.cases():
            gunicorn, ours = exchange(theirs, case.octets), exchange(server, case.octets)
            comparison.statuses.add(ours.status)
            comparison.tails += bool(gunicorn.fate and gunicorn.fate == ours.fate)
            difference = Difference(group.settings, group.environment, case.octets, gunicorn, ours)
            unexcused = []
            for part in differing(gunicorn, ours):
                excuses = excused(part, difference)
                comparison.needed |= {rule.name for rule in excuses}
                if not excuses:
                    unexcused.append(part)
            if unexcused:
                comparison.unexcused.append(told(case, unexcused, gunicorn, ours))
    return comparison


def excused(part: str, difference: Difference) -> list[Rule]:
    return [rule for rule in RULES if rule.excuses(part, difference)]


def told(case: Case, parts: list[str], gunicorn: Outcome, ours: Outcome) -> str:
    """The octets as tests/wire/ writes them, both outcomes, and what differs."""
    octets = re.sub(rb"([!-~])\1{39,}", lambda run: b"{%d*%b}" % (len(run[0]), run[1]), case.octets)
    shown = []
    for part in parts:
        key = part.removeprefix("later ")
        which = slice(0, 1) if key == part else slice(1, None)
        values = [
            [answer.environ.get(key, "absent") for answer in outcome.answers[which]]
            for outcome in (gunicorn, ours)
        ]
        known = key in ("status", "fate", "body")
        shown.append(part if known else f"{part}: gunicorn {values[0]}, ours {values[1]}")
    return (
        f"{case.family}: {octets!r}\n differs in {'; '.join(shown)}"
        f"\n gunicorn\n{gunicorn}\n ours\n{ours}\n"
    )


@pytest.mark.parametrize("name", [group.name for group in GROUPS])
def test_the_outcome_is_that_of_gunicorn_or_a_rule_says_why(name: str) -> None:
    comparison = compared(name)
    # Two servers that refuse everything would be equal too.
    assert 200 in comparison.statuses and comparison.tails
    count = len(comparison.unexcused)
    assert not count, f"{count} cases differ\n\n" + "\n".join(comparison.unexcused[:TOLD])


@pytest.mark.timeout(600)
def test_every_rule_is_needed() -> None:
    needed = set().union(*(compared(group.name).needed for group in GROUPS))
    assert [rule.name for rule in RULES if rule.name not in needed] == []


def test_a_difference_is_told_with_its_octets_and_both_outcomes() -> None:
    case = Case("family", b"GET /" + b"a" * 50 + b" HTTP/1.1\r\n\r\n")
    served = Outcome((Answer(200, {"KEY": "theirs"}), Answer(200, {"RAW_URI": "/tail"})))
    closed = Outcome((Answer(200, {"KEY": "ours"}),))
    parts = list(differing(served, closed))
    assert parts == ["fate", "KEY"]
    text = told(case, parts, served, closed)
    assert "{50*a} HTTP/1.1\\r\\n\\r\\n" in text
    assert "KEY: gunicorn ['theirs'], ours ['ours']" in text
    assert "/tail" in text


def test_serving_on_after_an_error_is_never_excused() -> None:
    smuggled = Outcome((Answer(400, {}), Answer(200, {"RAW_URI": "/tail"})))
    octets = b"GET / HTTP/1.1\r\n\r\n"
    assert "served after an error" in list(differing(smuggled, smuggled))
    assert not excused("served after an error", Difference({}, {}, octets, smuggled, smuggled))
