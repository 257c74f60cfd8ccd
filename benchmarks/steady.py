"""A steady load: so many requests a second, whatever the server does, and what became of each.

Half the requests share a few connections that are kept, as a proxy's or a browser's; the others
open one each and ask for `Connection: close`. A request that finds all kept connections busy waits
for one, and its clock runs: a server that stalls cannot hide it by slowing its client down. A
server that keeps no connection is served a new one each time.

A server may close a kept connection at any time while it is idle, and a request may cross that
close on its way. A correct client then asks again over another connection (RFC 9112, section
9.3.1), and so does this one, once: these are counted apart. All else that is not a whole answer
with status 200 is a failure: a close that comes later than CROSSED after the request, or after an
octet of the answer, or on a new connection.
"""

from __future__ import annotations

import enum
import errno
import itertools
import selectors
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from crowd import ENDS_WITH
from harness import request as request_head

KEPT = 16
"""Connections that are kept."""
TIMEOUT = 10.0
"""Seconds from when a request is asked for until it counts as failed."""
CROSSED = 0.05
"""Seconds within which the close of an idle connection meets a request that crossed it. Over
loopback it takes microseconds; the rest is for a client that did not get a processor at once."""
LOOK = 0.5
"""Seconds between two looks for requests that have timed out."""
SUCCESS = b"HTTP/1.1 200 "
AGAIN = request_head("GET", "/")
ONCE = request_head("GET", "/", {"Connection": "close"})


class Failure(enum.Enum):
    REFUSED = "refused"
    RESET = "reset"
    CLOSED = "closed without an answer"
    CUT = "cut short"
    STATUS = "not 200"
    TIMEOUT = f"no answer in {TIMEOUT:g} s"


class State(enum.Enum):
    CONNECTING = enum.auto()
    ASKED = enum.auto()
    IDLE = enum.auto()


@dataclass
class Request:
    since: float
    """When it was asked for, in seconds since the load began, as all moments here."""
    kept: bool
    """Whether it goes over a connection that is kept."""
    counts: bool
    """Not one of the warm-up."""
    retried: bool = False


class Connection:
    def __init__(self, request: Request) -> None:
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.state = State.CONNECTING
        self.request = request
        """The last one, where the connection is idle."""
        self.kept = request.kept
        self.answers = 0
        """That it has brought before this one."""
        self.sent = 0.0
        self.received = b""


@dataclass
class Seen:
    """What became of the requests of one run. Moments and durations in seconds."""

    seconds: float
    """For which requests were asked for."""
    answers: list[tuple[float, float]] = field(default_factory=list)
    """The moment of each, in order, and how long it took."""
    failures: list[tuple[float, Failure]] = field(default_factory=list)
    retried: int = 0
    """Requests that crossed the close of an idle connection and were asked again."""
    late: float = 0.0
    """By how much this client itself was late with a request, at most."""

    @property
    def requests(self) -> int:
        return len(self.answers) + len(self.failures)

    @property
    def failed(self) -> dict[str, int]:
        """How many, by kind."""
        return dict(Counter(kind.value for _, kind in self.failures))

    @property
    def pause(self) -> float:
        """The longest time without any answer."""
        within = [moment for moment, _ in self.answers if moment < self.seconds]
        return max(after - one for one, after in itertools.pairwise([0.0, *within, self.seconds]))

    @property
    def longest(self) -> float:
        """The longest that a request took which was answered."""
        return max((took for _, took in self.answers), default=0.0)


