"""A thread that is stuck in the application holds nothing up when its worker leaves: it is left
behind."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from contextlib import ExitStack

import pytest
from harness import OURS, Server, Truncated, eventually, request
from thread_pool import (
    EXIT_HOOKS,
    HOLD_ROUTE,
    UNIX,
    Gate,
    ended_well,
    wait_until_asleep,
    wait_until_read,
)

APP = (
    """
import logging, os, sys, threading, time
from apps.notes import note
from apps.routes import Routes, text

app = Routes()


@app.route
def pid(environ, start_response):
    return text(start_response, str(os.getpid()))


@app.route
def sleeps(environ, start_response):
    note("stuck")
    time.sleep(1000)


@app.route
def wakes_all_the_time(environ, start_response):
    note("stuck")
    while True:
        time.sleep(0.0005)


@app.route
def computes(environ, start_response):
    note("stuck")
    while True:
        pass


@app.route
def holds_a_lock(environ, start_response):
    note("stuck")
    lock = threading.Lock()
    with lock:
        lock.acquire()


class Unreachable(logging.Handler):
    # Of a log server that answers no more.
    def emit(self, record):
        time.sleep(1000)


logging.getLogger("site").addHandler(Unreachable())


@app.route
def logs(environ, start_response):
    note("stuck")
    logging.getLogger("site").warning("stuck, with the handler locked")


@app.route
def prints(environ, start_response):
    # To a pipe that nobody empties.
    environ["pipe"] = os.pipe()
    sys.stdout = open(environ["pipe"][1], "w")
    note("stuck")
    print("x" * 10_000_000)


@app.route
def imports(environ, start_response):
    with open("slow_to_import.py", "w") as module:
        module.write("import time\\ntime.sleep(1000)\\n")
    note("stuck")
    import slow_to_import


@app.route
def sleeps_in_its_generator(environ, start_response):
    start_response("200 OK", [])
    yield b"first"
    note("stuck")
    time.sleep(1000)


@app.route
def refuses_to_go(environ, start_response):
    while True:
        try:
            time.sleep(0.001)
            note("stuck")
            time.sleep(1000)
        except BaseException as error:
            note(f"was thrown {type(error).__name__}")
"""
    + HOLD_ROUTE
)
SLOW_TO_END = (
    APP
    + """

import atexit


class Lingers:
    def __del__(self, sleep=time.sleep):
        # Called when the interpreter is half gone: other threads get the GIL, or want it.
        sleep(0.2)


lingers = Lingers()
atexit.register(time.sleep, 0.2)
"""
)
STUCK = [
    "sleeps",
    "wakes_all_the_time",
    "computes",
    "holds_a_lock",
    "logs",
    "prints",
    "imports",
    "sleeps_in_its_generator",
    "refuses_to_go",
]
pytestmark = [
    pytest.mark.own_threads,
    pytest.mark.skipif(not OURS, reason="gunicorn's own workers do otherwise"),
]


def start(
    graceful_timeout: int,
    threads: int = 4,
    app: str = APP,
    binds: Sequence[str] = ("127.0.0.1:0",),
) -> Server:
    return Server.start(
        app,
        *("--threads", str(threads)),
        *("--keep-alive", "60"),
        *("--graceful-timeout", str(graceful_timeout)),
        config=EXIT_HOOKS,
        binds=binds,
    )


@pytest.mark.parametrize(
    ("number", "source"),
    [(signal.SIGHUP, APP), (signal.SIGHUP, SLOW_TO_END), (signal.SIGTERM, APP)],
    ids=["hup", "hup-slow-to-end", "term"],
)
@pytest.mark.parametrize("way", STUCK)
def test_a_thread_stuck_past_graceful_timeout_does_not_stop_the_worker_from_exiting(
    way: str, number: signal.Signals, source: str
) -> None:
    """It ends by itself, on TERM too, where the arbiter kills what is left after that time."""
    with (
        start(2, app=source) as server,
        server.client() as client,
        server.client() as other,
    ):
        old = server.worker_pid()
        other.send(request("GET", "/hold/gate/other"))
        client.send(request("GET", f"/{way}"))
        server.wait_for_note("stuck")
        server.wait_for_note("holding gate/other")
        server.signal(number)
        server.wait_for_note(f"told to leave {old}")
        if number == signal.SIGHUP:
            eventually(lambda: server.get("/pid").text != str(old), "a new worker serves")
        Gate(server).open()
        # Whoever is not stuck is answered all the same.
        assert other.response().text == "held gate/other"
        ended_well(server, old)
        # Nobody makes an answer up.
        with pytest.raises((OSError, Truncated)):
            client.response()
            raise Truncated(b"answered")
        server.wait_for_log(rf"Left behind, still with the application: GET /{way}\b")
        left = [note for note in server.notes() if note.startswith("threads left: ")]
        assert len(left) == 1 and left[0].count("meinheld-") == 1
        if number == signal.SIGHUP:
            assert server.get("/pid").status == 200
        else:
            assert server.wait() == 0


def test_all_threads_stuck_and_requests_waiting_for_them_do_not_stop_it_either() -> None:
    with (
        start(1, threads=2, binds=UNIX) as server,
        ExitStack() as stack,
    ):
        old = server.worker_pid()
        clients = [stack.enter_context(server.client()) for _ in range(12)]
        for client in clients:
            client.send(request("GET", "/sleeps"))
            wait_until_read(client)
        server.wait_for_note("stuck", 2)
        wait_until_asleep(server)
        server.signal(signal.SIGHUP)
        ended_well(server, old)
        # Those that waited were not called when it was too late for them.
        assert server.notes().count("stuck") == 2
        for client in clients:
            assert client.is_closed_by_peer()


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGINT])
@pytest.mark.parametrize("way", STUCK)
def test_quit_with_stuck_threads_ends_the_worker_at_once(number: signal.Signals, way: str) -> None:
    """graceful_timeout is a minute, which the test does not wait for."""
    with (
        start(60, app=SLOW_TO_END) as server,
        ExitStack() as stack,
    ):
        old = server.worker_pid()
        for _ in range(4):
            client = stack.enter_context(server.client())
            client.send(request("GET", f"/{way}"))
        server.wait_for_note("stuck", 4)
        server.signal(number)
        assert server.wait() == 0
        ended_well(server, old)


def test_quit_ends_a_worker_that_drains() -> None:
    with start(60) as server, server.client() as client:
        old = server.worker_pid()
        client.send(request("GET", "/sleeps"))
        server.wait_for_note("stuck")
        server.signal(signal.SIGHUP)
        eventually(lambda: server.get("/pid").text != str(old), "a new worker serves")
        server.signal(signal.SIGQUIT, old)
        ended_well(server, old)
