"""Answers under `--threads`: every block leaves at once, and a producer is at most 256 KiB ahead of
its client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from apps.streams import LARGE
from harness import OURS, Server, eventually, request, settled
from thread_pool import (
    AHEAD,
    KERNEL,
    SMALL,
    SMALL_BUFFERS,
    produced,
    stalled,
    threads_live_on,
)

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


def is_served(server: Server) -> None:
    assert server.get("/well").text == "all is well"


# Each block leaves at once


@pytest.mark.parametrize("way", ["events", "written_events"])
def test_each_block_leaves_at_once(server: Server, way: str) -> None:
    """The next one is held back until the client has this one."""
    with server.client() as client:
        client.send(request("GET", f"/{way}/{way}"))
        for number in range(4):
            (server.directory / f"{way}-{number}").touch()
            if number == 0:
                assert b" 200 OK\r\n" in client.read_until(b"\r\n\r\n")
            expected = b"data: %d\n\n" % number
            assert client.read_exactly(len(expected) + 5) == b"9\r\n" + expected + b"\r\n"
        assert client.read_exactly(5) == b"0\r\n\r\n"
        is_served(server)
    server.wait_for_note(f"{way} closed")


def test_a_client_that_half_closes_gets_all_its_events(server: Server) -> None:
    """A FIN alone says only that it will ask for nothing more."""
    with server.client() as client:
        client.send(request("GET", "/events/half"))
        client.half_close()
        server.wait_for_note("half asked for 0")
        for number in range(4):
            (server.directory / f"half-{number}").touch()
        assert client.response().body == b"data: 0\n\ndata: 1\n\ndata: 2\n\ndata: 3\n\n"
        assert client.is_closed_by_peer()


# 256 KiB ahead, and then it waits


@pytest.mark.parametrize("way", WAYS)
def test_a_producer_is_at_most_256_kib_ahead_of_a_client_that_does_not_read(
    server: Server, way: str
) -> None:
    name = f"ahead-{way}"
    with server.client(receive_buffer=SMALL) as client:
        made = stalled(server, client, way, name, BLOCK) * BLOCK
        # One block is in the producer's hands.
        assert made <= AHEAD + KERNEL + BLOCK
        if OURS:
            assert made > AHEAD / 2
        client.reset()
    server.wait_for_note(f"{name} closed")


@pytest.mark.parametrize("way", WAYS)
def test_it_goes_on_as_the_client_reads(server: Server, way: str) -> None:
    name, taken = f"resumed-{way}", 0
    with server.client(receive_buffer=SMALL) as client:
        made = stalled(server, client, way, name, BLOCK)
        for _ in range(3):
            taken += len(client.read_exactly(1 << 20))
            assert produced(server, name) > made
            made = settled(lambda: produced(server, name), during=0.2)
            # What was read has the chunks' framing in it, so this is on the generous side.
            assert made * BLOCK <= taken + AHEAD + KERNEL + BLOCK
        client.reset()
    server.wait_for_note(f"{name} closed")


@pytest.mark.parametrize("way", WAYS)
def test_of_blocks_larger_than_that_only_one_is_taken_ahead(server: Server, way: str) -> None:
    name, size = f"larger-{way}", 1 << 20
    with server.client(receive_buffer=SMALL) as client:
        client.send(request("GET", f"/{way}/{name}/20/{size}"))
        eventually(lambda: produced(server, name), "the first block")
        assert settled(lambda: produced(server, name)) <= 2
        assert client.response().body == bytes(20 * size)
    server.wait_for_note(f"{name} closed")


@ours
@pytest.mark.parametrize("way", WAYS)
def test_an_answer_that_fits_in_frees_its_thread_though_nobody_reads_it(
    server: Server, way: str
) -> None:
    count = 40
    with ExitStack() as stack:
        clients = [
            stack.enter_context(server.client(receive_buffer=SMALL)) for _ in range(THREADS * 2)
        ]
        for number, client in enumerate(clients):
            client.send(request("GET", f"/{way}/fits-{way}-{number}/{count}/{BLOCK}"))
            server.wait_for_note(f"fits-{way}-{number} closed")
        is_served(server)
        for client in clients:
            assert client.response().body == bytes(count * BLOCK)


@pytest.mark.parametrize("way", WAYS)
def test_meanwhile_the_gil_is_free_and_others_are_served(server: Server, way: str) -> None:
    name = f"meanwhile-{way}"
    with server.client(receive_buffer=SMALL) as client, server.client() as other:
        stalled(server, client, way, name, BLOCK)
        for _ in range(50):
            assert other.request("GET", "/well").status == 200
        client.reset()
    server.wait_for_note(f"{name} closed")


@pytest.mark.parametrize("way", WAYS)
def test_a_request_that_waits_for_a_thread_is_served_when_a_stalled_client_reads(
    server: Server, way: str
) -> None:
    count, size = 64, 65536
    with ExitStack() as stack:
        clients = [stack.enter_context(server.client(receive_buffer=SMALL)) for _ in range(THREADS)]
        for number, client in enumerate(clients):
            client.send(request("GET", f"/{way}/waits-{way}-{number}/{count}/{size}"))
            server.wait_for_note(f"waits-{way}-{number} block")
        other = stack.enter_context(server.client())
        other.send(request("GET", "/well"))
        assert clients[0].response().body == bytes(count * size)
        assert other.response().text == "all is well"
        assert clients[1].response().body == bytes(count * size)


# Whole answers


@ours
@pytest.mark.parametrize("path", ["/whole", "/file"])
def test_a_whole_answer_frees_its_thread_while_a_slow_client_still_reads(
    server: Server, path: str
) -> None:
    with ExitStack() as stack:
        clients = [
            stack.enter_context(server.client(receive_buffer=SMALL)) for _ in range(THREADS * 3)
        ]
        for client in clients:
            client.send(request("GET", path))
            client.read_exactly(1)
            is_served(server)
        for client in clients:
            client.buffer = b"H"
            assert client.response().body == bytes(LARGE)


def test_a_file_without_a_descriptor_arrives_whole(server: Server) -> None:
    with server.client(receive_buffer=SMALL) as client, server.client() as other:
        client.send(request("GET", "/file_like"))
        client.read_exactly(1)
        assert other.request("GET", "/well").status == 200
        client.buffer = b"H"
        assert client.response().body == bytes(LARGE)


@pytest.mark.parametrize("path", ["/whole", "/file"])
def test_whole_answers_do_not_pile_up_for_a_client_that_asks_and_does_not_read(
    server: Server, path: str
) -> None:
    """However many requests it has pipelined: the next one is called when this one is sent."""
    before = server.notes().count("large answer called")
    with server.client(receive_buffer=SMALL) as client:
        client.send(request("GET", path) * 20)
        eventually(lambda: server.notes().count("large answer called") > before, "the first call")
        assert settled(lambda: server.notes().count("large answer called")) - before == 1
        for _ in range(3):
            assert client.response().body == bytes(LARGE)
        assert settled(lambda: server.notes().count("large answer called")) - before <= 4
        client.reset()
