"""MEINHELD_REQUEST_TIMEOUT: no client waits longer, whatever becomes of the application."""

from __future__ import annotations

import contextlib

import pytest
from harness import OURS, THREADED, Client, Server, Truncated, eventually, request
from thread_pool import TOGETHER_ROUTE, Gate, thread_names, together

APP = """
import os, threading, time
from apps.hang import holds_the_gil
from apps.hold import wait_for_file
from apps.notes import note
from apps.routes import Routes, text

app = Routes()


@app.route
def pid(environ, start_response):
    return text(start_response, str(os.getpid()))


@app.route
def naps(environ, start_response):
    time.sleep(0.05)
    return text(start_response, "rested")


@app.route
def is_held(environ, start_response):
    note("held")
    wait_for_file("open-gate")
    return text(start_response, "let go")


class Closing(list):
    def close(self):
        note(f"closed on {threading.current_thread().name}")


@app.route
def closes(environ, start_response):
    note(f"called on {threading.current_thread().name}")
    wait_for_file("open-gate")
    start_response("200 OK", [])
    return Closing([b"late"])


class SlowToClose(list):
    def close(self):
        wait_for_file("open-gate")
        note("closed")


@app.route
def closes_slowly(environ, start_response):
    start_response("200 OK", [("Content-Length", "300000")])
    return SlowToClose([b"x" * 300_000])


@app.route
def writes(environ, start_response):
    wait_for_file("open-gate")
    try:
        start_response("200 OK", [])(b"late")
    except OSError as error:
        note(type(error).__name__)
        raise


@app.route
def reads(environ, start_response):
    try:
        environ["wsgi.input"].read()
    except OSError as error:
        note(f"read failed: {type(error).__name__}")
        raise


app.route(holds_the_gil)


class Stream:
    def __init__(self):
        self.blocks = iter([b"first", b"second", b"third"])

    def __iter__(self):
        return self

    def __next__(self):
        block = next(self.blocks)
        note(f"asked for {block.decode()}")
        if block == b"second":
            wait_for_file("open-gate")
        return block

    def close(self):
        note("closed")


@app.route
def streams(environ, start_response):
    start_response("200 OK", [])
    return Stream()
"""
CUT_OFF = (
    r"^\[[-0-9: +]+\] \[%s\] \[WATCHDOG\] %s: [A-Z]+ /%s from 127\.0\.0\.1 "
    r"for \d+\.\d s; MEINHELD_REQUEST_TIMEOUT is 1\.0 s$"
)
THREADS = 2

pytestmark = pytest.mark.skipif(not OURS, reason="a setting of ours")


def start(*args: str, timeout: int = 60) -> Server:
    env = {"MEINHELD_REQUEST_TIMEOUT": "1"}
    return Server.start(APP + TOGETHER_ROUTE, "--timeout", str(timeout), *args, env=env)


def is_aborted(server: Server, client: Client, pid: int, target: str) -> None:
    """The client sees that its answer is broken, and the log says why."""
    with pytest.raises((ConnectionResetError, Truncated)):
        client.response()
    server.wait_for_log(CUT_OFF % (pid, "Connection aborted", target))


def is_denied(server: Server, client: Client, pid: int, target: str, method: str = "GET") -> None:
    """The client is answered, and the log says why."""
    response = client.response(method)
    assert (response.status, response.header("Connection")) == (503, "close")
    assert client.is_closed_by_peer()
    server.wait_for_log(CUT_OFF % (pid, "Answered with 503", target))


is_cut_off = is_denied if THREADED else is_aborted


def test_a_request_that_takes_too_long_loses_its_client_and_the_worker_serves_on() -> None:
    with start("--access-logfile", "-") as server, server.client() as client:
        pid = server.worker_pid()
        client.send(request("GET", "/is_held"))
        is_cut_off(server, client, pid, "is_held")
        Gate(server).open()
        assert server.get("/pid").text == str(pid)
        eventually(lambda: "GET /is_held" in server.stdout_text(), "it has an access record")
        assert server.stdout_text().count("GET /is_held") == 1
        assert "Traceback" not in server.stderr_text()


