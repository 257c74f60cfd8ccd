"""More requests than the application threads can take: the worker stops accepting and reading,
serves everybody in the end, and keeps its heartbeat whatever its threads do."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

import pytest
from harness import (
    OURS,
    Client,
    Server,
    beats,
    eventually,
    forget_peak_memory,
    loop_seconds,
    memory_kib,
    request,
    settled,
)
from thread_pool import (
    CHANNEL,
    EXIT_HOOKS,
    HOLD_ROUTE,
    SMALL,
    SMALL_BUFFERS,
    UNIX,
    Gate,
    ended_well,
    holding,
    side_by_side,
    unread,
)
from wellness import assert_comes_to_rest

THREADS = 2
ROOM = THREADS * CHANNEL
BATCH = 256
"""Sockets that one wait reports as ready: they are read before the worker notices that it has
enough."""
CROWD = 400
"""More clients than the worker can have requests of: what it has room for, and one batch."""
APP = (
    """
import os, re, time
from apps.notes import note
from apps.routes import Routes, text

app = Routes()


@app.route
def pid(environ, start_response):
    return text(start_response, str(os.getpid()))


@app.route
def upload(environ, start_response):
    note("upload called")
    return text(start_response, str(len(environ["wsgi.input"].read())))


@app.route
def endless(environ, start_response):
    start_response("200 OK", [])
    note("busy")
    while True:
        yield bytes(65536)


@app.route
def computes(environ, start_response):
    note("busy")
    while not os.path.exists("open-gate"):
        sum(range(1000))
    return text(start_response, "computed")


@app.route
def never_lets_go(environ, start_response):
    note("busy")
    # Backtracks for ever, and holds the GIL all the time.
    re.match("(a+)+$", "a" * 64 + "b")
