"""`--reload`: a touched file replaces the workers."""

from __future__ import annotations

import contextlib
import os
import re

import pytest
from harness import Server, eventually
from support import gunicorn, workers_of

pytestmark = pytest.mark.timeout(120)

VERSION = (
    "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'{}']\n"
)


def start(*args: str) -> Server:
    # The polling engine needs no package of its own.
    server = gunicorn(VERSION.format("one"), "--reload", "--reload-engine", "poll", *args)
    eventually(lambda: server.get().body == b"one", "the first version")
    return server


def noticed_by(server: Server, name: str) -> set[str]:
    """The workers whose reloader has."""
    line = rf"\[(\d+)\] \[INFO\] Worker reloading: \S*{re.escape(name)} modified"
    return set(re.findall(line, server.stderr_text()))


def change(server: Server, name: str, text: str, workers: int = 1) -> None:
    """Writes the file until the reloaders of so many workers have noticed.

    The reloader learns a file's time at its first look, so a single change before that would
    be missed. Each writing has a later modification time, however coarse the file system's clock.
    """
    path = server.directory / name
    before = noticed_by(server, name)

    def noticed() -> bool:
        stamp = path.stat().st_mtime + 10
        path.write_text(text)
        os.utime(path, (stamp, stamp))
        with contextlib.suppress(AssertionError):
            eventually(lambda: len(noticed_by(server, name) - before) >= workers, name, within=2.5)
            return True
        return False

    eventually(noticed, f"the change of {name} is noticed", within=20)


def test_a_changed_module_is_served_anew() -> None:
    with start() as server:
        change(server, "app.py", VERSION.format("two"))
        eventually(lambda: server.get().body == b"two", "the second version")


def test_a_changed_extra_file_reloads_too() -> None:
    with gunicorn(
        VERSION.format("one"),
        *("--reload", "--reload-engine", "poll", "--reload-extra-file", "{dir}/settings.ini"),
        files={"settings.ini": "a = 1\n"},
    ) as server:
        eventually(lambda: server.get().body == b"one", "it serves")
        worker = server.worker_pid()
        change(server, "settings.ini", "a = 2\n")
        eventually(lambda: server.worker_pids() not in ([], [worker]), "a new worker")
        assert server.get().body == b"one"


def test_a_syntax_error_is_shown_until_it_is_corrected() -> None:
    with start() as server:
        change(server, "app.py", "this is no Python\n")
        eventually(lambda: server.get().status == 500, "the error is shown")
        change(server, "app.py", VERSION.format("three"))
        eventually(lambda: server.get().body == b"three", "the corrected version", within=30)


def test_an_idle_connection_does_not_hold_a_reload_up() -> None:
    with (
        start("--keep-alive", "60", "--graceful-timeout", "60") as server,
        server.client() as client,
    ):
        assert client.request().body == b"one"
        change(server, "app.py", VERSION.format("two"))
        assert client.read_until_closed() == b""
        eventually(lambda: server.get().body == b"two", "the second version")


def test_a_change_takes_one_worker_at_a_time() -> None:
    gated = "import os, time\nwhile os.path.exists('shut'): time.sleep(0.01)\n" + VERSION
    with gunicorn(
        gated.format("one"),
        *("--reload", "--reload-engine", "poll", "--workers", "2", "--log-level", "debug"),
    ) as server:
        server.wait_for_log("Worker ready", count=2)
        old = workers_of(server, 2)
        shut = server.directory / "shut"
        shut.touch()
        change(server, "app.py", gated.format("two"), workers=2)
        new = eventually(lambda: set(server.worker_pids()) - set(old), "one is replaced")
        assert len(set(server.worker_pids()) & set(old)) == 1
        assert server.get().body == b"one"
        shut.unlink()
        eventually(lambda: not set(server.worker_pids()) & set(old), "the other has left as well")
        assert new < set(workers_of(server, 2))
        assert server.get().body == b"two"
