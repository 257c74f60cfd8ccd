"""Application threads: a request stays on one of them from its call to `close()`, as many run at
the same time as there are threads, and they are called in the order in which they came."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import OURS, Server, eventually, request, settled
from procfs import open_files
from thread_pool import (
    HOLD_ROUTE,
    TOGETHER_ROUTE,
    UNIX,
    Gate,
    holding,
    side_by_side,
    thread_names,
    together,
    wait_until_read,
)

THREADS = 4
APP = (
    """
import contextvars, json, threading, time
from apps.notes import note
from apps.routes import Routes, text

app = Routes()
local = threading.local()
current = contextvars.ContextVar("current", default="nobody")


def trace(name, event):
    thread = threading.current_thread()
    note(json.dumps([name, event, str(thread.ident), thread.name, current.get(), local.name]))


def begin(environ):
    name = environ["PATH_INFO"].rpartition("/")[2]
    local.name = name
    current.set(name)
    trace(name, "call")
    return name


class Body:
    def __init__(self, name, blocks):
        self.name, self.blocks = name, iter(blocks)

    def __iter__(self):
        trace(self.name, "iter")
        return self

    def __next__(self):
        time.sleep(0)
        trace(self.name, "next")
        return next(self.blocks)

    def close(self):
        trace(self.name, "close")


@app.route
def iterated(environ, start_response):
    name = begin(environ)
    start_response("200 OK", [])
    return Body(name, [bytes(50_000)] * 10)


@app.route
def generated(environ, start_response):
    name = begin(environ)
    start_response("200 OK", [])
    try:
        for _ in range(10):
            trace(name, "block")
            yield bytes(50_000)
    finally:
        trace(name, "finally")


@app.route
def written(environ, start_response):
    name = begin(environ)
    write = start_response("200 OK", [])
    for _ in range(10):
        write(bytes(50_000))
        trace(name, "written")
    return Body(name, [])


@app.route
def read(environ, start_response):
    name = begin(environ)
    while environ["wsgi.input"].read(20_000):
        trace(name, "read")
    return Body(name, text(start_response, "read"))


@app.route
def broken(environ, start_response):
    name = begin(environ)
    start_response("200 OK", [])
    yield bytes(100_000)
    trace(name, "raise")
    raise ValueError(name)


@app.route
def multithread(environ, start_response):
    return text(start_response, repr((environ["wsgi.multithread"], environ["wsgi.multiprocess"])))


@app.route
def kept(environ, start_response):
    if not hasattr(local, "calls"):
        local.calls = 0
    local.calls += 1
    return text(start_response, str(local.calls))


@app.route
def well(environ, start_response):
    return text(start_response, "all is well")
"""
    + HOLD_ROUTE
    + TOGETHER_ROUTE
)
HOOKS = """
import json, threading
from apps.notes import note


def trace(event, req):
    thread = threading.current_thread()
    name = req.path.rpartition("/")[2]
    note(json.dumps([name, event, str(thread.ident), thread.name, name, name]))


def pre_request(worker, req):
    trace("pre_request", req)


def post_request(worker, req, environ, resp):
    trace("post_request", req)


def post_worker_init(worker):
    note(f"loop {threading.get_ident()}")


def post_fork(arbiter, worker):
    # Lets py-spy look at it where only a process's parent may.
    import ctypes

    PR_SET_PTRACER, ANYBODY = 0x59616D61, ctypes.c_ulong(-1)
    ctypes.CDLL(None).prctl(PR_SET_PTRACER, ANYBODY, 0, 0, 0)
