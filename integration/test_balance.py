"""Connections spread over the workers: who has fewer takes the next."""

from __future__ import annotations

import contextlib
import signal
from collections import Counter
from collections.abc import Iterator

import pytest
from harness import Client, Server
from support import gunicorn, workers_of
from syscalls import traced

pytestmark = pytest.mark.timeout(120)

APP = """
import os


def app(environ, start_response):
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""

LISTENER = str(1 << 62)
"""How the loop's epoll set names its first listener."""


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
    with site(4) as server, contextlib.ExitStack() as stack:
        # All at once, as a load balancer that starts.
        counts = served_by(connect(server, stack, 64))
        assert len(counts) == 4
        assert max(counts.values()) <= 1.25 * min(counts.values())


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


def test_a_connection_wakes_one_worker() -> None:
    connections = 100
    with site(4) as server, contextlib.ExitStack() as stack:
        traces = [
            stack.enter_context(traced(worker, "epoll_pwait")) for worker in server.worker_pids()
        ]
        for _ in range(connections):
            with server.client() as client:
                client.request()
        stack.close()
    wakes = sum(LISTENER in line for trace in traces for line in trace.lines)
    assert connections <= wakes < 1.5 * connections
