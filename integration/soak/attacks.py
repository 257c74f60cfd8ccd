"""What hostile clients do, one connection an attack, and what can be checked of it.

Whatever came before, the server answers an error at most once, in whole, says `Connection: close`
with it, and takes nothing behind it for a request: markers stand there that are never to be served.
"""

from __future__ import annotations

import contextlib
import random
import select
import socket
import time
from collections.abc import Callable

from harness import Address, Response, Truncated, request
from load import Failed
from sites.soak_site import LARGEST
from test_wire_corpus import CASES, assert_expected, parsed

from soak.crew import Crew
from soak.questions import question
from soak.tally import Tally
from soak.wire import Connection

PATIENCE = 60.0
CORPUS = [parsed(path) for path in CASES]


def add_hostile_clients(crew: Crew, server: str, address: Address, seed: int, number: int) -> None:
    """server: its name in the tally."""
    for index in range(number):
        name = f"hostile client {index} of {server}"
        attacker = Attacker(name, server, address, crew.tally, seed)
        crew.add(name, attacker.attack, attacker.evidence)


class Attacker:
    """Its chance, and whom it attacks."""

    def __init__(self, name: str, server: str, address: Address, tally: Tally, seed: int) -> None:
        self.name = name
        self.server = server
        self.address = address
        self.tally = tally
        self.chance = random.Random(f"{seed} {name}")
        self.connection: Connection | None = None

    def attack(self) -> None:
        """Any of them. Raises Failed, Truncated, OSError, AssertionError when the server did
        what it must not."""
        attacks: list[tuple[int, Callable[[Connection], None]]] = [
            (80, self.corpus),
            (40, self.corpus_cut_short),
            (80, self.mutation),
            (20, self.garbage),
            (80, self.vanish_while_sending),
            (40, self.half_close),
            (40, self.vanish_while_reading),
            (10, self.octets_of_an_answer),
            (6, self.urgent_data),
            (1, self.stalled_head),
            (1, self.trickled_head),
            (1, self.stalled_body),
            (1, self.trickled_body),
            (1, self.silence),
            (1, self.stalled_reader),
            (4, self.swarm),
        ]
        weights = [weight for weight, _ in attacks]
        ((_, attack),) = self.chance.choices(attacks, weights)
        small = attack in (self.vanish_while_reading, self.stalled_reader)
        self.connection = Connection(self.address, PATIENCE, 4096 if small else None)
        with self.connection:
            attack(self.connection)
        self.tally.count(f"hostile: {attack.__name__.replace('_', ' ')}")
        self.tally.stop.wait(self.chance.uniform(0, 0.05))

    def evidence(self) -> str:
        """What was on the wire; the connection is closed."""
        if self.connection is None:
            return ""
        self.connection.close()
        return self.connection.evidence()

    # Malformed octets

    def corpus(self, connection: Connection) -> None:
        """A case of tests/wire, in any delivery, with a marker behind it."""
        expectations, octets = self.chance.choice(CORPUS)
        kept = expectations.get("keep-alive") == "yes"
        marker, tail = self._marker()
        if not kept:
            self.tally.forbid(marker)
        self._deliver(connection, octets + tail)
        method = expectations.get("method", "GET")
        response = connection.response(method)
        if response.status == 100:
            response = connection.response(method)
        assert_expected(response, expectations)
        if kept and response.header("Connection") != "close":
            if connection.response().body != b"marked":
                raise Failed("the request behind the case was not served")
            connection.half_close()
        self._expect_the_end(connection)

    def corpus_cut_short(self, connection: Connection) -> None:
        """A part of a case, then a half-close, a close, a reset, or nothing."""
        _, octets = self.chance.choice(CORPUS)
        self._deliver(connection, octets[: self.chance.randrange(len(octets))])
        way = self.chance.choice(["half-close", "close", "reset", "wait"])
        if way == "half-close":
            _end_sending(connection)
        if way in ("half-close", "wait"):
            self._answers(connection)
        elif way == "reset":
            connection.reset()

    def mutation(self, connection: Connection) -> None:
        """A valid request with damaged octets, and a marker behind it."""
        # An answer to HEAD could not be told from one to what became of it.
        while (asked := question(self.chance, large=0, upload=0)).method == "HEAD":
            pass
        octets = bytearray(asked.head + asked.body[:2000])
        for _ in range(self.chance.choice([1, 1, 2, 5])):
            self._damage(octets, len(asked.head) + 100)
        marker, tail = self._marker()
        self._deliver(connection, bytes(octets) + tail)
        _end_sending(connection)
        if self._answers(connection):
            self.tally.forbid(marker)

    def _damage(self, octets: bytearray, within: int) -> None:
        at = self.chance.randrange(min(len(octets), within))
        special = self.chance.choice(b"\r\n \t:;,0\x00\x7f\xff")
        way = self.chance.randrange(5)
        if way == 0:
            octets[at] = self.chance.randrange(256)
        elif way == 1:
            octets[at] = special
        elif way == 2:
            octets.insert(at, special)
        elif way == 3:
            del octets[at : at + self.chance.choice([1, 1, 2, 20])]
        else:
            octets[at:at] = octets[at : at + self.chance.choice([2, 20, 200])]
        if not octets:
            octets += b"\r"

    def garbage(self, connection: Connection) -> None:
        marker, tail = self._marker()
        octets = self.chance.randbytes(self.chance.choice([1, 10, 1000, 20_000]))
        self._deliver(connection, octets + b"\r\n\r\n" + tail)
        _end_sending(connection)
        if self._answers(connection):
            self.tally.forbid(marker)

    # Vanishing

    def vanish_while_sending(self, connection: Connection) -> None:
        """A valid request as far as any octet, then a reset or a close."""
        asked = question(self.chance, upload=0.1)
        octets = asked.head + asked.body
        self._deliver(connection, octets[: self.chance.randrange(len(octets))])
        if self.chance.random() < 0.7:
            connection.reset()

    def half_close(self, connection: Connection) -> None:
        """Valid requests as far as any octet, and then no more: whole ones are answered."""
        if self.chance.random() < 0.5:
            asked = [question(self.chance, large=0.05, upload=0.05)]
        else:
            asked = [question(self.chance, upload=0) for _ in range(3)]
        octets = b"".join(one.head + one.body for one in asked)
        cut = self.chance.choice([len(octets), self.chance.randrange(len(octets))])
        began = time.monotonic()
        try:
            self._deliver(connection, octets[:cut])
            _end_sending(connection)
            position = 0
            for one in asked:
                position += len(one.head) + len(one.body)
                if position > cut:
                    self._answers(connection)
                    return
                response = connection.response(one.method)
                if one.needs_file and response.status in (500, 507) and self._scarce(began):
                    return
                one.check(response)
                if response.header("Connection") == "close":
                    # The worker leaves, or saw that no more would come.
                    break
            self._expect_the_end(connection)
        except (ConnectionError, Truncated):
            if not (any(one.needs_file for one in asked) and self._scarce(began)):
                raise

    def vanish_while_reading(self, connection: Connection) -> None:
        """Some octets of a large answer, then a reset or a close."""
        connection.send(self._large(self.chance.choice(["whole", "file", "blocks", "write"])))
        connection.receive(self.chance.choice([1, 100, 10_000]))
        if self.chance.random() < 0.7:
            connection.reset()

    def octets_of_an_answer(self, connection: Connection) -> None:
        """Read one by one, and not to the end."""
        connection.send(request("GET", "/"))
        for _ in range(self.chance.randrange(150)):
            if len(connection.receive(1)) != 1:
                raise Failed("an answer ended early")

    def urgent_data(self, connection: Connection) -> None:
        with contextlib.suppress(ConnectionError):
            connection.send(request("GET", "/")[: self.chance.randrange(20)])
            connection.socket.send(b"!", socket.MSG_OOB)
            connection.read_until_closed()

    # Stalling: the server's deadlines end it

    def stalled_head(self, connection: Connection) -> None:
        head = request("GET", "/")
        connection.send(head[: self.chance.randint(1, len(head) - 1)])
        self._expect_408(connection)

    def trickled_head(self, connection: Connection) -> None:
        """An octet now and then: progress does not prolong the deadline of a head."""
        connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        self._trickle(connection, b"X")

    def stalled_body(self, connection: Connection) -> None:
        framing = self.chance.choice(
            [{"Content-Length": "1000000"}, {"Transfer-Encoding": "chunked"}]
        )
        begun = b"7a120\r\n" if "Transfer-Encoding" in framing else b""
        connection.send(request("POST", "/", framing) + begun + bytes(self.chance.choice([0, 9])))
        self._expect_408(connection)

    def trickled_body(self, connection: Connection) -> None:
        """Some octets a second are not progress, however regular they come."""
        connection.send(request("POST", "/", {"Content-Length": "1000000"}))
        self._trickle(connection, b"x")

    def silence(self, connection: Connection) -> None:
        answer = connection.read_until_closed()
        if answer and not answer.startswith(b"HTTP/1.1 408 "):
            raise Failed(f"unasked for: {answer!r}")

    def stalled_reader(self, connection: Connection) -> None:
        """A large answer that nobody reads: it is aborted, and looks so."""
        # A stream holds the worker's only thread until then: seldom.
        connection.send(self._large(self.chance.choice(["whole", "file"] * 4 + ["blocks"])))
        ended = select.poll()
        ended.register(connection.socket, 0)
        if not ended.poll(PATIENCE * 1000):
            raise Failed("an answer to a reader that stalls is waited for without end")
        try:
            connection.response()
        except (Truncated, ConnectionError):
            return
        raise Failed("an answer that was aborted looks complete")

    def swarm(self, connection: Connection) -> None:
        """Many connections at once, each with a part of a request."""
        octets = request("POST", "/", {"Content-Length": "1000"}, bytes(500))
        with contextlib.ExitStack() as stack:
            for _ in range(40):
                one = stack.enter_context(Connection(self.address, PATIENCE))
                one.send(octets[: self.chance.randrange(len(octets))])
            time.sleep(0.2)

    # What is common to them

    def _scarce(self, since: float) -> bool:
        return self.tally.was_scarce(self.server, since)

    def _large(self, way: str) -> bytes:
        token = f"{self.chance.getrandbits(64):016x}"
        return request("GET", f"/ask/{way}?token={token}&size={LARGEST}")

    def _marker(self) -> tuple[str, bytes]:
        """A name, and the request that would serve it."""
        name = f"{self.chance.getrandbits(64):016x}"
        return name, request("GET", f"/marker/{name}")

    def _deliver(self, connection: Connection, octets: bytes) -> None:
        """Whole, octet by octet, or in segments. A server that has had enough may not take all."""
        way = self.chance.choice(["whole", "whole", "octets", "segments"])
        with contextlib.suppress(ConnectionError):
            if way == "octets" and len(octets) < 2000:
                connection.send_bytewise(octets)
            elif way == "segments" and octets:
                cuts = sorted(self.chance.randrange(len(octets)) for _ in range(5))
                connection.send_segments(octets, cuts, self.chance.choice([0, 0.001, 0.05]))
            else:
                connection.send(octets)

    def _trickle(self, connection: Connection, octet: bytes) -> None:
        """Ten times a second, until the server has had enough."""
        deadline = time.monotonic() + PATIENCE
        while connection.is_quiet():
            if time.monotonic() > deadline:
                raise Failed("a trickle was waited for without end")
            connection.send(octet)
            time.sleep(0.1)
        self._expect_408(connection)

    def _expect_408(self, connection: Connection) -> None:
        response = connection.response()
        if response.status != 408 or response.header("Connection") != "close":
            raise Failed(f"{response.status} instead of 408")
        self._expect_the_end(connection)

    def _expect_the_end(self, connection: Connection) -> None:
        with contextlib.suppress(ConnectionResetError):
            if rest := connection.read_until_closed():
                raise Failed(f"behind the last answer: {rest[:300]!r}")

    def _answers(self, connection: Connection) -> bool:
        """Reads to the end: any number of the application's answers, and at most one error of
        the server's, which must be the last. Returns whether there was that one."""
        while True:
            response = self._next(connection)
            if response is None:
                return False
            if response.header("X-Worker") is None and response.status != 100:
                if response.status < 400 or response.header("Connection") != "close":
                    raise Failed(f"no error of the server's: {response!r:.300}")
                self._expect_the_end(connection)
                return True

    def _next(self, connection: Connection) -> Response | None:
        """The next answer, or None at the end."""
        came = connection.wire.came
        if connection.buffer:
            came = -1
        try:
            return connection.response()
        except (Truncated, ConnectionResetError):
            if connection.wire.came == came:
                return None
            raise


def _end_sending(connection: Connection) -> None:
    """A half-close, unless the server has had enough: it reads on for two seconds after its last
    answer, and one that sends for longer is reset."""
    with contextlib.suppress(OSError):
        connection.half_close()
