"""Calls of the allocator for each request on a warm connection, and that all blocks are given back.

What is counted, and what is not: heap_counts.py. The bounds are what has been measured, the same
both ways of calling an application: whoever makes it less lowers them.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from harness import OURS, THREADED, Server, request
from heap_counts import COUNTED, Counts, cost, counting, counts
from workloads import BROWSER, FILE, HELLO, MEMORY, POST, warmed

pytestmark = [
    pytest.mark.not_green,
    pytest.mark.skipif(not OURS, reason="it is about our own worker's allocations"),
    pytest.mark.skipif(
        bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        reason="a free-threaded Python has an allocator of its own, which is not seen",
    ),
]

COUNT = 500
RARE = COUNT // 5
"""Calls of what happens once a second or so: a Date is written, the heart beats."""
LARGER = int(sys.version_info < (3, 11))
"""Before 3.11 even a small dictionary has more than 512 octets."""


class Bounds(NamedTuple):
    """Calls for each request, at most."""

    request: bytes
    blocks: int
    """Of the native module's, and larger ones of Python's."""
    resized: int
    with_objects: int
    """Blocks, all of Python's objects counted that are not from a free list."""


BOUNDS = {
    # The one block is `environ`.
    "hello": Bounds(HELLO, 1 + LARGER, 0, 5),
    "browser": Bounds(BROWSER, 1 + LARGER, 0, 5),
    "post-1-kib": Bounds(POST, 4 + LARGER, 0, 9),
    # With threads the loop sends what the thread leaves to it.
    "1-mib-from-memory": Bounds(MEMORY, 2 + LARGER + THREADED, 0, 8 + THREADED),
    "1-mib-from-a-file": Bounds(FILE, 3 + LARGER, 1, 19),
}
each_case = pytest.mark.parametrize("case", BOUNDS)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(COUNTED, "--keep-alive", "60", env=counting()) as server:
        yield server


@pytest.fixture(scope="module")
def without_arenas() -> Iterator[Server]:
    """Python asks the allocator for every object, too."""
    with Server.start(COUNTED, "--keep-alive", "60", env=counting("malloc")) as server:
        yield server


def steady_cost(server: Server, what: bytes) -> Counts:
    with warmed(server, what) as client:
        counts(client)
        return cost(client, what, COUNT)


@each_case
def test_a_request_costs_few_allocations(server: Server, case: str) -> None:
    bounds = BOUNDS[case]
    found = steady_cost(server, bounds.request)
    assert found.allocated <= bounds.blocks * COUNT + RARE, found
    assert found.reallocated <= bounds.resized * COUNT + RARE, found
    assert all_given_back(found)


@each_case
def test_a_request_costs_few_objects(without_arenas: Server, case: str) -> None:
    bounds = BOUNDS[case]
    found = steady_cost(without_arenas, bounds.request)
    assert found.allocated <= bounds.with_objects * COUNT + RARE, found
    assert all_given_back(found)


def all_given_back(found: Counts) -> bool:
    """Whether not each request has kept a block; caches, Python's own too, fill now and then."""
    return found.allocated - found.freed < COUNT


def test_an_allocation_is_counted(server: Server) -> None:
    """Or the tests above would show nothing."""
    nothing, two_arrays = (steady_cost(server, request("GET", path)) for path in ("/", "/copy"))
    more = two_arrays - nothing
    assert abs(more.allocated - 2 * COUNT) <= RARE, more
    assert abs(more.freed - 2 * COUNT) <= RARE, more
