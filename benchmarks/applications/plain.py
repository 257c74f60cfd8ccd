"""What the servers are measured with: the smallest applications that show one thing each.

PEP 3333 and nothing else; every server calls the same ones. `FILE` lies in the server's directory.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from typing import Any

BODY = b"Hello, world!\n"
MEBIBYTE = b"x" * (1 << 20)
FILE = "one-mebibyte"
FILE_BLOCK = 1 << 16
BLOCKS = 10
BLOCK = b"0123456789" * 10
PATIENCE = 3.0
"""Seconds that `lockstep` waits for the client's word."""


def hello(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "14")])
    return [BODY]


def upload(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Reads the whole body, and says how long it was."""
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "14")])
    return [b"%013d\n" % len(body)]


def memory(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "1048576")])
    return [MEBIBYTE]


def file(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """As PEP 3333 shows it, with the way out for servers without a wrapper."""
    opened = open(FILE, "rb")  # noqa: SIM115 - the server closes it
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "1048576")])
    if wrapper := environ.get("wsgi.file_wrapper"):
        answer: Iterable[bytes] = wrapper(opened, FILE_BLOCK)
        return answer
    return iter(lambda: opened.read(FILE_BLOCK), b"")


def blocks(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    if port := environ.get("QUERY_STRING"):
        return lockstep(int(port))
    return generated()


def generated() -> Iterator[bytes]:
    for _ in range(BLOCKS):
        yield BLOCK


def lockstep(port: int) -> Iterator[bytes]:
    """The same blocks, numbered. Asked for each but the first, it tells the client on a connection
    of its own, and waits until the client has said whether it has got the one before."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        yield b"block 0\n"
        for number in range(1, BLOCKS):
            client.sendall(b"?")
            client.recv(1)
            yield b"block %d\n" % number
