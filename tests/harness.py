"""A real gunicorn, a raw client, and waits that are always bounded.

`Server` is `python -m gunicorn` in a process group and a directory of its own, on port 0.
`Client` is a socket that sends bytes exactly as given and reads one response exactly as framed.
`eventually` polls a condition until it holds or its deadline passes; nothing sleeps in order to
synchronise.

    with Server.start("apps.echo:app", "--keep-alive", "5") as server, server.client() as client:
        client.send(b"GET / HTTP/1.1\\r\nHost: test\\r\\n\\r\\n")
        assert client.response().status == 200

The worker class is `MEINHELD_TEST_WORKER` (default `egg:meinheld#gunicorn_worker`), so that the
suite runs on gunicorn's own workers too. With `MEINHELD_TEST_THREADS` above 1 every server gets
that many `--threads`, unless its test says itself how many, and with `green` its application runs
in greenlets: so the suite runs all ways of calling an application. Applications may import
`apps.notes` to leave a trace that `Server.notes()` reads back.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar

from procfs import (
    beats,
    children,
    cpu_seconds,
    forget_peak_memory,
    loop_seconds,
    memory_kib,
    open_files,
    open_sockets,
)
from raw_client import Address, Client, Response, Truncated, chunked, request
from waiting import PATIENCE, eventually, settled

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "GREEN",
    "OURS",
    "PATIENCE",
    "TESTS",
    "THREADED",
    "THREADS",
    "WORKER",
    "Address",
    "Client",
    "Response",
    "Server",
    "Truncated",
    "beats",
    "children",
    "chunked",
    "clean_environment",
    "cpu_seconds",
    "eventually",
    "forget_peak_memory",
    "loop_seconds",
    "memory_kib",
    "open_files",
    "open_sockets",
    "request",
    "settled",
]

WORKER = os.environ.get("MEINHELD_TEST_WORKER", "egg:meinheld#gunicorn_worker")
OURS = "meinheld" in WORKER
_WAY = os.environ.get("MEINHELD_TEST_THREADS", "1")
GREEN = _WAY == "green"
THREADS = 1 if GREEN else int(_WAY)
THREADED = THREADS > 1
TESTS = Path(__file__).resolve().parent

_FOREIGN_SETTINGS = (
    "GUNICORN_",
    "MEINHELD_",
    "LISTEN_",
    "SCRIPT_NAME",
    "NOTIFY_SOCKET",
    "WEB_CONCURRENCY",
    "PORT",
    "FORWARDED_ALLOW_IPS",
)


def clean_environment() -> dict[str, str]:
    """Ours, less what would change a server's settings."""
    return {
        name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN_SETTINGS)
    }


