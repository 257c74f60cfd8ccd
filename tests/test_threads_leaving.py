"""How a worker with application threads leaves: what it has begun is answered, and idle threads
end."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import pytest
from harness import OURS, Client, Server, Truncated, eventually, request, settled
from thread_pool import (
    EXIT_HOOKS,
    HOLD_ROUTE,
    SMALL,
    SMALL_BUFFERS,
    UNIX,
    Gate,
    ended_well,
    no_thread_is_left,
    side_by_side,
    wait_until_asleep,
    wait_until_read,
)

APP = (
    """
import os
from apps.notes import note
from apps.routes import Routes, text

app = Routes()


@app.route
def pid(environ, start_response):
    note(f"called in {os.getpid()}")
    return text(start_response, str(os.getpid()))


@app.route
def upload(environ, start_response):
    note("stuck")
    try:
        size = len(environ["wsgi.input"].read())
    except OSError as error:
        note(f"read raised {type(error).__name__}")
        raise
    return text(start_response, str(size))


def blocks(environ, start_response):
    count = int(environ["PATH_INFO"].split("/")[2])
    start_response("200 OK", [("Content-Length", str(count * 65536))])
    note("stuck")
    for number in range(count):
        note("block")
        yield b"%08d" % number * 8192


app.route(blocks)


@app.route
def writes(environ, start_response):
    count = int(environ["PATH_INFO"].split("/")[2])
    write = start_response("200 OK", [("Content-Length", str(count * 65536))])
    note("stuck")
    for number in range(count):
        note("block")
        write(b"%08d" % number * 8192)
    return []
