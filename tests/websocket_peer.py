"""A WebSocket client (RFC 6455) that says exactly what it is told, right or wrong."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from harness import Client, Response, Server, request

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
CONTINUATION = 0

#: The example of RFC 6455 1.3.
KEY, ACCEPT = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
HANDSHAKE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
}


@dataclass(frozen=True)
class Frame:
    """One frame as it was on the wire."""

    opcode: int
    payload: bytes
    final: bool = True

    @property
    def code(self) -> int:
        """Of a close frame; 1005 where it has none."""
        assert self.opcode == CLOSE, self
        return int.from_bytes(self.payload[:2], "big") if self.payload else 1005

    @property
    def reason(self) -> str:
        assert self.opcode == CLOSE, self
        return self.payload[2:].decode()


def frame(opcode: int, payload: bytes = b"", *, first: int = 0x80, masked: bool = True) -> bytes:
    """The octets of a frame. first: the bits beside the opcode (FIN, and three reserved ones)."""
    mask_bit, mask = (0x80, os.urandom(4)) if masked else (0, b"")
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", first | opcode, mask_bit | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", first | opcode, mask_bit | 126, size)
    else:
        head = struct.pack("!BBQ", first | opcode, mask_bit | 127, size)
    return head + mask + (masking(payload, mask) if masked else payload)


def masking(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")


def close_payload(code: int, reason: str = "") -> bytes:
    return struct.pack("!H", code) + reason.encode()


class Peer(Client):
    """A connection whose handshake was answered."""

    @classmethod
    def open(
        cls,
        server: Server,
        target: str = "/echo",
        fields: Mapping[str, str] | None = None,
        behind: bytes = b"",
        receive_buffer: int | None = None,
    ) -> Peer:
        """Shakes hands. behind: octets that are sent with the handshake."""
        peer = cls(server.address, receive_buffer=receive_buffer)
        try:
            peer.send(request(target=target, headers={**HANDSHAKE, **(fields or {})}) + behind)
            peer.handshake = peer.response()
            assert peer.handshake.status == 101, peer.handshake
        except BaseException:
            peer.close()
            raise
        return peer

    handshake: Response

    def __enter__(self) -> Peer:
        return self

    def say(self, message: str | bytes) -> None:
        """Sends a message in one frame."""
        if isinstance(message, str):
            self.send(frame(TEXT, message.encode()))
        else:
            self.send(frame(BINARY, message))

    def ping(self, payload: bytes = b"") -> None:
        self.send(frame(PING, payload))

    def say_close(self, code: int = 1000, reason: str = "") -> None:
        self.send(frame(CLOSE, close_payload(code, reason)))

    def frame(self) -> Frame:
        """The next frame, which a server must not mask."""
        first, second = self.read_exactly(2)
        assert not second & 0x80, "a server masks nothing (RFC 6455 5.1)"
        assert not first & 0x70, "no extension was agreed on"
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", self.read_exactly(2))
            assert size > 125
        elif size == 127:
            (size,) = struct.unpack("!Q", self.read_exactly(8))
            assert size >= 1 << 16
        return Frame(first & 0x0F, self.read_exactly(size), bool(first & 0x80))

    def hear(self) -> str | bytes:
        """The next frame, which has to be a message."""
        got = self.frame()
        assert got.final and got.opcode in (TEXT, BINARY), got
        return got.payload.decode() if got.opcode == TEXT else got.payload

    def hear_close(self) -> Frame:
        """A close frame, then the end."""
        got = self.frame()
        assert got.opcode == CLOSE, got
        return got

    def leave(self, code: int = 1000) -> None:
        """The whole close handshake, begun by this end."""
        self.say_close(code)
        assert self.hear_close().code == code
        assert self.is_closed_by_peer()


def serving(
    *args: str,
    max_files: int | None = None,
    env: Mapping[str, str] | None = None,
    **settings: object,
) -> Server:
    """`apps.websockets` behind the middleware with these settings."""
    env = {**(env or {}), "TEST_WEBSOCKETS": json.dumps(settings)}
    return Server.start("apps.websockets:app", *args, env=env, max_files=max_files)
