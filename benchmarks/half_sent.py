"""What do ten thousand connections that do nothing cost a client that behaves?

    python benchmarks/half_sent.py

One worker, one well-behaved keep-alive client that sends one request after another, and beside it
(a) nobody, (b) 10,000 requests whose head never ends, held open, (c) 10,000 idle keep-alive
connections. Printed are the requests a second that the client got, the processor time that the
worker spent on each (user and system, from /proc), its user instructions for each where perf(1) can
count them, and each as a ratio to (a) of the same round: 1.00 means that the others cost it
nothing. The median of the rounds is shown, with the lowest and the highest.

The peer is gunicorn's own gthread with as many `worker_connections`. Run it with the interpreter
that gunicorn and meinheld are installed for. Loopback only; both ends share this machine.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from crowd import PATIENCE, ShutOut, ask, crowd, raise_descriptor_limit
from harness import Server, cpu_seconds, memory_kib

APP = """
BODY = b"Hello, world!\\n"


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "14")])
    return [BODY]
"""
WORKERS = {"meinheld": "egg:meinheld#gunicorn_worker", "gthread": "gthread"}
SPARE = 200
"""Connections and descriptors beyond those that do nothing."""
AT_ONCE = 100
"""Requests between two looks at the clock."""
WARM_UP = 2000
"""Requests before the clock starts."""


@dataclass
class Measured:
    per_second: float
    cpu: float
    """Seconds of the worker's for each request."""
    instructions: float | None
    """Of the worker's in user mode, for each request."""


class Instructions:
    """Counts user instructions of a process; `count` is None where that is not possible."""

    def __init__(self, pid: int) -> None:
        self.count: float | None = None
        self.perf: subprocess.Popen[str] | None = None
        if perf := shutil.which("perf"):
            command = [perf, "stat", "-x", ",", "-e", "instructions:u", "-p", str(pid)]
            self.perf = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def __enter__(self) -> Instructions:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.perf is None:
            return
        self.perf.send_signal(signal.SIGINT)
        for line in self.perf.communicate()[1].splitlines():
            with contextlib.suppress(ValueError):
                self.count = float(line.split(",")[0])


def measure(server: Server, seconds: float) -> Measured:
    pid = server.worker_pid()
    with server.client(timeout=PATIENCE) as client:
        try:
            ask(client, WARM_UP)
        except (TimeoutError, ConnectionError) as error:
            raise ShutOut(f"no answer: {error}") from error
        with Instructions(pid) as instructions:
            requests, passed = 0, 0.0
            used, since = cpu_seconds(pid), time.monotonic()
            while passed < seconds:
                ask(client, AT_ONCE)
                requests += AT_ONCE
                passed = time.monotonic() - since
            used = cpu_seconds(pid) - used
    count = instructions.count
    return Measured(requests / passed, used / requests, None if count is None else count / requests)


def rounds(server: Server, options: argparse.Namespace) -> dict[str, list[Measured] | str]:
    """All scenes, one after the other, as often as asked for; a text where one failed."""
    results: dict[str, list[Measured] | str] = {}
    for _ in range(options.rounds):
        for scene in ("alone", "half-sent", "idle"):
            known = results.setdefault(scene, [])
            if isinstance(known, str):
                continue
            try:
                if scene == "alone":
                    known.append(measure(server, options.seconds))
                else:
                    with crowd(server.port, options.connections, half_sent=scene == "half-sent"):
                        known.append(measure(server, options.seconds))
            except (ShutOut, TimeoutError, ConnectionError) as error:
                results[scene] = f"shut out ({type(error).__name__}: {error})"
    return results


def spread(values: list[float], digits: int = 2) -> str:
    median = statistics.median(values)
    return f"{median:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def show(name: str, results: dict[str, list[Measured] | str], connections: int) -> None:
    alone = results["alone"]
    for scene, known in results.items():
        title = {
            "alone": "alone",
            "half-sent": f"beside {connections} half-sent requests",
            "idle": f"beside {connections} idle connections",
        }[scene]
        print(f"\n{name}, {title}")
        if isinstance(known, str):
            print(f"  {known}")
            continue
        print(f"  requests a second         {spread([one.per_second for one in known], 0)}")
        print(f"  processor time a request  {spread([one.cpu * 1e6 for one in known], 1)} us")
        counts = [one.instructions for one in known if one.instructions is not None]
        counted = spread(counts, 0) if counts else "perf(1) cannot count them here"
        print(f"  user instructions         {counted}")
        if scene == "alone" or isinstance(alone, str):
            continue
        pairs = list(zip(known, alone, strict=False))
        print(
            f"  throughput ratio          {spread([a.per_second / b.per_second for a, b in pairs])}"
        )
        print(f"  processor time ratio      {spread([a.cpu / b.cpu for a, b in pairs])}")
        ratios = [
            a.instructions / b.instructions
            for a, b in pairs
            if a.instructions is not None and b.instructions
        ]
        if ratios:
            print(f"  instructions ratio        {spread(ratios, 3)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each scene in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", nargs="+", choices=WORKERS, default=list(WORKERS))
    options = parser.parse_args()
    raise_descriptor_limit(options.connections + SPARE)
    print(
        f"{platform.python_implementation()} {platform.python_version()}, "
        f"{platform.system()} {platform.release()}, {os.cpu_count()} processors; "
        f"{options.rounds} rounds of {options.seconds:g} s a scene, "
        f"median (lowest to highest)"
    )
    for name in options.workers:
        settings = ["--workers", "1", "--keep-alive", "600", "--timeout", "600"]
        settings += ["--worker-connections", str(options.connections + SPARE), "--backlog", "4096"]
        settings += ["--threads", "4"] if name == "gthread" else []
        environment = {"MEINHELD_HEAD_TIMEOUT": "600"} if name == "meinheld" else {}
        print(
            "\n" + "".join(f"{key}={value} " for key, value in environment.items()),
            "gunicorn --worker-class ",
            " ".join([WORKERS[name], *settings, "app:app"]),
            sep="",
        )
        with Server.start(APP, *settings, worker=WORKERS[name], env=environment) as server:
            show(name, rounds(server, options), options.connections)
            print(f"\n{name}, peak memory {memory_kib(server.worker_pid(), 'VmHWM') // 1024} MiB")
            # A server that its crowd shuts out does not heed a signal in time either.
            server.kill()


if __name__ == "__main__":
    main()
