"""Starting a candidate on a core of its own, and ending it with all its processes."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from accounting import processes
from candidates import Candidate
from cases import MEBIBYTE, Case
from harness import Client, clean_environment, eventually
from machine import without_paths

APPLICATIONS = Path(__file__).resolve().parent / "applications"
SERVER_CORE = 0
CLIENT_CORE = 1
BOOT = 20.0
"""Seconds until a server has to listen."""
PATIENCE = 3.0
"""Seconds that a client waits for any octet before the server counts as broken."""


class Broken(Exception):
    """The candidate does not serve the case; the text says how one can tell."""


def on_core(core: int) -> list[str]:
    return ["taskset", "-c", str(core)]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@dataclass
class Running:
    candidate: Candidate
    process: subprocess.Popen[bytes]
    port: int
    directory: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def client(self) -> Client:
        return Client(("127.0.0.1", self.port), PATIENCE)

    def wait_until_it_listens(self) -> None:
        def listens() -> bool:
            if self.process.poll() is not None:
                raise Broken(f"does not start: {self.last_words()}")
            with contextlib.suppress(OSError), self.client():
                return True
            return False

        try:
            eventually(listens, "it listens", BOOT)
        except AssertionError as error:
            raise Broken(f"does not listen within {BOOT:g} s") from error

    def last_words(self) -> str:
        """The last line of its log."""
        lines = (self.directory / "stderr").read_text(errors="replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "no word")
        return without_paths(said)[:200]

    def kill(self) -> None:
        """At once: how servers leave is not measured here. Its session is its own, but a process
        of it may have made another."""
        tree = processes(self.pid) if self.process.poll() is None else []
        for pid in reversed(tree):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(BOOT)


def launch(candidate: Candidate, case: Case, directory: Path) -> Running:
    """Started and not waited for, but for a ceiling, which says its port first."""
    port = 0 if candidate.ceiling else free_port()
    connections = max(case.connections, case.beside)
    command = candidate.arguments(case.name, case.app, port, connections)
    if not Path(command[0]).exists():
        raise Broken(f"is not installed ({Path(command[0]).name} is missing)")
    if not directory.exists():
        directory.mkdir()
        (directory / "one-mebibyte").write_bytes(MEBIBYTE)
    environment = clean_environment() | {"PYTHONPATH": str(APPLICATIONS)}
    with open(directory / "stderr", "wb") as log:
        process = subprocess.Popen(
            [*on_core(SERVER_CORE), *command],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if candidate.ceiling else log,
            stderr=log,
            start_new_session=True,
        )
    if process.stdout:
        with process.stdout as stdout:
            port = int(stdout.readline().rpartition(b":")[2] or 0)
    return Running(candidate, process, port, directory)


@contextlib.contextmanager
def started(candidates: list[Candidate], case: Case) -> Iterator[dict[str, Running | Broken]]:
    """All at once, each listening, by name; or why it does not. Those whose turn it is not are
    idle."""
    found: dict[str, Running | Broken] = {}
    with tempfile.TemporaryDirectory(prefix="meinheld-bench-") as scratch:
        try:
            for number, candidate in enumerate(candidates):
                try:
                    directory = Path(scratch) / str(number)
                    found[candidate.name] = launch(candidate, case, directory)
                except Broken as broken:
                    found[candidate.name] = broken
            for name, running in found.items():
                if isinstance(running, Running):
                    try:
                        running.wait_until_it_listens()
                    except Broken as broken:
                        running.kill()
                        found[name] = broken
            yield found
        finally:
            for running in found.values():
                if isinstance(running, Running):
                    running.kill()
