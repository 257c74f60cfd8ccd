"""Bodies: how long they are said to be, and how their chunks are written."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from differential.corpus import HOST, LINE_ENDS, Case, varied

CHUNKS = b"4\r\nbody\r\n0\r\n\r\n"
POST = b"POST /ok HTTP/1.1\r\n" + HOST

LENGTHS = (
    *(b"", b"4", b"0", b"04", b"3", b"+4", b"-4", b"4 ", b"\t4", b"0x4", b"4,4", b"4, 4", b"4;"),
    *(b" ", b"4_0", b"1e1", b"4.0", b"\xb2", b"\xbd", b"4\xa0", b"4\0", b"4 4", b"four", b"-0"),
    *(b"0" * 30 + b"4", b"18446744073709551615", b"18446744073709551616", b"9" * 4000, b"000"),
)
CODINGS = (
    *(b"", b"chunked", b"Chunked", b"CHUNKED", b" chunked\t", b"identity", b"gzip", b"deflate"),
    *(b"gzip, chunked", b"chunked, gzip", b"chunked, chunked", b"identity, chunked", b"compress"),
    *(b"chunked, identity", b"deflate,chunked", b"compress , chunked", b"rot13, chunked", b"rot13"),
    *(b"xchunked", b"chunkedx", b'"chunked"', b"chunked;q=1", b" ", b",", b",chunked", b"chunked,"),
    *(b"chunked\0", b"chunked\x0b", b"\xa0chunked", b"chunked\xa0", b"x-gzip, chunked", b"gzip,,"),
    *(b"chunk ed", b"chunked chunked", b"trailers, chunked", b"identity, gzip, chunked"),
)


def framings() -> Iterator[Case]:
    lengths = [b"Content-Length: %b\r\n" % value for value in LENGTHS if value]
    codings = [b"Transfer-Encoding: %b\r\n" % value for value in CODINGS if value]
    places = {
        "method": (b"POST", b"GET", b"HEAD", b"DELETE"),
        "version": (b"HTTP/1.1", b"HTTP/1.0"),
        "length": (b"", *lengths, b"Content-Length:\r\n", b"content_length: 4\r\n"),
        "coding": (b"", *codings, b"Transfer-Encoding:\r\n", b"Transfer_Encoding: chunked\r\n"),
        "again": (
            *(b"", b"content-length: 4\r\n", b"content-length: 5\r\n", b"content-length:\r\n"),
            *(b"transfer-encoding: chunked\r\n", b"transfer-encoding: gzip\r\n"),
            *(b"transfer-encoding: identity\r\n", b"Transfer-Encoding : chunked\r\n"),
            *(b"Content-Length : 4\r\n", b" chunked\r\n", b"X-After: 1\r\n"),
        ),
    }
    for name, body in (("no body", b""), ("four octets", b"body"), ("chunks", CHUNKS)):
        yield from varied(
            f"framing, {name}",
            places,
            "method",
            b" /ok ",
            "version",
            b"\r\n",
            HOST,
            "length",
            "coding",
            "again",
            b"\r\n",
            body,
            pairs=180,
        )


SIZES = (
    *(b"4", b"04", b"0" * 14 + b"4", b"0" * 15 + b"4", b"0" * 16 + b"4", b"0" * 40 + b"4"),
    *(b"4 ", b"4\t", b" 4", b"\t4", b"+4", b"-4", b"0x4", b"4_", b"4h", b"4,", b"g", b"", b"\xb2"),
    *(
        b"4;",
        b"4;a",
        b"4;a=b",
        b"4 ;a",
        b"4\t; a = b",
        b'4;a="b"',
        b'4;a="\\""',
        b'4;a="\\',
        b"4;;",
    ),
    *(b"4;a;b=c;d", b"4;a=", b"4;=b", b"4;a b", b"4;a ", b"4;a=b ", b"4; ", b"4;\x01", b"4;a\xff"),
    *(b'4;a="\xff"', b'4;a="\x01"', b'4;a="b', b'4;a="b"c', b"4;a,b", b"4;a\rb", b"4;a\nb", b"4\0"),
    *(b'4;a="\x7f"', b"4;a=b=c", b"4:a", b"4\x0b", b"4 4", b"\n4", b"\r\n4", b"4\r", b"4;a\r"),
    *(
        b"F" * 16,
        b"7" + b"F" * 15,
        b"1" + b"0" * 16,
        b"5",
        b"3",
        b"0",
        b"ffffffff",
        b"4;" + b"e" * 4000,
    ),
    *(b"4;" + b"e" * 4094, b"4;" + b"e" * 4095, b"4;" + b"e" * 8300, b"a" * 5000),
)
TRAILERS = (
    *(
        b"",
        b"X-T: 1\r\n",
        b"X-T:\r\nY: 2\r\n",
        b"X-T: 1\r\n" * 100,
        b"X-T: 1\r\n" * 101,
        b"X_T: 1\r\n",
    ),
    *(b"%b: 1\r\n" % name for name in (b"Host", b"content-length", b"Transfer-Encoding", b"TE")),
    *(b"%b: 1\r\n" % name for name in (b"Trailer", b"Authorization", b"Cookie", b"Content-Type")),
    *(b"%b: 1\r\n" % name for name in (b"Connection", b"Set-Cookie", b"Expect", b"Content_Length")),
    *(b"%b: 1\r\n" % name for name in (b"", b"X T", b"X-T ", b" X-T", b"X\xe9", b"X\0", b"X(")),
    *(b"X-T: %b\r\n" % value for value in (b"\0", b"\x7f", b"a\tb", b"\xff", b"a\rb", b"a\nb")),
    *(b"X-T: 1\r\n 2\r\n", b"X-T\r\n", b"X-T: 1\n", b"X-T: 1\r", b"\n", b"\r", b"X-T : 1\r\n"),
    *(b"X-T: " + b"v" * 8183 + b"\r\n", b"X-T: " + b"v" * 8184 + b"\r\n"),
    *(b"Content-Type: 1\r\n" * 2, b"SCRIPT_NAME: /x\r\n", b"X-Forwarded-Proto: https\r\n"),
)


def chunks() -> Iterator[Case]:
    places = {
        "size": SIZES,
        "size end": LINE_ENDS,
        "data": (b"body", b"", b"bod", b"bodyX", b"bo\r\n", b"\0\r\n\xff"),
        "data end": LINE_ENDS,
        "more": (b"", b"1\r\nx\r\n", b"\r\n", b"0001;a\r\nx\r\n", b"1\r\n\r\r\n"),
        "last": (b"0", b"000", b"0;a", b"0 ", b"0;", b"", b"-0", b"0x0", b"0" * 17, b"0 ;a=b"),
        "last end": LINE_ENDS,
        "trailers": TRAILERS,
        "end": LINE_ENDS,
    }
    yield from varied(
        "chunks", places, POST, b"Transfer-Encoding: chunked\r\n\r\n", *places, pairs=450
    )


def sizes_of_bodies() -> Iterator[Case]:
    """Bodies that are smaller and larger than what a server reads at once, and their extensions."""
    chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n"
    for extension, count in itertools.product((10, 100, 1000, 4000), (1, 4, 5, 20, 200)):
        for data in (b"x", b"x" * extension):
            chunk = b"%x;%b\r\n%b\r\n" % (len(data), b"e" * (extension - 1), data)
            yield Case("extensions", chunked + chunk * count + b"0\r\n\r\n")
    for size in (1, 1000, 8192, 20_000, 200_000):
        yield Case("body cut off", POST + b"Content-Length: %d\r\n\r\n" % (size + 100))
        yield Case("body", POST + b"Content-Length: %d\r\n\r\n" % size + b"b" * size)
        for piece in (size, 1 + size // 3, 1 + size // 50):
            parts = [b"%x\r\n%b\r\n" % (piece, b"b" * piece)] * (size // piece)
            body = b"".join(parts) + b"0\r\n\r\n"
            yield Case("body", chunked + body)
