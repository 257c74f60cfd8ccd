"""Application threads, compared with those of gunicorn's own gthread.

    python benchmarks/threads.py

Both workers have the same number of `--threads`, the same keep-alive connections and the same
applications, and take turns in one run, so that whatever else this machine does meets both:

- hello: the smallest WSGI application there is, as fast as wrk can ask for it;
- flask: the page of examples/flask_app.py, likewise;
- asleep: hello while half the threads are busy all the time with requests that sleep for a second.
  One client asks at a moderate, fixed pace. A request that finds all its connections busy has
  waited since it was due, so that a server which stalls cannot hide it by slowing its client down.
  The same pace with nobody asleep is shown beside it.

Printed are requests a second, processor time and context switches of the worker for each request
(from /proc), and latencies: the median of the rounds, with the lowest and the highest; then the
ratios of the two workers, each taken within one round; then whether they keep what README promises.
The exit status is 1 when they do not. Needs wrk, and gunicorn_h1c, without which gthread is not at
its best. Loopback only; both ends share this machine.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import re
import select
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from harness import Client, Server, cpu_seconds, eventually, request
from load import Wrk
from machine import machine, versions

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
HELLO = """
import threading
import time

BODY = b"Hello, world!\\n"
lock = threading.Lock()
asleep = 0


def app(environ, start_response):
    path = environ["PATH_INFO"]
    body = BODY if path == "/" else other(path, environ)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def other(path, environ):
    global asleep
    if path == "/sleep":
        with lock:
            asleep += 1
        time.sleep(1)
        with lock:
            asleep -= 1
        return BODY
    return f"{asleep} {environ['wsgi.multithread']}".encode()
"""
HELLO_ENDS_WITH = b"\r\n\r\nHello, world!\n"
REQUEST = request("GET", "/")
PATIENCE = 30.0
"""Seconds that an answer may take before the run is given up."""
WARM_UP = 1.0
"""Seconds of load before the first round."""
SLICE = 0.25
"""Seconds of one turn at a fixed pace."""


@dataclass(frozen=True)
class Way:
    """One way of serving: a worker and its threads."""

    name: str
    worker: str
    threads: int


@dataclass
class Throughput:
    per_second: float
    cpu: float
    """Seconds of the workers' for each request, user and system."""
    switches: float
    """Context switches of all their threads for each request."""
    p99: float
    """Seconds, with the worker loaded to the full."""
    wrong: int
    """Connections that broke, answers that took too long or were not a success."""


@dataclass
class Latency:
    p50: float
    p99: float
    worst: float