def test_so_does_one_that_has_begun_to_answer() -> None:
    with start() as server, server.client() as client:
        pid = server.worker_pid()
        client.send(request("GET", "/streams"))
        is_aborted(server, client, pid, "streams")
        Gate(server).open()
        server.wait_for_note("closed")
        assert server.notes() == ["asked for first", "asked for second", "closed"]
        assert server.get("/pid").text == str(pid)


def test_also_while_the_gil_is_held_and_then_the_arbiter_ends_the_worker() -> None:
    with start(timeout=4) as server, server.client() as client:
        pid = server.worker_pid()
        client.send(request("GET", "/holds_the_gil"))
        is_cut_off(server, client, pid, "holds_the_gil")
        server.wait_for_log(rf"WORKER TIMEOUT \(pid:{pid}\)")
        eventually(lambda: pid not in server.worker_pids(), "the arbiter has ended the worker")
        assert server.get("/pid").status == 200


def test_a_connection_lives_as_long_as_each_of_its_requests_is_short() -> None:
    with start() as server, server.client() as client:
        # Together they take longer than one may.
        for _ in range(30):
            assert client.request("GET", "/naps").text == "rested"
        assert "[WATCHDOG]" not in server.stderr_text()


def test_it_needs_no_timeout_of_gunicorns() -> None:
    with start(timeout=0) as server, server.client() as client:
        pid = server.worker_pid()
        client.send(request("GET", "/is_held"))
        is_cut_off(server, client, pid, "is_held")
        Gate(server).open()
        assert server.get("/pid").text == str(pid)


@pytest.mark.own_threads
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_with_threads_what_comes_too_late_is_dropped_and_closed_where_it_was_called(
    method: str,
) -> None:
    with (
        start("--threads", str(THREADS), "--access-logfile", "-") as server,
        server.client() as client,
    ):
        client.send(request(method, "/closes"))
        is_denied(server, client, server.worker_pid(), "closes", method)
        Gate(server).open()
        eventually(lambda: len(server.notes()) == 2, "it is closed")
        called, closed = server.notes()
        assert called.removeprefix("called") == closed.removeprefix("closed")
        # The one record says what the client got.
        assert server.get("/pid").status == 200
        eventually(lambda: "GET /pid" in server.stdout_text(), "its record")
        (line,) = [line for line in server.stdout_text().splitlines() if "/closes" in line]
        assert f'"{method} /closes HTTP/1.1" 503 ' in line


