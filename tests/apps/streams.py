"""Answers that take their time, and note how far they have come: `/WAY/NAME`, with `/COUNT/SIZE`
for so many blocks of that size. The notes are

    NAME block          the server asks for the next one
    NAME closed         the answer has come to its end, in whichever way
    NAME raised ...     from `write`
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

from apps.hold import wait_for_file
from apps.notes import note
from apps.routes import Routes, text
from apps.together import together

app = Routes()
app.route(together)
LARGE = 8 << 20
"""The length of answers that are whole from the start."""
EVENTS = 4
"""Each of them waits for the file NAME-NUMBER."""


def split(environ: dict[str, Any]) -> list[str]:
    parts: list[str] = environ["PATH_INFO"].split("/")
    return parts[2:]


@app.route
def well(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    return text(start_response, "all is well")


class Counted:
    """Notes each block that is asked for, and how it ended."""

    def __init__(self, name: str, count: str, size: str) -> None:
        self.name, self.left, self.block = name, int(count), bytes(int(size))

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self.left:
            raise StopIteration
        self.left -= 1
        note(f"{self.name} block")
        return self.block

    def close(self) -> None:
        note(f"{self.name} closed")


@app.route
def blocks(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [])
    return Counted(*split(environ))


@app.route
def write(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    body = Counted(*split(environ))
    write = start_response("200 OK", [])
    try:
        for block in body:
            write(block)
    except Exception as error:
        note(f"{body.name} raised {type(error).__name__}")
        raise
    finally:
        body.close()
    return []


@app.route
def writes_after_a_sleep(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    (name,) = split(environ)
    write = start_response("200 OK", [])
    write(b"first")
    wait_for_file(f"wake-{name}")
    try:
        write(b"second")
    except Exception as error:
        note(f"{name} raised {type(error).__name__}")
        raise
    note(f"{name} was not told")
    return []


@app.route
def events(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    (name,) = split(environ)
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    try:
        for number in range(EVENTS):
            note(f"{name} asked for {number}")
            wait_for_file(f"{name}-{number}")
            yield b"data: %d\n\n" % number
    finally:
        note(f"{name} closed")


@app.route
def written_events(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    (name,) = split(environ)
    write = start_response("200 OK", [("Content-Type", "text/event-stream")])
    for number in range(EVENTS):
        wait_for_file(f"{name}-{number}")
        write(b"data: %d\n\n" % number)
    note(f"{name} closed")
    return []


def gone(sock: Any) -> bool:
    """Whether the client of a `gunicorn.socket` has gone: what the application can see of it."""
    if sock.fileno() != -1:
        return False
    try:
        sock.getpeername()
    except OSError:
        return True
    return False


def watch(sock: Any, name: str) -> None:
    note(f"{name} watching")
    deadline = time.monotonic() + 60
    while not gone(sock) and time.monotonic() < deadline:
        time.sleep(0.005)
    note(f"{name} {'noticed' if gone(sock) else 'noticed nothing'}")


@app.route
def watching_stream(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    (name,) = split(environ)
    start_response("200 OK", [])
    try:
        yield b"first"
        watch(environ["gunicorn.socket"], name)
        yield b"second"
        note(f"{name} asked for more")
    finally:
        note(f"{name} closed")


@app.route
def watching_poll(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    (name,) = split(environ)
    watch(environ["gunicorn.socket"], name)
    return text(start_response, "too late")


@app.route
def whole(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    note("large answer called")
    start_response("200 OK", [("Content-Length", str(LARGE))])
    return [bytes(LARGE // 4)] * 4


@app.route
def file(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    note("large answer called")
    with open("data", "wb") as out:
        out.truncate(LARGE)
    start_response("200 OK", [("Content-Length", str(LARGE))])
    data = open("data", "rb")  # noqa: SIM115 (the server closes it)
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](data)
    return wrapped


class Unsendable:
    """A file that has no descriptor: its blocks are read one by one."""

    def __init__(self) -> None:
        self.left = LARGE

    def read(self, size: int) -> bytes:
        size = min(size, self.left)
        self.left -= size
        return bytes(size)


@app.route
def file_like(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Length", str(LARGE))])
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](Unsendable(), 65536)
    return wrapped
