"""What a client hears on one connection, octet by octet, and where two servers differ in it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from harness import Client, Server

TAIL = b"GET /tail HTTP/1.1\r\nHost: tail\r\n\r\n"
"""A request behind a case: its answer says that the connection was kept, and that everything before
it has been answered."""
TAIL_ANSWERED = b"\r\n\r\nthis is the tail"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
SHOWN = 1500


@dataclass(frozen=True)
class Case:
    """What a client sends on a connection of its own."""

    name: str
    octets: bytes
    rest: bytes = b""
    """Sent when `100 Continue` has come."""
    tail: bytes = TAIL
    """Nothing, where the client has said that it will ask for nothing more."""
    bytewise: bool = False
    cut: bool = False
    """The client half-closes behind it."""

    def __str__(self) -> str:
        return f"{self.name}: {self.octets[:SHOWN]!r}"


@dataclass(frozen=True)
class Heard:
    """All that came, without the values of Date fields, and how it ended."""

    octets: bytes
    end: str
    """`kept` until the client closed it; `closed` or `reset` by the server."""

    def __str__(self) -> str:
        return f"{len(self.octets)} octets, {self.end}: {self.octets[:SHOWN]!r}"


def hear(server: Server, case: Case) -> Heard:
    """All that a server says to a case and to the tail behind it."""
    heard = bytearray()
    with server.client() as client:
        try:
            if case.rest:
                client.send(case.octets)
                heard += client.read_until(CONTINUE)
                client.send(case.rest + case.tail)
            elif case.bytewise:
                client.send_bytewise(case.octets + case.tail)
            else:
                # In one piece: who is refused may be refused before a second one.
                client.send(case.octets + case.tail)
            end = ""
            if case.cut:
                half_close(client)
        except ConnectionError:
            end = "reset"
        end = listen(client, heard) or end
    return Heard(but_for_dates(bytes(heard)), end or "closed")


def listen(client: Client, heard: bytearray) -> str:
    """Reads to the end, and says how it came about; nothing where the server has just closed."""
    end = ""
    try:
        while block := client.receive(1 << 18):
            heard += block
            if not end and heard.endswith(TAIL_ANSWERED):
                end = "kept"
                half_close(client)
    except ConnectionResetError:
        end = "reset"
    return end


def half_close(client: Client) -> None:
    # Which the server may have ended.
    with contextlib.suppress(OSError):
        client.half_close()


def but_for_dates(octets: bytes) -> bytes:
    return re.sub(rb"(?<=\r\nDate: )[^\r]+", b"now", octets)


def differing(one: Server, other: Server, cases: Iterable[Case]) -> Iterator[str]:
    """The cases to which these servers do not say the same, each with what they say."""
    for case in cases:
        first, second = hear(one, case), hear(other, case)
        if first != second:
            yield f"{case}\n one: {first}\n other: {second}\n"
