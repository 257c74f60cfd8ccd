"""After `patch_all()` a socket that waits keeps no other request from running."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import Server, request

pytestmark = pytest.mark.own_threads


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start("apps.patched_sockets:app", "--threads", "1") as server:
        yield server


@pytest.mark.parametrize(
    "behaviour",
    [
        "every_way_to_receive_waits",
        "every_way_to_send_waits",
        "sendall_sends_more_than_there_is_room_for",
        "sendfile_waits",
        "a_file_of_a_socket_waits",
        "accept_and_connect_wait",
        "a_refused_connection_is_the_standard_error",
        "a_full_backlog_of_a_unix_socket_is_waited_for",
        "a_timeout_is_the_standard_error",
        "without_blocking_nothing_waits",
        "nothing_is_received_at_once",
        "waitall_waits_for_all",
        "what_is_closed_ends_the_wait_for_it",
        "another_thread_may_close_what_is_waited_for",
        "several_greenlets_wait_for_one_socket",
        "what_is_older_than_the_patch_waits",
        "threads_block_as_ever",
        "a_thread_and_a_greenlet_accept_from_one_listener",
        "a_thread_that_meets_an_accept_of_a_greenlet_waits",
        "datagrams_go_to_names",
        "names_are_looked_up_in_another_thread",
        "many_lookups_take_few_threads",
        "a_numeric_host_is_not_looked_up",
        "an_unknown_name_is_the_standard_error",
        "select_and_poll_wait_for_one_of_many",
        "select_and_poll_time_out",
        "select_takes_descriptors_beyond_the_systems_bound",
        "select_looks_once_at_what_has_only_hung_up",
        "sleep_lets_others_run",
        "msocket_has_sockets_of_its_own",
    ],
)
def test_on_the_loop(server: Server, behaviour: str) -> None:
    response = server.get(f"/{behaviour}")
    assert response.status == 200, response.text


def test_a_wait_for_a_socket_ends_with_the_server() -> None:
    with Server.start(
        "apps.patched_sockets:app", "--threads", "1", "--graceful-timeout", "1"
    ) as server:
        with server.client() as client:
            client.send(request("GET", "/the_end_of_the_server_ends_the_wait"))
            server.wait_for_note("waits")
            assert server.stop() == 0
        assert server.notes() == ["waits", "ended"]
