"""The same requests to the same application: with `--threads 1` and with `--threads 4` a client
gets the same octets, but for the value of Date. What differs by nature is listed, each with its
reason (README, "Threads")."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from apps import answers
from harness import OURS, Server, chunked, request
from same_bytes import TAIL, Case, Heard, differing, hear
from test_wire_corpus import CASES as WIRE
from test_wire_corpus import parsed
from thread_pool import side_by_side

pytestmark = [
    pytest.mark.own_threads,
    pytest.mark.skipif(not OURS, reason="it is about our two ways of calling an application"),
]
LONGEST_BODY = 600_000
SETTINGS = ("--keep-alive", "30")
LIMITS = {"MEINHELD_MAX_BODY": str(LONGEST_BODY)}
Pair = tuple[Server, Server]
"""One that calls its application inline, one that does so on threads."""


@pytest.fixture(scope="module")
def servers() -> Iterator[Pair]:
    app = "apps.answers:app"
    with (
        Server.start(app, "--threads", "1", *SETTINGS, env=LIMITS) as inline,
        Server.start(app, "--threads", "4", *SETTINGS, env=LIMITS) as threaded,
    ):
        yield inline, threaded


def assert_same(servers: Pair, *cases: Case) -> None:
    different = list(differing(*servers, cases))
    assert not different, "\n".join(different)


# Every kind of answer

KINDS = [name for name in answers.routes.applications if name != "is_multithreaded"]
KEPT = {"Connection": "keep-alive"}


def forms(target: str) -> Iterator[Case]:
    yield Case("GET", request("GET", target))
    yield Case("HEAD", request("HEAD", target))
    yield Case("POST", request("POST", target, body=b"unread"))
    yield Case("the last", request("GET", target, {"Connection": "close"}), tail=b"")
    yield Case("HTTP/1.0", request("GET", target, version="HTTP/1.0"), tail=b"")
    yield Case("HTTP/1.0 HEAD", request("HEAD", target, version="HTTP/1.0"), tail=b"")
    yield Case("HTTP/1.0, kept", request("GET", target, KEPT, version="HTTP/1.0"))


@pytest.mark.parametrize("name", KINDS)
def test_an_answer_is_the_same_in_every_form_of_request(servers: Pair, name: str) -> None:
    assert_same(servers, *forms(f"/{name}"))


def test_the_kinds_of_answers_are_many() -> None:
    assert len(KINDS) > 150


# Every kind of request

HOST = b"Host: test\r\n"
EXPECT = {"Expect": "100-continue"}
CHUNKED = {"Transfer-Encoding": "chunked"}
SEVERAL = (
    request("GET", "/many-generator"),
    request("POST", "/", body=b"a body"),
    request("HEAD", "/one-list"),
    request("POST", "/", CHUNKED, chunked(b"in ", b"chunks")),
    request("GET", "/no-content-list"),
    request("GET", "/large-write"),
)


def head(*lines: bytes, first: bytes = b"POST / HTTP/1.1") -> bytes:
    return b"\r\n".join((first, b"Host: test", *lines, b"", b""))


def malformed_chunks(*bodies: bytes) -> Iterator[tuple[str, bytes]]:
    for body in bodies:
        yield f"chunks {body[:30]!r}", request("POST", "/", CHUNKED, body)


REQUESTS: dict[str, bytes] = {
    "no body": request("GET", "/"),
    "no body of a POST": request("POST", "/", {"Content-Length": "0"}),
    "a body": request("POST", "/", body=b"a body"),
    "a body in chunks": request("POST", "/", CHUNKED, chunked(b"in", b" ", b"chunks")),
    "no chunk": request("POST", "/", CHUNKED, chunked()),
    "trailers": request("POST", "/", CHUNKED, chunked(b"body", trailer=b"X-Trailer: 1\r\n")),
    "chunk extensions": request("POST", "/", CHUNKED, b'4;a="b";c\r\nbody\r\n0;d\r\n\r\n'),
    "a body read in pieces": request("POST", "/reads_in_pieces", body=b"in pieces"),
    "chunks read in pieces": request("POST", "/reads_in_pieces", CHUNKED, chunked(b"in", b"piec")),
    "a body read by lines": request("POST", "/reads_lines", body=b"one\ntwo\n\nthree"),
    "a body read in part": request("POST", "/reads_a_part", body=b"in part"),
    "chunks read in part": request("POST", "/reads_a_part", CHUNKED, chunked(b"in", b"part")),
    "a body that nobody reads": request("POST", "/reads_nothing", body=b"a body"),
    "chunks that nobody reads": request("POST", "/reads_nothing", CHUNKED, chunked(b"a", b"body")),
    "an application that reads and raises": request("POST", "/reads_and_raises", body=b"body"),
    "an application that raises at once": request("POST", "/raises_at_once", body=b"unread"),
    "an expectation of HTTP/1.0": request(
        "POST", "/", {**EXPECT, "Connection": "keep-alive"}, b"body", "HTTP/1.0"
    ),
    "an expectation without a body": request("GET", "/", EXPECT),
    "an unknown expectation": request("POST", "/", {"Expect": "more"}, b"body"),
    "several": b"".join(SEVERAL),
    "several, and a malformed one": SEVERAL[1] + b"GET /\r\n\r\n" + SEVERAL[0],
    "several, and a raising one": SEVERAL[1] + request("GET", "/raises_at_once") + SEVERAL[0],
    "several, and one that breaks off": SEVERAL[1] + request("GET", "/too-short-write") * 2,
    "several, and a malformed body": SEVERAL[3] + request("POST", "/", CHUNKED, b"x\r\n"),
    "a target of no path": b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",
    "a target with a host": head(first=b"GET http://other/path?query HTTP/1.1"),
    "an upgrade": head(b"Connection: upgrade", b"Upgrade: h2c", first=b"GET / HTTP/1.1"),
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": head(HOST[:-2]),
    "no version": b"GET /\r\n\r\n",
    "an unknown version": head(first=b"GET / HTTP/2.0"),
    "an unknown method": head(first=b"get / HTTP/1.1"),
    "a target with a space": head(first=b"GET /a b HTTP/1.1"),
    "bare line feeds": b"GET / HTTP/1.1\nHost: test\n\n",
    "a folded line": head(b"X-Folded: a", b" b"),
    "a line without a colon": head(b"nonsense"),
    "a space before the colon": head(b"X-Space : 1"),
    "a NUL in a value": head(b"X-Nul: \0"),
    "two lengths": head(b"Content-Length: 4", b"Content-Length: 5") + b"body",
    "a length and chunks": head(b"Content-Length: 4", b"Transfer-Encoding: chunked") + chunked(),
    "a length of no number": head(b"Content-Length: four") + b"body",
    "a negative length": head(b"Content-Length: -4") + b"body",
    "an unknown coding": head(b"Transfer-Encoding: gzip") + b"body",
    "a request line that is too long": head(first=b"GET /" + b"a" * 5000 + b" HTTP/1.1"),
    "a field that is too long": head(b"X-Long: " + b"a" * 9000),
    "too many fields": head(*(b"X-%d: 1" % number for number in range(200))),
    "a body announced as too long": head(b"Content-Length: %d" % (LONGEST_BODY + 1)),
    **dict(
        malformed_chunks(
            *(b"x\r\n", b"-1\r\n", b"\r\n", b"4\r\nbodyx\r\n", b"4\nbody\n0\n\n", b"4;\0\r\nbody"),
            *(
                b"4\r\nbody\r\nnonsense\r\n",
                b"11111111111111111\r\n",
                b"4\r\nbody\r\n0\r\nX\r\n\r\n",
            ),
        )
    ),
}
LARGE = {
    "a body beyond the window": request("POST", "/", body=b"x" * 500_000),
    "chunks beyond the window": request("POST", "/", CHUNKED, chunked(*[b"x" * 5000] * 100)),
    "a large body read in part": request("POST", "/reads_a_part", body=b"x" * 60_000),
    "chunks that become too many": request("POST", "/", CHUNKED, chunked(*[b"x" * 50_000] * 13)),
}


CUT = {
    "nothing": b"",
    "a part of a head": b"GET / HTTP/1.1\r\nHost: te",
    "a part of a body": head(b"Content-Length: 9") + b"four",
    "a part of a chunk": request("POST", "/", CHUNKED, b"9\r\nfour"),
    "no last chunk": request("POST", "/", CHUNKED, b"4\r\nfour\r\n"),
    "a whole request": request("POST", "/", body=b"a body"),
    "a whole request for a large answer": request("GET", "/large-generator"),
    "a part behind a whole one": request("GET", "/one-list") + b"GET / HT",
}
"""What a client sends before it half-closes."""


@pytest.mark.parametrize("delivery", ["whole", "bytewise"])
@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_answered_with_the_same(servers: Pair, name: str, delivery: str) -> None:
    assert_same(servers, Case(name, REQUESTS[name], bytewise=delivery == "bytewise"))


@pytest.mark.parametrize("name", LARGE)
def test_so_is_a_large_one(servers: Pair, name: str) -> None:
    assert_same(servers, Case(name, LARGE[name]))


@pytest.mark.parametrize("name", CUT)
def test_so_is_a_client_that_half_closes(servers: Pair, name: str) -> None:
    assert_same(servers, Case(name, CUT[name], tail=b"", cut=True))


@pytest.mark.parametrize("target", ["/", "/reads_in_pieces", "/reads_lines", "/reads_and_raises"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_so_is_one_that_waits_to_be_told_to_continue(
    servers: Pair, target: str, framing: str
) -> None:
    if framing == "length":
        octets, rest = request("POST", target, {**EXPECT, "Content-Length": "4"}), b"body"
    else:
        octets, rest = request("POST", target, {**EXPECT, **CHUNKED}), chunked(b"bo", b"dy")
    assert_same(servers, Case("waits", octets, rest))


def test_so_is_one_that_sends_nonsense_when_it_is_told_to_continue(servers: Pair) -> None:
    octets = request("POST", "/", {**EXPECT, **CHUNKED})
    assert_same(servers, Case("nonsense", octets, b"nonsense\r\n"))


@pytest.mark.parametrize("path", WIRE, ids=lambda path: path.stem)
def test_so_is_each_case_of_the_wire_corpus(servers: Pair, path: Path) -> None:
    expected, octets = parsed(path)
    assert_same(servers, Case("whole", octets))
    # Its client does not wait to be told to continue: see BY_NATURE.
    if len(octets) < 40_000 and path.stem != "expect-continue":
        # What is sent behind a last request, but not with it, may meet a closed connection.
        tail = TAIL if expected.get("keep-alive") == "yes" else b""
        assert_same(servers, Case("bytewise", octets, tail=tail, bytewise=True))


def test_so_it_is_where_connections_are_not_kept() -> None:
    settings = ("--keep-alive", "0")
    app = "apps.answers:app"
    with (
        Server.start(app, "--threads", "1", *settings, env=LIMITS) as inline,
        Server.start(app, "--threads", "4", *settings, env=LIMITS) as threaded,
    ):
        cases = [Case(name, octets) for name, octets in REQUESTS.items()]
        cases += [Case(name, request("GET", f"/{name}")) for name in KINDS]
        assert_same((inline, threaded), *cases)


LATE = {
    "nothing": b"",
    "a part of a head": b"GET / HTTP/1.1\r\nHost: te",
    "a part of a body": CUT["a part of a body"],
    "a part of a chunk": CUT["a part of a chunk"],
    "a part of a body that is read in pieces": head(
        b"Content-Length: 9", first=b"POST /reads_lines HTTP/1.1"
    ),
    "nothing behind a request": request("GET", "/one-list"),
}
"""What a client sends before it falls silent."""


def test_so_is_a_client_that_is_late() -> None:
    patience = {"MEINHELD_HEAD_TIMEOUT": "1", "MEINHELD_BODY_TIMEOUT": "1"}
    app, cases = "apps.answers:app", [Case(name, octets, tail=b"") for name, octets in LATE.items()]
    with (
        Server.start(app, "--threads", "1", "--keep-alive", "1", env=patience) as inline,
        Server.start(app, "--threads", "8", "--keep-alive", "1", env=patience) as threaded,
    ):
        heard: dict[tuple[str, str], Heard] = {}

        def listen(way: str, server: Server, case: Case) -> None:
            heard[case.name, way] = hear(server, case)

        ways = (("inline", inline), ("threaded", threaded))
        side_by_side([partial(listen, *way, case) for case in cases for way in ways])
    for case in cases:
        assert heard[case.name, "inline"] == heard[case.name, "threaded"], case


# What differs by nature

READS_NOTHING = partial(request, "POST", "/reads_nothing")
BEYOND_THE_WINDOW = [b"x" * 50_000] * 10
BY_NATURE = {
    "one with threads says so": Case("environ", request("GET", "/is_multithreaded")),
    "an application that is called at the head answers before its body is malformed": Case(
        "malformed", READS_NOTHING(CHUNKED, chunked(*BEYOND_THE_WINDOW)[:-5] + b"nonsense\r\n")
    ),
    "or becomes too long": Case(
        "too long", READS_NOTHING(CHUNKED, chunked(*BEYOND_THE_WINDOW, *BEYOND_THE_WINDOW))
    ),
    "of a body that is not read at most 64 KiB are dropped to keep the connection": Case(
        "unread", READS_NOTHING(body=b"".join(BEYOND_THE_WINDOW))
    ),
    "nobody is told to continue who is not read": Case(
        "expects", READS_NOTHING({**EXPECT, "Content-Length": "4"}), tail=b"", cut=True
    ),
    "a client is told to continue when it is read, which may be behind hints": Case(
        "hints", request("POST", "/hints_and_reads", {**EXPECT, "Content-Length": "4"}), b"body"
    ),
}
"""By their reasons: cases in which the ways must differ. If one does not, its line is too much."""


@pytest.mark.parametrize("reason", BY_NATURE)
def test_what_differs_by_nature_does_differ(servers: Pair, reason: str) -> None:
    case = BY_NATURE[reason]
    assert list(differing(*servers, [case])), f"{case} does not differ any more"
