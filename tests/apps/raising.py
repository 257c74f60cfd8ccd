"""Raises what the query names, in the place that the path names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from io import FileIO
from typing import Any

from apps.notes import note
from apps.routes import Application, Routes, text

app = Routes()


class Outermost(BaseException):
    pass


def deep() -> Any:
    return deep()


ERRORS: dict[str, Callable[[], BaseException]] = {
    "ValueError": lambda: ValueError("secret"),
    "Outermost": lambda: Outermost("secret"),
    "SystemExit": lambda: SystemExit(3),
    "KeyboardInterrupt": lambda: KeyboardInterrupt("secret"),
    "GeneratorExit": lambda: GeneratorExit("secret"),
    "MemoryError": lambda: MemoryError("secret"),
    "AttributeError": lambda: AttributeError("secret"),
    "OSError": lambda: OSError(5, "secret"),
    "RecursionError": deep,
}
wanted = "ValueError"


def _fail(*_: object, **__: object) -> Any:
    raise ERRORS[wanted]()


fail: Any = _fail
"""Takes the place of any method."""


def place(function: Application) -> Application:
    """Serves it; what it is to raise is in the query."""

    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        global wanted
        wanted = environ["QUERY_STRING"]
        return function(environ, start_response)

    application.__name__ = function.__name__
    return app.route(application)


class Body:
    # Whatever the tests below want to fail in, and a close() that is counted.

    def __init__(self, blocks: Iterable[Any] = (), **methods: Any) -> None:
        self.blocks = iter(blocks)
        self.methods = methods

    def __iter__(self) -> Any:
        return self.methods.get("iter", lambda: self)()

    def __next__(self) -> Any:
        block = next(self.blocks)
        return block() if callable(block) else block

    def __len__(self) -> Any:
        return self.methods.get("len", lambda: 1)()

    def close(self) -> Any:
        note("closed")
        self.methods.get("close", int)()


def body(
    name: str,
    blocks: Iterable[Any] = (),
    headers: Iterable[tuple[str, str]] = (),
    status: str = "200 OK",
    **methods: Any,
) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response(status, list(headers))
        return Body(blocks, **methods)

    application.__name__ = name
    place(application)


SIX = [("Content-Length", "6")]
body("in_iter", [b"never"], iter=fail)
body("in_first_next", [fail])
body("in_second_next", [b"a block", fail])
body("in_second_next_of_some_length", [b"a block", fail], [("Content-Length", "100")])
body("behind_the_promised_length", [b"blocks", fail], SIX)
body("in_next_of_no_content", [fail], status="204 No Content")
body("in_len", [b"blocks"], SIX, len=fail)
body("in_close", [b"blocks"], SIX, close=fail)
body("in_close_of_chunks", [b"blo", b"cks"], close=fail)
body("in_next_and_close", [fail], close=fail)
body("in_second_next_and_close", [b"a block", fail], close=fail)
body("in_iter_and_close", iter=fail, close=fail)


class HiddenClose(Body):
    @property
    def close(self) -> Any:
        note("closed")
        fail()


@place
def in_looking_up_close(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", SIX)
    return HiddenClose([b"blocks"])


@place
def in_finally(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", SIX)
    try:
        yield b"blocks"
    finally:
        note("closed")
        fail()


class InDel(Body):
    def __del__(self) -> None:
        fail()


@place
def in_del(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", SIX)
    return InDel([b"blocks"])


class DyingBytes(bytes):
    def __del__(self) -> None:
        fail()


@place
def in_del_of_a_block(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", SIX)
    return Body([DyingBytes(b"blo"), DyingBytes(b"cks")])


@place
def in_del_of_the_environ(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    environ["app.own"] = InDel()
    start_response("200 OK", SIX)
    return Body([b"blocks"])


# What start_response is given


class Words(str):
    # A str whose every conversion fails: its text alone may be used.
    __str__ = __repr__ = __format__ = encode = __len__ = __iter__ = __getitem__ = __hash__ = fail
    __eq__ = __ne__ = __contains__ = lower = upper = strip = startswith = fail


class NoWords:
    __str__ = __repr__ = encode = fail


@place
def in_str_of_a_header(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("X-Own", NoWords())])
    return Body([b"never"])


@place
def in_str_of_a_status(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response(NoWords(), [])
    return Body([b"never"])


@place
def in_a_header_that_is_a_str(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response(Words("200 OK"), [(Words("Content-Length"), Words("6")), ("X-A", Words("1"))])
    return Body([b"blocks"])


class Headers:
    def __iter__(self) -> Iterator[tuple[str, str]]:
        yield ("X-Own", "1")
        fail()


@place
def in_iterating_headers(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", Headers())
    return Body([b"never"])


class Pair:
    __iter__ = __getitem__ = __len__ = fail


@place
def in_unpacking_a_header(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [Pair()])
    return Body([b"never"])


class ExcInfo:
    __getitem__ = __len__ = __iter__ = __bool__ = fail


@place
def in_exc_info_before_the_head(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [])
    start_response("500 Oh", SIX, ExcInfo())
    return Body([b"blocks"])


@place
def in_exc_info_behind_the_head(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [])(b"a block")
    start_response("500 Oh", SIX, ExcInfo())
    return Body([b"never"])


# What the other things in environ are given


class Size:
    __index__ = __int__ = fail


@place
def in_the_size_of_a_read(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    environ["wsgi.input"].read(Size())
    return text(start_response, "nothing was raised")


@place
def in_the_iterable_of_early_hints(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    environ["wsgi.early_hints"](Headers())
    return text(start_response, "nothing was raised")


@place
def in_str_of_what_wsgi_errors_is_given(
    environ: dict[str, Any], start_response: Any
) -> Iterable[bytes]:
    print(NoWords(), file=environ["wsgi.errors"])
    return text(start_response, "nothing was raised")


@place
def in_the_lines_for_wsgi_errors(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    environ["wsgi.errors"].writelines(header[0] for header in Headers())
    return text(start_response, "nothing was raised")


@place
def after_the_environ_was_emptied(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    environ.clear()
    fail()
    return text(start_response, "nothing was raised")


@place
def in_write_behind_a_block(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    write = start_response("200 OK", [])
    write(b"a block")
    write(NoWords())
    return text(start_response, "nothing was raised")


@place
def in_len_of_what_write_is_given(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [])(Pair())
    return text(start_response, "nothing was raised")


# wsgi.file_wrapper


class File:
    def __init__(self, reads: Iterable[Any], **methods: Any) -> None:
        self.reads = iter(reads)
        self.closing = methods.pop("close", int)
        self.__dict__ |= methods

    def read(self, size: int) -> Any:
        block = next(self.reads, b"")
        return block() if callable(block) else block

    def close(self) -> Any:
        note("closed")
        self.closing()


def file(
    name: str,
    reads: Iterable[Any] = (),
    headers: Iterable[tuple[str, str]] = (),
    **methods: Any,
) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", list(headers))
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](File(reads, **methods))
        return wrapped

    application.__name__ = name
    place(application)


with open("data", "wb") as data:
    data.write(b"blocks")
file("in_first_read", [fail])
file("in_second_read", [b"a block", fail])
file("in_close_of_a_file", [b"blocks"], SIX, close=fail)
file("in_fileno", [b"blocks"], SIX, fileno=fail)


class Sent(File):
    # The kernel may send it, if all goes well.

    def __init__(self, failing: str) -> None:
        super().__init__([b"blocks"])
        self.failing = failing
        self.real = FileIO("data")

    @property
    def file(self) -> Any:
        return fail() if self.failing == "file" else self.real

    def fileno(self) -> Any:
        return fail() if self.failing == "fileno" else self.real.fileno()

    def tell(self) -> Any:
        return fail() if self.failing == "tell" else self.real.tell()

    def close(self) -> Any:
        note("closed")
        self.real.close()
        if self.failing == "close":
            fail()


def sent(failing: str) -> None:
    def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", SIX)
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](Sent(failing))
        return wrapped

    application.__name__ = f"in_{failing}_of_a_sent_file"
    place(application)


for failing in ("file", "fileno", "tell", "close"):
    sent(failing)


@app.route
def well(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    return text(start_response, "all is well")
