"""Answers leave together, to one client and to several, where nobody has to wait for that."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Iterator

import pytest
from harness import OURS, THREADED, Client, Server, Truncated, eventually, request, settled
from procfs import thread_status, threads_named

pytestmark = pytest.mark.skipif(not OURS, reason="gunicorn's own workers write each answer")

APP = """
import os
import socket
import time

LENGTH = [("Content-Length", "2")]
HINTS = b"HTTP/1.1 103 Early Hints\\r\\n\\r\\n"


def meet(port):
    # Returns when the test says so.
    with socket.create_connection(("127.0.0.1", int(port)), timeout=30) as meeting:
        meeting.recv(1)


class Closing(list):
    def close(self):
        meet(self.port)


class Reluctant:
    def __init__(self, port):
        self.port = port

    def __del__(self):
        meet(self.port)


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/meet":
        meet(environ["QUERY_STRING"])
    if path == "/reluctant":
        environ["test.reluctant"] = Reluctant(environ["QUERY_STRING"])
    if path == "/long":
        until = time.monotonic() + 0.1
        while time.monotonic() < until:
            pass
    if path == "/stop":
        raise StopIteration
    if path == "/take":
        taken = environ["gunicorn.socket"]
        taken.sendall(b"taken")
        return []
    if path == "/descriptor":
        os.write(environ["gunicorn.socket"].fileno(), HINTS)
    if path in ("/fork", "/child"):
        child = os.fork()
        if child == 0 and path == "/fork":
            os._exit(0)
        if child:
            os.waitpid(child, 0)
    if path == "/exit":
        raise SystemExit
    if path == "/raise":
        raise RuntimeError("on purpose")
    if path == "/blocks":
        start_response("200 OK", [])
        return iter([b"o", b"k"])
    if path == "/":
        # A short call, but not so short that its answer leaves at once.
        until = time.monotonic() + 3e-5
        while time.monotonic() < until:
            pass
    start_response("200 OK", LENGTH)
    if path == "/close":
        closing = Closing([b"ok"])
        closing.port = environ["QUERY_STRING"]
        return closing
    return [b"ok"]
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP, "--keep-alive", "30") as server:
        yield server


@pytest.fixture
def many(server: Server) -> Iterator[list[Client]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(server.client()) for _ in range(48)]


@pytest.fixture
def meeting() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        yield listener


def gets(*targets: str) -> bytes:
    return b"".join(request("GET", target) for target in targets)


def ask_at_once(
    server: Server, meeting: socket.socket, clients: list[Client], special: Client, path: str
) -> None:
    """All of them ask while the worker is busy: it finds them together, and so many that their
    answers may wait for each other. One asks for `path`, which meets the test."""
    port = meeting.getsockname()[1]
    with server.client() as first:
        first.send(gets(f"/meet?{port}"))
        with meeting.accept()[0]:
            for client in clients:
                client.send(gets(f"{path}?{port}" if client is special else "/"))
        assert_ok(first, 1)


def flusher(server: Server) -> str:
    """The thread that looks after answers that wait, once one has."""
    with server.client() as client:

        def answered() -> list[str]:
            client.send(gets("/", "/"))
            assert_ok(client, 2)
            return threads_named(server.worker_pid(), "meinheld-flush")

        (thread,) = eventually(answered, "an answer waits, and a thread looks after it")
    return thread


def assert_ok(client: Client, answers: int) -> None:
    for _ in range(answers):
        assert client.response().body == b"ok"


def test_a_request_that_changes_something_holds_up_no_answer(
    server: Server, meeting: socket.socket
) -> None:
    port = meeting.getsockname()[1]
    with server.client() as client:
        client.send(gets("/", "/", "/") + request("POST", f"/meet?{port}", body=b"x"))
        with meeting.accept()[0]:
            assert_ok(client, 3)
        assert_ok(client, 1)


@pytest.mark.parametrize("last", [request("GET", "/"), request("GET", "/", body=b"12")])
def test_a_request_of_which_a_part_is_missing_holds_up_no_answer(
    server: Server, last: bytes
) -> None:
    with server.client() as client:
        client.send(gets("/", "/") + last[:-1])
        assert_ok(client, 2)
        client.send(last[-1:])
        assert_ok(client, 1)