"""
    + HOLD_ROUTE
)
pytestmark = [
    pytest.mark.own_threads,
    pytest.mark.skipif(not OURS, reason="it is about the channel between loop and threads"),
]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server.start(
        APP, "--threads", str(THREADS), "--keep-alive", "60", config=EXIT_HOOKS, binds=UNIX
    ) as server:
        yield server


@contextmanager
def connected(server: Server, count: int) -> Iterator[list[Client]]:
    with ExitStack() as stack:
        yield [stack.enter_context(server.client()) for _ in range(count)]


def called(server: Server, name: str) -> int:
    return len([note for note in server.notes() if note.startswith(f"holding {name}/")])


# The full channel


def test_new_connections_wait_in_the_kernel_and_are_all_answered_in_the_end(
    server: Server,
) -> None:
    pid = server.worker_pid()
    with holding(server, THREADS) as gate, connected(server, CROWD) as clients:
        for number, client in enumerate(clients):
            client.send(request("GET", f"/hold/none/{number}"))
        waiting = settled(lambda: unread(clients))
        # Those in the channel were read, and a burst that was being accepted when it filled up.
        assert CROWD - 2 * ROOM <= waiting <= CROWD - ROOM
        Gate(server, "none").open()
        gate.open()
        for number, client in enumerate(clients):
            assert client.response().text == f"held none/{number}"
    assert called(server, "none") == CROWD
    assert server.worker_pid() == pid


def test_connections_that_are_open_already_are_not_read_either(server: Server) -> None:
    with connected(server, 2 * CROWD) as clients:
        for client in clients:
            assert client.request("GET", "/pid").status == 200
        with holding(server, THREADS) as gate:
            for number, client in enumerate(clients):
                client.send(request("GET", f"/hold/none/{number}"))
            # What one wait of the loop had reported was still read.
            assert settled(lambda: unread(clients)) >= len(clients) - ROOM - BATCH
            Gate(server, "none").open()
            gate.open()
            for number, client in enumerate(clients):
                assert client.response().text == f"held none/{number}"


def test_of_who_pipelines_into_a_full_channel_little_is_read(server: Server) -> None:
    """One request of a connection at a time is with the threads."""
    count = 500
    pipelined = b"".join(
        request("GET", f"/hold/none/{n}", {"X-Filler": "x" * 4000}) for n in range(count)
    )
    with holding(server, THREADS) as gate, server.client() as client:
        sent = 0
        client.socket.setblocking(False)

        def more() -> int:
            nonlocal sent
            with suppress(BlockingIOError):
                sent += client.socket.send(pipelined[sent:])
            return sent

        # A UNIX socket's buffer, and the worker's.
        assert settled(more) < 512 * 1024 < len(pipelined)
        client.socket.settimeout(60)
        Gate(server, "none").open()
        gate.open()

        def read() -> list[str]:
            return [client.response().text for _ in range(count)]

        def send() -> list[str]:
            client.send(pipelined[sent:])
            return []

        answers = max(side_by_side([read, send]))
        assert answers == [f"held none/{number}" for number in range(count)]


def test_memory_is_bounded_while_hundreds_wait(server: Server) -> None:
    pid = server.worker_pid()
    head = {"Content-Length": str(1 << 20)}
    with holding(server, THREADS) as gate, connected(server, CROWD) as clients:
        forget_peak_memory(pid)
        before = memory_kib(pid, "VmHWM")
        for client in clients:
            client.socket.setblocking(False)
            data = request("POST", "/upload", head) + bytes(1 << 20)
            client.buffer = data[client.socket.send(data) :]
        for _ in range(10):
            for client in clients:
                try:
                    client.buffer = client.buffer[client.socket.send(client.buffer) :]
                except BlockingIOError:
                    continue
        settled(lambda: unread(clients), during=0.3)
        # The window of those that were read, 256 KiB each, and not a megabyte of everybody.
        assert memory_kib(pid, "VmHWM") - before < 2 * ROOM * 256 + 32 * 1024
        gate.open()

        def finish(client: Client) -> str:
            client.socket.settimeout(60)
            rest, client.buffer = client.buffer, b""
            client.send(rest)
            return client.response().text

        # Side by side: the threads may be reading the bodies of any two of them.
        answers = side_by_side([partial(finish, client) for client in clients])
        assert answers == [str(1 << 20)] * CROWD
    assert server.notes().count("upload called") == CROWD


def test_a_full_worker_uses_no_processor_time(server: Server) -> None:
    """What it does not want to hear of it does not listen to."""
    with holding(server, THREADS), connected(server, CROWD) as clients:
        # Of the threads inside, too: so they sleep where nothing polls.
        for number, client in enumerate(clients):
            client.send(request("GET", f"/hold/none/{number}"))
        settled(lambda: unread(clients))
        assert_comes_to_rest(server.worker_pid())
        Gate(server, "none").open()


def test_clients_that_give_up_while_the_channel_is_full_make_room(server: Server) -> None:
    with holding(server, THREADS) as gate:
        with connected(server, CROWD) as clients:
            for number, client in enumerate(clients):
                client.send(request("GET", f"/hold/none/{number}"))
            settled(lambda: unread(clients))
            for client in clients:
                client.reset()
        with connected(server, ROOM) as clients:
            for number, client in enumerate(clients):
                client.send(request("GET", f"/hold/late/{number}"))
            Gate(server, "none").open()
            Gate(server, "late").open()
            gate.open()
            for number, client in enumerate(clients):
                assert client.response().text == f"held late/{number}"


@pytest.mark.parametrize("binds", [["127.0.0.1:0"], UNIX], ids=["tcp", "unix"])
def test_a_second_worker_gets_the_connections_that_a_full_one_does_not_take(
    binds: list[str],
) -> None:
    settings = ["--threads", str(THREADS), "--workers", "2", "--keep-alive", "60"]
    with (
        Server.start(APP, *settings, binds=binds) as server,
        ExitStack() as stack,
    ):
        eventually(lambda: len(server.worker_pids()) == 2, "two workers")
        everybody = [stack.enter_context(server.client()) for _ in range(CROWD)]
        owners = [client.request("GET", "/pid").text for client in everybody]
        full = max(owners, key=owners.count)
        (other,) = {str(pid) for pid in server.worker_pids()} - {full}

        def fill(worker: str, clients: list[Client], name: str) -> None:
            assert len(clients) > ROOM + THREADS
            for number, client in enumerate(clients):
                client.send(request("GET", f"/hold/{name}/{number}"))
            eventually(lambda: called(server, name) == THREADS, "its threads are busy")
            settled(lambda: loop_seconds(int(worker)))

        def release(clients: list[Client], name: str) -> None:
            Gate(server, name).open()
            for number, client in enumerate(clients):
                assert client.response().text == f"held {name}/{number}"

        held = [client for client, owner in zip(everybody, owners, strict=True) if owner == full]
        fill(full, held, "first")
        late = [stack.enter_context(server.client()) for _ in range(ROOM + THREADS + 10)]
        for client in late:
            assert client.request("GET", "/pid").text == other
        release(held, "first")
        # And the other way about: so it accepts again.
        fill(other, late, "second")
        for _ in range(100):
            assert server.get("/pid").text == full
        release(late, "second")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_full_worker_that_is_told_to_leave_answers_everybody_it_has_accepted(
    server: Server, number: signal.Signals
) -> None:
    pid = server.worker_pid()
    with connected(server, CROWD) as clients:
        for client in clients:
            assert client.request("GET", "/pid").status == 200
        with holding(server, THREADS) as gate:
            for position, client in enumerate(clients):
                client.send(request("GET", f"/hold/none/{position}"))
            assert settled(lambda: unread(clients))
            server.signal(number)
            server.wait_for_note(f"told to leave {pid}")
            Gate(server, "none").open()
            gate.open()
            for position, client in enumerate(clients):
                assert client.response().text == f"held none/{position}"
    ended_well(server, pid)


# The heartbeat


TIMEOUT = 2


@pytest.mark.parametrize("busy", ["hold/gate/1", "computes", "endless", "upload"])
def test_the_heart_beats_while_all_threads_are_busy_for_longer_than_the_timeout(busy: str) -> None:
    with (
        Server.start(
            APP, "--threads", str(THREADS), "--timeout", str(TIMEOUT), config=SMALL_BUFFERS
        ) as server,
        ExitStack() as stack,
    ):
        pid = server.worker_pid()
        clients = [
            stack.enter_context(server.client(receive_buffer=SMALL)) for _ in range(THREADS * 2)
        ]
        for client in clients:
            if busy == "upload":
                client.send(request("POST", "/upload", {"Content-Length": "10"}, b"12345"))
            else:
                client.send(request("GET", f"/{busy}"))
        clock = stack.enter_context(server.client(timeout=2.5 * TIMEOUT))
        with pytest.raises(TimeoutError):
            # Nobody ever answers it. That much time passes: the arbiter would have noticed.
            clock.receive()
        last = beats(pid)
        eventually(lambda: beats(pid) != last, "the heart beats")
        Gate(server).open()
        # All first: which of them the threads are busy with is theirs to say.
        for client in clients:
            if busy == "upload":
                client.send(b"67890")
            elif busy == "endless":
                client.reset()
        if busy != "endless":
            for client in clients:
                assert client.response().status == 200
        assert server.worker_pid() == pid
        assert "WORKER TIMEOUT" not in server.stderr_text()


def test_a_thread_that_holds_the_gil_for_ever_stops_the_heart() -> None:
    """So the arbiter replaces a worker that can serve nobody any more."""
    with (
        Server.start(APP, "--threads", str(THREADS), "--timeout", str(TIMEOUT)) as server,
        server.client() as client,
    ):
        pid = server.worker_pid()
        client.send(request("GET", "/never_lets_go"))
        server.wait_for_note("busy")
        server.wait_for_log(rf"WORKER TIMEOUT \(pid:{pid}\)")
        eventually(lambda: pid not in server.worker_pids(), "the worker is replaced", within=30)
        assert client.is_closed_by_peer()
        successor = eventually(lambda: server.get("/pid").text, "a successor serves")
        assert re.fullmatch(r"\d+", successor) and successor != str(pid)
