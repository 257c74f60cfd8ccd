"""A client that has gone while its request waited for the application: that is not called. A FIN
alone is a half-close, which is answered."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

import pytest
from harness import OURS, THREADED, THREADS, Client, Server, request
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
    gate = environ["PATH_INFO"].rpartition("/")[2]
    note(f"works {gate}")
    wait_for_file(f"open-{gate}")
    # Longer than the kernel's clock stands still: who waits for this has waited.
    time.sleep(0.05)
    return text(start_response, "worked")


@app.route
def quick(environ, start_response):
    note("called " + environ["PATH_INFO"])
    return text(start_response, "served")
"""
WORKS = request("GET", "/works/second")
GET = request("GET", "/quick/get")
POST = request("POST", "/quick/post", body=b"x" * 1000)
PIPELINED = request("GET", "/quick/first") + request("GET", "/quick/second")

pytestmark = pytest.mark.skipif(not OURS, reason="gunicorn's own workers call the application")


@contextlib.contextmanager
def waiting(server: Server, *requests: bytes) -> Iterator[list[Client]]:
    """Clients whose requests the worker has read, and waits with until the end of the block.

    Inline they are read together, behind one that the application is then busy with.
    """
    with contextlib.ExitStack() as stack:
        busy = THREADS if THREADED else 2
        clients = [stack.enter_context(server.client()) for _ in range(busy + len(requests))]
        for client in clients:
            assert client.request("GET", "/quick").text == "served"
        workers, others = clients[:busy], clients[busy:]
        if not THREADED:
            workers[0].send(request("GET", "/works/first"))
            server.wait_for_note("works first")
        for client in workers[not THREADED :]:
            client.send(WORKS)
        if THREADED:
            server.wait_for_note("works second", THREADS)
        for client, what in zip(others, requests, strict=True):
            client.send(what)
        if THREADED:
            wait_until_read(*others)
        else:
            Gate(server, "first").open()
            server.wait_for_note("works second")
        yield others
        Gate(server, "second").open()
        for client in workers:
            assert client.response().text == "worked"


def called(server: Server) -> set[str]:
    return {note for note in server.notes() if note.startswith("called")} - {"called /quick"}


def test_the_application_is_not_called_for_them_and_they_are_counted() -> None:
    with (
        unix_endpoint() as endpoint,
        Server.start(APP, "--log-level", "debug", env=endpoint.env, binds=UNIX) as server,
    ):
        with waiting(server, GET, POST, PIPELINED) as clients:
            for client in clients:
                client.close()
        assert server.get("/quick").text == "served"
        assert called(server) == set()
        assert endpoint.value("meinheld_requests_abandoned_total") == 3
        assert server.stop() == 0
        said = "0 had waited for too long, the clients of 3 had gone"
        assert f"Requests that did not get to the application: {said}" in server.stderr_text()


LEAVING: Mapping[str, Callable[[Client], None]] = {
    "fin": Client.half_close,
    "close": Client.close,
    "reset": Client.reset,
}


@pytest.mark.inline_only
@pytest.mark.parametrize("way", LEAVING)
def test_over_tcp_a_fin_alone_is_a_half_close(way: str) -> None:
    with Server.start(APP) as server:
        with waiting(server, GET) as (client,):
            LEAVING[way](client)
            if way == "fin":
                Gate(server, "second").open()
                assert client.response().text == "served"
        assert server.get("/quick").text == "served"
        assert called(server) == (set() if way == "reset" else {"called /quick/get"})


def test_a_half_closed_client_of_a_unix_socket_is_answered() -> None:
    with Server.start(APP, binds=UNIX) as server, contextlib.ExitStack() as stack:
        (client,) = stack.enter_context(waiting(server, PIPELINED))
        client.half_close()
        Gate(server, "second").open()
        assert client.response().text == client.response().text == "served"
        assert client.read_until_closed() == b""
