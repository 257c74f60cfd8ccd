"""What the soak (integration/soak) asks: every answer can be foretold to the last octet.

/ask/<way>?token=..&size=..&fail=..   a digest of the request, then `size` octets of NOISE
/marker/<name>                        leaves its name in the notes: it was served as a request
anything else                         the request as JSON, as tests/test_wire_corpus.py wants it
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs

MIB = 1 << 20
LARGEST = 4 * MIB
"""Octets of an answer, at most."""
NOISE = random.Random("soak").randbytes(LARGEST + MIB)
BLOCKS = 7
"""Blocks of an answer that comes in several."""
FIELDS = "X-Soak-"
"""How the names begin of the fields that the digest covers."""

# Opened now: a marker must be noted while there are no descriptors, too.
_NOTES = (
    os.open(os.environ["TEST_NOTES"], os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    if "TEST_NOTES" in os.environ
    else -1
)


class OnPurpose(Exception):
    """Its traceback in the error log is no finding."""


def digest(method: str, target: str, fields: Iterable[tuple[str, str]], body: bytes) -> bytes:
    """Of a request as the application must see it: fields by name in upper case, with their
    repetitions joined by commas."""
    seen = json.dumps([method, target, sorted(fields), hashlib.sha256(body).hexdigest()])
    return hashlib.sha256(seen.encode()).hexdigest().encode()


def filler(token: str, size: int) -> tuple[int, int]:
    """Where in NOISE the octets begin and end that follow the digest."""
    start = int(token, 16) % MIB
    return start, start + size


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path.startswith("/ask/"):
        return ask(environ, start_response, path.removeprefix("/ask/"))
    if path.startswith("/marker/"):
        os.write(_NOTES, path.removeprefix("/marker/").encode("latin-1") + b"\n")
        return whole(start_response, "200 OK", [], b"marked")
    seen = {
        "method": environ["REQUEST_METHOD"],
        "target": environ["RAW_URI"],
        "query": environ["QUERY_STRING"],
        "version": environ["SERVER_PROTOCOL"],
        "body": environ["wsgi.input"].read().decode("latin-1"),
    }
    return whole(start_response, "200 OK", [], json.dumps(seen).encode())


def whole(
    start_response: Any, status: str, headers: list[tuple[str, str]], body: bytes
) -> list[bytes]:
    # How a client knows the application's answers from the server's own.
    own = ("X-Worker", str(os.getpid()))
    start_response(status, [*headers, own, ("Content-Length", str(len(body)))])
    return [body]


def ask(environ: dict[str, Any], start_response: Any, way: str) -> Iterable[bytes]:
    try:
        query = parse_qs(environ["QUERY_STRING"], strict_parsing=True)
        token, size = query["token"][0], int(query["size"][0])
        start, end = filler(token, size)
        if not 0 <= size <= LARGEST:
            raise ValueError(size)
    except (KeyError, ValueError):
        # Hostile clients send damaged targets.
        return whole(start_response, "400 Bad Request", [], b"no such question")
    fail = query.get("fail", [""])[0]
    if fail == "at-once":
        raise OnPurpose("at once")
    if fail == "exit":
        raise SystemExit("OnPurpose")
    fields = [
        (name.removeprefix("HTTP_"), value)
        for name, value in environ.items()
        if name.startswith("HTTP_X_SOAK_")
    ]
    body = read(environ["wsgi.input"], int(token, 16))
    line = digest(environ["REQUEST_METHOD"], environ["RAW_URI"], fields, body) + b"\n"
    if fail == "closing":
        return Closing(whole(start_response, "200 OK", [], line + NOISE[start:end]))
    return answer(environ, start_response, way, line, start, end, fail)


def read(stream: Any, number: int) -> bytes:
    """The whole body, in one of the ways that PEP 3333 has."""
    if number % 4 == 1:
        return b"".join(iter(lambda: stream.read(10_000), b""))
    if number % 4 == 2:
        return b"".join(stream)
    if number % 4 == 3:
        return b"".join(iter(lambda: stream.readline(), b""))
    return bytes(stream.read())


def answer(
    environ: dict[str, Any],
    start_response: Any,
    way: str,
    line: bytes,
    start: int,
    end: int,
    fail: str,
) -> Iterable[bytes]:
    own = ("X-Worker", str(os.getpid()))
    missing = 1 if fail == "short" else 0
    sized = [own, ("Content-Length", str(len(line) + end - start + missing))]
    if way == "blocks":
        start_response("200 OK", [own])
        return blocks(line, start, end, fail)
    if way == "sized":
        start_response("200 OK", sized)
        return blocks(line, start, end, fail)
    if way == "write":
        write = start_response("200 OK", [own])
        for block in blocks(line, start, end, fail):
            write(block)
        return []
    if way == "file":
        return environ["wsgi.file_wrapper"](file(start_response, line, start, end))  # type: ignore[no-any-return]
    if way == "memory-file":
        start_response("200 OK", sized)
        return environ["wsgi.file_wrapper"](io.BytesIO(line + NOISE[start:end]), 20_000)  # type: ignore[no-any-return]
    if way == "nothing":
        start_response("204 No Content", [own, ("X-Digest", line.decode().strip())])
        return []
    return whole(start_response, "200 OK", [], line + NOISE[start:end])


def blocks(line: bytes, start: int, end: int, fail: str) -> Iterator[bytes]:
    if fail == "before-the-first-block":
        raise OnPurpose("before the first block")
    yield line
    if fail == "after-a-block":
        raise OnPurpose("after a block")
    step = max(1, (end - start) // BLOCKS)
    for position in range(start, end, step):
        yield NOISE[position : min(end, position + step)]


def file(start_response: Any, line: bytes, start: int, end: int) -> io.BufferedReader:
    """The `noise` file from an offset on; the digest is a field, for it is not in the file."""
    try:
        opened = open("noise", "rb")  # noqa: SIM115 - the server closes it
    except OSError:
        raise OnPurpose("no descriptor for a file") from None
    opened.seek(start)
    headers = [("X-Worker", str(os.getpid())), ("X-Digest", line.decode().strip())]
    start_response("200 OK", [*headers, ("Content-Length", str(end - start))])
    return opened


class Closing:
    """An answer that is complete, and whose close() raises."""

    def __init__(self, body: list[bytes]) -> None:
        self.body = body

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.body)

    def close(self) -> None:
        raise OnPurpose("in close()")
