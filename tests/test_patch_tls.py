"""After `patch_all()` TLS that waits keeps no other request from running."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import Server

pytestmark = pytest.mark.own_threads


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start("apps.patched_tls:app", "--threads", "1") as server:
        yield server


@pytest.mark.parametrize(
    "behaviour",
    [
        "both_ends_shake_hands",
        "reading_and_writing_wait",
        "both_ends_close_the_layer",
        "a_timeout_is_the_standard_error",
        "without_blocking_it_asks_to_wait",
        "a_certificate_is_verified",
        "the_end_is_read",
        "what_is_closed_ends_the_wait_for_it",
        "a_listener_of_tls_accepts",
        "one_reads_while_another_writes",
    ],
)
def test_on_the_loop(server: Server, behaviour: str) -> None:
    response = server.get(f"/{behaviour}")
    assert response.status == 200, response.text
