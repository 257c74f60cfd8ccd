"""`make bench-reload`: throughput across three HUPs, ours beside gunicorn's own workers.

    python benchmarks/reload.py --candidates meinheld --workers 1

An application that needs two seconds to load is reloaded three times under a steady load, and
served as long without a HUP, to compare with. What is measured, and how to read it, is in
README.md; written are results/reload.json, .md and .svg, of a part of the candidates
results/part.json and so on. Run it with the interpreter of the environment that install.py has
made. Loopback only.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from candidates import CANDIDATES, GTHREAD, MEINHELD, SYNC, Candidate
from cases import Case
from crowd import ShutOut, ask, raise_descriptor_limit
from harness import children, eventually
from machine import machine, versions
from reload_outcome import Conditions, Reload, as_json, as_markdown
from reload_picture import picture
from report import listed
from servers import BOOT, CLIENT_CORE, SERVER_CORE, Broken, Running, started
from steady import Load, Seen

RESULTS = Path(__file__).resolve().parent / "results"
CASE = Case("reload", "three HUPs under a steady load", "slow_to_load:hello")
GEVENT = "gunicorn gevent"
NAMES = [MEINHELD.name, GTHREAD.name, SYNC.name, GEVENT]
WORKERS = [1, 4]
RATE = 500.0
"""Requests a second: what the slowest serves with a fraction of its core, so that what is seen is
stalls and not saturation."""
SECONDS = 20.0
HUPS = (4.0, 9.0, 14.0)
"""Seconds since the load began."""
LOADING = 2.0
"""Seconds that slow_to_load.py sleeps: importing it here would take them, too."""
WARM_UP = 2.0
"""Seconds of the same load before."""
QUIET = 0.05
"""Seconds of a pause without a HUP. With a longer one the machine was busy with something else, and
would be no measure for the pauses under HUPs: it is tried again."""
ATTEMPTS = 3
DESCRIPTORS = 8000
"""A server that stalls lets the connections of several seconds wait."""
DISTRIBUTIONS = ["meinheld", "gunicorn", "gunicorn_h1c", "gevent"]


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("--candidates", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--workers", nargs="+", type=int, default=WORKERS)
    return parser.parse_args()


def with_workers(candidate: Candidate, workers: int) -> Candidate:
    command = candidate.command.replace("--workers=1 ", f"--workers={workers} ")
    return dataclasses.replace(candidate, command=command)


def measure(candidate: Candidate, workers: int) -> Reload:
    """Without HUPs first, each run with a server of its own."""
    found = Reload(candidate.name, candidate.shown(CASE.name), workers, candidate.ours)
    try:
        for _ in range(ATTEMPTS):
            seen = run(candidate, workers, ())
            if found.without is None or seen.pause < found.without.pause:
                found.without = seen
            if seen.pause <= QUIET:
                break
        found.with_hups = run(candidate, workers, HUPS)
    except (Broken, OSError, AssertionError) as error:
        found.broken = f"{error}"
    return found


def run(candidate: Candidate, workers: int, hups: tuple[float, ...]) -> Seen:
    with started([candidate], CASE) as servers:
        server = servers[candidate.name]
        if isinstance(server, Broken):
            raise server
        wait_until_it_answers(server)
        before = children(server.pid)
        if len(before) != workers:
            raise Broken(f"has {len(before)} workers")
        seen = Load(server.port, RATE).run(
            WARM_UP, SECONDS, hups, lambda: os.kill(server.pid, signal.SIGHUP)
        )
        # An old worker may not have gone yet: the newest are those that serve.
        newest = children(server.pid)[-workers:]
        replaced = [pid for pid in newest if pid not in before]
        if len(replaced) != (workers if hups else 0):
            raise Broken(f"{len(replaced)} of {workers} workers are new: {server.last_words()}")
        return seen


def wait_until_it_answers(server: Running) -> None:
    """It listens before it has loaded."""

    def answers() -> bool:
        with contextlib.suppress(OSError, ShutOut), server.client() as client:
            ask(client, 1)
            return True
        return False

    eventually(answers, "it answers", BOOT)


def be_punctual() -> None:
    """The client comes first on its core, where that is allowed: its own delays would look like the
    server's. The servers that it starts do not inherit it."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))


def show(one: Reload) -> None:
    """One line for each run, as soon as it is known."""
    if one.broken:
        print(f"{one.name:18} -w {one.workers}  BREAKS: {one.broken}", flush=True)
        return
    for seen, when in ((one.without, "no HUP"), (one.with_hups, "3 HUPs")):
        if seen:
            print(
                f"{one.name:18} -w {one.workers}  {when}  {seen.requests:6} requests, "
                f"{len(seen.failures):3} failed {seen.failed or ''}, {seen.retried} retried, "
                f"pause {seen.pause * 1e3:6.0f} ms, longest {seen.longest * 1e3:6.0f} ms, "
                f"client late {seen.late * 1e3:3.0f} ms",
                flush=True,
            )


def main() -> None:
    given = options()
    if (os.cpu_count() or 1) <= max(SERVER_CORE, CLIENT_CORE):
        sys.exit("the benchmark needs two cores: one for the servers, one for the client")
    raise_descriptor_limit(DESCRIPTORS)
    # So that no server outlives us: a plain SIGTERM would leave them behind.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    conditions = Conditions(machine(), versions(DISTRIBUTIONS), RATE, SECONDS, HUPS, LOADING)
    os.sched_setaffinity(0, {CLIENT_CORE})
    be_punctual()
    print(listed(conditions.machine), listed(conditions.versions), sep="\n")
    known = {candidate.name: candidate for candidate in CANDIDATES}
    found = []
    for workers in given.workers:
        for name in given.candidates:
            found.append(measure(with_workers(known[name], workers), workers))
            show(found[-1])
    RESULTS.mkdir(exist_ok=True)
    whole = given.candidates == NAMES and given.workers == WORKERS
    path = RESULTS / ("reload" if whole else "part")
    path.with_suffix(".json").write_text(as_json(conditions, found))
    path.with_suffix(".md").write_text(as_markdown(conditions, found))
    path.with_suffix(".svg").write_text(picture(conditions, found))
    print(f"written: {path.relative_to(RESULTS.parent.parent)}.* (JSON, Markdown, SVG)")


if __name__ == "__main__":
    main()
