"""Instructions in user space for each request: a figure that is the same again tomorrow.

    python benchmarks/instructions.py

One worker runs under `valgrind --tool=callgrind` and is asked for the same thing again and again on
one keep-alive connection, so that each request has a turn of the loop to itself:

- hello: the smallest WSGI application there is;
- browser: the same, asked for with a browser's eleven header lines;
- post: a body of 1 KiB, which the application reads;
- flask: the smallest Flask application there is;
- access-log: hello, with a line in gunicorn's access log, written to `/dev/null`;
- status: hello, counted for the status endpoint (`MEINHELD_STATUS`).

Printed are the instructions of each request, and in which shared object they are: the interpreter's
(`python`), ours (`_core`), libc's and the others'. The kernel's are not counted, and an instruction
is not a nanosecond: use this to see what a change does, and `make bench` for what it is worth. Two
runs of one build on one machine differ by a few instructions a request: the heartbeat is counted.

    python benchmarks/instructions.py --keep profiles browser
    callgrind_annotate profiles/browser

shows them by function, the native module's where its wheel was built with symbols. Needs valgrind,
and Flask in the same environment as gunicorn and meinheld. Loopback only.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from harness import WORKER, Server, eventually
from workloads import BROWSER, HELLO, POST, ask

FLASK = """
from flask import Flask

app = Flask(__name__)


@app.get("/")
def hello():
    return "Hello, world!\\n"
"""
OBJECTS = {r"(lib)?python\d": "python", r"_core\.": "_core", r"libc[.-]": "libc"}
"""Whose a shared object is, by how its file's name begins."""
OTHER = "other"
WARM_UP = 200
"""Requests before the first instruction is counted: the interpreter specialises its bytecode."""


@dataclass(frozen=True)
class Case:
    app: str
    request: bytes
    settings: tuple[str, ...] = ()


CASES = {
    "hello": Case("apps.measured:app", HELLO),
    "browser": Case("apps.measured:app", BROWSER),
    "post": Case("apps.measured:app", POST),
    "flask": Case(FLASK, HELLO),
    "access-log": Case("apps.measured:app", HELLO, ("--access-logfile", "/dev/null")),
    "status": Case("apps.measured:app", HELLO, ("--env", "MEINHELD_STATUS=127.0.0.1:0")),
}


def by_object(lines: Iterable[str]) -> Counter[str]:
    """Instructions in each shared object, of a callgrind profile: what its functions cost
    themselves. Paths are written once, and stand for a number."""
    paths: dict[str, str] = {}
    found: Counter[str] = Counter()
    where, of_a_call = "", False
    for line in lines:
        if named := re.match(r"(c?ob)=(\(\d+\))(?: (.*))?", line):
            kind, number, path = named.groups()
            if path:
                paths[number] = path.rstrip()
            if kind == "ob":
                where = paths[number]
        elif line.startswith("calls="):
            # What the callee cost is on the next line, and in its own function, too.
            of_a_call = True
        elif cost := re.match(r"[+\-*\d]\S* (\d+)$", line):
            if not of_a_call:
                found[object_of(where)] += int(cost[1])
            of_a_call = False
    return found


def object_of(path: str) -> str:
    file = Path(path).name
    return next((name for begin, name in OBJECTS.items() if re.match(begin, file)), OTHER)


class Callgrind:
    """The counting of one process, which was started under valgrind."""

    def __init__(self, pid: int, directory: Path) -> None:
        self.pid = pid
        self.directory = directory

    def control(self, *command: str) -> None:
        told = subprocess.run(
            ["callgrind_control", *command, str(self.pid)], capture_output=True, text=True
        )
        if told.returncode or "OK." not in told.stdout:
            sys.exit(f"callgrind_control {command}: {told.stdout}{told.stderr}")

    def profile(self) -> Path:
        """What was counted since the last one."""
        before = set(self.directory.glob("callgrind.out*"))
        self.control("--dump")

        def written() -> set[Path]:
            found = set(self.directory.glob("callgrind.out*")) - before
            return {path for path in found if "\ntotals:" in path.read_text()}

        return eventually(written, "callgrind writes its profile").pop()


def measure(name: str, options: argparse.Namespace) -> Counter[str]:
    case = CASES[name]
    valgrind = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--quiet"]
    # An environment's python may start the real one.
    valgrind += ["--trace-children=yes", "--callgrind-out-file=callgrind.out.%p"]
    settings = ["--keep-alive", "600", "--timeout", "600", "--threads", str(options.threads)]
    settings += case.settings
    with Server.start(
        case.app, *settings, worker=options.worker, prefix=valgrind, env={"PYTHONHASHSEED": "0"}
    ) as server:
        counting = Callgrind(server.worker_pid(), server.directory)
        with server.client(timeout=60) as client:
            ask(client, case.request, WARM_UP)
            counting.control("--instr=on")
            # Code that is met for the first time since is translated, and counted, anew.
            ask(client, case.request, WARM_UP)
            counting.profile()
            ask(client, case.request, options.requests)
            profile = counting.profile()
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
            shutil.copy(profile, options.keep / name)
        return by_object(profile.read_text().splitlines())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"{', '.join(CASES)} (all)")
    parser.add_argument("--requests", type=int, default=1000, help="how many (%(default)s)")
    parser.add_argument("--worker", default=WORKER, help="worker class (%(default)s)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="a directory for the profiles")
    options = parser.parse_args()
    if unknown := set(options.cases) - set(CASES):
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    if not shutil.which("valgrind"):
        sys.exit("benchmarks/instructions.py needs valgrind: apt-get install valgrind")
    columns = [*OBJECTS.values(), OTHER]
    print(f"{options.worker}: instructions in user space for each of {options.requests} requests\n")
    print(f"{'':12}" + "".join(f"{column:>12}" for column in ["all", *columns]))
    for name in options.cases or CASES:
        found = measure(name, options)
        figures = [found.total(), *(found[column] for column in columns)]
        cells = (f"{figure / options.requests:>12,.0f}" for figure in figures)
        print(f"{name:12}" + "".join(cells), flush=True)


if __name__ == "__main__":
    main()
