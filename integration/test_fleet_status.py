"""MEINHELD_STATUS with several workers: each answers for all, and what was counted is not lost."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator

import pytest
from harness import Server, eventually
from scrape import Endpoint, Figures, unix_endpoint
from support import gone, gunicorn, master_of, replaced, upgraded, workers_of

APP = """
import time
from pathlib import Path


def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


while Path("closed").exists():
    time.sleep(0.01)
"""

ONCE = pytest.mark.own_threads
"""Whatever thread calls the application."""

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with unix_endpoint() as found:
        yield found


def start(endpoint: Endpoint, workers: int = 2, **files: str) -> Server:
    settings = ("--workers", str(workers), "--keep-alive", "60", "--timeout", "60")
    return gunicorn(APP, *settings, env=endpoint.env, files=files)


@contextlib.contextmanager
def fleet(endpoint: Endpoint, workers: int = 2) -> Iterator[tuple[Server, list[int]]]:
    """A server whose workers all are ready."""
    with start(endpoint, workers) as server:
        yield server, all_ready(endpoint, server, workers)


def all_ready(endpoint: Endpoint, server: Server, workers: int) -> list[int]:
    pids = workers_of(server, workers)
    everybody = dict.fromkeys(pids, "ready")
    eventually(lambda: endpoint.scrape().workers() == everybody, "all workers are ready")
    return pids


class Watcher(threading.Thread):
    """Scrapes one after the other, as long as it is told to."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(daemon=True)
        self.endpoint = endpoint
        self.scrapes: list[Figures] = []
        self.states: set[tuple[int, int]] = set()
        self.error: BaseException | None = None
        self.stopped = threading.Event()

    def run(self) -> None:
        try:
            while not self.stopped.wait(0.002):
                self.states.add(self.endpoint.states())
                self.scrapes.append(self.endpoint.scrape())
        except BaseException as error:
            self.error = error

    def __enter__(self) -> Watcher:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.join(60)
        assert self.error is None, self.error


def never_goes_back(scrapes: list[Figures]) -> None:
    before: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    for scrape in scrapes:
        now = scrape.counters()
        assert now.keys() >= before.keys()
        fallen = {name: (value, now[name]) for name, value in before.items() if now[name] < value}
        assert not fallen
        before = now


def serve(server: Server, count: int) -> None:
    for _ in range(count):
        assert server.get().status == 200


def test_totals_survive_a_reload_and_a_killed_worker(endpoint: Endpoint) -> None:
    with fleet(endpoint) as (server, first):
        with Watcher(endpoint) as watcher:
            serve(server, 20)
            server.signal(signal.SIGHUP)
            second = replaced(server, first, 2)
            all_ready(endpoint, server, 2)
            serve(server, 20)
            endpoint.wait_for(0, "meinheld_requests_in_flight")
            endpoint.wait_for(40, "meinheld_requests_total")
            os.kill(second[0], signal.SIGKILL)
            eventually(lambda: len(set(server.worker_pids()) - set(second)) == 1, "it was replaced")
            all_ready(endpoint, server, 2)
            serve(server, 20)
            endpoint.wait_for(60, "meinheld_requests_total", code="2xx")
        assert len(watcher.scrapes) > 10
        never_goes_back(watcher.scrapes)
        # Somebody was there all the time.
        assert watcher.states == {(200, 200)}
        found = endpoint.scrape()
        assert found.value("meinheld_worker_started_total") == 5
        assert found.value("meinheld_request_duration_seconds_count") == 60
        assert found.value("meinheld_connections_accepted_total") == 60


def test_one_worker_answers_for_all(endpoint: Endpoint) -> None:
    with fleet(endpoint) as (server, pids):
        for silent in pids:
            os.kill(silent, signal.SIGSTOP)
            try:
                eventually(lambda pid=silent: stopped(pid), "it is stopped")  # type: ignore[misc]
                found = endpoint.scrape()
                assert set(found.workers()) == set(pids)
                for pid in pids:
                    name = "meinheld_worker_resident_memory_bytes"
                    assert found.value(name, worker=str(pid)) > 1 << 20
            finally:
                os.kill(silent, signal.SIGCONT)
        assert server.get().status == 200


def stopped(pid: int) -> bool:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "T"


@ONCE
def test_while_the_first_workers_load_nobody_is_ready(endpoint: Endpoint) -> None:
    with start(endpoint, closed="") as server:
        loading = workers_of(server, 2)
        everybody = dict.fromkeys(loading, "booting")
        eventually(lambda: endpoint.scrape().workers() == everybody, "both load")
        assert endpoint.states() == (503, 503)
        (server.directory / "closed").unlink()
        eventually(lambda: endpoint.states() == (200, 200), "they are ready")


def test_while_new_workers_load_the_old_ones_are_ready(endpoint: Endpoint) -> None:
    with fleet(endpoint, workers=1) as (server, (old,)):
        closed = server.directory / "closed"
        closed.touch()
        server.signal(signal.SIGHUP)
        eventually(
            lambda: sorted(endpoint.scrape().workers().values()) == ["booting", "staying"],
            "a new worker loads",
        )
        assert endpoint.states() == (200, 200)
        closed.unlink()
        replaced(server, [old])
        all_ready(endpoint, server, 1)


@ONCE
def test_a_setting_that_changes_on_a_reload_waits_for_a_restart(endpoint: Endpoint) -> None:
    config = f'raw_env = ["MEINHELD_STATUS={endpoint.setting}"]\n'
    with gunicorn(APP, config=config) as server:
        old = all_ready(endpoint, server, 1)
        (server.directory / "gunicorn.conf.py").write_text(config.replace('status"', 'else"'))
        server.signal(signal.SIGHUP)
        server.wait_for_log("MEINHELD_STATUS has changed: only a restart or USR2 heeds it")
        replaced(server, old)
        all_ready(endpoint, server, 1)


@ONCE
def test_after_usr2_the_new_arbiter_answers_on_the_path(endpoint: Endpoint) -> None:
    with fleet(endpoint) as (server, old), master_of(server, upgraded(server)) as arbiter:
        eventually(lambda: not set(endpoint.scrape().workers()) & set(old), "the new ones answer")
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        # Who has gone has not taken the path along.
        eventually(lambda: endpoint.states() == (200, 200), "the new ones are ready")
        assert not set(endpoint.scrape().workers()) & set(old)
        assert not gone(arbiter)


@ONCE
def test_after_usr2_both_arbiters_answer_on_the_port() -> None:
    # A port that is ours, and that nobody listens on yet.
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind(("127.0.0.1", 0))
        endpoint = Endpoint(reserved.getsockname())
        with fleet(endpoint) as (server, old), master_of(server, upgraded(server)):
            heard: set[int] = set()

            def hears_both() -> bool:
                heard.update(endpoint.scrape().workers())
                return bool(heard & set(old)) and len(heard) == 4

            eventually(hears_both, "the one or the other answers")
            server.signal(signal.SIGTERM)
            assert server.wait() == 0
            eventually(lambda: endpoint.states() == (200, 200), "the new ones are ready")
            assert not set(endpoint.scrape().workers()) & set(old)
