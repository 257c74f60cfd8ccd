"""strace(1) on a running worker: to see its system calls, and to make some of them fail.

    with traced(server.worker_pid(), "accept4", inject=["accept4:error=EMFILE:when=1..3"]) as trace:
        ...
    assert trace.count("accept4") < 10

An injected call does not reach the kernel. `when` counts from the moment of attaching:
`1` the first, `1..3` the first three, `2+` all from the second on.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest


@dataclass
class Trace:
    """What was called, known once the `with` block is left."""

    lines: list[str] = field(default_factory=list)

    def count(self, name: str | None = None) -> int:
        """How often `name` was called, or anything that was traced at all."""
        return len(self.calls(name or r"\w+"))

    def injected(self) -> int:
        """How many calls were made to fail."""
        return sum("(INJECTED)" in line for line in self.lines)

    def calls(self, pattern: str) -> list[str]:
        """The lines of the calls whose name matches; a call that another thread interrupted
        counts once."""
        compiled = re.compile(rf"\d+ +(?:{pattern})\(")
        return [line for line in self.lines if compiled.match(line)]


@contextmanager
def traced(pid: int, *names: str, inject: Sequence[str] = ()) -> Iterator[Trace]:
    """Traces the calls `names` of a process (none: all calls) while the block runs."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed: system calls can be neither seen nor made to fail")
    trace = Trace()
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "trace"
        command = [strace, "-f", "-s", "8", "-o", str(output), "-p", str(pid)]
        if names:
            command += ["-e", f"trace={','.join(names)}"]
        for injection in inject:
            command += ["-e", f"inject={injection}"]
        tracer = subprocess.Popen(command, stderr=subprocess.PIPE)
        assert tracer.stderr is not None
        try:
            words = tracer.stderr.readline()
            if b"attached" not in words:
                assert b"Operation not permitted" in words or b"EPERM" in words, words
                pytest.skip(f"strace cannot attach here: {words.decode().strip()}")
            yield trace
        finally:
            if tracer.poll() is None:
                tracer.send_signal(signal.SIGINT)
            tracer.wait(10)
            tracer.stderr.close()
        trace.lines += output.read_text(errors="replace").splitlines()
