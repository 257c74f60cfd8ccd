"""MEINHELD_REQUEST_TIMEOUT: no client waits longer, whatever becomes of the application."""

from __future__ import annotations

import pytest
from harness import OURS, Client, Server, Truncated, eventually, request
from thread_pool import Gate

APP = """
import ctypes, os, time
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
    wait_for_file("open-gate")
    return text(start_response, "let go")


@app.route
def holds_the_gil(environ, start_response):
    reader, writer = os.pipe()
    ctypes.PyDLL(None).read(reader, ctypes.create_string_buffer(1), 1)


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
    r"^\[[-0-9: +]+\] \[%s\] \[WATCHDOG\] Connection aborted: GET /%s from 127\.0\.0\.1 "
    r"for \d+\.\d s; MEINHELD_REQUEST_TIMEOUT is 1\.0 s$"
)

pytestmark = pytest.mark.skipif(not OURS, reason="a setting of ours")


def start(*args: str, timeout: int = 60) -> Server:
    env = {"MEINHELD_REQUEST_TIMEOUT": "1"}
    return Server.start(APP, "--timeout", str(timeout), *args, env=env)


def is_cut_off(server: Server, client: Client, pid: int, target: str) -> None:
    """The client sees that its answer is broken, and the log says why."""
    with pytest.raises((ConnectionResetError, Truncated)):
        client.response()
    server.wait_for_log(CUT_OFF % (pid, target))


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
        is_cut_off(server, client, pid, "streams")
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
