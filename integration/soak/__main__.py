"""The soak: correct clients, hostile ones and every disturbance at once, under real arbiters.

    PYTHONPATH=integration:tests python -m soak --minutes 30

Two servers stand side by side. `reloaded` has two workers and gets HUPs and all else; `steady` has
one that lives through everything, so that its memory can be judged. The soak fails for one wrong
answer, a descriptor that is left open, memory that grows, or an error log that says what it must
not.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import sys

from harness import eventually
from sites.soak_site import NOISE
from support import gunicorn

from soak.attacks import add_hostile_clients
from soak.correct import add_correct_clients
from soak.crew import Crew
from soak.disturbances import Disturbances
from soak.judgement import Baseline, judge, summary
from soak.tally import Tally
from soak.watched import Watched

DEADLINE = 3
"""Seconds of the server's patience, so that deadlines pass all the time. No correct client is
silent for half of it."""
DEADLINES = {
    "MEINHELD_HEAD_TIMEOUT": str(DEADLINE),
    "MEINHELD_BODY_TIMEOUT": str(DEADLINE),
    "MEINHELD_SEND_TIMEOUT": str(DEADLINE),
}
ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": str(128 * 1024)}
"""glibc's threshold from its start on, kept from rising with the largest block that was ever freed:
what each thread's heap holds back, up to 8 MiB, is no growth of ours."""
SETTINGS = (
    f"--keep-alive={DEADLINE}",
    "--graceful-timeout=30",
    "--timeout=30",
    "--error-logfile={dir}/stderr",
)
UPLOADS = """
import os

tmp_upload_dir = os.path.abspath("uploads")
os.makedirs(tmp_upload_dir, exist_ok=True)
"""


def soak(seconds: float, seed: int) -> bool:
    """Whether all was well."""
    tally = Tally()
    with contextlib.ExitStack() as stack:

        def start(name: str, workers: int) -> Watched:
            site, count = "sites.soak_site:app", f"--workers={workers}"
            server = gunicorn(site, count, *SETTINGS, config=UPLOADS, env=DEADLINES | ALLOCATOR)
            stack.enter_context(server)
            (server.directory / "noise").write_bytes(NOISE)
            eventually(lambda: len(server.worker_pids()) == workers, f"{workers} workers")
            return Watched(name, server, tally)

        reloaded, steady = start("reloaded", 2), start("steady", 1)
        both = (reloaded, steady)
        baselines = [Baseline(watched) for watched in both]
        crew = Crew(tally)
        for watched, busy, hostile in ((reloaded, 3, 5), (steady, 2, 4)):
            where = watched.name, watched.server.address, seed
            add_correct_clients(crew, *where, keep_alive=DEADLINE, busy=busy)
            add_hostile_clients(crew, *where, number=hostile)
        disturbances = Disturbances(reloaded, steady, tally, seed)
        for part in (*both, crew, disturbances):
            part.start()
        tally.stop.wait(seconds)
        tally.end()
        disturbances.stop()
        crew.join()
        for watched in both:
            watched.stop()
        measured = judge(tally, baselines)
        print(summary(tally, both, measured))
    return not tally.wrong


def main() -> int:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=0)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    arguments = parser.parse_args()
    # Also when something else ends it, no server is left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    seconds = arguments.minutes * 60 + arguments.seconds or 60.0
    print(f"soak of {seconds:g} s, --seed {arguments.seed}", flush=True)
    return 0 if soak(seconds, arguments.seed) else 1


if __name__ == "__main__":
    sys.exit(main())
