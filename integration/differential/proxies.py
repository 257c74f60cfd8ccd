"""What a proxy in front adds: forwarded names, the scheme, PROXY headers. And limits, at their
edges."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence

from differential.corpus import HOST, Case, Family, varied

PATHS = (
    *(b"/app/x?q", b"/app", b"/app/", b"/", b"/other", b"/%61pp/x", b"//app/x", b"/application"),
    *(b"http://test/app/x", b"http://test", b"/app/%C3%A9/\xe9", b"/app?x", b"/App/x", b"/app#f"),
)
SCRIPTS = (b"", b"/app", b"/", b"/app/", b"/other", b"/%61pp", b"/app/x", b"app", b"/app\xe9", b" ")


def forwarder_fields() -> Iterator[Case]:
    names = (b"SCRIPT_NAME", b"Script_Name", b"SCRIPT-NAME")
    others = (b"PATH_INFO: /p", b"Path-Info: /p", b"REMOTE_USER: me", b"Remote-User: me")
    more = (
        b"X_FORWARDED_FOR: 1.2.3.4",
        b"X-Forwarded-For: 1.2.3.4",
        b"HTTP_HOST: evil",
        b"Host_: a",
    )
    cgi = (
        b"CONTENT_LENGTH: 4",
        b"CONTENT_TYPE: a/b",
        b"REQUEST_METHOD: PUT",
        b"REMOTE_ADDR: 9.9.9.9",
    )
    lines = [line + b"\r\n" for line in (*others, *more, *cgi)]
    places = {
        "path": PATHS,
        "script": (b"", *(b"%b: %b\r\n" % (n, s) for n in names for s in SCRIPTS)),
        "again": (b"", b"SCRIPT_NAME: /other\r\n", b"SCRIPT_NAME: /app\r\n", b"SCRIPT_NAME:\r\n"),
        "first": (b"", *lines),
        "second": (b"", *lines, b"remote_user: you\r\n", b"REMOTE_USER:\r\n"),
    }
    yield from varied(
        "forwarder",
        places,
        b"GET ",
        "path",
        b" HTTP/1.1\r\n",
        HOST,
        "script",
        "again",
        "first",
        "second",
        b"\r\n",
        pairs=250,
    )
    yield Case("forwarder", b"OPTIONS * HTTP/1.1\r\n" + HOST + b"SCRIPT_NAME: /app\r\n\r\n")


def schemes() -> Iterator[Case]:
    names = (b"X-Forwarded-Proto", b"x-forwarded-ssl", b"X-FORWARDED-PROTOCOL", b"X-Scheme")
    values = (b"https", b"http", b"on", b"off", b"ssl", b"HTTPS", b"https,http", b"", b"secure")
    lines = [
        *(b"%b: %b\r\n" % (name, value) for name in names for value in values),
        *(
            b"X_Forwarded_Proto: https\r\n",
            b"X_FORWARDED_SSL: off\r\n",
            b"X-Forwarded-Proto:  \thttps \r\n",
        ),
        *(b"Forwarded: proto=https\r\n", b"X_Scheme: secure\r\n", b"X-Forwarded-Port: 443\r\n"),
    ]
    places = {
        "first": (b"", *lines),
        "second": (b"", *lines),
        "third": (b"", b"X-Forwarded-Proto: https\r\n", b"X-Forwarded-Ssl: off\r\n"),
        "host": (
            HOST,
            b"Host: h:8443\r\n",
            b"Host:\r\n",
            b"Host: [::1]:8443\r\n",
            b"Host: [::1]\r\n",
        ),
    }
    yield from varied("scheme", places, b"GET /ok HTTP/1.1\r\n", *places, b"\r\n", pairs=250)
    body = b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Forwarded-Proto: https\r\n\r\n"
    for line in (b"", b"X-Forwarded-Proto: http\r\n"):
        yield Case("scheme", b"POST /ok HTTP/1.1\r\n" + HOST + line + body)


SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
REQUEST = b"GET /ok HTTP/1.1\r\n" + HOST + b"X-Forwarded-For: 9.9.9.9\r\n\r\n"
V4_ADDRESSES = (
    *(b"192.0.2.1", b"0.0.0.0", b"255.255.255.255", b"256.0.2.1", b"192.0.2", b"192.0.2.01", b""),
    *(b"::1", b"host", b"192.0.2.1 ", b"1.2.3.4.5", b"-1.0.2.1", b"192.0.2.1\0", b"0x7f.0.0.1"),
)
V6_ADDRESSES = (
    *(
        b"2001:db8::1",
        b"::",
        b"::1",
        b"2001:0DB8:0:0:0:0:0:0001",
        b"::ffff:192.0.2.1",
        b"192.0.2.1",
    ),
    *(b"2001:db8::1::2", b"[::1]", b"fe80::1%eth0", b":", b"1:2:3:4:5:6:7:8:9", b"::12345", b""),
    *(b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", b"::ffff:c000:201", b"::1.2.3"),
)
PORTS = (
    *(b"443", b"0", b"1", b"65535", b"65536", b"99999", b"-1", b"+80", b"080", b"00", b"8_0", b""),
    *(b"80 ", b"\t80", b"80\xa0", b"0x50", b"1e2", b"80.0", b"\xb2", b"port", b"0000000080"),
)


def proxy_v1() -> Iterator[Case]:
    for protocol, addresses in ((b"TCP4", V4_ADDRESSES), (b"TCP6", V6_ADDRESSES)):
        places = {
            "word": (
                b"PROXY ",
                b"PROXY  ",
                b"proxy ",
                b"PROXY\t",
                b" PROXY ",
                b"PROXYX ",
                b"PROXY",
            ),
            "protocol": (protocol, b"TCP5", b"UDP4", protocol.lower(), b"", b"TCP", b"UNKNOWN"),
            "source": (b" " + addresses[0], *(b" " + address for address in addresses[1:])),
            "destination": (b" " + addresses[1], *(b" " + address for address in addresses)),
            "source port": (b" 2001", *(b" " + port for port in PORTS)),
            "port": (b" 443", *(b" " + port for port in PORTS)),
            "rest": (b"", b" ", b" more", b"\t", b"\0"),
            "end": (b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r\n", b"", b"\r\n\r\n", b"\r\n\r\n\r\n"),
            "then": (
                REQUEST,
                b"PROXY TCP4 1.1.1.1 2.2.2.2 3 4\r\n" + REQUEST,
                b"",
                b"\x16\x03\x01",
            ),
        }
        yield from varied("proxy v1 " + protocol.decode(), places, *places, pairs=150)
    address = b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
    for rest in (
        *(b"", b" ", b" x", b" %b %b 65535 65535" % (address, address), b" " + b"x" * 93),
        *(b" 1.1.1.1 2.2.2.2 3 4", b" " + b"x" * 91, b" " + b"x" * 90, b" " + b"x" * 4000, b" \0"),
    ):
        yield Case("proxy v1 UNKNOWN", b"PROXY UNKNOWN" + rest + b"\r\n" + REQUEST)
    long = b"PROXY TCP6 %b %b 65535 65535" % (b"0" * 0 + address, address)
    yield Case("proxy v1 long", long + b"\r\n" + REQUEST)
    yield Case("proxy v1 long", long + b" " * 4000 + b"\r\n" + REQUEST)


def v2(command: int, family: int, addresses: bytes, length: int | None = None) -> bytes:
    length = len(addresses) if length is None else length
    return SIGNATURE + struct.pack(">BBH", command, family, length) + addresses


def proxy_v2() -> Iterator[Case]:
    ports = struct.pack(">HH", 2001, 443)
    ipv4 = socket.inet_aton("192.0.2.1") + socket.inet_aton("198.51.100.2") + ports
    ipv6 = bytes.fromhex("20010db8" + "00" * 11 + "01") * 2 + ports
    mapped = bytes.fromhex("00" * 10 + "ffff" + "c0000201") * 2 + ports
    unix = b"/run/client".ljust(108, b"\0") + b"/run/server".ljust(108, b"\0")
    extension = b"\x04\x00\x02ab" + b"\x20\x00\x00"
    bodies = (
        ipv4,
        ipv6,
        mapped,
        unix,
        b"",
        ipv4 + extension,
        ipv6 + extension,
        ipv4[:-1],
        ipv6[:35],
    )
    for command in (0x21, 0x20, 0x22, 0x2F, 0x11, 0x10, 0x31, 0x01, 0xF1):
        for family in (
            0x11,
            0x21,
            0x00,
            0x31,
            0x12,
            0x22,
            0x10,
            0x20,
            0x01,
            0x32,
            0x41,
            0x13,
            0xFF,
        ):
            for body in bodies:
                # What is off in the command is enough once for each family.
                if command in (0x21, 0x20) or body is ipv4:
                    yield Case("proxy v2", v2(command, family, body) + REQUEST)
    for body, length in ((ipv4, 11), (ipv4, 13), (ipv4, 0), (ipv4, 65535), (b"", 12), (ipv6, 12)):
        yield Case("proxy v2 length", v2(0x21, 0x11, body, length) + REQUEST)
        yield Case("proxy v2 length", v2(0x20, 0x11, body, length) + REQUEST)
    yield Case("proxy v2 large", v2(0x21, 0x11, ipv4 + b"\x04\xff\xf0" + b"p" * 0xFFF0) + REQUEST)
    yield Case("proxy v2 twice", v2(0x21, 0x11, ipv4) * 2 + REQUEST)
    yield Case(
        "proxy v2 after v1", b"PROXY TCP4 1.1.1.1 2.2.2.2 3 4\r\n" + v2(0x21, 0x11, ipv4) + REQUEST
    )
    yield Case(
        "proxy v1 after v2", v2(0x21, 0x11, ipv4) + b"PROXY TCP4 1.1.1.1 2.2.2.2 3 4\r\n" + REQUEST
    )
    yield Case("proxy v2 requests", v2(0x21, 0x11, ipv4) + REQUEST + REQUEST)
    yield Case("proxy v2 empty line", v2(0x21, 0x11, ipv4) + b"\r\n" + REQUEST)


def without_proxy() -> Iterator[Case]:
    v1 = b"PROXY TCP4 192.0.2.1 192.0.2.2 2001 443\r\n"
    for octets in (
        *(b"", b"\r\n" + REQUEST, REQUEST, REQUEST + v1 + REQUEST, REQUEST + SIGNATURE + REQUEST),
        *(v1 + REQUEST + v1 + REQUEST, v1 + REQUEST + REQUEST, v1[:11], v1[:5], v1, b"G", b"PROXY"),
        *(
            SIGNATURE,
            SIGNATURE[:11],
            SIGNATURE[:11] + b"x" + REQUEST,
            SIGNATURE + b"\x21",
            b"\r\n\r",
        ),
        *(SIGNATURE[:4] + REQUEST, b"PROXY / HTTP/1.1\r\n" + HOST + b"\r\n", b"PROXY\r\n\r\n"),
        *(b"PROX", b"PROXY-AUTHENTICATE / HTTP/1.1\r\n" + HOST + b"\r\n", b"GET / H"),
    ):
        yield Case("proxy", octets)


def proxied_requests() -> Iterator[Case]:
    """PROXY headers in front of requests of every outcome."""
    v1 = b"PROXY TCP4 192.0.2.1 192.0.2.2 2001 443\r\n"
    binary = v2(0x21, 0x11, socket.inet_aton("192.0.2.1") * 2 + struct.pack(">HH", 1, 2))
    for header in (v1, binary):
        for request in (
            *(b"GET /ok HTTP/1.0\r\n\r\n", b"GET /ok HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
            *(
                b"GET /ok HTTP/1.1\r\n\r\n",
                b"G(T /ok HTTP/1.1\r\nHost: a\r\n\r\n",
                b"\r\n" + REQUEST,
            ),
            *(b"GET /ok HTTP/1.1\nHost: a\n\n", b"GET /ok HTTP/1.1\r\nHost: a\r\nX-A\r\n\r\n"),
            b"POST /ok HTTP/1.1\r\n" + HOST + b"Content-Length: 4\r\n\r\nbody",
            b"GET /ok HTTP/1.1\r\n" + HOST + b"REMOTE_ADDR: 9.9.9.9\r\nPROXY_ADDR: 8.8.8.8\r\n\r\n",
            b"GET /ok HTTP/1.1\r\n" + HOST + b"X-Forwarded-Proto: https\r\n\r\n",
        ):
            yield Case("proxied", header + request)


def limits(lines: Sequence[int], counts: Sequence[int], sizes: Sequence[int]) -> Family:
    """Requests with request lines, field counts and field lines (with CRLF) around these sizes."""
    fill = b"GET / HTTP/1.1"
    start = b"GET /ok HTTP/1.1\r\n" + HOST
    post = b"POST /ok HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"

    def cases() -> Iterator[Case]:
        for size in (size for edge in lines for size in (edge - 1, edge, edge + 1, edge + 2)):
            target = b"/" + b"t" * max(0, size - len(fill))
            for before in (b"", b"\r\n"):
                line = before + b"GET " + target + b" HTTP/1.1\r\n"
                yield Case("request line limit", line + HOST + b"\r\n")
                yield Case("request line limit", line[:-2])
            yield Case("request line limit", b"GET " + target + b" HTTP/1.2\r\n" + HOST + b"\r\n")
        for count in (count for edge in counts for count in (edge - 1, edge, edge + 1, edge + 2)):
            fields = b"".join(b"X-%d: %d\r\n" % (n % 7, n % 3) for n in range(max(0, count - 1)))
            yield Case("field count limit", start + fields + b"\r\n")
            folded = fields.replace(b"\r\n", b"\r\n and more\r\n")
            yield Case("field count limit", start + folded + b"\r\n")
            yield Case("trailer count limit", post + folded + b"\r\n")
            yield Case("field count limit", start + fields)
            yield Case("field count limit", start + b"X_A: 1\r\n" + fields + b"\r\n")
            yield Case("field count limit", start + b"nothing\r\n" + fields + b"\r\n")
            yield Case("trailer count limit", post + fields + b"\r\n")
        for size in (size for edge in sizes for size in (edge - 1, edge, edge + 1, edge + 2)):
            field = b"X: " + b"v" * max(0, size - 5) + b"\r\n"
            name = b"N" * max(0, size - 4) + b": \r\n"
            blank = b"X:" + b" " * max(0, size - 5) + b"v\r\n"
            folded = b"X: " + b"v" * max(0, size - 9) + b"\r\n v\r\n"
            for line in (field, name, blank, folded, field.replace(b"X", b"_")):
                yield Case("field size limit", start + line + b"\r\n")
                yield Case("field size limit", start + line[:-2])
            yield Case("trailer size limit", post + field + b"\r\n")
            yield Case("trailer size limit", post + folded + b"\r\n")

    return cases
