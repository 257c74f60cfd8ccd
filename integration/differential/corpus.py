"""The corpus of the differential test: requests put together from pieces, good and bad.

A family is a template with a good piece in every place. It yields the good request, every request
with one piece changed, and a sample of those with two changed: a third fault would only hide
behind the first. The sample comes from a generator with a fixed seed, so every run sends the same.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from test_wire_corpus import CASES as WIRE_CASES
from test_wire_corpus import parsed

OK_LINE = b"GET /ok HTTP/1.1\r\n"
HOST = b"Host: test\r\n"


@dataclass(frozen=True)
class Case:
    """What a client sends first on a connection of its own."""

    family: str
    octets: bytes


Family = Callable[[], Iterator[Case]]


def varied(
    family: str, places: Mapping[str, Sequence[bytes]], *template: str | bytes, pairs: int
) -> Iterator[Case]:
    """The requests of a family: `template` names places and holds what stands between them, the
    first piece of each place is the good one. `pairs` of the requests with two changes are
    sampled."""
    good = {place: pieces[0] for place, pieces in places.items()}

    def case(changes: Mapping[str, bytes]) -> Case:
        pieces = {**good, **changes}
        return Case(family, b"".join(pieces[p] if isinstance(p, str) else p for p in template))

    yield case({})
    for place, pieces in places.items():
        for piece in pieces[1:]:
            yield case({place: piece})
    two = [
        {first: one, second: other}
        for first, second in itertools.combinations(places, 2)
        for one in places[first][1:]
        for other in places[second][1:]
    ]
    for changes in random.Random(family).sample(two, min(pairs, len(two))):
        yield case(changes)


def unique(cases: Iterator[Case]) -> list[Case]:
    """The cases without those whose octets have occurred."""
    return list({case.octets: case for case in cases}.values())


def wire_cases() -> Iterator[Case]:
    """The cases of tests/wire/."""
    for path in WIRE_CASES:
        yield Case("wire " + path.stem, parsed(path)[1])


METHODS = (
    *(b"GET", b"HEAD", b"POST", b"OPTIONS", b"CONNECT", b"DELETE", b"M-SEARCH", b"PRI"),
    *(b"VERSION-CONTROL", b"A" * 20, b"!$%&'*+-.^_`|~", b"123"),
    *(b"get", b"Get", b"head", b"options", b"connect", b"X", b"GE", b"", b"A" * 21, b"G#T"),
    *(b"G(T", b"G\xc9T", b"\xdfGET", b"GET\t", b"G\0T", b"G\x7fT", b"G:T", b"G/T", b'"GET"'),
)
TARGETS = (
    # Origin form.
    *(b"/ok", b"/", b"/a/b?c=d", b"/a?b?c", b"/?", b"/a?b#c?d", b"/a#b?c", b"/#", b"/;a=b?;c"),
    *(b"/%41%2f%2F%zz%2", b"/%00%0d%0a%C3%A9", b"/%", b"/a%20b+c", b"/?%41", b"/..%2f../."),
    *(b"//", b"//host/path?q", b"//[x", b"///a//b", b"/x://y", b"/a\\b", b'/a|b"<>^`{}', b"/[::1]"),
    *(b"/\xc3\xa9\xff", b"/?\xe9", b"/a\x80", b"/\xa0#\xa0", b"/%e9\xe9"),
    *(b"/\x01", b"/a\tb", b"/\x7f", b"/a\0", b"/a\x0bb", b"/a b"),
    # Asterisk form.
    *(b"*", b"*?x", b"**", b"*/"),
    # Absolute form.
    *(b"http://example.com/p?q#f", b"http://example.com", b"HTTP://Example.COM:8080/x"),
    *(b"https://secure/x", b"http://a:b/", b"http://a:/", b"http://u:p@example.com/", b"http:///x"),
    *(b"http://example.com?q", b"http://example.com#f", b"http://[::1]:80/p", b"http://[::1/p"),
    *(b"http://[zz]/", b"http://[v1.x]/", b"http://::1/", b"http://ex\xe4mple/", b"http://a\\b/"),
    *(b"http://a:80:90/", b"http://[::1]x/", b"ftp+x-y.z://h/p", b"http://%41/p", b"http://a;b/"),
    *(
        b"http://a_b,c/p",
        b"http://a[b/",
        b"http://a]/",
        b"http://[",
        b"http://a<b/p",
        b'http://a"b/',
        b"http://:80/p",
        b"http://a@b@c/",
    ),
    *(b"://x/", b"1http://x/", b"ht_tp://x/", b"http:/x", b"http:x", b"\xe9://x/", b"a?b://c"),
    # Authority form, and what is none.
    *(b"example.com:443", b"example.com:", b"example.com", b":80", b"[::1]:443", b"a/b:80"),
    *(b"example.com:99999", b"1.2.3.4:80", b"u@h:80", b"h:80?q", b"h:8o", b"h:+80", b"a_b:80"),
    *(b"", b"?x", b"#x", b"ok", b".", b"\xff"),
)
VERSIONS = (
    *(b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"HTTP/1.9", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/9.9"),
    *(b"HTTP/0.0", b"HTTP/11.1", b"HTTP/1.10", b"HTTP/1", b"HTTP/1.", b"HTTP/.1", b"http/1.1"),
    *(b"HTTPS/1.1", b"HTTP/ 1.1", b"HTTP/1.1 ", b"HTTP/1.1\t", b"HTTP/1.1\0", b"HTTP/\xb2.1", b""),
    *(b"HTTP/1.1 x", b"HTTP /1.1", b"HTTP/+1.1", b"HTTP/1,1", b"HTTP/01.1", b"ICY/1.1"),
)
GAPS = (b" ", b"  ", b"\t", b"", b" \t", b"\x0b", b"\xa0", b"\r")
LINE_ENDS = (b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r\n", b" \r\n", b"\0\r\n", b"")


def request_lines() -> Iterator[Case]:
    places = {
        "before": (b"", b"\r\n", b"\r\n\r\n", b"\n", b"\r", b" ", b"\t", b"\0", b"\r\n\n", b"\n\n"),
        "method": METHODS,
        "gap": GAPS,
        "target": TARGETS,
        "second gap": GAPS,
        "version": VERSIONS,
        "end": LINE_ENDS,
        "host": (HOST, b"", b"Host:\r\n", b"HOST: a:80\r\n"),
    }
    yield from varied("request line", places, *places, b"\r\n", pairs=300)
    for method, target in itertools.product((b"GET", b"OPTIONS", b"CONNECT"), TARGETS):
        yield Case("request line", method + b" " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n")


NAMES = (
    *(b"X-Name", b"x-nAME", b"X--Y-", b"!#$%&'*+.^`|~", b"1", b"-", b"A" * 200, b"Proxy", b"Date"),
    *(b"X_Name", b"X_NAME", b"_", b"Content_Length", b"Transfer_Encoding", b"HTTP_X", b"Cookie"),
    *(b"SCRIPT-NAME", b"Script_Name", b"PATH_INFO", b"Remote_User", b"X_Forwarded_Proto", b"HOST_"),
    *(b"", b"X Name", b"X-Name ", b"X-Name\t", b"X-Name \t ", b" X-Name", b"\tX-Name", b"X\x0b"),
    *(b"X\xe9", b"\xdf", b"\xb5", b"X\0", b"X\x7f", b"X(Y)", b"X[Y]", b'X"', b"X/Y", b"X,Y", b"X;"),
    *(b"X@Y", b"X{Y}", b"X<Y", b"X=Y", b"X?", b"X\\Y", b"X\rY", b"X\nY", b"X\x85", b"X\xa0"),
)
VALUES = (
    *(
        b"value",
        b"",
        b" ",
        b"\t \t",
        b"a b",
        b"a\tb",
        b"  v \t",
        b"a:b",
        b"a,b",
        b'"q\\"',
        b"a=b;c",
    ),
    *(b"a" + bytes([octet]) + b"b" for octet in (*range(0x20), 0x7F, 0x80, 0x85, 0xA0, 0xAD, 0xFF)),
    *(b"\xc3\xa9", b"\xa0v\xa0", b"\x85v\x85", b"\x0bv\x0b", b"v\0", b"\0", b"v" * 8000),
    *(b"a\r\n b", b"a\r\n\tb", b"a \r\n  b ", b"\r\n a", b"a\r\n ", b"a\r\n \t\r\n b", b"a\r\n\t"),
    *(b"a\r\n b: c", b"a\r\n \0", b"a\r\n b\r\n c", b"a\n b", b"a\r b", b"a\r\n \r\n"),
)


def field_lines() -> Iterator[Case]:
    places = {
        "before": (b"", b"X-Before: 1\r\n", b" folded\r\n", b"X-Before\r\n", b":\r\n", b"\x0b\r\n"),
        "name": NAMES,
        "colon": (
            b": ",
            b":",
            b":\t",
            b":\t \t",
            b"::",
            b" :",
            b"\t:",
            b"",
            b" ",
            b"=",
            b":\x0b",
            b"\r\n :",
        ),
        "value": VALUES,
        "end": LINE_ENDS,
        "after": (b"", b"X-Name: again\r\n", b"X-After: 1\r\n", b" folded\r\n", b"X_Name: 2\r\n"),
        "last": (b"\r\n", b"\n", b"\r", b"\r\r\n", b""),
    }
    yield from varied("field line", places, OK_LINE, HOST, *places, pairs=350)
    # In front of every other field line, where there is nothing to fold into.
    del places["last"]
    yield from varied("first line", places, OK_LINE, *places, HOST, b"\r\n", pairs=60)


def repeated_fields() -> Iterator[Case]:
    names = (b"X-A", b"Host", b"Content-Type", b"Content-Length", b"Cookie", b"Accept", b"Expect")
    more = (b"Transfer-Encoding", b"Authorization", b"X_A", b"Referer", b"Connection", b"TE")
    values = ((b"a", b"b"), (b"0", b"0"), (b"", b"a"), (b"a,", b",b"), (b"a", b"a"), (b"", b""))
    others = (b"", b"X-Between: 1\r\n")
    for name, (one, two), between in itertools.product((*names, *more), values, others):
        for second in (name, name.lower(), name.replace(b"-", b"_")):
            lines = b"%b: %b\r\n%b%b: %b\r\n" % (name, one, between, second, two)
            yield Case("repeated field", OK_LINE + HOST + lines + b"\r\n")
    three = b"".join(b"X-A: %d\r\nX-B: %d\r\n" % (n, n) for n in range(30))
    yield Case("repeated field", OK_LINE + HOST + three + b"\r\n")


HOSTS = (
    *(b"Host: test\r\n", b"", b"Host:\r\n", b"hOST: A:80\r\n", b"Host: a:\r\n", b"Host: :80\r\n"),
    *(b"Host: [::1]\r\n", b"Host: [::1]:80\r\n", b"Host: [\r\n", b"Host: a,b\r\n"),
    *(b"Host: a;b\r\n", b"Host: a_b\r\n", b"Host: a%20b\r\n", b"Host: a!$&'()*+=~\r\n"),
    *(b"Host: a:80:90\r\n", b"Host: a:b\r\n", b"Host: 1.2.3.4\r\n", b"Host_: a\r\n"),
    *(b"Host: %b\r\n" % bad for bad in (b"a b", b"a\tb", b"a/b", b"u@h", b"a?b", b"a#b", b"a\\b")),
    *(b"Host: a%bb\r\n" % bytes([octet]) for octet in b'"<>^`{|}\x80\xe9\xff'),
)


def hosts() -> Iterator[Case]:
    places = {
        "target": (b"/ok", b"http://target:81/x?y", b"http://t", b"*", b"/\xe9", b"http://[::1]/"),
        "version": (b"HTTP/1.1", b"HTTP/1.0"),
        "host": HOSTS,
        "again": (b"", b"Host: test\r\n", b"X-Forwarded-Host: b\r\n"),
    }
    yield from varied(
        "host",
        places,
        b"GET ",
        "target",
        b" ",
        "version",
        b"\r\n",
        "host",
        "again",
        b"\r\n",
        pairs=150,
    )


CONNECTIONS = (
    *(b"", b"close", b"Close", b"keep-alive", b"Keep-Alive", b"close, keep-alive", b"upgrade"),
    *(b"keep-alive, close", b"TE, close", b"keep-alive, upgrade", b" close ", b"close,", b",close"),
    *(b"closed", b"x", b",", b'"close"', b"close;x", b"keep-alive,", b"x, y", b"close\t, x"),
)


def connections() -> Iterator[Case]:
    def lines(name: bytes) -> list[bytes]:
        return [b"%b: %b\r\n" % (name, value) for value in CONNECTIONS]

    upgrades = (b"websocket", b"h2c", b"TLS/1.2, HTTP/2.0")
    places = {
        "method": (b"GET", b"HEAD", b"POST", b"OPTIONS", b"CONNECT", b"DELETE"),
        "version": (b"HTTP/1.1", b"HTTP/1.0"),
        "first": (b"", *lines(b"Connection")),
        "second": (b"", *lines(b"connection"), *lines(b"Connection_"), *lines(b"Proxy-Connection")),
        "upgrade": (b"", *(b"Upgrade: %b\r\n" % value for value in upgrades)),
        "body": (b"\r\n", b"Content-Length: 4\r\n\r\nbody", b"Keep-Alive: timeout=5\r\n\r\n"),
    }
    target = {b"CONNECT": b"example.com:80"}
    for method in places.pop("method"):
        start = method + b" " + target.get(method, b"/ok") + b" "
        yield from varied(
            "connection " + method.decode(),
            places,
            start,
            "version",
            b"\r\n",
            HOST,
            "first",
            "second",
            "upgrade",
            "body",
            pairs=50,
        )
    yield Case("connection", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    h2c = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    yield Case("connection", OK_LINE + HOST + h2c + b"\r\n")


def expectations() -> Iterator[Case]:
    places = {
        "version": (b"HTTP/1.1", b"HTTP/1.0"),
        "expect": (
            *(b"100-continue", b"100-CONTINUE", b"", b"100-continue, x", b"x", b"100"),
            *(
                b"100-continue\r\nExpect: 100-continue",
                b"x\r\nExpect: 100-continue",
                b"100 continue",
            ),
            *(b"100-continue\r\nExpect_: x", b"\xa0100-continue"),
        ),
        "body": (
            *(b"\r\n", b"Content-Length: 4\r\n\r\nbody", b"Content-Length: 0\r\n\r\n"),
            b"Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
        ),
    }
    yield from varied(
        "expectation",
        places,
        b"POST /ok ",
        "version",
        b"\r\n",
        HOST,
        b"Expect: ",
        "expect",
        b"\r\n",
        "body",
        pairs=100,
    )
