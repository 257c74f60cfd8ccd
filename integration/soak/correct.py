"""The kinds of correct clients."""

from __future__ import annotations

import functools
import time

from harness import Address
from load import Failed, expect_end, idle_connection_ended

from soak.asker import QUIET, Asker
from soak.crew import Crew
from soak.questions import question
from soak.tally import Tally


def add_correct_clients(
    crew: Crew, server: str, address: Address, seed: int, keep_alive: float, busy: int
) -> None:
    """server: its name in the tally. keep_alive: its keepalive in seconds. busy: how many clients
    of each busy kind; of each patient kind there is one."""
    patient = functools.partial(sleeper, keep_alive=keep_alive)
    kinds = [("kept", kept), ("short", short)] * busy + [("slow", slow), ("sleeping", patient)]
    for number, (kind, step) in enumerate(kinds):
        name = f"{kind} client {number} of {server}"
        asker = Asker(name, kind, server, address, crew.tally, seed)
        crew.add(name, functools.partial(step, asker, crew.tally), asker.evidence)


# Each is called again and again, and may leave its connection for the next time.


def kept(asker: Asker, tally: Tally) -> None:
    """Keep-alive, often pipelined."""
    chance = asker.chance
    if asker.connection is not None and idle_connection_ended(asker.connection):
        quiet = time.monotonic() - asker.connection.wire.sent_at
        if quiet < QUIET:
            raise Failed(f"a kept connection was closed after {quiet:.3f} s of quiet")
        tally.count("kept connections retired while idle")
        asker.drop()
    if asker.connection is None:
        asker.connect()
    if chance.random() < 0.6:
        asker.ask(question(chance, expect=0.1, fail=0.05))
    else:
        # All are sent before any answer is read: long bodies and answers would block each other.
        asker.ask(*(question(chance, upload=0) for _ in range(chance.randint(2, 8))))
    tally.stop.wait(chance.choice([0, 0.01, 0.02, 0.02, 0.3]))


def short(asker: Asker, tally: Tally) -> None:
    """One request a connection."""
    chance = asker.chance
    asker.connect()
    if chance.random() < 0.3:
        asker.ask(question(chance, version="HTTP/1.0", fail=0.08))
    else:
        asker.ask(question(chance, close=True, fail=0.08, expect=0.1, large=0.05, upload=0.05))
    asker.drop()
    tally.stop.wait(chance.uniform(0, 0.04))


def slow(asker: Asker, tally: Tally) -> None:
    """Sends in segments and reads in small pieces, always well within the deadlines."""
    chance = asker.chance
    asked = question(chance, close=True, large=0.1, upload=0.1)
    connection = asker.connect(receive_buffer=chance.choice([4096, 65536]))
    # The smallest answers come octet by octet, the largest with some hundred KiB a second.
    size = len(asked.answer)
    if size < 1000:
        connection.read_slowly(1, 0.001)
    else:
        connection.read_slowly(max(size // 500, 100), 0.01)
    asker.ask(asked, segments=chance.choice([3, 20]))
    asker.drop()


def sleeper(asker: Asker, tally: Tally, keep_alive: float) -> None:
    """Lets its connection idle: until the server ends it, or just about as long."""
    chance = asker.chance
    connection = asker.connect()
    asker.ask(question(chance, large=0, upload=0))
    if asker.connection is None:
        return
    if chance.random() < 0.5:
        expect_end(connection)
        tally.count("idle connections ended by the server")
    else:
        tally.stop.wait(keep_alive + chance.uniform(-0.05, 0.05))
        asker.ask(question(chance, large=0, upload=0))
    asker.drop()
