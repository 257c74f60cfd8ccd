"""Reads `wsgi.input` as the header X-Calls says, and notes each step, so that a test sees how far
an application has come while it waits for octets.

X-Calls is a JSON list of calls as in `apps.input_calls`, and `["hold"]`, which waits for the file
`release-TAG`. TAG is the second part of the path: `/calls/TAG`. The notes are

    TAG called
    TAG read 3 ...              before the call
    TAG read 3 = 'abc'          after it; or `TAG read 3 raised ConnectionResetError`
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any

from apps.hold import wait_for_file
from apps.input_calls import perform
from apps.notes import note
from apps.routes import Routes, text

app = Routes()


class Reader:
    """Makes the calls of one request, one after another."""

    def __init__(self, environ: dict[str, Any]) -> None:
        self.stream = environ["wsgi.input"]
        self.tag = environ["PATH_INFO"].split("/")[2]
        self.calls = json.loads(environ.get("HTTP_X_CALLS", "[]"))
        note(f"{self.tag} called")

    def result(self, name: str, arguments: list[Any]) -> Any:
        """What the call returns; what it raises goes on to the caller."""
        shown = " ".join(map(str, [self.tag, name, *arguments]))
        note(f"{shown} ...")
        try:
            if name == "hold":
                wait_for_file(f"release-{self.tag}")
                return None
            result = perform(self.stream, name, arguments)
        except BaseException as error:
            kind = type(error).__name__ + ("" if isinstance(error, OSError) else ", no OSError")
            note(f"{shown} raised {kind}")
            raise
        note(f"{shown} = {result!r}")
        return result

    def results(self) -> list[Any]:
        """What all of them return. Not one is skipped because another one raised."""
        results: list[Any] = []
        for name, *arguments in self.calls:
            try:
                results.append(self.result(name, arguments))
            except Exception as error:
                is_os_error = isinstance(error, OSError)
                results.append({"raised": type(error).__name__, "an OSError": is_os_error})
        return results


@app.route
def calls(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answers with all results, what was raised among them."""
    return text(start_response, json.dumps(Reader(environ).results()))


@app.route
def strict(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Lets the first exception through to the server."""
    reader = Reader(environ)
    results = [reader.result(name, arguments) for name, *arguments in reader.calls]
    return text(start_response, json.dumps(results))


@app.route
def early(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Reads when the head of its answer has left, and lets exceptions through."""
    reader = Reader(environ)
    start_response("200 OK", [])
    yield b"early,"
    for name, *arguments in reader.calls:
        yield json.dumps(reader.result(name, arguments)).encode()


@app.route
def digest(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Reads to the end, with the sizes that X-Sizes lists over and over (a negative one is for
    `readline`), and answers with the length and the hash of all pieces and of where each ended."""
    stream = environ["wsgi.input"]
    sizes = itertools.cycle(json.loads(environ.get("HTTP_X_SIZES", "[65536]")))
    length, pieces = 0, hashlib.sha256()
    for size in sizes:
        piece = stream.read(size) if size > 0 else stream.readline(-size)
        if not piece:
            break
        length += len(piece)
        pieces.update(b"%d:" % len(piece))
        pieces.update(piece)
    return text(start_response, f"{length} {pieces.hexdigest()}")


@app.route
def well(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    return text(start_response, "all is well")


def pieces_of(body: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    """What `digest` reads from a file with this body."""
    at = 0
    for size in itertools.cycle(sizes):
        end = min(at + abs(size), len(body))
        if size < 0 and (line_end := body.find(b"\n", at, end) + 1):
            end = line_end
        if end == at:
            return
        yield body[at:end]
        at = end


def digest_of(body: bytes, sizes: Iterable[int]) -> str:
    """The answer of `digest`."""
    digest = hashlib.sha256()
    for piece in pieces_of(body, sizes):
        digest.update(b"%d:" % len(piece))
        digest.update(piece)
    return f"{len(body)} {digest.hexdigest()}"
