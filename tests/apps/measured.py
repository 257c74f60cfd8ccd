"""Applications whose cost is counted: next to none of it is theirs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from typing import Any

Start = Callable[..., Any]
HELLO = b"Hello, world!\n"
MEBIBYTE = bytes(1 << 20)


class KeptOpen:
    """A regular file of 1 MiB that outlives its answers: it has no `close`."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile()  # noqa: SIM115
        self.file.write(MEBIBYTE)
        self.file.seek(0)
        self.fileno = self.file.fileno
        self.read = self.file.read


FILE = KeptOpen()


def begin(start_response: Start, length: int) -> None:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(length))])


def hello(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    begin(start_response, len(HELLO))
    return [HELLO]


def post(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    environ["wsgi.input"].read()
    begin(start_response, len(HELLO))
    return [HELLO]


def memory(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    begin(start_response, len(MEBIBYTE))
    return [MEBIBYTE]


def file(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    begin(start_response, len(MEBIBYTE))
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](FILE)
    return wrapped


APPLICATIONS = {"/": hello, "/post": post, "/memory": memory, "/file": file}


def app(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    return APPLICATIONS[environ["PATH_INFO"]](environ, start_response)
