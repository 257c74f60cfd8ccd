"""Write first inputs of the fuzz targets into fuzz/corpus/, which grows and is not committed.

    python3 fuzz/seed.py

An input is settings and a plan, then a wire: `Input` in src/lib.rs says what they mean. The wires
are those of tests/wire/; the PROXY headers are written here, from that protocol's specification.
"""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
CASES = sorted((HERE.parent / "tests" / "wire").glob("*.http"))

DEFAULTS = bytes(4)
SETTINGS = {
    "default": DEFAULTS,
    "permissive": bytes([0b1111_1111, 3 | 2 << 2, 0, 0]),
    "folding": bytes([0b1110_0000, 0, 3, 0]),
    "trusted-refuse": bytes([0b0000_1001, 2 | 3 << 2, 0, 3]),
    "small": bytes([0, 0, 3, 2]),
}
PIECES = bytes([7, 0, 1, 3, 50, 2, 0, 200] * 2)
PLANS = {
    # deliver 256 octets, pull all, respond, turn to the next request
    "serve": bytes([0o52, 4, 5, 6] * 4),
    # deliver 4, pull one event; respond at times, before the body is there
    "hasty": bytes([0o30, 3, 3, 0o30, 3, 5, 4, 6] * 2),
    # deliver 8, pull all, send 100 Continue, receive 1024 past the buffer
    "direct": bytes([0o02, 4, 0o27, 0o127, 4, 5, 6, 0o127] * 2),
    # end the input after 256 octets; give the connection up after 512
    "ends": bytes([0o52, 4, 0o17, 4] + [0o52, 4, 5, 6] * 3),
    "detaches": bytes([0o52, 3, 0o52, 4, 5, 6, 0o07, 4] * 2),
}
# What the wire corpus has not, because it is for the default settings.
HEADS = {
    "folded": b"GET / HTTP/1.0\r\nA:\r\n b \r\n\tc\r\nD: e\r\n\r\n",
    "folded-longest": b"GET / HTTP/1.0\r\nA: b\r\n\t".ljust(53, b"c") + b"\r\n\r\n",
    "folded-too-long": b"GET / HTTP/1.0\r\nA: b\r\n\t".ljust(54, b"c") + b"\r\n\r\n",
    "folded-name": b"GET / HTTP/1.0\r\nA\r\n : b\r\n\r\n",
    "folded-first": b"GET / HTTP/1.0\r\n A: b\r\n\r\n",
    "space-before-colon": b"GET / HTTP/1.0\r\nA \t: b : c\r\n\r\n",
    "version-0.9": b"GET / HTTP/0.9\r\n\r\n",
    "version-2.0": b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    "schemes": b"GET / HTTP/1.0\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Ssl: on\r\n\r\n",
    "two-schemes": b"GET / HTTP/1.0\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Ssl:\r\n\r\n",
    "forwarder": b"GET / HTTP/1.0\r\nSCRIPT_NAME: /a\r\nX_Y: z\r\n\r\n",
}
TAIL = b"GET /tail HTTP/1.1\r\nHost: tail\r\n\r\n"

V2 = b"\r\n\r\n\0\r\nQUIT\n"
TCP4 = b"\xc0\x00\x02\x01\xc6\x33\x64\x02\xdc\x04\x01\xbb"
PROXY_HEADERS = {
    "signature": V2,
    "v1-tcp4": b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\nGET /",
    "v1-tcp6": b"PROXY TCP6 2001:db8::1 ::1 56324 443\r\n",
    "v1-sign": b"PROXY TCP4 192.0.2.1 198.51.100.2 +1 2\r\n",
    "v1-leading-zero": b"PROXY TCP4 192.0.2.1 198.51.100.02 1 02\r\n",
    "v1-longest": b"PROXY UNKNOWN ".ljust(105, b"f") + b"\r\n",
    "v1-too-long": b"PROXY UNKNOWN ".ljust(106, b"f") + b"\r\n",
    "v1-unknown": b"PROXY UNKNOWN\r\nGET /",
    "v1-unknown-text": b"PROXY UNKNOWN ffff::1 ::1 65535 65535\r\n",
    "v2-local": V2 + b"\x20\x00\x00\x00GET /",
    "v2-tcp4": V2 + b"\x21\x11\x00\x0c" + TCP4,
    "v2-tcp4-tlv": V2 + b"\x21\x11\x00\x13" + TCP4 + b"\x01\x00\x04http",
    "v2-udp4": V2 + b"\x21\x12\x00\x0c" + TCP4,
    "v2-udp6": V2 + b"\x21\x22\x00\x24" + bytes(range(36)),
    "v2-short": V2 + b"\x21\x11\x00\x0b" + TCP4,
    "v2-tcp6": V2 + b"\x21\x21\x00\x24" + bytes(range(36)) + b"GET /",
    "v2-unix": V2 + b"\x21\x31\x00\xd8" + b"/run/a.sock".ljust(108, b"\0") * 2,
    "v2-unspecified": V2 + b"\x21\x00\x00\x00",
    "absent": b"GET / HTTP/1.1\r\n",
}


def unescape(text: str) -> bytes:
    """The octets that a case stands for; tests/wire/README.md has the notation."""
    text = re.sub(r"\{(\d+)\*(.)\}", lambda match: match[2] * int(match[1]), text)
    return text.encode("ascii").decode("unicode_escape").encode("latin-1")


def inputs() -> dict[str, dict[str, bytes]]:
    """Inputs by target and name."""
    found: dict[str, dict[str, bytes]] = {
        "head": {},
        "chunked_body": {},
        "connection": {},
        "proxy_header": {},
    }
    for case in CASES:
        _, _, octets = case.read_text("ascii").partition("\n---\n")
        wire = unescape(octets.replace("\n", ""))
        for name, settings in SETTINGS.items():
            found["head"][f"{case.stem}-{name}"] = settings + PIECES + wire
        for name, plan in PLANS.items():
            found["connection"][f"{case.stem}-{name}"] = DEFAULTS + plan + wire + TAIL
        head, _, body = wire.partition(b"\r\n\r\n")
        if b"chunked" in head:
            for name, settings in SETTINGS.items():
                found["chunked_body"][f"{case.stem}-{name}"] = settings + PIECES + body + TAIL
    for case_name, wire in HEADS.items():
        for name, settings in SETTINGS.items():
            found["head"][f"{case_name}-{name}"] = settings + PIECES + wire
    # As many octets of extensions as a body may have without data, and one more.
    spent = b"1;" + b"e" * 4094 + b"\r\nd\r\n"
    for name, end in {"most": b"0;2345678\r\n\r\n", "too-many": b"0;23456789\r\n\r\n"}.items():
        found["chunked_body"][f"{name}-extensions"] = DEFAULTS + PIECES + spent * 4 + end
    for name, octets_of_header in PROXY_HEADERS.items():
        for versions in range(3):
            found["proxy_header"][f"{name}-{versions}"] = bytes([versions]) + octets_of_header
    return found


def main() -> None:
    for target, named in inputs().items():
        folder = HERE / "corpus" / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, octets in named.items():
            (folder / name).write_bytes(octets)
        print(f"{target}: {len(named)} inputs")


if __name__ == "__main__":
    main()