@pytest.mark.own_threads
def test_with_threads_a_late_write_raises_and_so_does_a_read_that_waits() -> None:
    with (
        start("--threads", str(THREADS)) as server,
        server.client() as writer,
        server.client() as reader,
    ):
        pid = server.worker_pid()
        writer.send(request("GET", "/writes"))
        reader.send(b"POST /reads HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
        is_denied(server, writer, pid, "writes")
        is_denied(server, reader, pid, "reads")
        server.wait_for_note("read failed: ConnectionResetError")
        Gate(server).open()
        server.wait_for_note("ConnectionResetError")
        assert server.get("/pid").text == str(pid)


@pytest.mark.own_threads
def test_as_many_stuck_threads_as_there_are_have_others_take_their_place() -> None:
    with start("--threads", str(THREADS)) as server:
        pid = server.worker_pid()
        for number in range(THREADS):
            with server.client() as client:
                client.send(request("GET", "/is_held"))
                is_denied(server, client, pid, "is_held")
            assert server.notes() == ["held"] * (number + 1)
            assert len(together(server, THREADS)) == THREADS
        assert len(thread_names(pid)) == 2 * THREADS
        # Those that come back are not needed any more.
        Gate(server).open()
        eventually(lambda: len(thread_names(pid)) == THREADS, "they end")
        assert len(together(server, THREADS)) == THREADS
        assert server.worker_pid() == pid


def test_an_answer_that_is_complete_arrives_whatever_its_close_does() -> None:
    with start() as server, server.client(receive_buffer=8192) as client:
        pid = server.worker_pid()
        client.send(request("GET", "/closes_slowly"))
        head = client.read_until(b"\r\n\r\n")
        assert b"200 OK" in head
        if THREADED:
            # Inline close() is called when the kernel has all of it.
            server.wait_for_log(CUT_OFF % (pid, "Connection closed, .*", "closes_slowly"))
        assert len(client.read_until_closed()) == 300_000
        server.wait_for_log(CUT_OFF % (pid, "Connection closed, .*", "closes_slowly"))
        Gate(server).open()
        server.wait_for_note("closed")
        assert server.get("/pid").text == str(pid)


@pytest.mark.own_threads
def test_threads_whose_clients_have_gone_are_replaced_too() -> None:
    with start("--threads", str(THREADS)) as server:
        pid = server.worker_pid()
        for number in range(THREADS):
            with server.client() as client:
                client.send(request("GET", "/is_held"))
                server.wait_for_note("held", number + 1)
                client.reset()
        gone = CUT_OFF % (pid, "Given up, its client has gone", "is_held")
        server.wait_for_log(gone, THREADS)
        assert len(together(server, THREADS)) == THREADS
        Gate(server).open()
        eventually(lambda: len(thread_names(pid)) == THREADS, "those that come back end")


@pytest.mark.own_threads
def test_threads_that_come_back_at_once_are_not_taken_for_stuck() -> None:
    """They do when they wait for a body: the cut wakes them."""
    head = b"POST /reads HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf"
    with start("--threads", str(THREADS)) as server:
        pid = server.worker_pid()
        for _ in range(THREADS + 1):
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(server.client()) for _ in range(THREADS)]
                for client in clients:
                    client.send(head)
                for client in clients:
                    is_denied(server, client, pid, "reads")
        eventually(lambda: len(thread_names(pid)) == THREADS, "as many as at first")
        assert len(together(server, THREADS)) == THREADS
        assert server.worker_pid() == pid
        assert "leaving" not in server.stderr_text()


@pytest.mark.own_threads
def test_when_one_more_is_stuck_the_worker_is_replaced() -> None:
    with start("--threads", str(THREADS)) as server:
        pid = server.worker_pid()
        for _ in range(THREADS + 1):
            with server.client() as client:
                client.send(request("GET", "/is_held"))
                is_denied(server, client, pid, "is_held")
        server.wait_for_log("More threads are stuck than can be replaced: leaving")
        # With what it left behind it does not wait for graceful_timeout.
        server.wait_for_log("Left behind, still with the application: GET /is_held", THREADS + 1)
        eventually(lambda: pid not in server.worker_pids(), "it has left")
        assert server.get("/pid").text != str(pid)


@pytest.mark.own_threads
def test_when_every_thread_is_stuck_those_that_wait_for_one_are_turned_away() -> None:
    with start("--threads", str(THREADS), "--access-logfile", "-") as server:
        pid = server.worker_pid()
        for held in range(0, 2 * THREADS, THREADS):
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(server.client()) for _ in range(THREADS)]
                for client in clients:
                    client.send(request("GET", "/is_held"))
                server.wait_for_note("held", held + THREADS)
                waiting = stack.enter_context(server.client())
                waiting.send(request("GET", "/pid"))
                for client in clients:
                    is_denied(server, client, pid, "is_held")
                # The first time others have taken their place, the second time nobody has.
                assert waiting.response().status == (503 if held else 200)
        server.wait_for_log("Every thread is stuck: answered 1 with 503")
        eventually(lambda: '"GET /pid HTTP/1.1" 503 ' in server.stdout_text(), "its record")
        eventually(lambda: pid not in server.worker_pids(), "it has left")
        assert server.get("/pid").text != str(pid)
