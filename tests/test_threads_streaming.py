"""Answers under `--threads`: every block leaves at once, a producer is at most 256 KiB ahead of its
client, and who has gone is noticed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from harness import OURS, Client, Server, eventually, open_files, request, settled
from thread_pool import AHEAD, KERNEL, SMALL, SMALL_BUFFERS

THREADS = 2
APP = """
import os, time
from apps.hold import wait_for_file
from apps.notes import note
from apps.routes import Routes, text

app = Routes()
LARGE = 8 << 20


def split(environ):
    return environ["PATH_INFO"].split("/")[2:]


class Counted:
    \"\"\"Notes each block that is asked for, and how it ended.\"\"\"

    def __init__(self, name, count, size):
        self.name, self.left, self.block = name, count, bytes(size)

    def __iter__(self):
        return self

    def __next__(self):
        if not self.left:
            raise StopIteration
        self.left -= 1
        note(f"{self.name} block")
        return self.block

    def close(self):
        note(f"{self.name} closed")


@app.route
def well(environ, start_response):
    return text(start_response, "all is well")


@app.route
def blocks(environ, start_response):
    name, count, size = split(environ)
    start_response("200 OK", [])
    return Counted(name, int(count), int(size))


@app.route
def write(environ, start_response):
    name, count, size = split(environ)
    write = start_response("200 OK", [])
    body = Counted(name, int(count), int(size))
    try:
        for block in body:
            write(block)
    except Exception as error:
        note(f"{name} raised {type(error).__name__}")
        raise
    finally:
        body.close()
    return []


@app.route
def writes_after_a_sleep(environ, start_response):
    (name,) = split(environ)
    write = start_response("200 OK", [])
    write(b"first")
    wait_for_file(f"wake-{name}")
    try:
        write(b"second")
    except Exception as error:
        note(f"{name} raised {type(error).__name__}")
        raise
    note(f"{name} was not told")
    return []


@app.route
def events(environ, start_response):
    (name,) = split(environ)
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    try:
        for number in range(4):
            note(f"{name} asked for {number}")
            wait_for_file(f"{name}-{number}")
            yield b"data: %d\\n\\n" % number
    finally:
        note(f"{name} closed")


@app.route
def written_events(environ, start_response):
    (name,) = split(environ)
    write = start_response("200 OK", [("Content-Type", "text/event-stream")])
    for number in range(4):
        wait_for_file(f"{name}-{number}")
        write(b"data: %d\\n\\n" % number)
    note(f"{name} closed")
    return []


def gone(sock):
    if sock.fileno() != -1:
        return False
    try:
        sock.getpeername()
    except OSError:
        return True


def watch(sock, name):
    note(f"{name} watching")
    deadline = time.monotonic() + 60
    while not gone(sock) and time.monotonic() < deadline:
        time.sleep(0.005)
    note(f"{name} {'noticed' if gone(sock) else 'noticed nothing'}")


@app.route
def watching_stream(environ, start_response):
    (name,) = split(environ)
    start_response("200 OK", [])
    try:
        yield b"first"
        watch(environ["gunicorn.socket"], name)
        yield b"second"
        note(f"{name} asked for more")
    finally:
        note(f"{name} closed")


@app.route
def watching_poll(environ, start_response):
    (name,) = split(environ)
    watch(environ["gunicorn.socket"], name)
    return text(start_response, "too late")


