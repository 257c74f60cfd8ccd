"""What eventlet's server does to answers, done around the application: gathering small blocks, and
writing names of header fields with capitals."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

Application = Callable[..., Any]


class Gathered:
    """Joins the blocks of a body, until they are as many octets as a chunk is to have at least.

    Lists are sent at once anyway, and files by the kernel: they stay what they are.
    """

    def __init__(self, application: Application, minimum: int) -> None:
        self._application = application
        self._minimum = minimum

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        file_wrapper = environ.get("wsgi.file_wrapper")
        body = self._application(environ, start_response)
        minimum = environ.get("eventlet.minimum_write_chunk_size", self._minimum)
        is_whole = isinstance(body, (list, tuple, str, bytes)) or (
            isinstance(file_wrapper, type) and isinstance(body, file_wrapper)
        )
        # Of what is no body at all the server says best what is wrong with it.
        if is_whole or minimum in (0, 1) or not hasattr(body, "__iter__"):
            return body
        return _Blocks(body, minimum)


class _Blocks:
    """What can fail does when the server iterates: it closes the body then."""

    def __init__(self, body: Iterable[bytes], minimum: Any) -> None:
        self._body = body
        self._minimum = minimum
        if hasattr(body, "close"):
            self.close = body.close

    def __iter__(self) -> Iterator[bytes]:
        try:
            minimum = int(self._minimum)
        except (OverflowError, TypeError, ValueError):
            raise ValueError(
                f"eventlet.minimum_write_chunk_size = {self._minimum!r}: not a number. "
                "Accepted: octets, 0 or more."
            ) from None
        gathered: list[bytes] = []
        size = 0
        for block in self._body:
            if not isinstance(block, bytes):
                # The server says best what is wrong with it.
                if gathered:
                    yield b"".join(gathered)
                    gathered, size = [], 0
                yield block
                continue
            gathered.append(block)
            size += len(block)
            if size >= minimum:
                yield b"".join(gathered)
                gathered, size = [], 0
        if gathered:
            yield b"".join(gathered)


class Capitalized:
    """Writes names of header fields as in ``Content-Type``."""

    def __init__(self, application: Application) -> None:
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        def start(status: str, headers: Iterable[tuple[str, str]], *exc_info: Any) -> Any:
            return start_response(
                status, [(_capitalized(name), value) for name, value in headers], *exc_info
            )

        return self._application(environ, start)


def _capitalized(name: Any) -> Any:
    if not isinstance(name, str):
        return name
    return "-".join(part.capitalize() for part in name.split("-"))
