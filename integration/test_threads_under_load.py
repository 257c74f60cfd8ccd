"""Reloads and signals under load with `--threads`, while requests sleep in the application: not one
of them is lost."""

from __future__ import annotations

import contextlib
import signal
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from harness import Server, eventually, request
from load import Load
from support import gone, gunicorn, open_gate, reload_under, replaced, workers_of

pytestmark = [pytest.mark.own_threads, pytest.mark.timeout(400)]

THREADS = 8
SLEEPERS = 6
SITE = """
import time
from apps.hold import wait_for_file
from apps.notes import note
from apps.routes import text
from sites.load_site import app as load


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path.startswith("/sleep/"):
        note(f"asleep {path}")
        time.sleep(0.3)
        return text(start_response, f"woken {path}")
    if path.startswith("/hold/"):
        note("held")
        wait_for_file("gate")
        return text(start_response, "held")
    return load(environ, start_response)
"""


def start(workers: int, *args: str) -> Server:
    # The clients' pauses are far shorter than this keepalive: no idle connection times out.
    return gunicorn(
        SITE,
        *("--threads", str(THREADS), "--workers", str(workers)),
        *("--keep-alive", "15", "--graceful-timeout", "60", "--timeout", "60"),
        *args,
    )


class Sleepers:
    """Clients whose every request sleeps in the application for a while, from the start of the
    `with` block until `stop`."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.answered = [0] * SLEEPERS
        self.failures: list[str] = []
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(number,), daemon=True)
            for number in range(SLEEPERS)
        ]

    def __enter__(self) -> Sleepers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a sleeper does not come to its end"

    def _run(self, client: int) -> None:
        for number in range(10_000):
            if self._stopped.is_set() or len(self.failures) > 20:
                return
            path = f"/sleep/{client}/{number}"
            try:
                with self.server.client(timeout=60) as connection:
                    response = connection.request("GET", path)
                    assert response.text == f"woken {path}", response
            except Exception as error:
                self.failures.append(f"{path}: {error!r}")
            self.answered[client] += 1

    def none_was_lost(self) -> None:
        self.stop()
        assert not self.failures
        asleep = [note for note in self.server.notes() if note.startswith("asleep ")]
        # Nor was any called twice.
        assert len(asleep) == len(set(asleep)) == sum(self.answered) > 0


def no_worker_was_killed(server: Server) -> None:
    log = server.stderr_text()
    for complaint in ("SIGKILL", "SIGABRT", "SIGSEGV", "exited with code", "WORKER TIMEOUT"):
        assert complaint not in log
    assert "Traceback" not in log and "Requests lost" not in log


@pytest.mark.parametrize("workers", [1, 2])
def test_hups_under_load_with_sleeping_requests_lose_none(workers: int) -> None:
    with (
        start(workers) as server,
        Sleepers(server) as sleepers,
        Load(server.address) as load,
        # Connections that idle for longer than a leaving worker waits for their next request.
        Load(server.address, keep_alive=8, short=0, pause=3) as seldom,
    ):
        for number in range(8):
            reload_under(load, server, workers, 200, f"HUP {number}")
        sleepers.none_was_lost()
        load.stop()
        seldom.stop()
        load.report().raise_for_failures()
        seldom.report().raise_for_failures()
        no_worker_was_killed(server)


def test_a_storm_of_hups_with_sleeping_requests_loses_none() -> None:
    """Faster than the workers start."""
    with start(2) as server, Sleepers(server) as sleepers, Load(server.address) as load:
        first = workers_of(server, 2)
        load.wait_for_requests(100)
        for number in range(12):
            load.mark(f"HUP {number}")
            server.signal(signal.SIGHUP)
            load.wait_for_requests(5)
            # Two that come before the arbiter looks are one to it.
            server.wait_for_log("Handling signal: hup", count=number + 1, within=90)
        last = set(replaced(server, first, 2))
        load.wait_for_workers(last)
        sleepers.none_was_lost()
        load.stop()
        load.report().raise_for_failures()
        no_worker_was_killed(server)


def test_term_to_workers_under_load_with_sleeping_requests_loses_none() -> None:
    """Twice to each: the second one finds it draining."""
    with start(2) as server, Sleepers(server) as sleepers, Load(server.address) as load:
        for number in range(8):
            victim, _ = workers_of(server, 2)
            load.wait_for_requests(100)
            load.mark(f"TERM {number} to {victim}")
            server.signal(signal.SIGTERM, victim)
            load.wait_for_requests(5)
            with contextlib.suppress(ProcessLookupError):
                server.signal(signal.SIGTERM, victim)
            eventually(lambda victim=victim: gone(victim), "the worker leaves")  # type: ignore[misc]
        sleepers.none_was_lost()
        load.stop()
        load.report().raise_for_failures()
        no_worker_was_killed(server)


def test_while_requests_sleep_in_the_old_worker_the_new_one_serves() -> None:
    with start(1) as server, Load(server.address) as load, ExitStack() as stack:
        old = server.worker_pid()
        clients = [stack.enter_context(server.client()) for _ in range(SLEEPERS)]
        for client in clients:
            client.send(request("GET", "/hold/all"))
        server.wait_for_note("held", SLEEPERS)
        load.mark("HUP")
        server.signal(signal.SIGHUP)
        (new,) = eventually(lambda: set(server.worker_pids()) - {old}, "a new worker")
        load.wait_for_workers({new})
        load.wait_for_requests(500)
        assert old in server.worker_pids()
        open_gate(server)
        for client in clients:
            assert client.response().text == "held"
        replaced(server, [old])
        load.stop()
        load.report().raise_for_failures()
        no_worker_was_killed(server)


def test_workers_that_restart_after_max_requests_lose_no_request() -> None:
    with (
        start(2, "--max-requests", "100", "--max-requests-jitter", "50") as server,
        Load(server.address) as load,
    ):
        eventually(
            lambda: len(load.report().workers) >= 10 or load.report().failures,
            "ten generations of workers",
            within=90,
        )
        load.stop()
        load.report().raise_for_failures()
        no_worker_was_killed(server)


def test_an_arbiter_that_is_killed_leaves_nobody_unanswered() -> None:
    """Its worker leaves, when the requests in it have been answered."""
    with start(1) as server, ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in range(SLEEPERS)]
        for client in clients:
            client.send(request("GET", "/hold/all"))
        server.wait_for_note("held", SLEEPERS)
        worker = server.worker_pid()
        server.signal(signal.SIGKILL)
        server.wait(15)
        open_gate(server)
        for client in clients:
            assert client.response().text == "held"
        eventually(lambda: gone(worker), "the worker leaves")


LOGS = ["--access-logfile", "{dir}/access.log", "--access-logformat", "%(q)s"]


def test_log_rotation_under_load_loses_no_request_and_no_log_line() -> None:
    """Threads write to the log at the moment in which it is reopened."""
    with start(1, *LOGS) as server:
        access = server.directory / "access.log"
        rotated: list[Path] = []
        with Load(server.address) as load:
            for number in range(10):
                load.wait_for_requests(100)
                load.mark(f"rotation {number}")
                rotated.append(access.rename(server.directory / f"access.log.{number}"))
                server.signal(signal.SIGUSR1)
                eventually(lambda: access.exists() and access.stat().st_size, "the log is reopened")
            load.wait_for_requests(100)
        load.report().raise_for_failures()
        assert server.stop() == 0
        lines = [line for path in (*rotated, access) for line in path.read_text().splitlines()]
        assert len(lines) == len(set(lines)) == load.report().requests
        no_worker_was_killed(server)


def test_logs_are_reopened_while_every_thread_is_asleep() -> None:
    with start(1, *LOGS) as server, ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in range(THREADS * 2)]
        for client in clients:
            client.send(request("GET", "/hold/all"))
        server.wait_for_note("held", THREADS)
        access = server.directory / "access.log"
        old = access.rename(server.directory / "access.log.1")
        server.signal(signal.SIGUSR1)
        eventually(access.exists, "the log is reopened")
        open_gate(server)
        for client in clients:
            assert client.response().status == 200
        eventually(
            lambda: len(access.read_text().splitlines()) == len(clients),
            "the answers are in the new log",
        )
        assert old.read_text() == ""
