"""A socket that sends bytes exactly as given, and reads one response exactly as framed."""

from __future__ import annotations

import contextlib
import re
import select
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from waiting import PATIENCE

Address: TypeAlias = "tuple[str, int] | str"
"""`(host, port)` of TCP, or a unix socket's path (a leading NUL for the abstract namespace)."""


class Truncated(Exception):
    """The peer closed in the middle of a response; `partial` is what came of its body or head."""

    def __init__(self, partial: bytes) -> None:
        super().__init__(f"closed after {len(partial)} bytes: {partial[:200]!r}")
        self.partial = partial


@dataclass
class Response:
    """One response as it was on the wire: header names keep their case, the body is unframed."""

    version: str
    status: int
    reason: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    framing: str = "none"
    """What ended the body: `none` (there cannot be one), `length`, `chunked` or `close`."""

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        values = self.all(name)
        assert len(values) <= 1, f"{name} occurs {len(values)} times: {values}"
        return values[0] if values else None

    @property
    def text(self) -> str:
        return self.body.decode()


class Client:
    """A connection that says exactly what it is told, and reads no byte beyond the response it was
    asked for."""

    def __init__(
        self, address: Address, timeout: float = PATIENCE, receive_buffer: int | None = None
    ) -> None:
        family = (
            socket.AF_UNIX
            if isinstance(address, str)
            else socket.AF_INET6
            if ":" in address[0]
            else socket.AF_INET
        )
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(address)
        except BaseException:
            self.socket.close()
            raise
        self.buffer = b""
        """Bytes received and not yet part of a response."""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send_bytewise(self, data: bytes) -> None:
        """One segment a byte, as far as the kernel lets us."""
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for position in range(len(data)):
            self.socket.sendall(data[position : position + 1])

    def request(
        self,
        method: str = "GET",
        target: str = "/",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Response:
        """Sends one HTTP/1.1 request and reads its response."""
        self.send(request(method, target, headers, body))
        return self.response(method)

    def response(self, method: str = "GET") -> Response:
        """The next response, 1xx included. `method` is the request's: HEAD has no body. Raises
        Truncated, OSError, TimeoutError."""
        head = self.read_until(b"\r\n\r\n")
        status_line, *lines = head[:-4].decode("latin-1").split("\r\n")
        version, status, reason = ([*status_line.split(" ", 2), ""])[:3]
        assert re.fullmatch(r"HTTP/1\.[01]", version) and re.fullmatch(r"\d{3}", status), (
            f"not a status line: {status_line!r}"
        )
        response = Response(version, int(status), reason)
        for line in lines:
            name, colon, value = line.partition(":")
            assert colon and re.fullmatch(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", name), (
                f"not a field line: {line!r}"
            )
            response.headers.append((name, value.strip(" \t")))
        response.framing, response.body = self._body(response, method)
        return response

    def _body(self, response: Response, method: str) -> tuple[str, bytes]:
        coding, length = response.header("Transfer-Encoding"), response.header("Content-Length")
        if method == "HEAD" or response.status < 200 or response.status in (204, 304):
            return "none", b""
        if coding is not None:
            assert coding == "chunked" and length is None
            return "chunked", b"".join(self.chunks())
        if length is not None:
            return "length", self.read_exactly(int(length))
        return "close", self.read_until_closed()

    def chunks(self) -> Iterator[bytes]:
        """The chunks of a chunked body from here to its end."""
        while True:
            size_line = self.read_until(b"\r\n")
            assert re.fullmatch(rb"[0-9A-Fa-f]+\r\n", size_line), f"not a chunk size: {size_line!r}"
            chunk = self.read_exactly(int(size_line, 16))
            assert self.read_exactly(2) == b"\r\n"
            if not chunk:
                return
            yield chunk

    def receive(self, limit: int = 65536) -> bytes:
        """Whatever comes next, b'' at the end of the stream."""
        if self.buffer:
            data, self.buffer = self.buffer[:limit], self.buffer[limit:]
            return data
        return self.socket.recv(limit)

    def read_until(self, mark: bytes) -> bytes:
        data = bytearray(self.buffer)
        self.buffer = b""
        searched = 0
        while (end := data.find(mark, searched)) < 0:
            searched = max(0, len(data) - len(mark) + 1)
            block = self.socket.recv(65536)
            if not block:
                raise Truncated(bytes(data))
            data += block
        end += len(mark)
        self.buffer = bytes(data[end:])
        return bytes(data[:end])

    def read_exactly(self, count: int) -> bytes:
        blocks = [self.buffer[:count]]
        self.buffer = self.buffer[count:]
        missing = count - len(blocks[0])
        while missing:
            block = self.socket.recv(min(missing, 1 << 18))
            if not block:
                raise Truncated(b"".join(blocks))
            blocks.append(block)
            missing -= len(block)
        return b"".join(blocks)

    def read_until_closed(self) -> bytes:
        """Everything up to an orderly end of the stream; a reset raises ConnectionResetError."""
        blocks = [self.buffer]
        self.buffer = b""
        while block := self.socket.recv(1 << 18):
            blocks.append(block)
        return b"".join(blocks)

    def is_closed_by_peer(self) -> bool:
        """Waits for the end of the connection, orderly or by reset; fails when a byte comes
        instead."""
        try:
            data = self.receive()
        except ConnectionError:
            return True
        assert data == b"", f"expected the end of the connection, not {data[:200]!r}"
        return True

    def is_quiet(self) -> bool:
        """Whether nothing at all (no byte, no end) has arrived so far."""
        return not self.buffer and not select.select([self.socket], [], [], 0)[0]

    def rest(self) -> bytes:
        """Half-closes, then returns everything that was still to come: b'' after the last
        answer."""
        self.half_close()
        return self.read_until_closed()

    def half_close(self) -> None:
        """Says that nothing more will be sent, and goes on listening."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Ends the connection with an RST instead of a FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        self.socket.close()


def request(
    method: str = "GET",
    target: str = "/",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    version: str = "HTTP/1.1",
) -> bytes:
    """The bytes of one request; Host and, with a body, Content-Length are added where absent."""
    fields = dict(headers or {})
    names = {name.lower() for name in fields}
    if "host" not in names and version == "HTTP/1.1":
        fields = {"Host": "test", **fields}
    if body and not names & {"content-length", "transfer-encoding"}:
        fields["Content-Length"] = str(len(body))
    head = f"{method} {target} {version}\r\n" + "".join(
        f"{name}: {value}\r\n" for name, value in fields.items()
    )
    return head.encode("latin-1") + b"\r\n" + body


def chunked(*chunks: bytes, trailer: bytes = b"") -> bytes:
    """A complete chunked body."""
    return (
        b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
        + b"0\r\n"
        + trailer
        + b"\r\n"
    )
