"""What integration/ adds to tests/harness.py: gunicorn started as users start it, the worker's
hooks left as notes, and programs that a machine may lack."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from harness import TESTS, WORKER, Server, children, eventually
from load import Load

INTEGRATION = Path(__file__).resolve().parent
EXAMPLES = INTEGRATION.parent / "examples"
CONSOLE_SCRIPT = (sys.executable, str(INTEGRATION / "console_script.py"))
IMPORTABLE = os.pathsep.join([str(INTEGRATION), str(TESTS)])

ADDED_BY_HOOKS = """
from apps.notes import note


def post_worker_init(worker):
    note("init")
    # How sites.lifecycle sees that its worker was told to stop.
    import sites.lifecycle
    sites.lifecycle.worker = worker


def worker_int(worker):
    note("worker_int")


def worker_abort(worker):
    note("worker_abort")


def worker_exit(arbiter, worker):
    note("worker_exit")


def child_exit(arbiter, worker):
    note("child_exit")


def on_exit(arbiter):
    note("on_exit")
"""
"""A gunicorn.conf.py whose hooks leave their names in `Server.notes()`."""


def gunicorn(
    app: str,
    *args: str,
    config: str | Mapping[str, object] = "",
    env: Mapping[str, str] | None = None,
    binds: Sequence[str] = ("127.0.0.1:0",),
    worker: str = WORKER,
    ready: bool = True,
    pass_fds: Sequence[int] = (),
    files: Mapping[str, str] | None = None,
    listen_fd: int | None = None,
) -> Server:
    """`harness.Server.start` by gunicorn's console script; `sites` is importable.

    listen_fd: a listening socket to hand over as systemd does (say `binds=()`).
    """
    environment = {"PYTHONPATH": IMPORTABLE, **(env or {})}
    if listen_fd is not None:
        environment["TEST_LISTEN_FD"] = str(listen_fd)
        pass_fds = (*pass_fds, listen_fd)
    return Server.start(
        app,
        *args,
        config=config,
        env=environment,
        binds=binds,
        worker=worker,
        ready=ready,
        pass_fds=pass_fds,
        prefix=CONSOLE_SCRIPT,
        files=files,
    )


def program(name: str, *first: str) -> str:
    """The path of a program; without it the test says so and skips (never in CI: conftest.py).

    first: directories to look into before those of PATH.
    """
    directories = os.pathsep.join([*first, os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    path = shutil.which(name, path=directories)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def workers_of(server: Server, count: int) -> list[int]:
    """The workers, waited for until there are as many."""
    return eventually(
        lambda: pids if len(pids := server.worker_pids()) == count else [], f"{count} workers"
    )


def reload_under(load: Load, server: Server, workers: int, requests: int, name: str) -> None:
    """A HUP after that many more requests; returns when the new workers have served some."""
    before = workers_of(server, workers)
    load.wait_for_requests(requests)
    load.mark(name)
    server.signal(signal.SIGHUP)
    after = replaced(server, before, workers)
    load.mark(f"workers {before} are gone, {after} are there")
    load.wait_for_workers(set(after))


def replaced(server: Server, before: Sequence[int], count: int = 1) -> list[int]:
    """Waits until all workers `before` are gone and `count` others are there; returns those."""

    def others() -> list[int]:
        now = server.worker_pids()
        return now if len(now) == count and not set(now) & set(before) else []

    return eventually(others, f"workers {before} are replaced by {count}", within=40)


def open_gate(server: Server, name: str = "gate") -> None:
    """Lets what waits in `sites.lifecycle` go on: requests, or an application that still loads."""
    (server.directory / name).touch()


def gone(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return stat.rpartition(")")[2].split()[0] in "ZX"


@contextlib.contextmanager
def master_of(server: Server, pid: int) -> Iterator[int]:
    """An upgraded arbiter, which belongs to nobody any more: told to stop when the block ends."""
    try:
        yield pid
    finally:
        if not gone(pid):
            os.kill(pid, signal.SIGTERM)
            try:
                eventually(lambda: gone(pid), "the upgraded gunicorn stops on TERM")
            finally:
                if not gone(pid):
                    server.kill()


def upgraded(server: Server) -> int:
    """Sends USR2 and returns the pid of the arbiter that it started, once that one has workers."""
    workers = set(server.worker_pids())
    server.signal(signal.SIGUSR2)

    def arbiter() -> int:
        for pid in server.worker_pids():
            # Between fork and exec the newcomer looks like a worker, but never has children.
            if pid not in workers and children(pid):
                return pid
        return 0

    return eventually(arbiter, "USR2 starts a second arbiter with workers")


def multipart(
    fields: Mapping[str, str], files: Mapping[str, tuple[str, bytes]]
) -> tuple[dict[str, str], bytes]:
    """The header and the body of a form with files (`name: (file name, content)`)."""
    boundary = "----integration-tests-boundary"
    body = bytearray()
    for name, value in fields.items():
        body += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        ).encode()
    for name, (filename, content) in files.items():
        body += (
            f"--{boundary}\r\nContent-Disposition: form-data; "
            f'name="{name}"; filename="{filename}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
        body += content + b"\r\n"
    body += f"--{boundary}--\r\n".encode()
    return {"Content-Type": f"multipart/form-data; boundary={boundary}"}, bytes(body)


def form(**fields: str) -> tuple[dict[str, str], bytes]:
    """The header and the body of a form without files."""
    from urllib.parse import urlencode

    return {"Content-Type": "application/x-www-form-urlencoded"}, urlencode(fields).encode()


def noise(size: int) -> bytes:
    """Bytes that repeat only after a while, so that a lost or doubled block shows."""
    period = b"".join(number.to_bytes(4, "big") for number in range(65521))
    return (period * (size // len(period) + 1))[:size]
