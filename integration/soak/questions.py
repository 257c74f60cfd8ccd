"""Requests to sites/soak_site.py of every kind, each with the answer that it must get."""

from __future__ import annotations

import random
from dataclasses import dataclass

from harness import Response, request
from load import Failed
from sites.soak_site import FIELDS, NOISE, digest, filler

IN_MEMORY = 512 * 1024
"""Octets of a body that the worker keeps in memory; longer ones need a file."""
KIB = 1024
LENGTHS = [0, 1, 100, 4 * KIB, 60 * KIB]
ONE_BLOCK = ("whole", "sized", "memory-file")
STREAMED = ("blocks", "write")


@dataclass(frozen=True)
class Question:
    """One request, and its answer as far as it is known beforehand."""

    way: str
    fail: str
    method: str
    version: str
    head: bytes
    body: bytes
    """As framed on the wire."""
    answer: bytes
    digest: str
    needs_file: bool
    """It may fail while descriptors or disk space are lacking."""
    expects: bool
    """Its body is sent when the server says 100 (Continue)."""

    @property
    def breaks(self) -> bool:
        """The answer begins, and must not look complete."""
        return self.fail in ("after-a-block", "short")

    @property
    def kind(self) -> str:
        """What it is counted as."""
        return f"application fails {self.fail}" if self.fail else f"{self.version} {self.way}"

    def check(self, response: Response) -> None:
        """Raises Failed if this is not the answer."""
        if self.fail in ("at-once", "exit", "before-the-first-block"):
            if response.status != 500 or response.header("X-Worker") is not None:
                raise Failed(f"{response.status} instead of 500 from an application that raised")
            return
        status = 204 if self.way == "nothing" else 200
        if response.status != status:
            raise Failed(f"{response.status} instead of {status}: {response.body[:100]!r}")
        if self.way in ("file", "nothing") and response.header("X-Digest") != self.digest:
            raise Failed("the application saw another request than was sent (X-Digest)")
        if self.method == "HEAD" or status == 204:
            framing, expected = "none", b""
        else:
            framing, expected = self._framing(), self.answer
        if response.framing != framing:
            raise Failed(f"framed by {response.framing}, not by {framing}")
        if response.body != expected:
            raise Failed(difference(response.body, expected))

    def _framing(self) -> str:
        if self.way not in STREAMED:
            return "length"
        return "chunked" if self.version == "HTTP/1.1" else "close"


def difference(body: bytes, expected: bytes) -> str:
    at = next(
        (at for at, pair in enumerate(zip(body, expected, strict=False)) if pair[0] != pair[1]),
        min(len(body), len(expected)),
    )
    return (
        f"{len(body)} octets instead of {len(expected)}; from octet {at} on "
        f"{body[at : at + 40]!r} instead of {expected[at : at + 40]!r}"
    )


def question(
    chance: random.Random,
    *,
    version: str = "HTTP/1.1",
    close: bool = False,
    large: float = 0.02,
    upload: float = 0.02,
    fail: float = 0.0,
    expect: float = 0.0,
) -> Question:
    """Any request. large, upload, fail, expect: how probable long answers, long bodies, failing
    applications and `Expect: 100-continue` are."""
    token = f"{chance.getrandbits(64):016x}"
    way = chance.choice([*ONE_BLOCK, *STREAMED, *("whole",) * 4, "file", "nothing", "blocks"])
    why = chance.choice(FAILURES) if chance.random() < fail else ""
    if why:
        way = {"before-the-first-block": "blocks", "after-a-block": "sized", "short": "sized"}.get(
            why, "whole"
        )
    # An answer that breaks must not be complete after its first block.
    size = chance.choice(LENGTHS[1:] if why else LENGTHS)
    if not why and way != "nothing" and chance.random() < large:
        size = chance.choice([300 * KIB, 1024 * KIB, 4096 * KIB])
    method = chance.choice(["GET"] * 4 + ["POST"] * 4 + ["PUT", "DELETE"] + ["HEAD"] * (not why))
    body = b""
    if method in ("POST", "PUT"):
        length = chance.choice(LENGTHS)
        if chance.random() < upload:
            length = chance.choice([IN_MEMORY, IN_MEMORY + 1, 3 * IN_MEMORY, 5 * IN_MEMORY])
        begin = chance.randrange(len(NOISE) - length)
        body = NOISE[begin : begin + length]
    target = f"/ask/{way}?token={token}&size={size}" + (f"&fail={why}" if why else "")
    fields = some_fields(chance)
    head = {"Host": "soak", **fields}
    if close:
        head["Connection"] = "close"
    chunks = method in ("POST", "PUT") and version == "HTTP/1.1" and chance.random() < 0.5
    if chunks:
        head["Transfer-Encoding"] = "chunked"
    elif method in ("POST", "PUT"):
        head["Content-Length"] = str(len(body))
    expects = bool(body) and version == "HTTP/1.1" and chance.random() < expect
    if expects:
        head["Expect"] = "100-continue"
    seen = [(name.upper().replace("-", "_"), value) for name, value in fields.items()]
    line = digest(method, target, seen, body)
    start, end = filler(token, size)
    return Question(
        way=way,
        fail=why,
        method=method,
        version=version,
        head=request(method, target, head, version=version),
        body=in_chunks(chance, body) if chunks else body,
        answer=NOISE[start:end] if way == "file" else line + b"\n" + NOISE[start:end],
        digest=line.decode(),
        needs_file=way == "file" or len(body) > IN_MEMORY,
        expects=expects,
    )


FAILURES = ["at-once", "exit", "before-the-first-block", "after-a-block", "short", "closing"]


def some_fields(chance: random.Random) -> dict[str, str]:
    """Fields that the digest covers, with octets beyond ASCII too."""
    alphabet = "abcXYZ019 \t!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~\\äÿ"
    return {
        f"{FIELDS}{chance.randrange(1000)}": "".join(
            chance.choices(alphabet, k=chance.choice([0, 1, 10, 200]))
        ).strip(" \t")
        for _ in range(chance.randrange(4))
    }


def in_chunks(chance: random.Random, body: bytes) -> bytes:
    """The body in chunks of any size, some with extensions, and perhaps a trailer."""
    framed = bytearray()
    position = 0
    usual = chance.choice([10, 1000, 16 * KIB, 300 * KIB])
    while position < len(body):
        # Not thousands of tiny ones.
        size = max(chance.randint(1, usual), len(body) // 200)
        chunk = body[position : position + size]
        extension = chance.choice([b"", b"", b"", b";a", b';a="b c"', b";a=b;c"])
        framed += b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk)
        position += len(chunk)
    return bytes(framed + b"0\r\n" + chance.choice([b"", b"", b"X-Trailer: 1\r\n"]) + b"\r\n")
