"""What is asked of every server, and what it has to answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from raw_client import request

BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,"
    "*/*;q=0.8",
    "Accept-Language": "en-US,en;q=0.5",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Connection": "keep-alive",
    "Cookie": "session=abcdefghijklmnopqrstuvwxyz0123456789; theme=dark; "
    "csrftoken=0123456789abcdef0123456789abcdef",
    "Upgrade-Insecure-Requests": "1",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "none",
}
"""With Host eleven field lines."""
CONNECTIONS = 64
HELLO = b"Hello, world!\n"
MEBIBYTE = b"x" * (1 << 20)


@dataclass(frozen=True)
class Case:
    name: str
    title: str
    app: str = "plain:hello"
    fields: Mapping[str, str] = field(default_factory=dict, hash=False)
    body: int = 0
    """Octets of the request's body."""
    depth: int = 1
    """Requests that a client sends at once."""
    connections: int = CONNECTIONS
    answer: bytes = HELLO
    ceilings: tuple[str, ...] = ()
    """Those that can serve it. Where the bare loop cannot, it is asked for hello instead."""
    beside: int = 0
    """Connections of a second load in each turn, to compare with."""
    alone: bool = False
    """Whether the application is also called without a server."""
    streams: bool = False
    """Whether each block must be on its way before the next is asked for."""

    @property
    def request(self) -> bytes:
        return request("POST" if self.body else "GET", "/", self.fields, b"x" * self.body)

    @property
    def lua(self) -> str:
        """The same for wrk."""
        lines = [f'wrk.headers["{name}"] = "{value}"' for name, value in self.fields.items()]
        if self.body:
            lines += ['wrk.method = "POST"', f'wrk.body = string.rep("x", {self.body})']
        if self.depth > 1:
            lines += [
                "local together",
                f"function init() together = string.rep(wrk.format(), {self.depth}) end",
                "function request() return together end",
            ]
        return "\n".join(lines)


BOTH = ("bare loop", "constant")
GETS = Case("hello", "hello, keep-alive, 64 connections", ceilings=BOTH)
"""Also what the bare loop is asked where it cannot serve the case itself."""
CASES = [
    GETS,
    Case("browser", "hello with a browser's 11 headers", fields=BROWSER, ceilings=BOTH),
    Case("pipelined", "hello, pipelined 16 deep", depth=16, ceilings=BOTH),
    Case("post-1k", "POST 1 KiB", "plain:upload", body=1 << 10, answer=b"%013d\n" % (1 << 10)),
    Case(
        "post-100k",
        "POST 100 KiB",
        "plain:upload",
        body=100 << 10,
        answer=b"%013d\n" % (100 << 10),
    ),
    Case("memory", "1 MiB from memory", "plain:memory", answer=MEBIBYTE),
    Case("file", "1 MiB by wsgi.file_wrapper", "plain:file", answer=MEBIBYTE),
    Case(
        "blocks",
        "generator of 10 blocks of 100 octets",
        "plain:blocks",
        answer=b"0123456789" * 100,
        streams=True,
    ),
    Case(
        "close",
        "a new connection for each request",
        fields={"Connection": "close"},
        ceilings=("constant",),
    ),
    Case("flask", "Flask's hello", "flask_hello:app", alone=True),
    Case("django", "Django's hello", "django_hello:app", alone=True),
    Case("many", "hello over 1,000 connections", connections=1000, beside=64, ceilings=BOTH),
    Case("access-log", "hello, with and without gunicorn's access log"),
]
