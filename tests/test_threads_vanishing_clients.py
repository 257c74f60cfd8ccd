"""Clients that vanish in the middle of an answer, under `--threads`: the application is told, and
its thread is free again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import OURS, Client, Server, eventually, request, settled
from procfs import accepted_socket, open_files
from thread_pool import SMALL, SMALL_BUFFERS, produced, stalled, threads_live_on

THREADS = 2
BLOCK = 4096
WAYS = ["blocks", "write"]
pytestmark = pytest.mark.own_threads
ours = pytest.mark.skipif(not OURS, reason="gunicorn's own workers do not promise it")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(
        "apps.streams:app", "--threads", str(THREADS), "--keep-alive", "60", config=SMALL_BUFFERS
    ) as server:
        yield server


@pytest.fixture(autouse=True)
def all_threads_are_free_afterwards(server: Server) -> Iterator[None]:
    with threads_live_on(server, THREADS):
        yield


def vanish(server: Server, client: Client) -> None:
    """The worker has noticed by itself: nothing was read or written meanwhile."""
    accepted, pid = accepted_socket(client.socket.getsockname()), server.worker_pid()
    assert accepted in open_files(pid)
    client.reset()
    eventually(lambda: accepted not in open_files(pid), "the connection is closed")


@pytest.mark.parametrize("way", WAYS)
def test_a_vanished_client_ends_the_iteration_and_close_is_called_once(
    server: Server, way: str
) -> None:
    name = f"vanished-{way}"
    with server.client(receive_buffer=SMALL) as client:
        stalled(server, client, way, name, BLOCK)
        client.reset()
    server.wait_for_note(f"{name} closed")
    made = produced(server, name)
    assert server.get("/well").text == "all is well"
    assert produced(server, name) == made < 100_000
    assert server.notes().count(f"{name} closed") == 1
    if way == "write" and OURS:
        assert server.notes().count(f"{name} raised ConnectionResetError") == 1


@pytest.mark.parametrize("way", WAYS)
def test_so_it_is_in_the_middle_of_a_stream_that_is_being_read(server: Server, way: str) -> None:
    name = f"cut-{way}"
    with server.client() as client:
        client.send(request("GET", f"/{way}/{name}/100000/{BLOCK}"))
        client.read_exactly(1 << 20)
        client.reset()
    server.wait_for_note(f"{name} closed")
    assert server.notes().count(f"{name} closed") == 1


@ours
def test_a_sleeping_generator_whose_client_vanished_is_not_asked_again(server: Server) -> None:
    with server.client() as client:
        client.send(request("GET", "/events/asleep"))
        (server.directory / "asleep-0").touch()
        client.read_until(b"data: 0\n\n\r\n")
        server.wait_for_note("asleep asked for 1")
        vanish(server, client)
    for number in (1, 2, 3):
        (server.directory / f"asleep-{number}").touch()
    server.wait_for_note("asleep closed")
    assert "asleep asked for 2" not in server.notes()
    assert server.notes().count("asleep closed") == 1


@ours
def test_a_sleeping_writer_whose_client_vanished_gets_a_connection_reset_error(
    server: Server,
) -> None:
    with server.client() as client:
        client.send(request("GET", "/writes_after_a_sleep/late"))
        client.read_until(b"first\r\n")
        vanish(server, client)
    (server.directory / "wake-late").touch()
    server.wait_for_note("late raised ConnectionResetError")


@ours
@pytest.mark.parametrize("path", ["watching_stream", "watching_poll"])
def test_the_application_can_see_in_its_socket_that_the_client_has_gone(
    server: Server, path: str
) -> None:
    """So it gives its thread back: more clients vanish here than there are threads."""
    for number in range(THREADS + 1):
        name = f"{path}-{number}"
        with server.client() as client:
            client.send(request("GET", f"/{path}/{name}"))
            server.wait_for_note(f"{name} watching")
            if path == "watching_stream":
                client.read_until(b"first\r\n")
            client.reset()
        server.wait_for_note(f"{name} noticed")
        if path == "watching_stream":
            server.wait_for_note(f"{name} closed")
            assert f"{name} asked for more" not in server.notes()


@ours
def test_a_client_that_half_closed_and_then_vanished_is_noticed(server: Server) -> None:
    """After its FIN there is nothing left to read that would tell of it."""
    with server.client() as client:
        client.send(request("GET", "/watching_stream/fin"))
        client.read_until(b"first\r\n")
        client.half_close()
        server.wait_for_note("fin watching")
        assert settled(lambda: "fin noticed" in server.notes()) is False
        client.reset()
    server.wait_for_note("fin noticed")
    server.wait_for_note("fin closed")


@ours
def test_a_client_that_vanishes_behind_pipelined_requests_is_noticed(server: Server) -> None:
    """What waits unread behind the request does not hide the end of the connection."""
    with server.client() as client:
        client.send(request("GET", "/watching_poll/pipe"))
        server.wait_for_note("pipe watching")
        client.send(request("GET", "/well", {"X-Filler": "x" * 4000}) * 30)
        client.reset()
    server.wait_for_note("pipe noticed")
