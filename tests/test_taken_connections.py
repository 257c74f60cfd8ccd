"""Connections that the application takes, copies or forks away: nobody else is served worse, and
nothing is left behind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import Server, eventually, open_files, request
from wellness import WELL_ROUTE, assert_comes_to_rest, unharmed

APP = (
    """
import os
from apps.hold import wait_for_file
from apps.notes import note
from apps.routes import Routes, text

app = Routes()
copies = []


@app.route
def copied(environ, start_response):
    copies.append(os.dup(environ["gunicorn.socket"].fileno()))
    return text(start_response, "copied")


@app.route
def fails(environ, start_response):
    sock = environ["gunicorn.socket"]

    def deep():
        try:
            deep()
        except RecursionError:
            sock.sendall(b"never")

    deep()


class Forks:
    def __iter__(self):
        return iter(())

    def close(self):
        if not os.fork():
            return
        os.wait()
        note("the child has ended")
        wait_for_file("forked")


@app.route
def forks(environ, start_response):
    environ["gunicorn.socket"].sendall(b"raw")
    return Forks()


@app.route
def body(environ, start_response):
    note("body called")
    wait_for_file("taken")
    sock = environ["gunicorn.socket"]
    received = b""
    while len(received) < 10:
        received += sock.recv(10 - len(received))
    sock.sendall(b"raw " + received)
    raise StopIteration


class WritesInClose:
    def __init__(self, write):
        self.write = write

    def __iter__(self):
        raise ValueError("asked for")

    def close(self):
        try:
            self.write(b"a second answer")
        except OSError:
            note("refused")


@app.route
def twice(environ, start_response):
    return WritesInClose(start_response("200 OK", []))
"""
    + WELL_ROUTE
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP, "--keep-alive", "30") as server:
        yield server


def test_a_copy_of_the_descriptor_neither_keeps_the_client_nor_the_worker_busy(
    server: Server,
) -> None:
    with server.client() as client:
        client.send(request("GET", "/copied", {"Connection": "close"}))
        assert client.response().text == "copied"
        assert client.read_until_closed() == b""
        assert_comes_to_rest(server.worker_pid())


def test_a_take_over_that_fails_ends_the_connection_and_leaves_no_descriptor(
    server: Server,
) -> None:
    assert server.get("/well").status == 200
    before = len(open_files(server.worker_pid()))
    for _ in range(5):
        with server.client() as client:
            client.send(request("GET", "/fails"))
            assert client.is_closed_by_peer()
    eventually(lambda: len(open_files(server.worker_pid())) <= before, "no descriptor is left open")


def test_a_child_forked_in_close_of_a_taken_connection_touches_nobody_else_s(
    server: Server,
) -> None:
    with server.client() as client, server.client() as other:
        client.send(request("GET", "/forks"))
        assert client.read_exactly(3) == b"raw"
        server.wait_for_note("the child has ended")
        other.send(request("GET", "/well"))
        client.close()
        (server.directory / "forked").touch()
        assert other.response().text == "all is well"
        assert_comes_to_rest(server.worker_pid())


def test_what_has_come_of_a_body_is_received_by_whoever_takes_the_connection() -> None:
    """With threads the application is called before the body is there."""
    with Server.start(APP, "--threads", "2") as server, server.client() as client:
        client.send(request("POST", "/body", {"Content-Length": "10"}))
        server.wait_for_note("body called")
        client.send(b"01234")
        # The loop has read the above when it has answered this.
        assert server.get("/well").status == 200
        (server.directory / "taken").touch()
        client.send(b"56789")
        assert client.read_until_closed() == b"raw 0123456789"


def test_nothing_follows_our_own_answer_for_an_application_that_failed(server: Server) -> None:
    with unharmed(server, tracebacks=1), server.client() as client:
        client.send(request("GET", "/twice"))
        assert client.response().status == 500
        assert client.read_until_closed() == b""
    server.wait_for_note("refused")
