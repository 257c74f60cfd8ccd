"""What must hold once the clients are gone, and a table of all that happened."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Sequence

from harness import THREADS, eventually, settled

from soak.tally import Tally
from soak.watched import Watched, kinds_of_files

WARM_UP = 1 / 3
"""The part of the soak after which memory may not grow any more."""
GROWTH = 4 * 1024 * THREADS
"""KiB that the least resident memory of the last quarter behind the warm-up may exceed that of the
first by: one answer of the largest size for each thread that may be in one. With one thread, a leak
of 20 octets a request is more in 30 minutes."""
QUIET_WITHIN = 30.0
"""Seconds in which a server forgets its last clients: all deadlines of the soak are far shorter."""


class Baseline:
    """What the processes of a server have open when they have served a little and nobody is
    there."""

    def __init__(self, watched: Watched) -> None:
        self.watched = watched
        server = watched.server
        self.workers = server.worker_pids()
        with server.client() as client:
            answer = client.request("GET", "/", {"Connection": "close"})
        worker = int(answer.header("X-Worker") or 0)
        self.worker_files = settled(lambda: kinds_of_files(worker))
        self.arbiter_files = kinds_of_files(server.process.pid)

    def differences(self) -> dict[str, str]:
        """By process, what is open now and was not, or the other way round."""
        pid = self.watched.server.process.pid
        pairs = [(f"arbiter {pid}", kinds_of_files(pid), self.arbiter_files)]
        for pid in self.watched.server.worker_pids():
            pairs.append((f"worker {pid}", kinds_of_files(pid), self.worker_files))
        return {
            who: f"more: {dict(now - before)}, fewer: {dict(before - now)}"
            for who, now, before in pairs
            if now != before
        }


def judge(tally: Tally, baselines: Sequence[Baseline]) -> list[str]:
    """Adds to the wrong answers what is wrong with what is left; returns what was measured."""
    measured = []
    for baseline in baselines:
        watched = baseline.watched
        server = watched.server
        _judge_files(tally, baseline)
        measured.append(_judge_memory(tally, watched, "arbiter", server.process.pid))
        if watched.name == "steady":
            measured.append(_judge_memory(tally, watched, "worker", baseline.workers[0]))
            if server.worker_pids() != baseline.workers:
                tally.fail("steady", f"worker {baseline.workers} is not there any more")
        if uploads := os.listdir(server.directory / "uploads"):
            tally.fail(watched.name, f"left in tmp_upload_dir: {uploads}")
        try:
            if status := server.stop(40):
                tally.fail(watched.name, f"gunicorn exited with {status}")
        except subprocess.TimeoutExpired:
            tally.fail(watched.name, "gunicorn does not stop on SIGTERM")
        watched.read_logs()
        markers = server.notes()
        if served := tally.forbidden & set(markers):
            tally.fail(watched.name, f"requests served behind a framing error: {served}")
        measured.append(
            f"{watched.name}: {len(markers)} markers served, {watched.late} requests came on "
            "connections closed while leaving"
        )
    measured.append(f"{len(tally.forbidden)} markers stood behind a framing error")
    return measured


def _judge_files(tally: Tally, baseline: Baseline) -> None:
    try:
        eventually(lambda: not baseline.differences(), "files are closed", QUIET_WITHIN)
    except AssertionError:
        for who, difference in baseline.differences().items():
            tally.fail(f"{who} of {baseline.watched.name}", f"has open {difference}")


def _judge_memory(tally: Tally, watched: Watched, what: str, pid: int) -> str:
    life = watched.lives[pid]
    warm = tally.started + (tally.ended - tally.started) * WARM_UP
    quarter = (tally.ended - warm) / 4
    first, last = life.floor(warm, warm + quarter), life.floor(tally.ended - quarter, tally.ended)
    said = f"{watched.name} {what}: least RSS {first:,} KiB, in the end {last:,} KiB"
    if last - first > GROWTH:
        tally.fail(watched.name, f"memory grows; {said}")
    return said


def summary(tally: Tally, servers: Iterable[Watched], measured: Iterable[str]) -> str:
    lines = [f"{what:60}{number:10,}" for what, number in sorted(tally.counts.items())]
    for watched in servers:
        lines += ["", f"processes of {watched.name:19}life, s"]
        lines[-1] += "   RSS KiB: first     last     peak   files: first  last  peak"
        arbiter = watched.server.process.pid
        lives = list(watched.lives.items())
        # Of hundreds of workers, the first and the last.
        for pid, life in lives if len(lives) < 14 else [*lives[:7], *lives[-7:]]:
            began, memory, files = zip(*life.samples, strict=True)
            lines.append(
                f"{pid:<10} {'arbiter' if pid == arbiter else 'worker':20}"
                f"{began[-1] - began[0]:8.0f}"
                f"{memory[0]:17,}{memory[-1]:9,}{max(memory):9,}"
                f"{files[0]:15}{files[-1]:6}{max(files):6}"
            )
        if len(lives) >= 14:
            lines.append(f"... {len(lives)} in all")
    correct, hostile = (
        sum(number for what, number in tally.counts.items() if what.startswith(kind))
        for kind in ("correct: ", "hostile: ")
    )
    lines += ["", *measured]
    lines += [f"{correct:,} correct exchanges, {hostile:,} hostile ones, {len(tally.wrong)} wrong"]
    return "\n".join(lines)
