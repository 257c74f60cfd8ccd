"""Requests with octets added, replaced, removed and doubled at random: for the differences that
nobody thought of."""

from __future__ import annotations

import random
from collections.abc import Iterator

from differential.corpus import Case, Family, unique

LONGEST = 1500
"""Octets of a request that is changed: a change to a longer one nearly always hits its filling."""

PIECES = (
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b"\t",
        b"\r\n ",
        b"\r\n\r\n",
        b":",
        b",",
        b";",
        b"_",
        b"-",
        b"/",
    ),
    *(b"?", b"#", b"%", b"@", b"[", b"]", b'"', b"=", b"+", b"0", b"1", b"a", b"A", b"\0", b"\x0b"),
    *(b"\x7f", b"\x80", b"\x85", b"\xa0", b"\xff", b"close", b"chunked", b"HTTP/1.1", b"Host: a"),
)


def mutations(*families: Family, count: int) -> Family:
    """`count` changed requests of these families, always the same ones."""

    def cases() -> Iterator[Case]:
        requests = unique(case for family in families for case in family())
        short = [case for case in requests if 0 < len(case.octets) <= LONGEST]
        chance = random.Random(count)
        for case in chance.choices(short, k=count):
            octets = case.octets
            for _ in range(chance.choice((1, 1, 2))):
                octets = _changed(octets, chance)
            yield Case("mutated " + case.family, octets)

    return cases


def _changed(octets: bytes, chance: random.Random) -> bytes:
    at, until = sorted(chance.randrange(len(octets) + 1) for _ in range(2))
    piece = chance.choice(PIECES)
    changes = (
        octets[:at] + piece + octets[at:],
        octets[:at] + piece + octets[at + 1 :],
        octets[:at] + octets[at + chance.choice((1, 1, 2, 4)) :],
        octets[:until] + octets[at:until][:60] + octets[until:],
    )
    return chance.choices(changes, weights=(4, 3, 2, 2))[0]
