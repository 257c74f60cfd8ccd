"""`accept` fails, for each reason that accept(2) and the systems' manuals name: the worker serves
whom it has, comes back by itself, and neither spins nor fills the log."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from harness import Client, Server, request
from syscalls import traced
from wellness import WELL, WELL_ROUTE, assert_answers, unharmed

APP = """
from apps.routes import Routes, text

app = Routes()
"""
EXHAUSTED = ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM"]
OF_ONE_CLIENT = ["ECONNABORTED", "EPROTO", "EINTR", "ENETDOWN", "EHOSTUNREACH"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP + WELL_ROUTE, "--keep-alive", "60") as server:
        yield server


def assert_is_served(client: Client) -> None:
    response = client.response()
    assert (response.status, response.body) == (200, WELL)


@pytest.mark.parametrize("error", EXHAUSTED)
def test_a_shortage_is_waited_for_and_told_once(server: Server, error: str) -> None:
    with unharmed(server, warnings=1):
        injection = f"accept4:error={error}:when=1..3"
        with (
            traced(server.worker_pid(), "accept4", inject=[injection]) as trace,
            server.client() as client,
        ):
            client.send(request("GET", "/well"))
            assert_is_served(client)
    assert trace.injected() == 3
    assert trace.count("accept4") <= 8
    assert "accepting connections paused" in server.stderr_text()


@pytest.mark.parametrize("error", OF_ONE_CLIENT)
def test_an_error_of_the_one_connection_is_no_shortage(server: Server, error: str) -> None:
    with unharmed(server):
        injection = f"accept4:error={error}:when=1..3"
        with (
            traced(server.worker_pid(), "accept4", inject=[injection]) as trace,
            server.client() as client,
        ):
            client.send(request("GET", "/well"))
            assert_is_served(client)
    assert trace.injected() == 3
    assert trace.count("accept4") <= 8


@pytest.mark.parametrize("error", ["EMFILE", "ENOBUFS"])
def test_meanwhile_those_who_are_in_are_served(server: Server, error: str) -> None:
    with server.client() as witness:
        assert_answers(witness)
        with (
            unharmed(server, warnings=1),
            traced(server.worker_pid(), "accept4", inject=[f"accept4:error={error}:when=1..4"]),
            server.client() as late,
        ):
            late.send(request("GET", "/well"))
            for _ in range(50):
                assert_answers(witness)
            assert_is_served(late)


@pytest.mark.parametrize("error", ["EMFILE", "EPERM", "EACCES"])
def test_a_lasting_failure_is_no_busy_loop(server: Server, error: str) -> None:
    """EPERM is what a firewall's rule or a system call filter says, without taking the client out
    of the queue."""
    with server.client() as witness:
        assert_answers(witness)
        with (
            traced(server.worker_pid(), inject=[f"accept4:error={error}:when=1+"]) as trace,
            server.client(timeout=1.0) as late,
        ):
            since = time.monotonic()
            late.send(request("GET", "/well"))
            with pytest.raises(TimeoutError):
                late.receive()
            passed = time.monotonic() - since
        late.close()
        assert trace.injected() > 1, "it is not tried again"
        assert trace.count() / passed < 200, f"{trace.count()} system calls in {passed:.1f} s"
        assert_answers(witness)
    with unharmed(server):
        pass


def test_two_shortages_are_told_twice(server: Server) -> None:
    with unharmed(server, warnings=2):
        for _ in range(2):
            with (
                traced(server.worker_pid(), inject=["accept4:error=ENFILE:when=1..2"]),
                server.client() as client,
            ):
                client.send(request("GET", "/well"))
                assert_is_served(client)


def test_a_listener_that_cannot_be_watched_again_is_tried_again(server: Server) -> None:
    """After the pause: epoll_ctl(2) may have run out of memory too."""
    with unharmed(server, warnings=1):
        injections = ["accept4:error=ENFILE:when=1", "epoll_ctl:error=ENOMEM:when=2..3"]
        with (
            traced(server.worker_pid(), inject=injections) as trace,
            server.client() as client,
        ):
            client.send(request("GET", "/well"))
            assert_is_served(client)
        assert trace.injected() == 3
