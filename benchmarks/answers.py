"""Whether a server answers a case at all, before anybody measures how fast."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from cases import CONNECTIONS, Case
from harness import Client, Truncated, request
from servers import PATIENCE, Broken, Running

BLOCKS = 10
ON_ITS_WAY = 0.5
"""Seconds that a block may take to a client, once the server has had the chance to send it."""


def check(running: Running, case: Case) -> None:
    """Every one of 64 clients, all connected at once, gets the right answers."""
    count = min(case.connections, CONNECTIONS)
    all_answered = threading.Barrier(count)

    def one() -> None:
        try:
            with running.client() as client:
                if not ask(client, case):
                    client.close()
                # Nobody may make room for another: the connections are kept until all are served.
                all_answered.wait(PATIENCE)
        except BaseException:
            all_answered.abort()
            raise

    with ThreadPoolExecutor(count) as threads:
        failures = [task.exception() for task in [threads.submit(one) for _ in range(count)]]
    causes = [each for each in failures if each is not None]
    # Who waits for the others fails with the first of them.
    told = [each for each in causes if not isinstance(each, threading.BrokenBarrierError)]
    for cause in [*told, *causes]:
        raise Broken(explain(cause, sum(each is None for each in failures), count)) from cause


def ask(client: Client, case: Case) -> bool:
    """Whether the connection persists, which it must not where the client wants to close it."""
    client.send(case.request * case.depth)
    for number in range(case.depth):
        try:
            response = client.response()
        except (TimeoutError, Truncated):
            if not number:
                raise
            raise Broken(f"{number} of {case.depth} answers came") from None
        if response.status != 200:
            raise Broken(f"answers {response.status}")
        if response.body != case.answer:
            raise Broken(
                f"a wrong body: {len(response.body)} octets, {len(case.answer)} were expected"
            )
    if case.fields.get("Connection") == "close":
        try:
            return not client.is_closed_by_peer()
        except TimeoutError:
            raise Broken("keeps a connection that its client has asked to close") from None
    closes = (response.header("Connection") or "").lower() == "close"
    return not closes and response.framing != "close"


def explain(cause: BaseException, answered: int, count: int) -> str:
    if isinstance(cause, Broken):
        return str(cause)
    if isinstance(cause, TimeoutError):
        return f"no answer within {PATIENCE:g} s to each of {count} clients"
    if isinstance(cause, Truncated):
        return f"closed in the middle of an answer, after {len(cause.partial)} octets"
    if isinstance(cause, AssertionError):
        return f"not HTTP: {cause}"[:160]
    return f"{type(cause).__name__}: {cause}"


def streams(running: Running) -> bool:
    """Whether each block of an answer has reached the client when the application is asked for the
    next. It asks, on a connection of its own, and waits for our word (see plain.lockstep)."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        listener.settimeout(PATIENCE)
        client = stack.enter_context(running.client())
        client.send(request("GET", f"/?{listener.getsockname()[1]}"))
        try:
            application = stack.enter_context(listener.accept()[0])
        except TimeoutError as error:
            raise Broken("the application was not called for a stream") from error
        application.settimeout(PATIENCE)
        client.socket.settimeout(ON_ITS_WAY)
        received, in_time, total = b"", 0, 0
        for number in asked(application):
            total += 1
            with contextlib.suppress(TimeoutError):
                while f"block {number}\n".encode() not in received:
                    block = client.receive()
                    if not block:
                        break
                    received += block
                else:
                    in_time += 1
            application.sendall(b"!")
        return in_time == total == BLOCKS - 1


def asked(application: socket.socket) -> Iterator[int]:
    """The number of the block before the one that is asked for."""
    for number in range(BLOCKS):
        try:
            if not application.recv(1):
                return
        except TimeoutError as error:
            raise Broken(f"a stream stopped after block {number}") from error
        yield number
