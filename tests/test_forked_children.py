"""A process that the application forks never runs the loop, and never keeps a client waiting."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from harness import Server, children, eventually, request
from wellness import REAP_ROUTE

APP = (
    """
import os, subprocess, sys, time
from apps.notes import note
from apps.routes import Routes, text

app = Routes()


def sleep_then_leave():
    deadline = time.monotonic() + 60
    while not os.path.exists("release") and time.monotonic() < deadline:
        time.sleep(0.01)
    os._exit(0)


@app.route
def child_returns(environ, start_response):
    if os.fork() == 0:
        note("child")
        return text(start_response, "child")
    return text(start_response, "parent")


@app.route
def child_generates(environ, start_response):
    start_response("200 OK", [("Content-Length", "6")])
    yield b"pa"
    if os.fork() == 0:
        note("child")
        yield b"child!"
    yield b"rent"


@app.route
def child_raises(environ, start_response):
    if os.fork() == 0:
        note("child")
        raise ValueError("in the child")
    return text(start_response, "parent")


@app.route
def child_exits(environ, start_response):
    if os.fork() == 0:
        note("child")
        sys.exit(0)
    return text(start_response, "parent")


def fork_once():
    if os.fork() == 0:
        note("child")


class ForksInClose(list):
    def close(self):
        fork_once()


@app.route
def child_closes(environ, start_response):
    return ForksInClose(text(start_response, "parent"))


@app.route
def child_ends_a_generator(environ, start_response):
    start_response("200 OK", [("Content-Length", "6")])
    yield b"parent"
    fork_once()


@app.route
def child_lives_on(environ, start_response):
    if os.fork() == 0:
        note("child")
        sleep_then_leave()
    return text(start_response, "parent")


@app.route
def child_is_busy(environ, start_response):
    if os.fork() == 0:
        note("child")
        # Where no handler of Python's comes in between.
        sum(range(10**13))
    return text(start_response, "parent")


@app.route
def program_lives_on(environ, start_response):
    subprocess.Popen(
        ["sh", "-c", "while ! test -e release; do sleep 0.05; done"],
        close_fds=False,
        stdin=subprocess.DEVNULL,
    )
    note("child")
    return text(start_response, "parent")
"""
    + REAP_ROUTE
)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server.start(APP, "--keep-alive", "30") as server:
        yield server


@pytest.mark.parametrize(
    "path",
    [
        "child_returns",
        "child_generates",
        "child_ends_a_generator",
        "child_closes",
        "child_raises",
        "child_exits",
    ],
)
def test_a_child_that_comes_back_from_the_application_ends(server: Server, path: str) -> None:
    pid = server.worker_pid()
    with server.client() as client:
        client.send(request("GET", f"/{path}") + request("GET", "/reap"))
        assert client.response().text == "parent"
        assert client.response().text == "reaped"
        server.wait_for_note("child")
        eventually(lambda: not children(pid), "the child has ended")
        for _ in range(20):
            assert server.get("/reap").text == "reaped"
        assert client.request("GET", "/reap").text == "reaped"
        assert client.rest() == b""
    assert server.worker_pid() == pid
    assert server.notes() == ["child"]


@pytest.mark.parametrize("path", ["child_lives_on", "program_lives_on"])
def test_a_child_that_lives_on_does_not_keep_the_connection_open(server: Server, path: str) -> None:
    with server.client() as idle, server.client() as client:
        assert idle.request("GET", "/reap").text == "reaped"
        assert client.request("GET", f"/{path}", {"Connection": "close"}).text == "parent"
        assert client.is_closed_by_peer()
        server.wait_for_note("child")
        assert idle.request("GET", "/reap", {"Connection": "close"}).text == "reaped"
        assert idle.is_closed_by_peer()
        assert children(server.worker_pid())
    (server.directory / "release").touch()
    eventually(lambda: not children(server.worker_pid()), "the child has ended")


@pytest.mark.parametrize("path", ["child_lives_on", "child_is_busy"])
def test_a_child_that_lives_on_ends_by_term(server: Server, path: str) -> None:
    pid = server.worker_pid()
    assert server.get(f"/{path}").text == "parent"
    server.wait_for_note("child")
    (child,) = children(pid)
    os.kill(child, signal.SIGTERM)
    eventually(lambda: not children(pid), "the child has ended")
    assert server.worker_pid() == pid


def test_a_child_that_a_hook_forked_ends() -> None:
    config = """
import os
from apps.notes import note


def post_request(worker, req, environ, resp):
    if req.path == "/hook" and os.fork() == 0:
        note("child")
"""
    with Server.start("apps.echo:app", config=config) as server:
        pid = server.worker_pid()
        assert server.get("/hook").status == 200
        server.wait_for_note("child")
        for _ in range(5):
            assert server.get().status == 200
        assert server.worker_pid() == pid