def context_switches(pid: int) -> int:
    """Voluntary and involuntary, of the threads that live."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            status = (task / "status").read_text()
            total += sum(map(int, re.findall(r"ctxt_switches:\s+(\d+)", status)))
    return total


def load(wrk: Wrk, server: Server, connections: int, seconds: float) -> Throughput:
    """As many requests as fit into the time, and what they cost the workers."""
    pids = server.worker_pids()

    def cost() -> tuple[float, int]:
        return sum(map(cpu_seconds, pids)), sum(map(context_switches, pids))

    cpu, switches = cost()
    seen = wrk.run(server.port, connections, seconds)
    after = cost()
    if not seen.requests:
        sys.exit("wrk got no answer")
    return Throughput(
        seen.per_second,
        (after[0] - cpu) / seen.requests,
        (after[1] - switches) / seen.requests,
        seen.p99,
        seen.wrong,
    )


class Pace:
    """A few connections over which hello is asked for at a fixed rate."""

    def __init__(self, server: Server, connections: int, stack: contextlib.ExitStack) -> None:
        self.free = [stack.enter_context(server.client(PATIENCE)) for _ in range(connections)]
        self.run(100.0 * connections, 0.1)

    def run(self, rate: float, seconds: float) -> list[float]:
        """The latency of each request."""
        took: list[float] = []
        total = int(rate * seconds)
        waiting: dict[int, tuple[Client, float, bytes]] = {}
        begin, asked, delayed = time.monotonic(), 0, False
        while len(took) < total:
            now, due = time.monotonic(), begin + asked / rate
            if asked < total and now >= due:
                if self.free:
                    client = self.free.pop(0)
                    client.socket.sendall(REQUEST)
                    asked += 1
                    # Our own alarm rings late, too: that is no latency of the server's.
                    since = due if delayed else now
                    waiting[client.socket.fileno()] = (client, since, b"")
                    continue
                delayed = True
            else:
                delayed = False
            timeout = max(due - now, 0.0) if asked < total and self.free else PATIENCE
            ready = select.select(list(waiting), [], [], timeout)[0]
            if not ready and timeout == PATIENCE:
                sys.exit(f"no answer for {PATIENCE:g} seconds")
            for descriptor in ready:
                client, since, answer = waiting[descriptor]
                answer += client.socket.recv(4096) or sys.exit("a connection was closed")
                if answer.endswith(HELLO_ENDS_WITH):
                    took.append(time.monotonic() - since)
                    del waiting[descriptor]
                    self.free.append(client)
                else:
                    waiting[descriptor] = (client, since, answer)
        return took


def paced(servers: list[Server], options: argparse.Namespace) -> list[Latency]:
    """How long hello takes, of each server. They take turns many times a round: a burst of
    whatever else this machine does would decide about the slowest hundredth."""
    took: list[list[float]] = [[] for _ in servers]
    with contextlib.ExitStack() as stack:
        paces = [Pace(server, options.paced_connections, stack) for server in servers]
        for _ in range(max(1, round(options.seconds / SLICE))):
            for known, pace in zip(took, paces, strict=True):
                known += pace.run(options.rate, SLICE)
    return [
        Latency(known[len(known) // 2], known[len(known) * 99 // 100], known[-1])
        for known in map(sorted, took)
    ]


def told(server: Server) -> list[str]:
    """How many threads are asleep, and whether the application may be called by several."""
    return server.get("/told").body.decode().split()


def wait_for_workers(server: Server, count: int) -> None:
    eventually(lambda: len(server.worker_pids()) == count, f"{count} workers")


def start(way: Way, app: str, options: argparse.Namespace) -> Server:
    try:
        return Server.start(
            app,
            *settings(way, options),
            worker=way.worker,
            env={"PYTHONPATH": str(EXAMPLES)},
        )
    except AssertionError as error:
        sys.exit(f"gunicorn did not start with {way.name}:\n{error}")


def settings(way: Way, options: argparse.Namespace) -> list[str]:
    given = ["--workers", str(options.workers), "--threads", str(way.threads)]
    given += ["--worker-connections", "10000", "--backlog", "4096", "--max-requests", "0"]
    if way.worker == "gthread":
        given += ["--http-parser", "fast"]
    return [*given, "--keep-alive", "600", "--timeout", "600"]


def spread(values: list[float], digits: int) -> str:
    median = statistics.median(values)
    return f"{median:.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def show(title: str, rows: list[str], columns: dict[str, list[list[float]]], digits: int) -> None:
    """A table: one row a way, one column a figure."""
    width = max(len(row) for row in [title, *rows]) + 2
    print(f"\n{title:{width}}" + "".join(f"{heading:>32}" for heading in columns))
    for number, row in enumerate(rows):
        cells = (spread(column[number], digits) for column in columns.values())
        print(f"{row:{width}}" + "".join(f"{cell:>32}" for cell in cells))


def ratios(ours: list[float], theirs: list[float]) -> list[float]:
    return [one / other for one, other in zip(ours, theirs, strict=True)]


class Comparison:
    def __init__(self, ways: list[Way], wrk: Wrk, options: argparse.Namespace) -> None:
        self.ways, self.wrk, self.options = ways, wrk, options
        self.kept = True

    def promise(self, what: str, values: list[float], bound: float, at_least: bool) -> None:
        median = statistics.median(values)
        kept = median >= bound if at_least else median <= bound
        self.kept &= kept
        print(
            f"  {what}: {spread(values, 2)}, "
            f"{'at least' if at_least else 'at most'} {bound:g} wanted: "
            f"{'kept' if kept else 'NOT KEPT'}"
        )

    @contextlib.contextmanager
    def servers(self, app: str, connections: int) -> Iterator[list[Server]]:
        """All ways at once, warmed up; those whose turn it is not are idle."""
        with contextlib.ExitStack() as stack:
            started = [stack.enter_context(start(way, app, self.options)) for way in self.ways]
            for server in started:
                # gthread may be too busy with its last connections to heed a signal in time.
                stack.callback(server.kill)
                wait_for_workers(server, self.options.workers)
                load(self.wrk, server, connections, WARM_UP)
            if app == HELLO:
                for way, server in zip(self.ways, started, strict=True):
                    assert told(server)[1] == str(way.threads > 1), f"{way}: wsgi.multithread lies"
            yield started

    def throughput(self, title: str, app: str, wanted: float) -> None:
        options = self.options
        for connections in options.connections:
            known: list[list[Throughput]] = [[] for _ in self.ways]
            with self.servers(app, connections) as servers:
                for _ in range(options.rounds):
                    for results, server in zip(known, servers, strict=True):
                        results.append(load(self.wrk, server, connections, options.seconds))
            self.show_throughput(f"{title}, {connections} connections", known, wanted)

    def show_throughput(self, title: str, known: list[list[Throughput]], wanted: float) -> None:
        rows = [way.name for way in self.ways]

        def column(figure: Callable[[Throughput], float]) -> list[list[float]]:
            return [[figure(one) for one in results] for results in known]

        show(
            title,
            rows,
            {
                "requests a second": column(lambda one: one.per_second),
                "processor time, us": column(lambda one: one.cpu * 1e6),
                "switches": column(lambda one: one.switches),
                "p99, ms": column(lambda one: one.p99 * 1e3),
            },
            1,
        )
        for row, results in zip(rows, known, strict=True):
            if wrong := sum(one.wrong for one in results):
                self.kept = False
                print(f"  {row}: {wrong} requests WENT WRONG")
        rates, cpu = column(lambda one: one.per_second), column(lambda one: one.cpu)
        for row, rate, spent in zip(rows[2:], rates[2:], cpu[2:], strict=True):
            print(
                f"  {row}: {spread(ratios(rate, rates[1]), 2)} times the rate of {rows[1]}, ",
                end="",
            )
            print(f"processor time {spread(ratios(spent, cpu[1]), 2)}")
        print(f"  processor time a request, as a ratio: {spread(ratios(cpu[0], cpu[1]), 2)}")
        self.promise("requests a second, as a ratio", ratios(rates[0], rates[1]), wanted, True)

    @contextlib.contextmanager
    def sleepers(self, server: Server, count: int) -> Iterator[None]:
        """That many threads of the application are asleep, whatever else is asked for."""
        seconds = 2 * len(self.ways) * self.options.seconds + PATIENCE
        process = self.wrk.start(server.port, count, seconds, "/sleep")
        try:
            eventually(lambda: told(server)[0] == str(count), f"{count} threads are asleep")
            yield
            assert process.poll() is None, "the sleepers are gone before the clock stopped"
        finally:
            process.terminate()
            process.communicate()

    def asleep(self) -> None:
        options = self.options
        ways = [way for way in self.ways if way.threads > 1]
        half = [way.threads // 2 for way in ways]
        awake: list[list[Latency]] = [[] for _ in ways]
        asleep: list[list[Latency]] = [[] for _ in ways]
        with self.servers(HELLO, options.paced_connections) as started:
            servers = started[: len(ways)]
            for _ in range(options.rounds):
                for known, one in zip(awake, paced(servers, options), strict=True):
                    known.append(one)
                with contextlib.ExitStack() as stack:
                    for server, count in zip(servers, half, strict=True):
                        stack.enter_context(self.sleepers(server, count))
                    for known, one in zip(asleep, paced(servers, options), strict=True):
                        known.append(one)
        rows: list[str] = []
        shown: list[list[Latency]] = []
        for way, *pair in zip(ways, awake, asleep, strict=True):
            rows += [way.name, f"{way.name}, half the threads asleep"]
            shown += pair
        show(
            f"hello at {options.rate:g} requests a second, {options.paced_connections} connections",
            rows,
            {
                "median, ms": [[one.p50 * 1e3 for one in results] for results in shown],
                "p99, ms": [[one.p99 * 1e3 for one in results] for results in shown],
                "worst, ms": [[one.worst * 1e3 for one in results] for results in shown],
            },
            2,
        )
        p99 = [[one.p99 for one in results] for results in asleep]
        for way, before, during in zip(ways, awake, p99, strict=True):
            change = ratios(during, [one.p99 for one in before])
            print(f"  {way.name}: p99 beside sleepers to p99 without: {spread(change, 2)}")
        self.promise("p99 beside sleepers, as a ratio", ratios(p99[0], p99[1]), 1.0, False)


def described(wrk: Wrk) -> str:
    wanted = ["gunicorn", "gunicorn_h1c", "meinheld", "flask"]
    installed = versions(wanted)
    known = [f"{name} {installed[name]}" if name in installed else f"no {name}" for name in wanted]
    here = [f"{name} {value}" for name, value in machine().items()]
    return ", ".join([*known, f"wrk {wrk.version()}", *here])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--connections", type=int, nargs="+", default=[8, 64], help="of hello and flask"
    )
    parser.add_argument("--rate", type=float, default=500.0, help="of asleep, a second")
    parser.add_argument("--paced-connections", type=int, default=4, help="of asleep")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each scene in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--inline", action="store_true", help="show meinheld without threads, too")
    parser.add_argument(
        "--baseline", action="store_true", help="gthread against itself: shows the noise"
    )
    scenes = ["hello", "flask", "asleep"]
    parser.add_argument("--scenes", nargs="+", choices=scenes, default=scenes)
    options = parser.parse_args()
    if options.threads < 2:
        parser.error("--threads: at least 2")
    wrk = Wrk(timeout=PATIENCE)
    if importlib.util.find_spec("gunicorn_h1c") is None:
        sys.exit("benchmarks/threads.py needs gunicorn's fast parser: pip install gunicorn_h1c")
    ours, gthread = "egg:meinheld#gunicorn_worker", "gthread"
    ways = [Way("meinheld", ours, options.threads), Way("gthread", gthread, options.threads)]
    if options.baseline:
        ways[0] = Way("gthread again", gthread, options.threads)
    if options.inline:
        ways.append(Way("meinheld inline", ours, 1))
    print(described(wrk))
    for way in ways:
        print(f"gunicorn --worker-class {' '.join([way.worker, *settings(way, options)])} app")
    print(
        f"{options.rounds} rounds of {options.seconds:g} s for each worker and scene, in turns; "
        "median (lowest to highest)"
    )
    comparison = Comparison(ways, wrk, options)
    if "hello" in options.scenes:
        comparison.throughput("hello", HELLO, 5.0)
    if "flask" in options.scenes:
        comparison.throughput("flask", "flask_app:app", 1.5)
    if "asleep" in options.scenes and options.workers > 1:
        print("\nasleep: left out, which of several workers the sleepers meet is a matter of luck")
    elif "asleep" in options.scenes:
        comparison.asleep()
    sys.exit(0 if comparison.kept else 1)


if __name__ == "__main__":
    main()
