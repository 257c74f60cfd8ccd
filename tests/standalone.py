"""Starts servers without gunicorn: a Python program that calls `meinheld.server`.

    with Standalone.start(HELLO, env={"MEINHELD_GREEN": "1"}) as server:
        assert server.get("/").status == 200
        assert server.stop() == 0

The program listens on port 0, or on a unix socket `sock` in its directory. Where, it need not say:
the kernel knows. Everything else is as `harness.Server` has it: `client`, `get`, `notes`,
`wait_for_note`, `wait_for_log` (standard error), `stderr_text`, `stdout_text`, `signal`, `wait`.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from harness import TESTS, Address, Server, clean_environment, eventually
from procfs import thread_status

__all__ = ["HELLO", "WAYS", "WAY_ENV", "WAY_THREADS", "Standalone", "listening", "serving"]

WAYS = ["inline", "threads", "green"]
"""How an application is called, and what says so."""
WAY_THREADS = {"inline": 1, "threads": 4, "green": 1}
WAY_ENV = {"inline": {}, "threads": {}, "green": {"MEINHELD_GREEN": "1"}}

HELLO = """
def app(environ, start_response):
    body = b"Hello world!"
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


def serving(app: str = HELLO, run: str = "", before: str = "") -> str:
    """A program that serves the `app` of a source on port 0; `run` are further arguments of
    `server.run`, `before` is source that comes right before it."""
    arguments = f"app, {run}" if run else "app"
    return (
        f"from meinheld import server\n{app}\n"
        f'server.listen(("127.0.0.1", 0))\n{before}\nserver.run({arguments})\n'
    )


class Standalone(Server):
    """A Python program that serves; leave the `with` block and it is gone."""

    @classmethod
    def start(  # type: ignore[override]
        cls,
        source: str | None = None,
        *args: str,
        module: str | None = None,
        env: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
        ready: bool = True,
        pass_fds: Iterable[int] = (),
        stdin: int = subprocess.DEVNULL,
        stderr: int | None = None,
    ) -> Standalone:
        """Runs a source, or a `module` with `args` as `python -m` does, and with `ready` returns
        once it listens, and TERM ends it gracefully.

        files: names and texts of what else is in its directory; tests/ is importable. stderr: a
        descriptor in place of the file that `stderr_text` reads.
        """
        directory = Path(tempfile.mkdtemp(prefix="meinheld-test-"))
        for name, text in (files or {}).items():
            (directory / name).write_text(text)
        if source is not None:
            (directory / "main.py").write_text(source)
        command = [sys.executable, *(["-m", module] if module else ["main.py"]), *args]
        environment = clean_environment() | {
            "PYTHONPATH": str(TESTS),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONUNBUFFERED": "1",
            "TEST_NOTES": str(directory / "notes"),
            **(env or {}),
        }
        with open(directory / "stdout", "wb") as out, open(directory / "stderr", "wb") as err:
            process = subprocess.Popen(
                command,
                cwd=directory,
                env=environment,
                stdin=stdin,
                stdout=out,
                stderr=err if stderr is None else stderr,
                start_new_session=True,
                pass_fds=tuple(pass_fds),
                # Whoever runs the tests in the background has it ignored.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        return cls.of(process, directory, ready=ready)

    def __enter__(self) -> Standalone:
        return self

    def wait_until_listening(self, handles: signal.Signals = signal.SIGTERM) -> None:
        """Until it listens somewhere, as `addresses` says then, and handles this signal."""

        def listens() -> bool:
            exited = self.process.poll() is not None
            assert not exited, f"exited, and had not listened:\n{self.stderr_text()}"
            caught = thread_status(f"/proc/{self.process.pid}", "SigCgt")
            # All its listeners are there by then.
            self.addresses = listening(self.process.pid)
            return bool(self.addresses and caught and int(caught, 16) >> (handles - 1) & 1)

        try:
            eventually(listens, "it listens")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.stderr_text()}") from None

    def worker_pids(self) -> list[int]:
        """Those that serve: itself."""
        return [self.process.pid]

    def quit(self) -> bool:
        """Ends it at once."""
        self.kill()
        return True


def listening(pid: int) -> list[Address]:
    """Where a process listens, in the order of its descriptors."""
    found: dict[str, Address] = {}
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A":
            port = int(fields[1].rpartition(":")[2], 16)
            found[fields[9]] = ("127.0.0.1", port)
    for line in Path(f"/proc/{pid}/net/tcp6").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A":
            found[fields[9]] = ("::1", int(fields[1].rpartition(":")[2], 16))
    for line in Path(f"/proc/{pid}/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        if len(fields) == 8 and int(fields[3], 16) & 0x10000:
            found[fields[6]] = fields[7]
    addresses: list[Address] = []
    for entry in sorted(Path(f"/proc/{pid}/fd").iterdir(), key=lambda entry: int(entry.name)):
        with contextlib.suppress(OSError):
            inode = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(entry))
            # The loop's own duplicates come after the first.
            if inode and (address := found.get(inode.group(1))) and address not in addresses:
                addresses.append(address)
    return addresses
