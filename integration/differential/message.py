"""What the octets of a case are meant to say: read as leniently as can be, for the rules."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


@dataclass(frozen=True)
class Message:
    """The first request of a case, with the tail where the case does not end it."""

    settings: Mapping[str, object]
    proxy: bytes
    """The PROXY header in front of it, of either version."""
    request_line: bytes
    lines: Sequence[bytes]
    """Field lines without their CRLF."""
    body: bytes
    """What follows the head."""

    @classmethod
    def read(cls, octets: bytes, settings: Mapping[str, object]) -> Message:
        proxy = b""
        if settings.get("proxy_protocol", "off") != "off":
            if octets.startswith(SIGNATURE):
                length = int.from_bytes(octets[14:16], "big")
                proxy, octets = octets[: 16 + length], octets[16 + length :]
            elif octets.startswith(b"PROXY "):
                line, end, rest = octets.partition(b"\r\n")
                proxy, octets = line + end, rest
        head, _, body = octets.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        request_line, *lines = head.split(b"\r\n")
        return cls(settings, proxy, request_line, lines, body)

    @property
    def _parts(self) -> list[bytes]:
        return [*self.request_line.split(b" ", 2), b"", b""][:3]

    @property
    def method(self) -> bytes:
        return self._parts[0]

    @property
    def target(self) -> bytes:
        return self._parts[1]

    @property
    def version(self) -> bytes:
        return self._parts[2]

    @property
    def authority(self) -> bytes | None:
        """Of a target in absolute form."""
        absolute = re.match(rb"[^/:?#]+://([^/?#]*)", self.target)
        return absolute[1] if absolute else None

    @property
    def path(self) -> bytes:
        """Of a target in origin or absolute form, as it was sent."""
        return re.split(rb"[?#]", re.sub(rb"^[^/:?#]+://[^/?#]*", b"", self.target))[0]

    @property
    def fields(self) -> list[tuple[bytes, bytes]]:
        """Names in lower case, and trimmed values, of lines that have a colon."""
        lines = list(self.lines)
        if self.settings.get("permit_obsolete_folding"):
            lines = re.sub(rb"[ \t]*\r\n[ \t]+", b" ", b"\r\n".join(lines)).split(b"\r\n")
        pairs = [line.partition(b":") for line in lines if b":" in line]
        strip = b" \t" if self.settings.get("strip_header_spaces") else b""
        return [(name.rstrip(strip).lower(), value.strip(b" \t")) for name, _, value in pairs]

    def all(self, name: bytes) -> list[bytes]:
        return [value for known, value in self.fields if known == name]

    @property
    def codings(self) -> list[bytes]:
        values = self.all(b"transfer-encoding")
        return [coding.strip(b" \t").lower() for value in values for coding in value.split(b",")]

    def _limit(self, name: str, default: int, most: int) -> int:
        value = self.settings.get(name, default)
        assert isinstance(value, int)
        return min(value, most) if value > 0 else most

    @property
    def proxy_without_address(self) -> str:
        """What a PROXY header says that names no client: UNKNOWN, LOCAL or UNSPEC."""
        if self.proxy.startswith(SIGNATURE):
            command, family = self.proxy[12:13], self.proxy[13:14]
            if command == b"\x20":
                return "LOCAL"
            return "UNSPEC" if command == b"\x21" and family < b"\x10" else ""
        return "UNKNOWN" if re.match(rb"PROXY UNKNOWN[ \r]", self.proxy) else ""

    @property
    def limit_request_line(self) -> int:
        return self._limit("limit_request_line", 4094, 8190)

    @property
    def limit_fields(self) -> int:
        return self._limit("limit_request_fields", 100, 32_768)

    @property
    def limit_field_size(self) -> int:
        return self._limit("limit_request_field_size", 8190, 1 << 20) or 8190