class Load:
    """One run against one server; rate: requests a second."""

    def __init__(self, port: int, rate: float) -> None:
        self.port, self.rate = port, rate
        self.selector = selectors.DefaultSelector()
        self.kept: set[Connection] = set()
        self.once: set[Connection] = set()
        self.idle: deque[Connection] = deque()
        self.waiting: deque[Request] = deque()
        """For a kept connection that is free."""
        self.unfinished = 0
        """Requests that are neither answered nor failed."""
        self.begin = 0.0
        self.seen = Seen(0.0)

    def run(
        self, warm_up: float, seconds: float, moments: Iterable[float], act: Callable[[], None]
    ) -> Seen:
        """act: called at each of the moments. What is asked before 0 warms up, and is not seen."""
        self.seen = Seen(seconds)
        self.begin = time.monotonic() + warm_up
        acts, look = deque(moments), 0.0
        numbers = iter(range(-round(warm_up * self.rate), round(seconds * self.rate)))
        upcoming = next(numbers, None)
        try:
            while upcoming is not None or self.unfinished:
                now = self.now()
                if acts and now >= acts[0]:
                    acts.popleft()
                    act()
                while upcoming is not None and upcoming / self.rate <= now:
                    if upcoming >= 0:
                        self.seen.late = max(self.seen.late, now - upcoming / self.rate)
                    self.unfinished += 1
                    self.ask(Request(now, kept=upcoming % 2 == 0, counts=upcoming >= 0))
                    upcoming = next(numbers, None)
                if now >= look:
                    look = now + LOOK
                    self.give_up(now - TIMEOUT)
                due = LOOK if upcoming is None else upcoming / self.rate - self.now()
                for key, _ in self.selector.select(max(0.0, due)):
                    self.ready(key.data)
                self.serve_those_that_wait()
        finally:
            for connection in [*self.kept, *self.once]:
                self.drop(connection)
            self.selector.close()
        return self.seen

    def now(self) -> float:
        return time.monotonic() - self.begin

    # Requests

    def ask(self, request: Request) -> None:
        if not request.kept or (not self.idle and len(self.kept) < KEPT):
            self.connect(request)
        elif self.idle:
            self.send(self.idle.popleft(), request)
        else:
            self.waiting.append(request)

    def serve_those_that_wait(self) -> None:
        while self.waiting and (self.idle or len(self.kept) < KEPT):
            self.ask(self.waiting.popleft())

    def answered(self, request: Request) -> None:
        self.unfinished -= 1
        if request.counts:
            now = self.now()
            self.seen.answers.append((now, now - request.since))

    def failed(self, request: Request, failure: Failure) -> None:
        self.unfinished -= 1
        if request.counts:
            self.seen.failures.append((self.now(), failure))

    def give_up(self, before: float) -> None:
        """The requests that were asked for before then."""
        for connection in [*self.kept, *self.once]:
            if connection.state is not State.IDLE and connection.request.since < before:
                self.drop(connection)
                self.failed(connection.request, Failure.TIMEOUT)
        while self.waiting and self.waiting[0].since < before:
            self.failed(self.waiting.popleft(), Failure.TIMEOUT)

    # Connections

    def connect(self, request: Request) -> None:
        connection = Connection(request)
        (self.kept if connection.kept else self.once).add(connection)
        self.selector.register(connection.socket, selectors.EVENT_WRITE, connection)
        # What becomes of it is told by the selector, a refusal too.
        connection.socket.connect_ex(("127.0.0.1", self.port))

    def send(self, connection: Connection, request: Request) -> None:
        connection.state, connection.request = State.ASKED, request
        connection.sent, connection.received = self.now(), b""
        try:
            connection.socket.send(AGAIN if connection.kept else ONCE)
        except ConnectionError:
            self.ended(connection, Failure.RESET)

    def ready(self, connection: Connection) -> None:
        if connection.state is State.CONNECTING:
            if error := connection.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                refused = error == errno.ECONNREFUSED
                self.ended(connection, Failure.REFUSED if refused else Failure.RESET)
            else:
                self.selector.modify(connection.socket, selectors.EVENT_READ, connection)
                self.send(connection, connection.request)
            return
        try:
            octets = connection.socket.recv(65536)
        except ConnectionError:
            self.ended(connection, Failure.RESET)
            return
        connection.received += octets
        if not octets or connection.state is State.IDLE:
            self.ended(connection, Failure.CLOSED)
        elif connection.received[: len(SUCCESS)] != SUCCESS[: len(connection.received)]:
            self.drop(connection)
            self.failed(connection.request, Failure.STATUS)
        elif connection.received.endswith(ENDS_WITH):
            self.answered(connection.request)
            if not connection.kept or b"connection: close" in connection.received.lower():
                self.drop(connection)
            else:
                connection.answers += 1
                connection.state = State.IDLE
                self.idle.append(connection)

    def ended(self, connection: Connection, how: Failure) -> None:
        """By the server."""
        self.drop(connection)
        request, state = connection.request, connection.state
        if state is State.IDLE:
            return
        crossed = state is State.ASKED and self.now() - connection.sent < CROSSED
        if connection.received:
            self.failed(request, Failure.CUT)
        elif connection.answers and crossed and not request.retried:
            request.retried = True
            self.seen.retried += request.counts
            self.connect(request)
        else:
            self.failed(request, how)

    def drop(self, connection: Connection) -> None:
        (self.kept if connection.kept else self.once).discard(connection)
        if connection.state is State.IDLE:
            self.idle.remove(connection)
        self.selector.unregister(connection.socket)
        connection.socket.close()
