"""A client that resets after any octet of its answer: the iterable is closed exactly once, the
descriptors come back, and the next client is served."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import Server, eventually, request
from wellness import WELL_ROUTE, unharmed

APP = """
import io
from apps.notes import note
from apps.routes import Routes, text

app = Routes()
LARGE = 8_000_000
for name, size in (("short", 100), ("large", LARGE)):
    with open(name, "wb") as out:
        out.write(bytes(size))


class Body:
    # Not a generator: an error that calls close() twice would be seen.

    def __init__(self, name, blocks):
        self.name, self.blocks = name, iter(blocks)

    def __iter__(self):
        return self

    def __next__(self):
        return next(self.blocks)

    def close(self):
        note("closed " + self.name)


class File:
    # As tempfile's wrappers are: the file itself can be sent by the kernel.

    def __init__(self, name):
        self.name, self.file = name, open(name, "rb")
        self.read, self.fileno, self.tell = self.file.read, self.file.fileno, self.file.tell

    def close(self):
        note("closed file_" + self.name)
        self.file.close()


class ReadOnly:
    def __init__(self, name):
        self.name, self.file = name, open(name, "rb")

    def read(self, size):
        return self.file.read(size)

    def close(self):
        note("closed read_" + self.name)
        self.file.close()


def respond(name, make, headers=()):
    def application(environ, start_response):
        return make(environ, start_response("200 OK", list(headers)))

    application.__name__ = name
    app.route(application)


respond("short_list", lambda environ, write: [bytes(40), bytes(60)])
respond("short_blocks", lambda environ, write: Body("short_blocks", [bytes(40), bytes(60)]))
respond(
    "short_length",
    lambda environ, write: Body("short_length", [bytes(40), bytes(60)]),
    [("Content-Length", "100")],
)
respond("file_short", lambda environ, write: environ["wsgi.file_wrapper"](File("short")))
respond("read_short", lambda environ, write: environ["wsgi.file_wrapper"](ReadOnly("short"), 40))
respond("large_list", lambda environ, write: [bytes(LARGE)])
respond("large_blocks", lambda environ, write: Body("large_blocks", [bytes(65536)] * 120))
respond(
    "large_length",
    lambda environ, write: Body("large_length", [bytes(LARGE // 8)] * 8),
    [("Content-Length", str(LARGE))],
)
respond("file_large", lambda environ, write: environ["wsgi.file_wrapper"](File("large")))
respond("read_large", lambda environ, write: environ["wsgi.file_wrapper"](ReadOnly("large"), 65536))


@app.route
def short_write(environ, start_response):
    write = start_response("200 OK", [])
    try:
        write(bytes(40))
        write(bytes(60))
    finally:
        note("closed short_write")
    return []


@app.route
def large_write(environ, start_response):
    write = start_response("200 OK", [])
    try:
        while True:
            write(bytes(65536))
    finally:
        note("closed large_write")
"""
SHORT = ["short_list", "short_blocks", "short_length", "short_write", "file_short", "read_short"]
LARGE = ["large_list", "large_blocks", "large_length", "large_write", "file_large", "read_large"]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP + WELL_ROUTE, "--keep-alive", "60") as server:
        yield server


def cut_off(server: Server, data: bytes, counts: range, receive_buffer: int = 4096) -> None:
    """A client for each of `counts` reads that many octets of its answer, then resets."""
    for count in counts:
        with server.client(receive_buffer=receive_buffer) as client:
            client.send(data)
            client.read_exactly(count)
            client.reset()


def assert_each_was_closed_once(server: Server, path: str, before: int, requests: int) -> None:
    if path.endswith("_list"):
        return  # A list has no close().
    closed = f"closed {path}"
    eventually(lambda: server.notes().count(closed) >= before + requests, "each iterable is closed")
    # The worker has served others since: what it would close twice it has closed twice by now.
    assert server.notes().count(closed) == before + requests


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
@pytest.mark.parametrize("path", SHORT)
def test_a_reset_after_any_octet_of_a_short_answer(server: Server, path: str, version: str) -> None:
    data = request("GET", f"/{path}", {"Connection": "close"}, version=version)
    with server.client() as client:
        client.send(data)
        whole = client.read_until_closed()
    assert whole.startswith(b"%b 200 OK" % version.encode()) and len(whole) > 150
    before = server.notes().count(f"closed {path}")
    with unharmed(server):
        cut_off(server, data, range(1, len(whole)))
    assert_each_was_closed_once(server, path, before, len(whole) - 1)


@pytest.mark.parametrize("path", LARGE)
def test_a_reset_after_any_octet_at_the_start_of_an_answer_that_fills_the_buffers(
    server: Server, path: str
) -> None:
    before = server.notes().count(f"closed {path}")
    counts = range(1, 260)
    with unharmed(server):
        cut_off(server, request("GET", f"/{path}"), counts)
    assert_each_was_closed_once(server, path, before, len(counts))


@pytest.mark.parametrize("path", LARGE)
def test_a_reset_in_the_middle_of_an_answer_that_fills_the_buffers(
    server: Server, path: str
) -> None:
    before = server.notes().count(f"closed {path}")
    counts = range(20_000, 6_000_000, 597_001)
    with unharmed(server):
        # Megabytes through a tiny window would take the kernel its time.
        cut_off(server, request("GET", f"/{path}"), counts, receive_buffer=65536)
    assert_each_was_closed_once(server, path, before, len(counts))


def test_a_reset_before_any_octet_of_the_answer_is_read(server: Server) -> None:
    with unharmed(server):
        for path in (*SHORT, *LARGE):
            cut_off(server, request("GET", f"/{path}"), range(1))


def test_a_reset_in_any_of_several_pipelined_answers(server: Server) -> None:
    data = request("GET", "/short_blocks") * 5
    with server.client() as client:
        client.send(data)
        client.half_close()
        whole = client.read_until_closed()
    assert whole.count(b"HTTP/1.1 200 OK") == 5
    with unharmed(server):
        cut_off(server, data, range(1, len(whole), 3))