"""
pytestmark = pytest.mark.own_threads
ours = pytest.mark.skipif(not OURS, reason="gunicorn's own workers do otherwise")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP, "--threads", str(THREADS), "--keep-alive", "60", config=HOOKS) as server:
        yield server


@pytest.fixture
def pair() -> Iterator[Server]:
    """A server of two threads that nobody else uses."""
    with Server.start(APP, "--threads", "2", "--keep-alive", "60", binds=UNIX) as pair:
        yield pair


def traces(server: Server, name: str) -> list[list[str]]:
    """`[event, thread's ident, its name, context variable, thread-local]` of one request."""

    def found() -> list[list[str]]:
        lines = [json.loads(note) for note in server.notes() if note.startswith(f'["{name}"')]
        events = [line[1:] for line in lines]
        return events if [line for line in events if line[0] == "post_request"] else []

    return eventually(found, f"{name} comes to its end")


def loop_thread(server: Server) -> str:
    (ident,) = (note.split()[1] for note in server.notes() if note.startswith("loop "))
    return ident


# One thread for a request


EVENTS = {
    "iterated": {"call", "iter", "next", "close"},
    "generated": {"call", "block", "finally"},
    "written": {"call", "written", "iter", "next", "close"},
    "read": {"call", "read", "iter", "next", "close"},
    "broken": {"call", "raise"},
}


@pytest.mark.parametrize("way", EVENTS)
def test_a_request_stays_on_one_thread_from_pre_request_to_post_request(
    server: Server, way: str
) -> None:
    """Also while others run, and while its client makes it wait: thread-locals and context
    variables are its own all the time."""
    names = [f"{way}-{number}" for number in range(THREADS * 5)]

    def ask(name: str) -> None:
        with server.client(receive_buffer=16384) as client:
            if way == "read":
                client.send(request("POST", f"/read/{name}", {"Content-Length": "100000"}))
                for _ in range(10):
                    client.send(bytes(10_000))
                assert client.response().text == "read"
                return
            client.send(request("GET", f"/{way}/{name}", {"Connection": "close"}))
            with contextlib.suppress(ConnectionResetError):
                # Broken off, where the application is.
                client.read_until_closed()

    side_by_side([lambda name=name: ask(name) for name in names])  # type: ignore[misc]
    for name in names:
        events = traces(server, name)
        assert events[0][0] == "pre_request" and events[-1][0] == "post_request"
        assert {event[0] for event in events[1:-1]} == EVENTS[way]
        assert len({event[1] for event in events}) == 1, events
        assert {(event[3], event[4]) for event in events} == {(name, name)}


def test_no_application_code_runs_on_the_loop_s_thread(server: Server) -> None:
    server.get("/iterated/loop")
    assert loop_thread(server) not in {event[1] for event in traces(server, "loop")}


def test_what_a_thread_keeps_is_there_for_its_next_request(server: Server) -> None:
    """As the database connections of frameworks are: no more of them than threads."""
    first, total = 0, 200

    def ask() -> list[int]:
        with server.client() as client:
            return [int(client.request("GET", "/kept").text) for _ in range(total // 8)]

    for counts in side_by_side([ask] * 8):
        first += counts.count(1)
    assert 1 <= first <= THREADS


# What it is told, and how the threads are called


@pytest.mark.parametrize("threads", ["2", "40"])
def test_wsgi_multithread_says_that_there_are_threads(threads: str) -> None:
    with Server.start(APP, "--threads", threads) as server:
        assert server.get("/multithread").text == "(True, False)"


@ours
def test_with_one_thread_the_application_runs_inline() -> None:
    with Server.start(APP, "--threads", "1", config=HOOKS) as server:
        assert server.get("/multithread").text == "(False, False)"
        assert server.get("/iterated/inline").status == 200
        assert {event[1] for event in traces(server, "inline")} == {loop_thread(server)}
        assert thread_names(server.worker_pid()) == []


@pytest.mark.parametrize(
    ("threads", "said"), [("-1", "must be positive: -1"), ("some", "invalid int value: 'some'")]
)
def test_a_number_of_threads_that_is_none_is_refused_by_gunicorn(threads: str, said: str) -> None:
    with Server.start(APP, f"--threads={threads}", ready=False) as server:
        assert server.wait() != 0
        assert said in server.stderr_text()


@ours
def test_no_thread_at_all_is_refused_in_one_line() -> None:
    with Server.start(APP, "--threads", "0", ready=False) as server:
        assert server.wait() != 0
        assert "threads = 0: " in server.stderr_text()
        assert "Traceback" not in server.stderr_text()


NAMES = [f"meinheld-{number}" for number in range(1, THREADS + 1)]


@ours
def test_the_threads_have_names_in_python_and_in_the_kernel(server: Server) -> None:
    assert together(server, THREADS) == NAMES
    assert thread_names(server.worker_pid()) == NAMES


@ours
def test_py_spy_shows_the_threads_and_where_they_are(server: Server) -> None:
    py_spy = Path(sys.executable).with_name("py-spy")
    command = str(py_spy) if py_spy.exists() else shutil.which("py-spy")
    if command is None:
        pytest.skip("py-spy is not installed")
    with holding(server, 1, "spied"):
        dump = subprocess.run(
            [command, "dump", "--pid", str(server.worker_pid())],
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert dump.returncode == 0, dump.stderr
    for name in NAMES:
        assert f'"{name}"' in dump.stdout
    stacks = [text for text in dump.stdout.split("\nThread ") if "wait_for_file" in text]
    assert len(stacks) == 1 and '"meinheld-' in stacks[0], dump.stdout


# As many at the same time, and no more


def test_as_many_requests_run_at_the_same_time_as_there_are_threads(server: Server) -> None:
    """They wait for each other inside the application: with fewer nobody would be answered."""

    def ask() -> int:
        return server.get(f"/together/{THREADS}").status

    assert side_by_side([ask] * THREADS * 10) == [200] * THREADS * 10


@pytest.mark.parametrize("start", range(12))
def test_the_first_requests_of_a_worker_may_come_all_at_once(start: int) -> None:
    """What is made at its first use is made while other threads want it, too. A fault shows in some
    starts only, so there are several."""
    post = {"Content-Type": "text/plain", "Content-Length": "2", "X-Start": str(start)}
    with (
        Server.start(APP, "--threads", "8", "--keep-alive", "60") as server,
        contextlib.ExitStack() as stack,
    ):
        clients = [stack.enter_context(server.client()) for _ in range(16)]
        for number, client in enumerate(clients):
            path = "/well" if number % 2 else f"/read/first{number}"
            client.send(request("POST", path, post, b"hi"))
        for number, client in enumerate(clients):
            assert client.response().text == ("all is well" if number % 2 else "read")


def test_no_more_requests_run_than_there_are_threads(server: Server) -> None:
    total, gate = THREADS * 5, Gate(server, "crowd")
    clients = [server.client() for _ in range(total)]
    for number, client in enumerate(clients):
        client.send(request("GET", f"/hold/crowd/{number}"))

    def inside() -> int:
        return len([note for note in server.notes() if note.startswith("holding crowd/")])

    eventually(lambda: inside() == THREADS, "every thread has a request")
    assert settled(inside) == THREADS
    gate.open()
    for number, client in enumerate(clients):
        assert client.response().text == f"held crowd/{number}"
        client.close()


def test_a_thread_that_sleeps_does_not_hold_up_the_others(server: Server) -> None:
    with holding(server, THREADS - 1, "sleepers"), server.client() as client:
        for _ in range(100):
            assert client.request("GET", "/well").status == 200


def test_pipelined_requests_are_answered_in_order_one_after_the_other(server: Server) -> None:
    """Though there are threads enough for all of them: the answers share a connection."""
    with server.client() as client:
        client.send(b"".join(request("GET", f"/hold/pipe{n}") for n in range(3)))
        for number in range(3):
            server.wait_for_note(f"holding pipe{number}")
            assert f"holding pipe{number + 1}" not in server.notes()
            Gate(server, f"pipe{number}").open()
            assert client.response().text == f"held pipe{number}"


# In the order in which they came


@ours
def test_requests_that_wait_for_a_thread_are_called_first_come_first_served(pair: Server) -> None:
    with holding(pair, 1), holding(pair, 1, "first") as first:
        clients = [pair.client() for _ in range(40)]
        for number, client in enumerate(clients):
            client.send(request("GET", f"/hold/none/{number}"))
            wait_until_read(client)
        Gate(pair, "none").open()
        first.open()
        for number, client in enumerate(clients):
            assert client.response().text == f"held none/{number}"
            client.close()
        called = [note for note in pair.notes() if note.startswith("holding none/")]
    # One thread was held all the time, so that the other called them one by one.
    assert called == [f"holding none/{number}" for number in range(40)]


@ours
def test_a_connection_that_pipelines_does_not_overtake_those_that_wait(pair: Server) -> None:
    """Its next request queues behind the others'."""
    with holding(pair, 1), holding(pair, 1, "first") as first:
        greedy, modest = pair.client(), [pair.client() for _ in range(5)]
        greedy.send(b"".join(request("GET", f"/hold/none/greedy{n}") for n in range(10)))
        wait_until_read(greedy)
        for number, client in enumerate(modest):
            client.send(request("GET", f"/hold/none/modest{number}"))
            wait_until_read(client)
        Gate(pair, "none").open()
        first.open()
        for _ in range(10):
            assert greedy.response().status == 200
        for client in modest:
            assert client.response().status == 200
            client.close()
        greedy.close()
        called = [
            note.removeprefix("holding none/")
            for note in pair.notes()
            if note.startswith("holding none/")
        ]
    assert called[:6] == ["greedy0", *(f"modest{number}" for number in range(5))]
    assert called[6:] == [f"greedy{number}" for number in range(1, 10)]


@ours
def test_a_request_whose_client_has_gone_while_it_waited_is_not_called(pair: Server) -> None:
    pid = pair.worker_pid()
    with holding(pair, 2):
        before = set(open_files(pid))
        opened = set()
        for number in range(20):
            with pair.client() as client:
                client.send(request("GET", f"/hold/none/gone{number}"))
                wait_until_read(client)
                opened |= set(open_files(pid)) - before
        assert opened
        eventually(lambda: opened.isdisjoint(open_files(pid)), "the connections are closed")
        Gate(pair, "none").open()
    with pair.client() as client:
        assert client.request("GET", "/well").status == 200
    assert not [note for note in pair.notes() if note.startswith("holding none/")]