def test_answers_go_out_before_a_malformed_request_is_refused(server: Server) -> None:
    with server.client() as client:
        client.send(gets("/", "/") + b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
        assert_ok(client, 2)
        assert client.response().status == 400
        assert client.is_closed_by_peer()


def test_answers_go_out_before_the_failure_of_a_later_request(server: Server) -> None:
    with server.client() as client:
        client.send(gets("/", "/", "/raise", "/"))
        assert_ok(client, 2)
        assert client.response().status == 500


def test_answers_go_out_before_a_stream(server: Server) -> None:
    with server.client() as client:
        client.send(gets("/", "/", "/blocks", "/", "/"))
        assert_ok(client, 5)


def test_answers_go_out_before_the_connection_is_taken_over(server: Server) -> None:
    with server.client() as client:
        client.send(gets("/", "/", "/take"))
        assert_ok(client, 2)
        assert client.rest() == b"taken"


def test_answers_go_out_before_a_later_request_gives_its_connection_up(server: Server) -> None:
    with server.client() as client:
        client.send(gets("/", "/", "/stop"))
        assert_ok(client, 2)
        with pytest.raises((Truncated, ConnectionError)):
            client.response()


def test_no_answer_waits_for_another_client(server: Server, meeting: socket.socket) -> None:
    port = meeting.getsockname()[1]
    with server.client() as first, server.client() as ahead, server.client() as other:
        first.send(gets(f"/meet?{port}"))
        with meeting.accept()[0]:
            # Both come while the worker is busy, so that it finds them together.
            ahead.send(gets("/", "/"))
            other.send(gets(f"/meet?{port}"))
        with meeting.accept()[0]:
            assert_ok(ahead, 2)
        assert_ok(first, 1)
        assert_ok(other, 1)


def test_once_a_call_was_long_no_answer_waits_for_the_next_one(
    server: Server, meeting: socket.socket
) -> None:
    port = meeting.getsockname()[1]
    with server.client() as client:
        client.send(gets("/long"))
        assert_ok(client, 1)
        client.send(gets("/", "/", f"/meet?{port}"))
        with meeting.accept()[0]:
            assert_ok(client, 2)
        assert_ok(client, 1)


@pytest.mark.parametrize("connection", ["close", "keep-alive"])
def test_an_answer_waits_for_no_destructor(
    server: Server, meeting: socket.socket, connection: str
) -> None:
    target = f"/reluctant?{meeting.getsockname()[1]}"
    with server.client() as client:
        client.send(request("GET", target, {"Connection": connection}))
        with meeting.accept()[0]:
            assert_ok(client, 1)
            # A thread ends the connection when the request is over.
            assert connection == "keep-alive" or THREADED or client.is_closed_by_peer()


def test_a_client_that_ends_its_side_behind_its_requests_gets_all_answers(server: Server) -> None:
    with server.client() as client:
        client.send(gets(*["/"] * 20))
        client.half_close()
        assert_ok(client, 20)
        assert client.is_closed_by_peer()


def test_a_client_that_closes_with_its_last_request_gets_all_answers(server: Server) -> None:
    with server.client() as client:
        client.send(gets(*["/"] * 20) + request("GET", "/", {"Connection": "close"}))
        assert_ok(client, 21)
        assert client.is_closed_by_peer()


@pytest.mark.parametrize("path", ["/meet", "/close"])
def test_the_answers_of_many_short_calls_wait_for_no_long_one(
    server: Server, meeting: socket.socket, many: list[Client], path: str
) -> None:
    *others, last = many
    ask_at_once(server, meeting, many, last, path)
    with meeting.accept()[0]:
        for client in others:
            assert_ok(client, 1)
    assert_ok(last, 1)


def test_the_answer_of_a_call_whose_close_takes_long_waits_for_no_other_client(
    server: Server, meeting: socket.socket, many: list[Client]
) -> None:
    closing = many[len(many) // 2]
    ask_at_once(server, meeting, many, closing, "/close")
    with meeting.accept()[0]:
        assert_ok(closing, 1)
    for client in many:
        if client is not closing:
            assert_ok(client, 1)


def test_answers_go_out_before_others_write_to_the_descriptor() -> None:
    # Of its own: where a call was long a moment ago, none would wait.
    with Server.start(APP, "--keep-alive", "30") as server, server.client() as client:
        client.send(gets("/", "/", "/descriptor"))
        assert_ok(client, 2)
        assert client.response().status == 103
        assert_ok(client, 1)


def test_answers_go_out_before_the_application_ends_the_worker() -> None:
    with Server.start(APP, "--keep-alive", "30") as server, server.client() as client:
        client.send(gets("/", "/", "/exit"))
        assert_ok(client, 2)


@pytest.mark.inline_only
class TestTheThreadThatLooksAfterThem:
    def test_sleeps_where_nothing_waits(self, server: Server) -> None:
        thread = flusher(server)
        settled(lambda: thread_status(thread, "voluntary_ctxt_switches"))

    def test_leaves_all_signals_to_the_application(self, server: Server) -> None:
        thread = flusher(server)
        blocked = int(thread_status(thread, "SigBlk"), 16)
        unblockable = {signal.SIGKILL, signal.SIGSTOP}
        for number in signal.valid_signals() - unblockable:
            assert blocked >> (number - 1) & 1, number

    @pytest.mark.parametrize("target", ["/fork", "/child"])
    def test_is_no_hindrance_to_an_application_that_forks(
        self, server: Server, target: str
    ) -> None:
        flusher(server)
        with server.client() as client:
            client.send(gets("/", "/", target, "/", "/"))
            assert_ok(client, 5)
