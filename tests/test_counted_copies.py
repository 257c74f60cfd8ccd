"""Octets of a body that are copied in user space, in copies of 4,096 octets or more.

What is counted, and what is not: heap_counts.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import OURS, THREADED, Server, request
from heap_counts import COUNTED, Counts, cost, counting
from workloads import FILE, HELLO, LARGE, LARGE_POST, MEMORY, POST, warmed

pytestmark = pytest.mark.skipif(not OURS, reason="it is about our own worker's copies")

COUNT = 50
MEBIBYTE = 1 << 20
COPIED = 2.0 if THREADED else 1.2
"""How often a body of 100 KiB is copied: into the object that the application gets, and before
that what came with the head. With threads it depends on how much has come when it reads."""
MOVED = 0.5
"""What growing buffers may move of it, besides."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(COUNTED, "--keep-alive", "60", env=counting()) as server:
        yield server


def steady_cost(server: Server, what: bytes, count: int = COUNT) -> Counts:
    with warmed(server, what) as client:
        return cost(client, what, count)


def test_a_large_copy_is_counted(server: Server) -> None:
    """Or the tests below would show nothing."""
    found = steady_cost(server, request("GET", "/copy"), 10)
    assert 10 * MEBIBYTE <= found.copied < 11 * MEBIBYTE


def test_a_body_of_100_kib_is_copied_about_once(server: Server) -> None:
    found = steady_cost(server, LARGE_POST)
    # The application's own object is a copy that has to be made.
    assert LARGE * COUNT <= found.copied <= COPIED * LARGE * COUNT, found
    assert found.moved <= MOVED * LARGE * COUNT, found


@pytest.mark.parametrize(
    "what", [HELLO, POST, MEMORY, FILE], ids=["hello", "post-1-kib", "memory", "file"]
)
def test_nothing_else_is_copied(server: Server, what: bytes) -> None:
    found = steady_cost(server, what)
    assert found.copied == found.moved == 0, found
