"""After `patch_all()` locks and queues are right for greenlets, too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import Server
from patched import assert_behaves, behaviours, serving

pytestmark = pytest.mark.own_threads

APP = "patched_locks"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(APP) as server:
        yield server


@pytest.mark.parametrize("behaviour", behaviours(APP))
def test_on_the_loop(server: Server, behaviour: str) -> None:
    assert_behaves(server, behaviour)
