"""Clients that do not retry: every request must be answered, whole and right, or it is a failure.

    with Load(server.address) as load:
        ...reload, upgrade, add workers...
    load.report().raise_for_failures()

Two kinds run side by side. Keep-alive clients send one request after another on a connection;
short ones open a connection for each request and read to its end. A keep-alive client opens a
new connection in two cases only: the last response said `Connection: close`, or the server
closed the idle connection in an orderly way before the client sent anything on it. An end of
the stream after a request was sent, a refused or reset connection, a short or wrong body, a
status other than 200, a stray byte: each is a failure. There is no third case and no second try.

The load is bounded in requests and in time, stays on this machine, and stops by itself.
"""

from __future__ import annotations

import random
import select
import socket
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass, field

from harness import Address, Client, Response, eventually, request

MAX_SECONDS = 240.0
"""A load that nobody stopped ends then."""
MAX_REQUESTS = 60_000
"""For each client."""
ANSWER_WITHIN = 30.0
"""Seconds that a client waits for bytes: beyond any drain, so only lost requests take so long."""


class Failed(Exception):
    """A request that got no right answer, and what came instead."""


@dataclass(frozen=True)
class Failure:
    client: str
    number: int
    """Which of that client's requests, from 0."""
    at: float
    """Seconds since the load started."""
    what: str

    def __str__(self) -> str:
        return f"{self.at:8.3f} s  {self.client} request {self.number}: {self.what}"


@dataclass
class Report:
    requests: int = 0
    """Answered, whole and right."""
    connections: int = 0
    reconnected: int = 0
    """Keep-alive connections that the server retired, each in a permitted way."""
    workers: set[int] = field(default_factory=set)
    failures: list[Failure] = field(default_factory=list)
    marks: list[tuple[float, str]] = field(default_factory=list)
    """What the test did, and when."""

    def raise_for_failures(self) -> None:
        if not self.failures:
            return
        events = sorted(
            [(f.at, str(f)) for f in self.failures]
            + [(at, f"{at:8.3f} s  -- {what}") for at, what in self.marks]
        )
        total = self.requests + len(self.failures)
        lines = "\n".join(text for _, text in events[:80])
        raise AssertionError(f"{len(self.failures)} of {total} requests failed\n{lines}")


