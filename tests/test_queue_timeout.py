"""A request that has waited in the worker for longer than MEINHELD_QUEUE_TIMEOUT is answered with
503, and the application is not called."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import pytest
from harness import OURS, THREADED, THREADS, Client, Server, eventually, request
from scrape import unix_endpoint
from thread_pool import UNIX, Gate, wait_until_read

APP = """
import time
from apps.hold import wait_for_file
from apps.notes import note
from apps.routes import Routes, text

app = Routes()


@app.route
def works(environ, start_response):
    note("works")
    wait_for_file("open-gate")
    time.sleep(0.5)
    return text(start_response, "worked")


@app.route
def quick(environ, start_response):
    note("called " + environ["PATH_INFO"])
    return text(start_response, "served")
"""
BOUND = "0.3"
WAITING = {
    "get": request("GET", "/quick/get"),
    "head": request("HEAD", "/quick/head"),
    "post": request("POST", "/quick/post", body=b"x" * 1000),
    "endless-post": request("POST", "/quick/endless", {"Content-Length": "1000"}, b"x" * 999),
    "http-1.0": request("GET", "/quick/1.0", version="HTTP/1.0"),
    "pipelined": request("GET", "/quick/first") + request("GET", "/quick/second"),
}
"""With threads a request waits when its head has come, and inline when it is complete."""

pytestmark = pytest.mark.skipif(not OURS, reason="a setting of ours")


def start(*args: str, bound: str = BOUND, env: dict[str, str] | None = None) -> Server:
    config = {"raw_env": [f"MEINHELD_QUEUE_TIMEOUT={bound}"]}
    return Server.start(APP, "--access-logfile", "-", *args, config=config, env=env, binds=UNIX)


@contextlib.contextmanager
def waiting(server: Server, *requests: bytes) -> Iterator[list[Client]]:
    """Clients whose requests have been read while the application is busy with others, and for
    longer than the bound; at the end of the block those are answered.

    Inline requests are read between two calls: all at once, and the first of them is worked on.
    """
    busy = THREADS if THREADED else 2
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in range(busy + len(requests))]
        for client in clients:
            assert client.request("GET", "/quick/connected").text == "served"
        workers, others = clients[:busy], clients[busy:]
        for number, client in enumerate(workers):
            client.send(request("GET", "/works"))
            server.wait_for_note("works", min(number + 1, THREADS))
        for client, what in zip(others, requests, strict=True):
            client.send(what)
        if THREADED:
            wait_until_read(*others)
        Gate(server).open()
        yield others
        for client in workers:
            assert client.response().text == "worked"


def shed(server: Server) -> list[str]:
    """The targets of the access lines with that status."""
    return re.findall(r" (\S+) HTTP/1\.\d\" 503 ", server.stdout_text())


def warned_of(server: Server) -> int:
    pattern = r"\[WARNING\] Requests answered with 503, having waited longer than \S+ = \S+: (\d+)$"
    return sum(map(int, re.findall(pattern, server.stderr_text(), re.MULTILINE)))


def test_requests_that_have_waited_too_long_are_answered_with_503() -> None:
    whats = {name: what for name, what in WAITING.items() if THREADED or name != "endless-post"}
    with unix_endpoint() as endpoint, start(env=endpoint.env) as server:
        with waiting(server, *whats.values()) as clients:
            for client, name in zip(clients, whats, strict=True):
                response = client.response("HEAD" if name == "head" else "GET")
                assert (response.status, name) == (503, name)
                assert response.header("Retry-After") == "1"
                assert response.header("Connection") == "close"
                said = b"the worker is busy: the request has waited for too long\n"
                assert response.body == (b"" if name == "head" else said)
                assert client.rest() == b""
        called = {note for note in server.notes() if note.startswith("called")}
        assert called == {"called /quick/connected"}
        eventually(lambda: len(shed(server)) >= len(whats), "each has its access line")
        assert sorted(shed(server)) == sorted(what.split()[1].decode() for what in whats.values())
        eventually(lambda: warned_of(server) == len(whats), "the log says how many")
        assert endpoint.value("meinheld_requests_shed_total") == len(whats)
        assert endpoint.value("meinheld_requests_total", code="5xx") == len(whats)
        # Others are served as before.
        assert server.get("/quick/later").text == "served"


@pytest.mark.parametrize("bound", ["0", "60"])
def test_all_others_are_served(bound: str) -> None:
    with start(bound=bound) as server, waiting(server, WAITING["get"]) as (client,):
        assert client.response().text == "served"
        assert warned_of(server) == 0


def test_a_worker_that_leaves_sheds_them_too() -> None:
    with start("--log-level", "debug") as server:
        with waiting(server, WAITING["get"]) as (client,):
            server.process.terminate()
            assert client.response().status == 503
        assert server.wait() == 0
        assert warned_of(server) == 1
        said = "1 had waited for too long, the clients of 0 had gone"
        assert f"Requests that did not get to the application: {said}" in server.stderr_text()
