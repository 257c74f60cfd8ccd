"""Connections spread over the workers: who has fewer takes the next."""

from __future__ import annotations

import contextlib
import signal
from collections import Counter
from collections.abc import Iterator

import pytest
from harness import Client, Server
from procfs import thread_status
from support import gunicorn, workers_of

pytestmark = pytest.mark.timeout(120)

APP = """
import os


def app(environ, start_response):
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


@contextlib.contextmanager
def site(workers: int, *args: str) -> Iterator[Server]:
    count = ("--workers", str(workers), "--keep-alive", "60", "--log-level", "debug")
    with gunicorn(APP, *count, *args) as server:
        server.wait_for_log("Worker ready", count=workers)
        yield server


def connect(server: Server, clients: contextlib.ExitStack, count: int) -> list[Client]:
    return [clients.enter_context(server.client()) for _ in range(count)]


def served_by(clients: list[Client]) -> Counter[int]:
    """The connections of each worker."""
    return Counter(int(client.request().text) for client in clients)


def test_four_workers_share_64_connections_evenly() -> None:
    """All at once, as a load balancer that starts opens them."""
    best = 64.0
    with site(4) as server:
        # Who stands still on a busy machine when the last ones come cannot have them: three tries.
        for _ in range(3):
            with contextlib.ExitStack() as stack:
                counts = served_by(connect(server, stack, 64))
            if len(counts) == 4:
                best = min(best, max(counts.values()) / min(counts.values()))
    assert best <= 1.25


def test_connections_that_come_one_after_the_other_are_shared_evenly() -> None:
    with site(4) as server, contextlib.ExitStack() as stack:
        counts: Counter[int] = Counter()
        for _ in range(64):
            counts += served_by(connect(server, stack, 1))
        assert len(counts) == 4
        assert max(counts.values()) <= 1.25 * min(counts.values())


def test_a_new_worker_gets_the_next_connections() -> None:
    with site(2) as server, contextlib.ExitStack() as stack:
        clients = connect(server, stack, 32)
        victim, survivor = served_by(clients)
        server.signal(signal.SIGKILL, victim)
        server.wait_for_log("Worker ready", count=3)
        (new,) = set(workers_of(server, 2)) - {survivor}
        counts = Counter[int]()
        for _ in range(12):
            counts += served_by(connect(server, stack, 1))
        # Each has 16 in the end, or a few of them have gone to the one that was woken first.
        assert counts[new] >= 9


def sleeps(server: Server) -> int:
    """How often the workers' loops have gone to sleep so far."""
    loops = [f"/proc/{worker}/task/{worker}" for worker in server.worker_pids()]
    return sum(int(thread_status(loop, "voluntary_ctxt_switches")) for loop in loops)


@pytest.mark.inline_only
def test_a_connection_wakes_one_worker() -> None:
    """Looked at without threads of the application's, which wake the loop as well. Woken by each
    connection, all four would sleep four times as often. A worker that stands back for the others
    also wakes when it comes back."""
    connections = 200
    with site(4) as server, contextlib.ExitStack() as stack:
        before = sleeps(server)
        for _ in range(connections):
            served_by(connect(server, stack, 1))
        woken = sleeps(server) - before
    assert connections / 2 <= woken < 2 * connections