class Load:
    """Clients of both kinds at `address`, each a thread, from `start` (or `with`) until `stop`."""

    def __init__(
        self,
        address: Address,
        keep_alive: int = 4,
        short: int = 4,
        pause: float = 0.005,
        bodies: bool = True,
    ) -> None:
        """pause: the longest time in seconds between an answer and the next request.

        bodies: whether some requests have one.
        """
        self.address = address
        self.pause = pause
        self.bodies = bodies
        self._started = time.monotonic()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._report = Report()
        self._threads = [
            threading.Thread(target=self._run, args=(kind, number), daemon=True)
            for kind, count in (("keep-alive", keep_alive), ("short", short))
            for number in range(count)
        ]

    def __enter__(self) -> Load:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        self._started = time.monotonic()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(ANSWER_WITHIN + 5)
            assert not thread.is_alive(), "a client of the load does not end"

    def mark(self, what: str) -> None:
        """Notes what the test is about to do, to be shown between the failures."""
        with self._lock:
            self._report.marks.append((time.monotonic() - self._started, what))

    def report(self) -> Report:
        """All that happened so far."""
        with self._lock:
            now = self._report
            return Report(
                now.requests,
                now.connections,
                now.reconnected,
                set(now.workers),
                list(now.failures),
                list(now.marks),
            )

    def wait_for_requests(self, more: int) -> None:
        """Until that many more have been answered."""
        goal = self.report().requests + more
        eventually(lambda: self._progress() >= goal, f"{more} more requests", within=60)

    def wait_for_workers(self, pids: set[int]) -> None:
        """Until each of these workers has answered something."""
        eventually(
            lambda: pids <= self.report().workers or self._given_up(),
            f"answers of workers {pids}",
            within=60,
        )

    def _progress(self) -> int:
        report = self.report()
        # Failures count too: the test must come to its end to show them.
        return report.requests + len(report.failures) + (MAX_REQUESTS if self._given_up() else 0)

    def _given_up(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    # One client

    def _run(self, kind: str, client: int) -> None:
        name = f"{kind} client {client}"
        chance = random.Random(name)
        exchange = (
            self._keep_alive(name, chance) if kind == "keep-alive" else self._short(name, chance)
        )
        deadline = self._started + MAX_SECONDS
        failures = 0
        for number in range(MAX_REQUESTS):
            if self._stop.is_set() or time.monotonic() > deadline:
                break
            try:
                worker = next(exchange)
            except Failed as failed:
                at = time.monotonic() - self._started
                with self._lock:
                    self._report.failures.append(Failure(name, number, at, str(failed)))
                failures += 1
                if failures == 20:
                    return  # Enough has been shown.
                exchange = (
                    self._keep_alive(name, chance)
                    if kind == "keep-alive"
                    else self._short(name, chance)
                )
                continue
            with self._lock:
                self._report.requests += 1
                self._report.workers.add(worker)
            self._stop.wait(chance.uniform(0, self.pause))
        exchange.close()

    def _keep_alive(self, name: str, chance: random.Random) -> Generator[int, None, None]:
        client: Client | None = None
        try:
            while True:
                if client is not None and idle_connection_ended(client):
                    client.close()
                    client = None
                    self._count_reconnection()
                if client is None:
                    client = self._connect()
                response, worker = ask(client, chance, name, {}, self.bodies)
                if (response.header("Connection") or "").lower() == "close":
                    expect_end(client)
                    client.close()
                    client = None
                    self._count_reconnection()
                yield worker
        finally:
            if client is not None:
                client.close()

    def _short(self, name: str, chance: random.Random) -> Generator[int, None, None]:
        while True:
            client = self._connect()
            try:
                _, worker = ask(client, chance, name, {"Connection": "close"}, self.bodies)
                expect_end(client)
            finally:
                client.close()
            yield worker

    def _connect(self) -> Client:
        try:
            client = Client(self.address, ANSWER_WITHIN)
        except OSError as error:
            raise Failed(f"cannot connect: {error!r}") from None
        with self._lock:
            self._report.connections += 1
        return client

    def _count_reconnection(self) -> None:
        with self._lock:
            self._report.reconnected += 1


def idle_connection_ended(client: Client) -> bool:
    """Whether the server has closed a connection that asks nothing; it may say nothing else."""
    # Not MSG_DONTWAIT: a Python socket with a timeout waits for readability before it receives.
    if not client.buffer and not select.select([client.socket], [], [], 0)[0]:
        return False
    try:
        stray = client.buffer or client.socket.recv(64, socket.MSG_PEEK)
    except OSError as error:
        raise Failed(f"idle connection broke: {error!r}") from None
    if stray:
        raise Failed(f"bytes that nobody asked for: {stray!r}")
    return True


def ask(
    client: Client, chance: random.Random, name: str, headers: dict[str, str], bodies: bool
) -> tuple[Response, int]:
    """Sends one request of some kind and checks its answer; returns it and the worker's pid."""
    way = chance.choice(["whole"] * 6 + ["blocks"] * 3 + ["slow"])
    token = f"{name.replace(' ', '-')}-{chance.getrandbits(64):016x}"
    times = chance.choice([1, 1, 10, 400])
    body = b""
    if bodies and times == 1 and chance.random() < 0.3:
        body = b"x" * chance.choice([1, 500, 20_000])
    expected = (token.encode() + b" " + body + b"\n") * times
    method = "POST" if body else "GET"
    target = f"/{way}?token={token}&times={times}"
    try:
        client.send(request(method, target, headers, body))
    except OSError as error:
        raise Failed(f"{method} /{way} could not be sent: {error!r}") from None
    try:
        response = client.response(method)
    except TimeoutError:
        raise Failed(f"{method} /{way} was not answered in {ANSWER_WITHIN:g} s") from None
    except Exception as error:
        # Truncated, a reset, a response that is none.
        raise Failed(f"{method} /{way} got no whole answer: {error!r}"[:400]) from None
    if response.status != 200:
        raise Failed(f"{method} /{way} got {response.status}: {response.body[:100]!r}")
    if response.body != expected:
        raise Failed(
            f"{method} /{way}: {len(response.body)} bytes are not the {len(expected)} expected"
        )
    return response, int(response.header("X-Worker") or 0)


def expect_end(client: Client) -> None:
    """After `Connection: close` comes the orderly end of the stream, and nothing before it."""
    try:
        rest = client.read_until_closed()
    except OSError as error:
        raise Failed(f"no orderly end after Connection: close: {error!r}") from None
    if rest:
        raise Failed(
            f"{len(rest)} bytes after the response that closed the connection: {rest[:100]!r}"
        )
