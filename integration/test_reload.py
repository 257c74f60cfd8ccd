"""A reload without a stall: who is told to go serves until those who come instead are ready."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Server, eventually
from support import gunicorn, workers_of

pytestmark = pytest.mark.timeout(120)

APP = """
import os
import time
from pathlib import Path

from apps.notes import note

version = Path("version").read_text()


def load():
    # Through a gate of one's own each, or all through one that stands open.
    note(f"loading {os.getpid()}")
    while not Path("open").exists():
        try:
            Path("one").unlink()
        except FileNotFoundError:
            time.sleep(0.01)
        else:
            break
    if Path("broken").exists():
        raise RuntimeError("no database")
    note("loaded")


def app(environ, start_response):
    body = f"{version} {os.getpid()}".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


load()
"""


class Site:
    """A server whose applications load when they are let."""

    def __init__(self, server: Server, workers: int) -> None:
        self.server = server
        self.old = workers_of(server, workers)
        server.wait_for_log("Worker ready", count=workers)
        self.file("open").unlink()

    def file(self, name: str) -> Path:
        return self.server.directory / name

    def open(self) -> None:
        self.file("open").touch()

    def let_one_load(self) -> None:
        self.file("one").touch()
        eventually(lambda: not self.file("one").exists(), "one has gone through")

    def reload(self, count: int, version: str = "new") -> list[int]:
        """Begin a reload; return the pids of the new workers, which load."""
        self.file("version").write_text(version)
        before = len(self.loading())
        self.server.signal(signal.SIGHUP)
        return self.new(before + count)[before:]

    def new(self, count: int) -> list[int]:
        return eventually(
            lambda: pids if len(pids := self.loading()) == count else [], f"{count} have loaded"
        )

    def loading(self) -> list[int]:
        """The pids of all that have begun to load, in that order."""
        notes = self.server.notes()
        return [int(note.split()[1]) for note in notes if note.startswith("loading ")]

    def answers(self) -> set[str]:
        """What is answered on new connections."""
        return {self.server.get().text.split()[0] for _ in range(20)}


@contextlib.contextmanager
def site(*args: str, workers: int = 1) -> Iterator[Site]:
    with gunicorn(
        APP,
        *("--workers", str(workers), "--graceful-timeout", "60", "--keep-alive", "60"),
        *("--log-level", "debug", *args),
        files={"version": "old", "open": ""},
    ) as server:
        yield Site(server, workers)


def test_the_old_worker_serves_until_the_new_one_is_ready() -> None:
    with site() as one, one.server.client() as kept:
        assert kept.request().text == f"old {one.old[0]}"
        (new,) = one.reload(1)
        assert one.answers() == {"old"}
        # It was not told to leave as far as its clients can see.
        assert kept.request().header("Connection") == "keep-alive"
        one.open()
        assert workers_of(one.server, 1) == [new]
        assert one.answers() == {"new"}


def test_each_old_worker_leaves_when_one_more_new_one_is_ready() -> None:
    with site(workers=2) as two:
        new = two.reload(2)
        oldest, other = two.old
        two.let_one_load()
        eventually(lambda: oldest not in two.server.worker_pids(), "the oldest has left")
        assert set(two.server.worker_pids()) == {other, *new}
        two.let_one_load()
        assert set(workers_of(two.server, 2)) == set(new)


def test_an_application_that_does_not_load_leaves_the_old_workers_serving() -> None:
    with site("--graceful-timeout", "4", workers=2) as two:
        two.file("broken").touch()
        two.reload(2)
        two.open()
        two.server.wait_for_log("RuntimeError: no database", count=2)
        two.server.wait_for_log("No new worker came up: this one serves on", count=2)
        two.server.wait_for_log("exited with code 1", count=2)
        assert workers_of(two.server, 2) == two.old
        assert two.answers() == {"old"}
        # Once it loads, it is served.
        two.file("broken").unlink()
        new = two.reload(2, "newest")
        assert set(workers_of(two.server, 2)) == set(new)
        assert two.answers() == {"newest"}


def test_an_application_that_exits_while_it_loads_leaves_the_old_worker_serving() -> None:
    with site("--graceful-timeout", "4") as one:
        one.file("app.py").write_text("import sys\nsys.exit(4)\n")
        one.server.signal(signal.SIGHUP)
        one.server.wait_for_log("No new worker came up: this one serves on")
        assert workers_of(one.server, 1) == one.old
        assert one.answers() == {"old"}


def test_a_new_worker_that_is_killed_while_it_loads_leaves_the_old_one_serving() -> None:
    with site("--graceful-timeout", "4") as one:
        (new,) = one.reload(1)
        one.server.signal(signal.SIGKILL, new)
        one.server.wait_for_log("No new worker came up: this one serves on")
        assert workers_of(one.server, 1) == one.old
        assert one.answers() == {"old"}


def test_for_each_new_worker_that_fails_one_old_worker_serves_on() -> None:
    with site("--graceful-timeout", "4", workers=2) as two:
        two.file("broken").touch()
        two.reload(2)
        two.let_one_load()
        two.server.wait_for_log("No new worker came up: this one serves on")
        assert set(two.old) < set(two.server.worker_pids())
        two.file("broken").unlink()
        two.let_one_load()
        # The oldest leaves for the one that came up.
        eventually(lambda: two.old[0] not in two.server.worker_pids(), "the oldest has left")
        assert two.old[1] in workers_of(two.server, 2)


def test_a_worker_that_fails_later_is_replaced_until_its_replacement_loads() -> None:
    with site(workers=2) as two:
        two.file("broken").touch()
        two.open()
        two.server.signal(signal.SIGKILL, two.old[0])
        two.server.wait_for_log("the other workers serve on", count=2)
        assert two.answers() == {"old"}
        two.file("broken").unlink()
        assert two.old[1] in workers_of(two.server, 2)
        eventually(lambda: two.server.notes().count("loaded") == 3, "the replacement has loaded")


@pytest.mark.parametrize("reloads", [False, True], ids=["crash", "failed reload"])
def test_a_stop_does_not_wait_for_workers_that_fail_to_boot(reloads: bool) -> None:
    with site("--graceful-timeout", "3", workers=2) as two:
        two.file("broken").touch()
        two.open()
        if reloads:
            two.server.signal(signal.SIGHUP)
            two.server.wait_for_log("No new worker came up: this one serves on", count=2)
        failed = two.server.stderr_text().count("the other workers serve on")
        two.server.signal(signal.SIGKILL, two.old[0])
        two.server.wait_for_log("the other workers serve on", count=failed + 1)
        two.server.signal(signal.SIGTERM)
        assert two.server.wait() == 0
        assert "SIGKILL!" not in two.server.stderr_text().split("Handling signal: term")[1]


def test_a_failed_reload_and_max_requests_do_not_halt_the_site() -> None:
    with site("--graceful-timeout", "2", "--max-requests", "5", workers=2) as two:
        two.file("broken").touch()
        two.open()
        two.server.signal(signal.SIGHUP)
        two.server.wait_for_log("No new worker came up: this one serves on", count=2)
        eventually(lambda: two.answers() and len(restarting(two.server)) == 2, "both are spent")
        # gunicorn looks after its workers again when graceful_timeout is over, and they are there.
        two.server.signal(signal.SIGUSR1)
        two.server.wait_for_log("Handling signal: usr1")
        assert two.answers() == {"old"}
        assert workers_of(two.server, 2) == two.old


def test_an_application_that_does_not_load_at_the_start_stops_gunicorn() -> None:
    with gunicorn(APP, files={"version": "old", "open": "", "broken": ""}, ready=False) as server:
        assert server.wait() == 3


def test_the_old_worker_does_not_wait_for_ever() -> None:
    with site("--graceful-timeout", "2") as one:
        (new,) = one.reload(1)
        assert workers_of(one.server, 1) == [new]


def test_a_stop_during_a_reload_ends_all() -> None:
    with site("--graceful-timeout", "3") as one:
        one.reload(1)
        # gunicorn looks at its signals again when the old worker has gone.
        assert one.server.stop() == 0
        assert "SIGKILL" not in one.server.stderr_text()


def test_a_stop_is_no_failure_because_a_worker_fails_to_boot_meanwhile() -> None:
    with site("--graceful-timeout", "10", workers=2) as two:
        two.server.signal(signal.SIGKILL, two.old[0])
        (new,) = two.new(3)[2:]
        two.server.signal(signal.SIGTERM)
        eventually(lambda: two.server.worker_pids() == [new], "only the one that loads is left")
        two.file("broken").touch()
        two.open()
        assert two.server.wait() == 0
        two.server.wait_for_log("Worker failed to boot, and was told to leave")


def test_a_worker_that_is_told_to_leave_while_it_loads_serves_nobody() -> None:
    with site() as one:
        (new,) = one.reload(1)
        one.server.signal(signal.SIGTERM, new)
        one.open()
        eventually(lambda: new not in one.server.worker_pids(), "it has left")
        assert one.answers() <= {"old", "new"}


def test_max_requests_takes_one_worker_at_a_time() -> None:
    with site("--max-requests", "5", workers=2) as two:
        # Both have served their share.
        eventually(lambda: two.answers() and len(restarting(two.server)) == 2, "both are spent")
        two.new(3)
        (left,) = set(two.old) - set(two.server.worker_pids())
        (stays,) = set(two.old) - {left}
        assert two.server.get().text == f"old {stays}"
        two.open()
        eventually(lambda: stays not in two.server.worker_pids(), "the other has left as well")


def restarting(server: Server) -> list[str]:
    """The workers that have said that they restart."""
    return re.findall(r"\[(\d+)\] \[INFO\] Autorestarting worker", server.stderr_text())
