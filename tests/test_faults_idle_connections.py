"""No work in proportion to the number of connections that do nothing: counted in system calls."""

from __future__ import annotations

import resource
import select
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pytest
from harness import THREADED, Client, Server, open_sockets, request, settled
from syscalls import Trace, traced
from wellness import WELL_ROUTE, assert_answers

APP = """
from apps.routes import Routes, text

app = Routes()
"""
MANY = 2000
FEW = 100
REQUESTS = 100
NEWCOMERS = 50
#: A thread that answers before the loop sleeps, or after, is a call more for a request, and a wait
#: that a signal of the tracer's interrupts is one, too. Work in proportion to the connections would
#: be twenty times as many.
SAME = 2
PARTS = {
    "idle": request("GET", "/well"),
    "half-sent-head": request("GET", "/well")[:-2],
    "half-sent-body": request("POST", "/well", {"Content-Length": "10"}, b"12345"),
    "never-used": b"",
}


@pytest.fixture(scope="module", autouse=True)
def enough_descriptors() -> Iterator[None]:
    needed = 2 * MANY
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"RLIMIT_NOFILE is {hard}: {needed} descriptors are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def start(connections: int) -> Server:
    """A worker that holds so many connections and no more."""
    settings = ["--keep-alive", "600", "--worker-connections", str(connections)]
    return Server.start(APP + WELL_ROUTE, *settings, env={"MEINHELD_HEAD_TIMEOUT": "600"})


def is_answered(part: bytes) -> bool:
    """Threads call the application at the head, and this one does not ask for the body."""
    return part == PARTS["idle"] or (THREADED and part == PARTS["half-sent-body"])


def hold(server: Server, count: int, part: bytes) -> list[Client]:
    """Connections that have sent `part`, and got the answer if it asks for one."""
    clients = [server.client() for _ in range(count)]
    for client in clients:
        client.send(part)
        if is_answered(part):
            assert client.response().status == 200
    return clients


def let_go(clients: list[Client]) -> None:
    for client in clients:
        client.close()


def has_heard_something(client: Client) -> bool:
    """select(2), which `Client.is_quiet` uses, cannot look at as many descriptors."""
    poll = select.poll()
    poll.register(client.socket, select.POLLIN)
    return bool(poll.poll(0))


def calls_without_heartbeat(trace: Trace) -> int:
    """The heart beats in time, whatever the load: a wait, a look at the signals, the beat."""
    beats = trace.count("utimensat")
    return trace.count("epoll_p?wait2?|recvfrom|sendto|writev|epoll_ctl|accept4|close|poll") - beats


def calls_of_requests(server: Server) -> int:
    """System calls that the worker makes for a hundred requests of one client."""
    with server.client() as client:
        assert_answers(client)
        with traced(server.worker_pid()) as trace:
            for _ in range(REQUESTS):
                assert_answers(client)
    return calls_without_heartbeat(trace)


def calls_of_newcomers(server: Server) -> int:
    """As above, for fifty clients, one after the other, who come, ask, and stay."""
    with traced(server.worker_pid()) as trace:
        newcomers = []
        for _ in range(NEWCOMERS):
            newcomers.append(server.client())
            assert_answers(newcomers[-1])
    let_go(newcomers)
    return calls_without_heartbeat(trace)


@dataclass
class Crowded:
    server: Server
    alone: int
    """`calls_of_requests` before the crowd came."""


@pytest.fixture(scope="module", params=list(PARTS.values()), ids=list(PARTS))
def crowded(request: pytest.FixtureRequest) -> Iterator[Crowded]:
    """A worker that has room, and 2000 connections that have come so far and no farther."""
    with start(MANY * 2) as server:
        alone = calls_of_requests(server)
        assert alone >= 2 * REQUESTS, "the calls were not seen"
        clients = hold(server, MANY, request.param)
        yield Crowded(server, alone)
        let_go(clients)


def test_a_request_takes_as_many_system_calls_beside_2000_connections(crowded: Crowded) -> None:
    assert calls_of_requests(crowded.server) <= SAME * crowded.alone


def test_2000_connections_that_do_nothing_take_no_system_call(crowded: Crowded) -> None:
    with crowded.server.client(timeout=1.0) as quiet:
        assert_answers(quiet)
        with traced(crowded.server.worker_pid()) as trace, pytest.raises(TimeoutError):
            quiet.receive()
    assert trace.count("utimensat") >= 1, "the calls were not seen"
    assert calls_without_heartbeat(trace) <= 5


def full_of_idle(server: Server, count: int) -> list[Client]:
    """Fills the worker to the last place with connections that it may retire."""
    clients = hold(server, count, PARTS["idle"])
    # Nobody is retired before he has been quiet for a second.
    clients[0].socket.settimeout(1.2)
    with pytest.raises(TimeoutError):
        clients[0].receive()
    return clients


def test_a_full_worker_makes_room_at_the_same_price_for_2000_as_for_100() -> None:
    counts = []
    for connections in (FEW, MANY):
        with start(connections) as server:
            clients = full_of_idle(server, connections)
            counts.append(calls_of_newcomers(server))
            retired = [client for client in clients if has_heard_something(client)]
            assert retired == clients[:NEWCOMERS], "the oldest are retired, and nobody else"
            let_go(clients)
    # Whether a request has come when its connection is accepted makes a difference of three.
    assert counts[1] <= counts[0] + 3 * NEWCOMERS, counts


def test_a_full_worker_serves_those_it_has_at_the_same_price() -> None:
    """Exactly full, and nobody waits outside."""
    counts = []
    for connections in (FEW, MANY):
        with start(connections) as server:
            clients = full_of_idle(server, connections - 1)
            counts.append(calls_of_requests(server))
            let_go(clients)
    assert counts[1] <= SAME * counts[0], counts


def test_a_full_worker_that_cannot_make_room_does_not_spin() -> None:
    """Nobody is idle, somebody waits outside: that is looked at a few hundred times a second,
    whatever the number of connections."""
    counts = []
    for connections in (FEW, MANY):
        with start(connections) as server:
            clients = hold(server, connections, PARTS["half-sent-body"])
            # What the worker does with them is not what is counted.
            settled(partial(open_sockets, server.worker_pid()))
            with server.client(timeout=1.0) as waiting:
                waiting.send(request("GET", "/well"))
                with traced(server.worker_pid()) as trace, pytest.raises(TimeoutError):
                    waiting.receive()
                counts.append(trace.count())
                clients.pop().close()
                waiting.socket.settimeout(15)
                assert waiting.response().status == 200
            let_go(clients)
    assert max(counts) < 1500, counts