class Server:
    """A gunicorn master with its workers; leave the `with` block and its whole process group is
    gone."""

    running: ClassVar[list[Server]] = []

    def __init__(self, process: subprocess.Popen[bytes], directory: Path) -> None:
        self.process = process
        self.directory = directory
        self.addresses: list[Address] = []

    @classmethod
    def start(
        cls,
        app: str = "apps.echo:app",
        *args: str,
        config: str | Mapping[str, object] = "",
        env: Mapping[str, str] | None = None,
        binds: Sequence[str] = ("127.0.0.1:0",),
        worker: str = WORKER,
        ready: bool = True,
        max_files: int | None = None,
        pass_fds: Iterable[int] = (),
        prefix: Sequence[str] = (),
        umask: int = -1,
        files: Mapping[str, str] | None = None,
    ) -> Server:
        """Starts gunicorn and, with `ready`, returns once it listens and has a worker.

        app: `module:callable` (tests/ is importable), or the source of a module that defines `app`.
        config: the text of a `gunicorn.conf.py`, or its settings. `{dir}` in `binds` and `args`
        is the server's directory. max_files: the soft and hard RLIMIT_NOFILE of the master.
        prefix: a command that runs it, as `strace`.
        """
        directory = Path(tempfile.mkdtemp(prefix="meinheld-test-"))
        if "\n" in app:
            (directory / "app.py").write_text(app)
            app = "app:app"
        if not isinstance(config, str):
            config = "".join(f"{name} = {value!r}\n" for name, value in config.items())
        (directory / "gunicorn.conf.py").write_text(config)
        for name, text in (files or {}).items():
            (directory / name).write_text(text)
        command = [
            *prefix,
            sys.executable,
            "-m",
            "gunicorn",
            "--no-control-socket",
            "--worker-class",
            worker,
        ]
        for bind in binds:
            command += ["--bind", bind.format(dir=directory)]
        if THREADED and not _sets_threads(args, config):
            command += ["--threads", str(THREADS)]
        command += [*(arg.format(dir=directory) if "{dir}" in arg else arg for arg in args), app]
        environment = clean_environment() | {
            "PYTHONPATH": str(TESTS),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TEST_NOTES": str(directory / "notes"),
            **({"MEINHELD_GREEN": "1"} if GREEN and not _sets_threads(args, config) else {}),
            **(env or {}),
        }

        def limit_files() -> None:
            if max_files is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (max_files, max_files))

        with open(directory / "stdout", "wb") as out, open(directory / "stderr", "wb") as err:
            process = subprocess.Popen(
                command,
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                pass_fds=tuple(pass_fds),
                umask=umask,
                preexec_fn=limit_files if max_files is not None else None,
            )
        return cls.of(process, directory, ready=ready)

    @classmethod
    def of(cls, process: subprocess.Popen[bytes], directory: Path, *, ready: bool) -> Self:
        """That of a process that was just started; with `ready`, once it listens."""
        server = cls(process, directory)
        cls.running.append(server)
        if ready:
            try:
                server.wait_until_listening()
            except BaseException:
                server.kill()
                raise
        return server

    def wait_until_listening(self) -> None:
        listening = self.wait_for_log(r"Listening at: (.*) \(\d+\)$")
        self.addresses = [_address(text) for text in listening.group(1).split(",") if text]
        self.wait_for_log(r"Booting worker")

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _value: object, _traceback: TracebackType | None
    ) -> None:
        if self not in Server.running:
            return
        stopped = self.quit()
        assert stopped or kind is not None, f"gunicorn did not stop on SIGQUIT\n{self._last_words}"

    # Where it is, and who it is

    @property
    def address(self) -> Address:
        """The first listener's."""
        return self.addresses[0]

    @property
    def port(self) -> int:
        address = self.address
        assert not isinstance(address, str), f"no port: {address!r}"
        return address[1]

    def client(self, timeout: float = PATIENCE, receive_buffer: int | None = None) -> Client:
        return Client(self.address, timeout, receive_buffer)

    def get(self, target: str = "/", headers: Mapping[str, str] | None = None) -> Response:
        """One GET on a connection of its own."""
        with self.client() as client:
            return client.request("GET", target, headers)

    def worker_pids(self) -> list[int]:
        """The master's children, oldest first."""
        return children(self.process.pid)

    def worker_pid(self) -> int:
        """The only worker's, waited for if it is not forked yet."""
        pids = eventually(self.worker_pids, "gunicorn has a worker")
        assert len(pids) == 1, f"expected one worker, not {pids}"
        return pids[0]

    # What it said

    def stderr_text(self) -> str:
        """The error log so far."""
        return (self.directory / "stderr").read_text(errors="backslashreplace")

    def stdout_text(self) -> str:
        """What was printed so far: the access log with `--access-logfile -`."""
        return (self.directory / "stdout").read_text(errors="backslashreplace")

    def notes(self) -> list[str]:
        """The lines that the application left with `apps.notes.note`."""
        path = self.directory / "notes"
        return path.read_text().splitlines() if path.exists() else []

    def wait_for_note(self, note: str, count: int = 1) -> None:
        try:
            eventually(
                lambda: self.notes().count(note) >= count,
                f"the application notes {note!r} {count} time(s)",
            )
        except AssertionError as error:
            raise AssertionError(f"{error}; it noted {self.notes()[-20:]}") from None

    def wait_for_log(self, pattern: str, count: int = 1, within: float = PATIENCE) -> re.Match[str]:
        """The `count`-th match of `pattern` (multi-line) in the error log; fails at once when
        gunicorn has exited without it."""
        compiled = re.compile(pattern, re.MULTILINE)

        def matches() -> list[re.Match[str]]:
            exited = self.process.poll() is not None
            found = list(compiled.finditer(self.stderr_text()))
            assert len(found) >= count or not exited, (
                f"gunicorn exited, and had not said {pattern!r}:\n{self.stderr_text()}"
            )
            return found if len(found) >= count else []

        try:
            return eventually(matches, f"{pattern!r} {count} time(s) in the error log", within)[
                count - 1
            ]
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.stderr_text()}") from None

    # How it ends

    def signal(self, number: signal.Signals, pid: int | None = None) -> None:
        """Signals the master, or `pid` (a worker of ours)."""
        os.kill(self.process.pid if pid is None else pid, number)

    def wait(self, within: float = PATIENCE) -> int:
        """The master's exit status, once it has exited by itself."""
        return self.process.wait(within)

    def stop(self, within: float = PATIENCE) -> int:
        """SIGTERM, the graceful way; returns the exit status. The logs stay readable until the
        `with` block ends."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.wait(within)

    def quit(self) -> bool:
        """SIGQUIT, the quick way, then everything is removed. False when gunicorn had to be
        killed."""
        in_time = True
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            if not self._ends_within(PATIENCE / 3):
                # gunicorn's own race: a worker that had no handlers yet has missed the signal.
                for pid in self.worker_pids():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGQUIT)
                in_time = self._ends_within(PATIENCE)
        self._last_words = self.stderr_text()[-4000:]
        self.kill()
        return in_time

    def _ends_within(self, seconds: float) -> bool:
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    _last_words = ""

    def kill(self) -> None:
        """SIGKILL to what is left of the process group, and the directory is removed."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)
        shutil.rmtree(self.directory, ignore_errors=True)
        if self in Server.running:
            Server.running.remove(self)


def _sets_threads(args: Sequence[str], config: str) -> bool:
    return any(arg.partition("=")[0] == "--threads" for arg in args) or bool(
        re.search(r"^threads\s*=", config, re.MULTILINE)
    )


def _address(text: str) -> Address:
    if text.startswith("unix:"):
        return text.removeprefix("unix:")
    host, _, port = text.removeprefix("http://").removeprefix("https://").rpartition(":")
    return host.strip("[]"), int(port)
