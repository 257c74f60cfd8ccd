"""One case on one server: what is sent, what came of it, and how two outcomes differ."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from harness import Server

TAIL = b"GET /tail HTTP/1.1\r\nHost: tail\r\n\r\n"

APP = """
import json

PLAIN = (str, bool, int, tuple, type(None))


def app(environ, start_response):
    body = environ["wsgi.input"].read()
    seen = {key: value if isinstance(value, PLAIN) else "object" for key, value in environ.items()}
    answer = json.dumps({"environ": seen, "body": body.hex()})
    # The answer to HEAD has no body to put it into.
    head = environ["REQUEST_METHOD"] == "HEAD"
    octets = b"" if head else answer.encode()
    headers = [("Content-Length", str(len(octets)))]
    start_response("200 OK", headers + [("X-Seen", answer)] if head else headers)
    return [octets]
"""
"""Tells all that it was told; the names of its peers and of the server are for us to compare."""

INCOMPARABLE = (
    "SERVER_SOFTWARE",
    "wsgi.multithread",
    "meinheld.client",
    "meinheld.disconnected",
)
Names: TypeAlias = Mapping[str, Mapping[str, str]]
"""By key of environ: values that differ from server to server, and what is compared instead."""


@dataclass(frozen=True)
class Answer:
    """A final response, and what the application saw if it was called."""

    status: int
    environ: Mapping[str, object]
    body: str = ""


@dataclass(frozen=True)
class Outcome:
    """All final responses to a case and the tail behind it, until the connection was closed."""

    answers: tuple[Answer, ...]

    @property
    def status(self) -> int:
        """The first answer's; 0 if there is none."""
        return self.answers[0].status if self.answers else 0

    @property
    def environ(self) -> Mapping[str, object]:
        return self.answers[0].environ if self.answers else {}

    @property
    def fate(self) -> tuple[str | int, ...]:
        """What came after the first answer: the targets that were served, or statuses."""
        return tuple(str(later.environ.get("RAW_URI", later.status)) for later in self.answers[1:])

    def __str__(self) -> str:
        def line(answer: Answer) -> str:
            named = {k: v for k, v in answer.environ.items() if k.isupper() and v != ""}
            return f"  {answer.status} {named} {answer.body!r}"[:2000]

        return "\n".join([*map(line, self.answers), "  closed"])


def exchange(server: Server, octets: bytes) -> Outcome:
    """Sends the case with a tail behind it, says that there is no more, and reads to the end."""
    received = bytearray()
    with server.client() as client:
        own = client.socket.getsockname()
        # Who refuses what it has read so far may close before the rest is sent.
        with contextlib.suppress(ConnectionError):
            client.send(octets + TAIL)
        with contextlib.suppress(OSError):
            client.half_close()
        with contextlib.suppress(ConnectionError):
            while block := client.receive():
                received += block
    names: dict[str, dict[str, str]] = {"SERVER_NAME": {}, "SERVER_PORT": {}, "REMOTE_PORT": {}}
    if isinstance(server.address, str):
        names["SERVER_NAME"][server.address] = "{socket}"
    else:
        names["SERVER_PORT"][str(server.port)] = "{port}"
        names["REMOTE_PORT"][str(own[1])] = "{own port}"
    return Outcome(tuple(_answers(bytes(received), names, octets.startswith(b"HEAD "))))


def _answers(received: bytes, names: Names, to_head: bool) -> Iterator[Answer]:
    while received:
        head, blank, rest = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        status = re.fullmatch(r"HTTP/\d\.\d (\d{3})(?: .*)?", first)
        assert blank and status, f"not a response: {received[:200]!r}"
        fields = {
            name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)
        }
        length = int(fields.get("content-length", "0"))
        if to_head and not rest:
            # gunicorn's error pages have a body nevertheless.
            length = 0
        assert len(rest) >= length, f"a part of a response: {received[:200]!r}"
        body, received = rest[:length], rest[length:]
        if status[1] == "200":
            seen = json.loads(fields.get("x-seen", body))
            yield Answer(200, dict(_comparable(seen["environ"], names)), seen["body"])
        elif not status[1].startswith("1"):
            yield Answer(int(status[1]), {})


def _comparable(environ: Mapping[str, object], names: Names) -> Iterator[tuple[str, object]]:
    for key, value in environ.items():
        if key not in INCOMPARABLE:
            yield key, names.get(key, {}).get(str(value), value)


def differing(gunicorn: Outcome, ours: Outcome) -> Iterator[str]:
    """The parts in which two outcomes differ: `status`, or else `fate`, `body` and keys of environ,
    those of later requests as `later KEY`. Whoever has refused a request and serves another differs
    from everything."""
    if ours.answers and not ours.environ and ours.fate:
        yield "served after an error"
    if gunicorn.status != ours.status:
        yield "status"
        return
    if gunicorn.fate != ours.fate:
        yield "fate"
    pairs = list(zip(gunicorn.answers, ours.answers, strict=False))
    for prefix, (one, other) in zip(["", *["later "] * len(pairs)], pairs, strict=False):
        if one.body != other.body:
            yield prefix + "body"
        for key in sorted({*one.environ, *other.environ}):
            if (key in one.environ, one.environ.get(key)) != (
                key in other.environ,
                other.environ.get(key),
            ):
                yield prefix + key
