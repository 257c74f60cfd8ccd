"""wrk, the load generator, and what it says it has seen."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# wrk's own summary is meant for people; this one gives exact numbers.
SUMMARY = """
function done(summary, latency)
    local wrong = 0
    for _, count in pairs(summary.errors) do wrong = wrong + count end
    io.write(string.format(
        '\\n{"requests": %d, "microseconds": %d, "wrong": %d, "p50": %d, "p99": %d}\\n',
        summary.requests, summary.duration, wrong,
        latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True)
class Seen:
    """One run of wrk."""

    requests: int
    seconds: float
    wrong: int
    """Connections that broke, answers that took too long or were not a success."""
    p50: float
    """Seconds, as p99."""
    p99: float
    busy: float
    """The share of its core that wrk used: near 1, it was the limit, and not the server."""

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


def children_seconds() -> float:
    """Processor time of all processes that we have started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Wrk:
    """prefix: a command that runs it, as `taskset -c 1`. timeout: seconds after which an answer
    counts as wrong."""

    def __init__(self, prefix: Sequence[str] = (), timeout: float = 30.0) -> None:
        found = shutil.which("wrk")
        if found is None:
            sys.exit("the benchmarks need wrk, an HTTP load generator: apt-get install wrk")
        self.path = found
        self.prefix = [*prefix]
        self.timeout = timeout
        self.directory = tempfile.TemporaryDirectory(prefix="meinheld-wrk-")
        self.scripts: dict[str, Path] = {}

    def version(self) -> str:
        shown = subprocess.run([self.path, "-v"], capture_output=True, text=True, check=False)
        return " ".join((shown.stdout + shown.stderr).split()[1:2])

    def start(
        self, port: int, connections: int, seconds: float, path: str = "/", lua: str = ""
    ) -> subprocess.Popen[str]:
        """lua: a script that says what is asked for; a GET without one. wrk knows whole seconds."""
        command = [*self.prefix, self.path, "-t1", f"-c{connections}"]
        command += [f"-d{max(1, round(seconds))}s", "--timeout", f"{self.timeout:.0f}s"]
        command += ["-s", str(self._script(lua)), f"http://127.0.0.1:{port}{path}"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def run(
        self, port: int, connections: int, seconds: float, path: str = "/", lua: str = ""
    ) -> Seen:
        """As many requests as fit into the time."""
        used = children_seconds()
        process = self.start(port, connections, seconds, path, lua)
        try:
            output = process.communicate(timeout=seconds + self.timeout)[0]
            used = children_seconds() - used
            told = json.loads(output.splitlines()[-1])
        except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
            raise OSError(f"wrk gave no summary: {error}") from error
        finally:
            process.kill()
            process.wait()
        return Seen(
            told["requests"],
            told["microseconds"] / 1e6,
            told["wrong"],
            told["p50"] / 1e6,
            told["p99"] / 1e6,
            used / (told["microseconds"] / 1e6),
        )

    def _script(self, lua: str) -> Path:
        if lua not in self.scripts:
            self.scripts[lua] = Path(self.directory.name) / f"{len(self.scripts)}.lua"
            self.scripts[lua].write_text(lua + SUMMARY)
        return self.scripts[lua]
