"""What an application asks: small servers that answer nobody before so many ask at once.

with HttpUpstream.serving(gathers=5) as upstream:
    ...  # five requests at once, or each fails
    assert upstream.most_open == 5
"""

from __future__ import annotations

import contextlib
import socketserver
import ssl
import struct
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from waiting import PATIENCE

if TYPE_CHECKING:
    from typing_extensions import Self

CERTIFICATE = Path(__file__).resolve().parent / "tls" / "localhost.pem"


class Upstream(socketserver.ThreadingTCPServer):
    """A thread a connection, on a port of its own."""

    handler: ClassVar[type[socketserver.BaseRequestHandler]]
    request_queue_size = 512
    daemon_threads = True
    block_on_close = False

    def __init__(self, gathers: int) -> None:
        super().__init__(("127.0.0.1", 0), self.handler)
        self.port: int = self.server_address[1]
        self.most_open = 0
        self._open = 0
        self._counting = threading.Lock()
        self._gathered = threading.Barrier(gathers)

    @classmethod
    @contextlib.contextmanager
    def serving(cls, gathers: int = 1) -> Iterator[Self]:
        """Serves until the block ends. gathers: how many requests wait for each other."""
        with cls(gathers) as upstream:
            thread = threading.Thread(target=upstream.serve_forever, args=(0.01,), daemon=True)
            thread.start()
            try:
                yield upstream
            finally:
                upstream.shutdown()
                thread.join()

    def gather(self) -> bool:
        """Waits for the other requests; returns whether all have come."""
        with self._counting:
            self._open += 1
            self.most_open = max(self.most_open, self._open)
        try:
            self._gathered.wait(PATIENCE / 2)
        except threading.BrokenBarrierError:
            return False
        finally:
            with self._counting:
                self._open -= 1
        return True


class _HttpHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Upstream

    def do_GET(self) -> None:
        gathered = self.server.gather()
        body = self.path.encode()
        self.send_response(HTTPStatus.OK if gathered else HTTPStatus.GATEWAY_TIMEOUT)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Nobody reads it."""


class HttpUpstream(Upstream):
    """Answers a GET with its target."""

    handler = _HttpHandler


class HttpsUpstream(HttpUpstream):
    """The same, as `localhost` of CERTIFICATE."""

    def finish_request(self, request: Any, client_address: Any) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        with context.wrap_socket(request, server_side=True) as layer:
            super().finish_request(layer, client_address)


class _RedisHandler(socketserver.StreamRequestHandler):
    server: Upstream

    def handle(self) -> None:
        while head := self.rfile.readline():
            command = [self._bulk_string() for _ in range(int(head[1:]))]
            if command[0].upper() != b"GET":
                self.wfile.write(b"+OK\r\n")
            elif self.server.gather():
                self.wfile.write(b"$%d\r\n%b\r\n" % (len(command[1]), command[1]))
            else:
                self.wfile.write(b"-ERR nobody else asks\r\n")

    def _bulk_string(self) -> bytes:
        size = int(self.rfile.readline()[1:])
        return self.rfile.read(size + 2)[:-2]


class RedisUpstream(Upstream):
    """Answers GET with the name of the key: RESP2."""

    handler = _RedisHandler


class _MysqlHandler(socketserver.StreamRequestHandler):
    """https://dev.mysql.com/doc/dev/mysql-server/latest/PAGE_PROTOCOL.html"""

    server: Upstream
    OK = b"\x00\x00\x00\x02\x00\x00\x00"
    END = b"\xfe\x00\x00\x02\x00"
    COLUMN = b"\x03def\x00\x00\x00\x011\x00\x0c" + struct.pack("<HIBHBxx", 63, 1, 8, 0, 0)
    COM_QUIT, COM_QUERY = 1, 3

    def handle(self) -> None:
        # Protocol 4.1, secure connection, plugin authentication, transactions, a database.
        capabilities = 0x0008_A209
        self._send(
            b"\x0a8.0.0-test\x00"
            + struct.pack("<I8sx", 1, b"a" * 8)
            + struct.pack("<HBHH", capabilities & 0xFFFF, 45, 2, capabilities >> 16)
            + struct.pack("<B10x12sx", 21, b"b" * 12)
            + b"mysql_native_password\x00",
            number=0,
        )
        self._receive()
        self._send(self.OK, number=2)
        while (command := self._receive()) and command[0] != self.COM_QUIT:
            if command[0] != self.COM_QUERY or not command[1:].startswith(b"SELECT"):
                self._send(self.OK)
            elif self.server.gather():
                self._send(b"\x01", self.COLUMN, self.END, b"\x011", self.END)
            else:
                self._send(b"\xff\x51\x04#HY000nobody else asks")

    def _send(self, *packets: bytes, number: int = 1) -> None:
        for offset, packet in enumerate(packets):
            head = struct.pack("<I", len(packet))[:3] + bytes([number + offset])
            self.wfile.write(head + packet)

    def _receive(self) -> bytes:
        head = self.rfile.read(4)
        return self.rfile.read(int.from_bytes(head[:3], "little")) if head else b""


class MysqlUpstream(Upstream):
    """Answers each SELECT with 1."""

    handler = _MysqlHandler
