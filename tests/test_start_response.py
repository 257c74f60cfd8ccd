"""`start_response` and `write` of PEP 3333, and what becomes of the application's headers."""

from __future__ import annotations

import contextlib
import datetime
import re
from collections.abc import Iterator
from email.utils import parsedate_to_datetime

import pytest
from harness import Server, Truncated, request

APP = """
import sys
from apps.routes import Routes, text

app = Routes()


def failing():
    try:
        raise LookupError("the first thought")
    except LookupError:
        return sys.exc_info()


@app.route
def replaced(environ, start_response):
    start_response("200 OK", [("X-First", "1"), ("Content-Length", "3")])
    start_response("503 Second Thought", [("X-Second", "2"), ("Content-Length", "6")], failing())
    return [b"second"]


@app.route
def replaced_while_generating(environ, start_response):
    start_response("200 OK", [("X-First", "1")])
    start_response("503 Second Thought", [("Content-Length", "6")], failing())
    yield b"second"


@app.route
def too_late(environ, start_response):
    start_response("200 OK", [])
    yield b"first"
    start_response("503 Second Thought", [], failing())
    yield b"second"


@app.route
def too_late_after_write(environ, start_response):
    start_response("200 OK", [])(b"first")
    start_response("503 Second Thought", [], failing())
    return [b"second"]


kept = []


@app.route
def keeps(environ, start_response):
    kept[:] = [start_response]
    return text(start_response, "kept")


@app.route
def uses_what_was_kept(environ, start_response):
    try:
        kept[0]("203 Stale", [("Content-Length", "5")], failing())(b"stale")
    except LookupError:
        return text(start_response, "refused")
    return text(start_response, "accepted")


@app.route
def twice(environ, start_response):
    start_response("200 OK", [])
    start_response("200 OK", [])
    return [b"never"]


@app.route
def never(environ, start_response):
    return [b"never"]


@app.route
def never_and_nothing(environ, start_response):
    return []


@app.route
def at_the_first_block(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    yield b"ok"


@app.route
def with_exc_info_of_none(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")], None)
    return [b"ok"]


@app.route
def writes(environ, start_response):
    write = start_response("200 OK", [])
    write(b"one ")
    write(b"")
    write(b"two ")
    return [b"three"]


@app.route
def writes_text(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])("wrong")
    return []


@app.route
def yields_text(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    return ["wrong"]


@app.route
def lists_text_behind_bytes(environ, start_response):
    start_response("200 OK", [])
    return [b"right", "wrong"]


@app.route
def returns_none(environ, start_response):
    start_response("200 OK", [])


@app.route
def returns_bytes_blocks(environ, start_response):
    start_response("200 OK", [("Content-Length", "9")])
    return (b"one", b"two", b"six")


@app.route
def empty_blocks(environ, start_response):
    start_response("200 OK", [])
    return iter([b"", b"one", b"", b"", b"two", b""])


STATUSES = {
    "number": 200,
    "bytes": b"200 OK",
    "word": "OK",
    "short": "20 OK",
    "none": None,
    "crlf": "200 OK\\r\\nX-Injected: 1",
    "lf": "200 OK\\nX: 1",
    "nul": "200 \\0",
    "empty": "",
    "wide": "200 \\u2603",
    "dash": "-20 OK",
    "leading": " 200 OK",
}


@app.route
def status(environ, start_response):
    start_response(STATUSES[environ["QUERY_STRING"]], [("Content-Length", "5")])
    return [b"wrong"]


HEADERS = {
    "crlf": [("X-A", "1\\r\\nX-Injected: 1")],
    "lf": [("X-A", "1\\nX-Injected: 1")],
    "cr": [("X-A", "1\\rX-Injected: 1")],
    "nul": [("X-A", "1\\0")],
    "name-crlf": [("X-A\\r\\nX-Injected", "1")],
    "name-space": [("X A", "1")],
    "name-colon": [("X:A", "1")],
    "name-empty": [("", "1")],
    "number": [("X-A", 1)],
    "bytes": [("X-A", b"1")],
    "name-bytes": [(b"X-A", "1")],
    "none": None,
    "pair": [("X-A",)],
    "triple": [("X-A", "1", "2")],
    "wide": [("X-A", "\\u2603")],
    "length": [("Content-Length", "five")],
    "minus": [("Content-Length", "-5")],
    "strings": ["ab", "c"],
}


@app.route
def headers(environ, start_response):
    start_response("200 OK", HEADERS[environ["QUERY_STRING"]])
    return [b"wrong"]


@app.route
def plain(environ, start_response):
    start_response(
        "200 OK",
        [
            ("Content-Length", "2"),
            ("X-One", "1"),
            ("x-two", " 2\\t"),
            ("Set-Cookie", "a"),
            ("Set-Cookie", "b"),
            ("X-L1", "caf\\xe9"),
        ],
    )
    return [b"ok"]


@app.route
def hops(environ, start_response):
    hops = [
        ("Connection", "x-one"),
        ("Keep-Alive", "timeout=1"),
        ("Transfer-Encoding", "gzip"),
        ("TE", "gzip"),
        ("Upgrade", "h2c"),
        ("Proxy-Authenticate", "Basic"),
        ("Server", "mine"),
        ("Date", "Thu, 01 Jan 1970 00:00:00 GMT"),
    ]
    start_response("200 OK", [("Content-Length", "2"), *hops])
    return [b"ok"]


@app.route
def unusual(environ, start_response):
    start_response("299 " if environ["QUERY_STRING"] else "299", [("Content-Length", "2")])
    return [b"ok"]
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP, "--keep-alive", "30") as server:
        yield server


def assert_500_with_a_reason(server: Server, target: str) -> None:
    before = len(server.stderr_text())
    with server.client() as client:
        response = client.request("GET", target)
        assert response.status == 500
        assert b"wrong" not in response.body and b"never" not in response.body
        assert response.header("X-Injected") is None
        assert response.header("Connection") == "close"
        assert client.is_closed_by_peer()
    server.wait_for_log(r"\[ERROR\]")
    assert re.search(
        r"\[ERROR\].*\n(.*\n)*.*(Error|Invalid|must|not )", server.stderr_text()[before:]
    ), server.stderr_text()[before:]


@pytest.mark.parametrize("path", ["/replaced", "/replaced_while_generating"])
def test_with_exc_info_the_headers_are_replaced_while_they_are_not_out(
    server: Server, path: str
) -> None:
    response = server.get(path)
    assert (response.status, response.reason, response.body) == (503, "Second Thought", b"second")
    assert response.header("X-First") is None


@pytest.mark.parametrize("path", ["/too_late", "/too_late_after_write"])
def test_with_exc_info_the_error_is_raised_again_once_headers_are_out(
    server: Server, path: str
) -> None:
    before = server.stderr_text().count("LookupError: the first thought")
    with server.client() as client, pytest.raises((Truncated, ConnectionError)):
        client.request("GET", path)
    server.wait_for_log("LookupError: the first thought", before + 1)


def test_the_start_response_of_a_request_that_is_over_cannot_answer_the_next_one(
    server: Server,
) -> None:
    with server.client() as client:
        assert client.request("GET", "/keeps").body == b"kept"
        response = client.request("GET", "/uses_what_was_kept")
        assert (response.status, response.body) == (200, b"refused")
        assert client.request("GET", "/keeps").body == b"kept"


@pytest.mark.parametrize(
    "path",
    [
        "/twice",
        "/never",
        "/writes_text",
        "/yields_text",
        "/lists_text_behind_bytes",
        "/returns_none",
    ],
)
def test_an_application_that_breaks_the_contract_is_a_500(server: Server, path: str) -> None:
    if path == "/writes_text" or path == "/yields_text":
        assert_broken_or_500(server, path)
    else:
        assert_500_with_a_reason(server, path)


def assert_broken_or_500(server: Server, path: str) -> None:
    """Nothing of the wrong block has gone out yet, so both are honest; a complete-looking 200 is
    not."""
    with server.client() as client, contextlib.suppress(Truncated, ConnectionError):
        assert client.request("GET", path).status == 500
    server.wait_for_log("TypeError")


def test_an_application_that_never_calls_start_response_is_a_500_even_without_a_block(
    server: Server,
) -> None:
    assert_500_with_a_reason(server, "/never_and_nothing")


@pytest.mark.parametrize(
    "status",
    [
        "number",
        "bytes",
        "word",
        "short",
        "none",
        "crlf",
        "lf",
        "nul",
        "empty",
        "wide",
        "dash",
        "leading",
    ],
)
def test_a_status_that_is_none_is_a_500(server: Server, status: str) -> None:
    assert_500_with_a_reason(server, f"/status?{status}")


@pytest.mark.parametrize(
    "headers",
    [
        "crlf",
        "lf",
        "cr",
        "nul",
        "name-crlf",
        "name-space",
        "name-colon",
        "name-empty",
        "number",
        "bytes",
        "name-bytes",
        "none",
        "pair",
        "triple",
        "wide",
        "length",
        "minus",
        "strings",
    ],
)
def test_headers_that_cannot_be_sent_are_a_500(server: Server, headers: str) -> None:
    assert_500_with_a_reason(server, f"/headers?{headers}")


@pytest.mark.parametrize("path", ["/at_the_first_block", "/with_exc_info_of_none"])
def test_it_may_be_called_late_and_with_three_arguments(server: Server, path: str) -> None:
    assert server.get(path).body == b"ok"


def test_write_sends_before_what_the_iterable_yields(server: Server) -> None:
    assert server.get("/writes").body == b"one two three"


def test_any_iterable_of_bytes_is_a_body(server: Server) -> None:
    assert server.get("/returns_bytes_blocks").body == b"onetwosix"


def test_an_empty_block_does_not_end_the_body(server: Server) -> None:
    assert server.get("/empty_blocks").body == b"onetwo"


def test_headers_keep_their_order_their_case_and_their_repetitions(server: Server) -> None:
    headers = server.get("/plain").headers
    own = [
        ("Content-Length", "2"),
        ("X-One", "1"),
        ("x-two", "2"),
        ("Set-Cookie", "a"),
        ("Set-Cookie", "b"),
        ("X-L1", "caf\xe9"),
    ]
    assert [pair for pair in headers if pair[0] not in ("Server", "Date", "Connection")] == own


def test_server_names_the_product_without_a_version(server: Server) -> None:
    assert server.get("/plain").all("Server") == ["meinheld"]


def test_date_is_there_once_and_is_now(server: Server) -> None:
    earlier = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=10)
    date = parsedate_to_datetime(server.get("/plain").header("Date") or "")
    assert earlier < date < earlier + datetime.timedelta(seconds=20)


def test_hop_by_hop_headers_server_and_date_of_the_application_are_dropped(server: Server) -> None:
    with server.client() as client:
        response = client.request("GET", "/hops")
        assert response.all("Server") == ["meinheld"]
        assert (
            len(response.all("Date")) == 1
            and response.header("Date") != "Thu, 01 Jan 1970 00:00:00 GMT"
        )
        assert response.header("Connection") in (None, "keep-alive")
        names = {name.lower() for name, _ in response.headers}
        assert not names & {
            "keep-alive",
            "transfer-encoding",
            "te",
            "upgrade",
            "proxy-authenticate",
        }
        assert client.request("GET", "/plain").body == b"ok"


@pytest.mark.parametrize("target", ["/unusual", "/unusual?space"])
def test_a_status_without_a_reason_is_sent(server: Server, target: str) -> None:
    response = server.get(target)
    assert (response.status, response.reason.strip(), response.body) == (299, "", b"ok")


def test_without_a_content_length_http_1_1_gets_chunks_and_http_1_0_the_end_of_the_connection(
    server: Server,
) -> None:
    with server.client() as client:
        assert client.request("GET", "/writes").framing == "chunked"
        client.send(request("GET", "/writes", version="HTTP/1.0"))
        response = client.response()
        assert (response.framing, response.body) == ("close", b"one two three")
