"""After `patch_all()` what `threading` and `queue` have for threads is right for greenlets, too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import Server
from standalone import Standalone, serving

pytestmark = pytest.mark.own_threads


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start("apps.patched_threads:app", "--threads", "1") as server:
        yield server


@pytest.mark.parametrize(
    "behaviour",
    [
        "a_greenlet_waits_for_the_lock_of_another",
        "who_waits_longest_gets_the_lock",
        "a_lock_refuses_what_the_standard_one_does",
        "a_thread_frees_what_a_greenlet_waits_for",
        "a_greenlet_frees_what_a_thread_waits_for",
        "no_wake_up_is_lost",
        "a_recursive_lock_belongs_to_one_greenlet",
        "conditions_wake_greenlets_and_threads",
        "a_timeout_may_be_as_long_as_the_standard_one",
        "events_and_semaphores_wait",
        "queues_wait",
        "a_simple_queue_serves_greenlets_and_threads",
        "locks_that_are_older_than_the_patch_work",
        "each_greenlet_has_a_local_of_its_own",
        "what_a_local_holds_ends_with_it",
        "what_a_local_holds_ends_with_the_task",
        "each_greenlet_has_an_ident_and_all_the_thread",
        "a_thread_is_joined_without_keeping_the_loop",
        "pools_of_threads_work_for_greenlets",
        "a_module_is_imported_whole",
        "what_is_imported_gets_the_lock_of_another_greenlet",
        "a_loop_of_asyncio_runs_whole",
        "a_coroutine_waits_for_what_another_greenlet_ends",
        "a_recursive_lock_keeps_a_coroutine_of_another_greenlet_out",
        "a_forked_child_blocks_as_ever",
    ],
)
def test_on_the_loop(server: Server, behaviour: str) -> None:
    response = server.get(f"/{behaviour}")
    assert response.status == 200, response.text


def test_a_module_that_serves_while_it_is_imported_gives_the_loop_up() -> None:
    app = """
from meinheld import patch
patch.patch_all()
import time
from apps.behaviours import together
def app(environ, start_response):
    order = []
    def sleep():
        time.sleep(0.001)
        order.append("woken")
    together(sleep, lambda: order.append("meanwhile"))
    body = " ".join(order).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
    with Standalone.start("import serves", files={"serves.py": serving(app)}) as server:
        assert server.get().text == "meanwhile woken"
