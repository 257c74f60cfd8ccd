"""Answers of every kind, each under its own name; what has none of these names is told what it
asked for."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from apps.routes import Application, Routes, text

routes = Routes()
FIVE = [("Content-Length", "5")]
LARGE = 400_000
"""More than an application may be ahead of its client."""


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    name = environ["PATH_INFO"].strip("/").partition("/")[0]
    return routes.applications.get(name, echo)(environ, start_response)


def echo(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Reads all of the body."""
    asked = [environ[key] for key in ("REQUEST_METHOD", "RAW_URI", "SERVER_PROTOCOL")]
    body = environ["wsgi.input"].read()
    return text(start_response, f"{' '.join(asked)} {len(body)} {body[:2000]!r}")


def answer(
    name: str,
    blocks: Iterable[Any],
    headers: Iterable[tuple[Any, Any]] = (),
    status: Any = "200 OK",
) -> None:
    """The same blocks in each of the ways to give them: `NAME-list`, `NAME-generator`,
    `NAME-write` and `NAME-file`. A block that is an exception is raised."""

    def begin(start_response: Any) -> Any:
        return start_response(status, list(headers))

    def given() -> Iterator[Any]:
        for block in blocks:
            if isinstance(block, Exception):
                raise block
            yield block

    def as_list(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        begin(start_response)
        return list(given())

    def as_generator(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        begin(start_response)
        yield from given()

    def by_write(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        write = begin(start_response)
        for block in given():
            write(block)
        return []

    def as_file(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        begin(start_response)
        octets = b"".join(given())
        size = max(4, len(octets) // 8)
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](io.BytesIO(octets), size)
        return wrapped

    ways: list[Application] = [as_list, as_generator, by_write, as_file]
    for kind, way in zip(("list", "generator", "write", "file"), ways, strict=True):
        routes.applications[f"{name}-{kind}"] = way


answer("one", [b"hello"])
answer("one-with-length", [b"hello"], FIVE)
answer("many", [b"he", b"", b"l", b"lo"])
answer("many-with-length", [b"he", b"", b"l", b"lo"], FIVE)
answer("empty", [])
answer("empty-with-length", [], [("Content-Length", "0")])
answer("empty-block", [b""])
answer("first-empty", [b"", b"hello"])
answer("large", [b"x" * (LARGE // 8)] * 8)
answer("large-block", [b"x" * LARGE])
answer("large-with-length", [b"x" * (LARGE // 8)] * 8, [("Content-Length", str(LARGE))])
answer("no-content", [], status="204 No Content")
answer("no-content-but-octets", [b"stray"], status="204 No Content")
answer("not-modified", [], status="304 Not Modified")
answer("not-modified-with-length", [], FIVE, "304 Not Modified")
answer("not-found", [b"hello"], status="404 Not Found")
answer("no-reason", [b"hello"], status="200 ")
answer("own-fields", [b"hello"], [("Server", "own"), ("Date", "then"), ("Set-Cookie", "a=b")])
answer("repeated-field", [b"hello"], [("Set-Cookie", "a=b"), ("Set-Cookie", "c=d")])
answer("latin-1", [b"hello"], [("X-Own", "\xe9")], "200 \xe9")
answer("closes", [b"hello"], [("Connection", "close")])
answer("too-short", [b"he", b"l"], FIVE)
answer("nothing-of-it", [], FIVE)
answer("too-long", [b"hello", b" there"], FIVE)
answer("too-long-block", [b"hello there"], FIVE)
answer("raises-before-a-block", [ValueError("secret")])
answer("raises-behind-a-block", [b"he", ValueError("secret")])
answer("raises-behind-a-part", [b"he", ValueError("secret")], FIVE)
answer("raises-behind-the-whole", [b"hello", ValueError("secret")], FIVE)
answer("raises-an-os-error", [b"he", OSError(5, "secret")])
answer("no-octets", ["hello"])
answer("no-octets-behind-a-block", [b"he", 5])
answer("status-of-no-text", [b"hello"], status=200)
answer("status-without-a-number", [b"hello"], status="OK")
answer("status-of-an-interim-answer", [b"hello"], status="103 Early Hints")
answer("status-with-a-line-end", [b"hello"], status="200 OK\r\nX-Injected: 1")
answer("field-of-no-text", [b"hello"], [("X-Own", 5)])
answer("field-with-a-line-end", [b"hello"], [("X-Own", "a\r\nX-Injected: 1")])
answer("field-name-with-a-space", [b"hello"], [("X Own", "1")])
answer("field-beyond-latin-1", [b"hello"], [("X-Own", "\u20ac")])
answer("hop-by-hop", [b"hello"], [("Transfer-Encoding", "chunked")])
answer("length-of-no-number", [b"hello"], [("Content-Length", "five")])
answer("two-lengths", [b"hello"], [("Content-Length", "5"), ("Content-Length", "6")])


@routes.route
def real_file(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    with open("data", "wb") as out:
        out.write(b"x" * LARGE)
    start_response("200 OK", [])
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](open("data", "rb"))  # noqa: SIM115
    return wrapped


@routes.route
def a_part_of_a_file(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    with open("part", "wb") as out:
        out.write(b"hello there")
    start_response("200 OK", FIVE)
    source = open("part", "rb")  # noqa: SIM115
    source.seek(6)
    wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](source)
    return wrapped


@routes.route
def written_and_returned(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [])(b"written ")
    return [b"and ", b"returned"]


@routes.route
def raises_at_once(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    raise ValueError("secret")


@routes.route
def returns_at_once(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    return [b"hello"]


@routes.route
def returns_none(environ: dict[str, Any], start_response: Any) -> Any:
    start_response("200 OK", [])


class Closing(list[bytes]):
    def close(self) -> None:
        raise ValueError("secret")


@routes.route
def raises_in_close(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", FIVE)
    return Closing([b"hello"])


@routes.route
def starts_twice(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [])
    start_response("200 OK", [])
    return [b"hello"]


def thought() -> Any:
    try:
        raise LookupError("secret")
    except LookupError:
        return sys.exc_info()


@routes.route
def thinks_again(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("X-First", "1")])
    start_response("503 Second Thought", FIVE, thought())
    return [b"hello"]


@routes.route
def thinks_again_too_late(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [])
    yield b"hello"
    start_response("503 Second Thought", [], thought())
    yield b"never"


@routes.route
def hints(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    environ["wsgi.early_hints"]([("Link", "</a.css>; rel=preload")])
    environ["wsgi.early_hints"]([("Link", "</b.js>; rel=preload"), ("X-B", "2")])
    return text(start_response, "hinted")


@routes.route
def hints_too_late(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [])
    yield b"one"
    environ["wsgi.early_hints"]([("Link", "</late>")])
    yield b"two"


@routes.route
def hints_with_a_line_end(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    environ["wsgi.early_hints"]([("Link", "a\r\nX-Injected: 1")])
    return text(start_response, "hinted")


@routes.route
def hints_and_reads(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    environ["wsgi.early_hints"]([("Link", "</a.css>; rel=preload")])
    return echo(environ, start_response)


@routes.route
def reads_in_pieces(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [])
    while piece := environ["wsgi.input"].read(3):
        yield b"<" + piece + b">"


@routes.route
def reads_lines(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    return text(start_response, repr(list(environ["wsgi.input"])))


@routes.route
def reads_a_part(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    return text(start_response, repr(environ["wsgi.input"].read(2)))


@routes.route
def reads_and_raises(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    environ["wsgi.input"].read()
    raise ValueError("secret")


@routes.route
def reads_nothing(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    return text(start_response, "read nothing")


@routes.route
def tail(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    return text(start_response, "this is the tail")


@routes.route
def is_multithreaded(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    return text(start_response, str(environ["wsgi.multithread"]))