@app.route
def whole(environ, start_response):
    note("large answer called")
    start_response("200 OK", [("Content-Length", str(LARGE))])
    return [bytes(LARGE // 4)] * 4


@app.route
def file(environ, start_response):
    note("large answer called")
    with open("data", "wb") as out:
        out.truncate(LARGE)
    start_response("200 OK", [("Content-Length", str(LARGE))])
    return environ["wsgi.file_wrapper"](open("data", "rb"))


class Unsendable:
    \"\"\"A file that has no descriptor: its blocks are read one by one.\"\"\"

    def __init__(self):
        self.left = LARGE

    def read(self, size):
        size = min(size, self.left)
        self.left -= size
        return bytes(size)


@app.route
def file_like(environ, start_response):
    start_response("200 OK", [("Content-Length", str(LARGE))])
    return environ["wsgi.file_wrapper"](Unsendable(), 65536)
"""
LARGE = 8 << 20
BLOCK = 4096
WAYS = ["blocks", "write"]
ours = pytest.mark.skipif(not OURS, reason="gunicorn's own workers do not promise it")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(
        APP, "--threads", str(THREADS), "--keep-alive", "60", config=SMALL_BUFFERS
    ) as server:
        yield server


@pytest.fixture(autouse=True)
def all_threads_are_free_afterwards(server: Server) -> Iterator[None]:
    pid, said = server.worker_pid(), len(server.stderr_text())
    yield
    with ExitStack() as stack:
        for _ in range(THREADS * 2):
            client = stack.enter_context(server.client())
            assert client.request("GET", "/well").text == "all is well"
    assert server.worker_pid() == pid
    assert "Traceback" not in server.stderr_text()[said:]


def produced(server: Server, name: str) -> int:
    """Octets that the application was asked for, in blocks of BLOCK."""
    return server.notes().count(f"{name} block") * BLOCK


def stalled(server: Server, client: Client, way: str, name: str) -> int:
    """Asks for an answer without an end and does not read it; returns how much of it was made
    before the application was made to wait."""
    client.send(request("GET", f"/{way}/{name}/100000/{BLOCK}"))
    eventually(lambda: produced(server, name), "the first block")
    return settled(lambda: produced(server, name))


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
        made = stalled(server, client, way, name)
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
        made = stalled(server, client, way, name)
        for _ in range(3):
            taken += len(client.read_exactly(1 << 20))
            assert produced(server, name) > made
            made = settled(lambda: produced(server, name), during=0.2)
            # What was read has the chunks' framing in it, so this is on the generous side.
            assert made <= taken + AHEAD + KERNEL + BLOCK
        client.reset()
    server.wait_for_note(f"{name} closed")


@pytest.mark.parametrize("way", WAYS)
def test_of_blocks_larger_than_that_only_one_is_taken_ahead(server: Server, way: str) -> None:
    name, size = f"larger-{way}", 1 << 20
    with server.client(receive_buffer=SMALL) as client:
        client.send(request("GET", f"/{way}/{name}/20/{size}"))
        eventually(lambda: f"{name} block" in server.notes(), "the first block")
        assert settled(lambda: server.notes().count(f"{name} block")) <= 2
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
        stalled(server, client, way, name)
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


# The client vanishes


@pytest.mark.parametrize("way", WAYS)
def test_a_vanished_client_ends_the_iteration_and_close_is_called_once(
    server: Server, way: str
) -> None:
    name = f"vanished-{way}"
    with server.client(receive_buffer=SMALL) as client:
        stalled(server, client, way, name)
        client.reset()
    server.wait_for_note(f"{name} closed")
    made = produced(server, name)
    is_served(server)
    assert produced(server, name) == made < 100_000 * BLOCK
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


def sockets(server: Server) -> int:
    return len([name for name in open_files(server.worker_pid()) if name.startswith("socket:")])


@ours
def test_a_sleeping_generator_whose_client_vanished_is_not_asked_again(server: Server) -> None:
    at_rest = settled(lambda: sockets(server))
    with server.client() as client:
        client.send(request("GET", "/events/asleep"))
        (server.directory / "asleep-0").touch()
        client.read_until(b"data: 0\n\n\r\n")
        server.wait_for_note("asleep asked for 1")
        client.reset()
    eventually(lambda: sockets(server) <= at_rest, "the connection is closed without a write")
    for number in (1, 2, 3):
        (server.directory / f"asleep-{number}").touch()
    server.wait_for_note("asleep closed")
    assert "asleep asked for 2" not in server.notes()
    assert server.notes().count("asleep closed") == 1


@ours
def test_a_sleeping_writer_whose_client_vanished_gets_a_connection_reset_error(
    server: Server,
) -> None:
    at_rest = settled(lambda: sockets(server))
    with server.client() as client:
        client.send(request("GET", "/writes_after_a_sleep/late"))
        client.read_until(b"first\r\n")
        client.reset()
    eventually(lambda: sockets(server) <= at_rest, "the connection is closed without a write")
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