"""
    + HOLD_ROUTE
)
pytestmark = pytest.mark.own_threads
ours = pytest.mark.skipif(not OURS, reason="gunicorn's own workers do otherwise")


def start(
    *args: str,
    threads: int = 4,
    app: str = APP,
    config: str = "",
    binds: Sequence[str] = ("127.0.0.1:0",),
) -> Server:
    return Server.start(
        app,
        *("--threads", str(threads)),
        *("--keep-alive", "60"),
        *args,
        config=EXIT_HOOKS + config,
        binds=binds,
    )


# Requests that sleep in threads are answered


def test_on_term_sleeping_requests_are_answered_and_all_threads_end() -> None:
    with start("--graceful-timeout", "60") as server, ExitStack() as stack:
        pid = server.worker_pid()
        clients = [stack.enter_context(server.client()) for _ in range(3)]
        for number, client in enumerate(clients):
            client.send(request("GET", f"/hold/gate/{number}"))
            server.wait_for_note(f"holding gate/{number}")
        server.signal(signal.SIGTERM)
        server.wait_for_note(f"told to leave {pid}")
        Gate(server).open()
        for number, client in enumerate(clients):
            response = client.response()
            assert response.text == f"held gate/{number}"
            assert response.header("Connection") == "close" or not OURS
            assert client.read_until_closed() == b""
        # Long before graceful_timeout: no idle thread is waited for.
        assert server.wait() == 0
        ended_well(server, pid)
        no_thread_is_left(server)


def test_on_term_an_idle_worker_s_threads_end() -> None:
    with start("--graceful-timeout", "60") as server:
        pid = server.worker_pid()
        assert server.get("/pid").text == str(pid)
        assert server.stop() == 0
        ended_well(server, pid)
        no_thread_is_left(server)


def test_on_hup_sleeping_requests_are_answered_by_the_old_worker() -> None:
    with start("--graceful-timeout", "60") as server, ExitStack() as stack:
        old = server.worker_pid()
        clients = [stack.enter_context(server.client()) for _ in range(3)]
        for number, client in enumerate(clients):
            client.send(request("GET", f"/hold/gate/{number}"))
            server.wait_for_note(f"holding gate/{number}")
        server.signal(signal.SIGHUP)
        eventually(lambda: server.get("/pid").text != str(old), "a new worker serves")
        Gate(server).open()
        for number, client in enumerate(clients):
            assert client.response().text == f"held gate/{number}"
        ended_well(server, old)
        no_thread_is_left(server)
        assert server.get("/pid").status == 200


@ours
def test_requests_that_wait_for_a_thread_are_answered_too() -> None:
    with (
        start("--graceful-timeout", "60", threads=2, binds=UNIX) as server,
        ExitStack() as stack,
    ):
        old = server.worker_pid()
        clients = [stack.enter_context(server.client()) for _ in range(30)]
        for number, client in enumerate(clients):
            client.send(request("GET", f"/hold/gate/{number}"))
            wait_until_read(client)
        server.signal(signal.SIGHUP)
        server.wait_for_note(f"told to leave {old}")
        Gate(server).open()
        for number, client in enumerate(clients):
            assert client.response().text == f"held gate/{number}"
        ended_well(server, old)


def test_on_term_a_request_whose_client_has_gone_may_still_come_to_its_end() -> None:
    """It may be in the middle of a transaction."""
    with start("--graceful-timeout", "60") as server:
        pid = server.worker_pid()
        with server.client() as client:
            client.send(request("GET", "/hold/gate/0"))
            server.wait_for_note("holding gate/0")
            client.reset()
        server.signal(signal.SIGHUP)
        eventually(lambda: server.get("/pid").text != str(pid), "a new worker serves")
        assert settled(lambda: pid in server.worker_pids()) is True
        Gate(server).open()
        ended_well(server, pid)


# Signals while every thread waits for its client


def sends_half(server: Server, client: Client) -> Callable[[], bytes]:
    client.send(request("POST", "/upload", {"Content-Length": "300000"}, bytes(100_000)))

    def finish() -> bytes:
        client.send(bytes(200_000))
        response = client.response()
        assert response.header("Connection") == "close" or not OURS
        return response.body

    return finish


def reads_nothing(path: str) -> Callable[[Server, Client], Callable[[], bytes]]:
    def begin(server: Server, client: Client) -> Callable[[], bytes]:
        client.send(request("GET", f"/{path}/200"))
        return lambda: client.response().body

    return begin


BLOCKS = b"".join(b"%08d" % number * 8192 for number in range(200))
WAITS = {
    "in-a-read": (sends_half, b"300000"),
    "for-room": (reads_nothing("blocks"), BLOCKS),
    "for-room-in-write": (reads_nothing("writes"), BLOCKS),
}


@pytest.mark.parametrize(("begin", "expected"), WAITS.values(), ids=WAITS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_all_threads_wait_for_their_clients_loses_nothing(
    number: signal.Signals,
    begin: Callable[[Server, Client], Callable[[], bytes]],
    expected: bytes,
) -> None:
    with (
        start("--graceful-timeout", "60", threads=2, config=SMALL_BUFFERS) as server,
        ExitStack() as stack,
    ):
        old = server.worker_pid()
        clients = [stack.enter_context(server.client(receive_buffer=SMALL)) for _ in range(2)]
        finish = [begin(server, client) for client in clients]
        server.wait_for_note("stuck", 2)
        wait_until_asleep(server)
        server.signal(number)
        server.wait_for_note(f"told to leave {old}")
        assert side_by_side(finish) == [expected] * 2
        ended_well(server, old)
        no_thread_is_left(server)


@ours
@pytest.mark.parametrize("begin", [begin for begin, _ in WAITS.values()], ids=WAITS)
def test_clients_that_never_go_on_do_not_keep_the_worker_beyond_graceful_timeout(
    begin: Callable[[Server, Client], Callable[[], bytes]],
) -> None:
    with (
        start("--graceful-timeout", "1", threads=2, config=SMALL_BUFFERS) as server,
        ExitStack() as stack,
    ):
        old = server.worker_pid()
        clients = [stack.enter_context(server.client(receive_buffer=SMALL)) for _ in range(2)]
        for client in clients:
            begin(server, client)
        server.wait_for_note("stuck", 2)
        wait_until_asleep(server)
        server.signal(signal.SIGHUP)
        ended_well(server, old)
        no_thread_is_left(server)
        for client in clients:
            with pytest.raises((OSError, Truncated)):
                client.response()
                raise Truncated(b"answered without its body")


# max_requests


def test_a_worker_serves_exactly_max_requests_and_then_another_one_does() -> None:
    with start("--max-requests", "6", "--graceful-timeout", "60") as server:
        pids = []
        for _ in range(3):
            with server.client() as client:
                answers = [client.request("GET", "/pid") for _ in range(6)]
                last = [answer.header("Connection") == "close" for answer in answers]
                assert last == [False] * 5 + [True]
                assert client.read_until_closed() == b""
            assert len({answer.text for answer in answers}) == 1
            pids.append(answers[0].text)
            ended_well(server, int(pids[-1]))
        assert len(set(pids)) == 3
        for pid in pids:
            assert server.notes().count(f"called in {pid}") == 6
        no_thread_is_left(server)


def test_max_requests_with_all_threads_at_work_loses_no_request() -> None:
    with start("--max-requests", "20", "--graceful-timeout", "60") as server:

        def ask() -> list[str]:
            answers = []
            for _ in range(25):
                with server.client() as client:
                    response = client.request("GET", "/pid", {"Connection": "close"})
                    assert response.status == 200
                    answers.append(response.text)
            return answers

        pids = [pid for answers in side_by_side([ask] * 8) for pid in answers]
        assert len(pids) == 200
        for pid in set(pids):
            # Those of the others that were connected already have their answers, too.
            assert pids.count(pid) >= 20 or int(pid) in server.worker_pids()


def test_max_requests_is_reached_while_others_sleep() -> None:
    with start("--max-requests", "4", "--graceful-timeout", "60") as server, ExitStack() as stack:
        old = server.worker_pid()
        clients = [stack.enter_context(server.client()) for _ in range(3)]
        for number, client in enumerate(clients):
            client.send(request("GET", f"/hold/gate/{number}"))
            server.wait_for_note(f"holding gate/{number}")
        assert server.get("/pid").header("Connection") == "close"
        # The next one can be served when this worker is gone: the arbiter has no other so long.
        late = stack.enter_context(server.client())
        late.send(request("GET", "/pid"))
        server.wait_for_note(f"told to leave {old}")
        Gate(server).open()
        for number, client in enumerate(clients):
            assert client.response().text == f"held gate/{number}"
        assert late.response().text != str(old)
        ended_well(server, old)
