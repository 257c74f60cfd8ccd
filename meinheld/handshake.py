"""The opening handshake of RFC 6455, section 4.2, read from an ``environ``."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

#: The only version there is (RFC 6455 4.1).
VERSION = 13
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Refused(Exception):
    """A handshake that gets an answer of HTTP's, and no WebSocket."""

    def __init__(self, status: str, reason: str, *headers: tuple[str, str]) -> None:
        super().__init__(reason)
        self.status = status
        self.headers = list(headers)


@dataclass(frozen=True)
class Accepted:
    """A handshake, and how it is answered."""

    #: The subprotocol that was chosen.
    protocol: str | None
    #: What follows the status line, ``Upgrade`` and ``Connection``.
    headers: list[tuple[str, str]]

    @property
    def response(self) -> bytes:
        """The whole answer (RFC 6455 4.2.2)."""
        fields = [("Upgrade", "websocket"), ("Connection", "Upgrade"), *self.headers]
        lines = [f"{name}: {value}\r\n" for name, value in fields]
        return f"HTTP/1.1 101 Switching Protocols\r\n{''.join(lines)}\r\n".encode("latin-1")


def is_handshake(environ: dict[str, Any]) -> bool:
    """Whether a request asks for a WebSocket, rightly or not. In HTTP/1.0 ``Upgrade`` does not
    count (RFC 9110 7.8)."""
    return "websocket" in _tokens(environ.get("HTTP_UPGRADE", "").lower()) and (
        environ["SERVER_PROTOCOL"] != "HTTP/1.0"
    )


def judge(
    environ: dict[str, Any], protocols: Sequence[str], origins: Collection[str] | None
) -> Accepted:
    """Accept a handshake.

    protocols: subprotocols that are served, the preferred first. origins: those whose pages may
    connect, in lower case; ``None`` for all. A client that names no origin is no page.

    Raises:
        Refused: it is not one of RFC 6455, or not from an allowed origin.
    """
    if environ["REQUEST_METHOD"] != "GET":
        raise _bad("its method is not GET")
    if "upgrade" not in _tokens(environ.get("HTTP_CONNECTION", "").lower()):
        raise _bad("Connection does not say Upgrade; does a proxy keep it back?")
    if environ.get("CONTENT_LENGTH") not in (None, "", "0") or "HTTP_TRANSFER_ENCODING" in environ:
        raise _bad("it has a body")
    version = environ.get("HTTP_SEC_WEBSOCKET_VERSION")
    if version is None:
        raise _bad("Sec-WebSocket-Version is missing", ("Sec-WebSocket-Version", str(VERSION)))
    if version != str(VERSION):
        # RFC 6455 4.4; what is to be upgraded to is said as RFC 9110 15.5.22 asks.
        raise Refused(
            "426 Upgrade Required",
            f"bad WebSocket handshake: its version is not {VERSION}",
            ("Sec-WebSocket-Version", str(VERSION)),
            ("Upgrade", "websocket"),
            ("Connection", "upgrade"),
        )
    key = environ.get("HTTP_SEC_WEBSOCKET_KEY", "")
    if not _is_key(key):
        raise _bad("Sec-WebSocket-Key is not the base64 of 16 octets")
    origin = environ.get("HTTP_ORIGIN")
    if origins is not None and origin is not None and origin.lower() not in origins:
        raise Refused("403 Forbidden", "WebSockets are not for pages of this origin")
    digest = hashlib.sha1(key.encode("ascii") + _GUID, usedforsecurity=False).digest()
    headers = [("Sec-WebSocket-Accept", base64.b64encode(digest).decode("ascii"))]
    protocol = _chosen(_tokens(environ.get("HTTP_SEC_WEBSOCKET_PROTOCOL", "")), protocols)
    if protocol is not None:
        headers.append(("Sec-WebSocket-Protocol", protocol))
    return Accepted(protocol, headers)


def _bad(what: str, *headers: tuple[str, str]) -> Refused:
    return Refused("400 Bad Request", f"bad WebSocket handshake: {what}", *headers)


def _tokens(value: str) -> list[str]:
    return [token.strip(" \t") for token in value.split(",")]


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        return False


def _chosen(offered: list[str], protocols: Sequence[str]) -> str | None:
    return next((protocol for protocol in protocols if protocol in offered), None)
