"""The environ is gunicorn's own: one application on gunicorn's gthread worker and on ours, compared
for a table of requests."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from harness import GREEN, THREADED, WORKER, Client, Server, chunked, request

SETTINGS = {
    "keepalive": 30,
    "forwarder_headers": "SCRIPT_NAME,PATH_INFO",
    "secure_scheme_headers": {"X-FORWARDED-PROTO": "https", "X-FORWARDED-SSL": "on"},
}
HIDDEN = {
    "REMOTE_PORT": "the two connections have a port each",
    "SERVER_PORT": "the two servers have a port each, where Host does not say it",
}
OWN = {"meinheld.disconnected": "Disconnected", **({"meinheld.client": "Client"} if GREEN else {})}
"""What only ours has."""
DIFFERS = {
    "wsgi.input": "Body in gunicorn, which reads the socket; ours has the whole body",
    "wsgi.errors": "made anew for each request by gunicorn, one for the worker's life here",
    "gunicorn.socket": "a plain socket in gunicorn; ours notices that it is taken over",
    "wsgi.early_hints": "a closure in gunicorn, a native object here",
    "wsgi.multithread": "True in gthread, False where the application runs on the loop's thread",
}


@dataclass(frozen=True)
class Pair:
    theirs: Server
    ours: Server

    def environs(
        self, data: bytes, address: Callable[[Server], Client] = Server.client
    ) -> list[dict[str, list[str]]]:
        """What the application saw on either server."""
        seen = []
        for server in (self.theirs, self.ours):
            with address(server) as client:
                client.send(data)
                response = client.response()
                assert response.status == 200, (response, server.stderr_text()[-2000:])
                seen.append(json.loads(response.body))
        return seen


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with contextlib.ExitStack() as stack:
        yield Pair(
            *(
                stack.enter_context(started(worker, f"meinheld-test-{os.getpid()}-{worker}"))
                for worker in ("gthread", None)
            )
        )


@pytest.fixture(scope="module")
def mounted() -> Iterator[Pair]:
    with contextlib.ExitStack() as stack:
        yield Pair(
            *(
                stack.enter_context(started(worker, env={"SCRIPT_NAME": "/mounted"}))
                for worker in ("gthread", None)
            )
        )


def started(worker: str | None, abstract: str = "", env: dict[str, str] | None = None) -> Server:
    """On TCP, a unix socket, IPv6 and, where it has a name, an abstract unix socket."""
    binds = ["127.0.0.1:0", "unix:socket", "[::1]:0", *([f"unix:\0{abstract}"] if abstract else [])]
    config = {**SETTINGS, "bind": binds}
    return Server.start(
        "apps.show_environ:app", config=config, binds=(), env=env, worker=worker or WORKER
    )


def assert_same(
    pair: Pair, data: bytes, client: Callable[[Server], Client] = Server.client
) -> dict[str, list[str]]:
    theirs, ours = pair.environs(data, client)
    assert {key: ours.pop(key)[0] for key in OWN} == OWN
    assert ours.keys() == theirs.keys()
    for environ in (theirs, ours):
        for key in HIDDEN:
            if key in environ and environ[key][1] not in ("''", "'80'", "'443'"):
                environ[key][1] = "a port"
    assert {key: value for key, value in ours.items() if key not in DIFFERS} == {
        key: value for key, value in theirs.items() if key not in DIFFERS
    }
    return ours


def get(target: str = "/", **headers: str) -> bytes:
    return request(
        "GET", target, {name.replace("_", "-"): value for name, value in headers.items()}
    )


def raw(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


TABLE = {
    "plain": get(),
    "path": get("/a/b/c"),
    "trailing-slash": get("/a/b/"),
    "query": get("/a?b=c&d=e"),
    "empty-query": get("/a?"),
    "two-question-marks": get("/a?b?c"),
    "question-mark-encoded": get("/a%3Fb?c%3Fd"),
    "percent": get("/caf%C3%A9/%e2%98%83?q=%C3%A9"),
    "percent-slash": get("/a%2Fb%2fc"),
    "percent-percent": get("/100%25"),
    "percent-broken": get("/a%zz%4"),
    "percent-nul": get("/a%00b"),
    "percent-invalid-utf8": get("/%ff%fe"),
    "plus": get("/a+b?c+d"),
    "printable": get("/!$&'()*+,-./:;=@_~|^`{}\"<>[]\\"),
    "double-slash": get("//path//to///it"),
    "only-slashes": get("//"),
    "double-slash-query": get("//host/path?query"),
    "dots": get("/a/../b/./c"),
    "fragment": get("/a#b?c"),
    "fragment-after-query": get("/a?b#c"),
    "semicolon": get("/a;b=c;d"),
    "colon": get("/a:b"),
    "absolute": raw("GET http://example.com/a/b?c=d HTTP/1.1", "Host: example.com"),
    "absolute-no-path": raw("GET http://example.com HTTP/1.1", "Host: example.com"),
    "absolute-port": raw("GET http://example.com:8080/a HTTP/1.1", "Host: example.com:8080"),
    "absolute-https": raw("GET https://example.com/a HTTP/1.1", "Host: example.com"),
    "absolute-query-only": raw("GET http://example.com?q HTTP/1.1", "Host: example.com"),
    "asterisk": raw("OPTIONS * HTTP/1.1", "Host: example.com"),
    "method-delete": request("DELETE", "/a"),
    "method-patch": request("PATCH", "/a", body=b"x"),
    "method-options": request("OPTIONS", "/a"),
    "method-unknown": request("BREW", "/pot"),
    "method-dashes": request("M-SEARCH", "/a"),
    "post": request("POST", "/", {"Content-Type": "application/json"}, b'{"a": 1}'),
    "post-empty": request("POST", "/", {"Content-Length": "0"}),
    "post-without-length": request("POST", "/"),
    "post-leading-zeros": request("POST", "/", {"Content-Length": "0003"}, b"abc"),
    "post-chunked": request("POST", "/", {"Transfer-Encoding": "chunked"}, chunked(b"ab", b"c")),
    "post-chunked-trailer": request(
        "POST", "/", {"Transfer-Encoding": "chunked"}, chunked(b"ab", trailer=b"X-T: 1\r\n")
    ),
    "content-type-on-get": get(Content_Type="text/x"),
    "content-type-empty": get(Content_Type=""),
    "header-case": raw("GET / HTTP/1.1", "hOsT: a", "x-mIXED-cAsE: Value"),
    "header-empty": raw("GET / HTTP/1.1", "Host: a", "X-Empty:", "X-Blank:   "),
    "header-spaces": raw("GET / HTTP/1.1", "Host: a", "X-A: \t value with  spaces \t "),
    "header-latin1": raw("GET / HTTP/1.1", "Host: a", "X-A: caf\xe9"),
    "header-token": raw("GET / HTTP/1.1", "Host: a", "X!#$%&'*+.^`|~9: 1"),
    "header-repeated": raw(
        "GET / HTTP/1.1", "Host: a", "X-A: 1", "X-B: 2", "x-a: 3", "X-A:", "X-A: 4, 5"
    ),
    "header-underscore": raw("GET / HTTP/1.1", "Host: a", "X_A: 1", "X-A: 2"),
    "header-underscores-content": raw(
        "GET / HTTP/1.1", "Host: a", "Content_Length: 1", "Content_Type: x"
    ),
    "header-http-prefix": raw("GET / HTTP/1.1", "Host: a", "HTTP-X-A: 1", "Http-Host: b"),
    "header-proxy": raw("GET / HTTP/1.1", "Host: a", "Proxy: http://evil"),
    "header-cookie-twice": raw("GET / HTTP/1.1", "Host: a", "Cookie: a=1", "Cookie: b=2"),
    "authorization": get(Authorization="Basic dXNlcjpwYXNz"),
    "connection": get(Connection="keep-alive, te", TE="trailers"),
    "upgrade": get(Connection="Upgrade", Upgrade="websocket"),
    "host-with-port": raw("GET / HTTP/1.1", "Host: example.com:1234"),
    "host-ipv6": raw("GET / HTTP/1.1", "Host: [::1]:1234"),
    "forwarded-https": get(X_Forwarded_Proto="http", X_Forwarded_Protocol="https"),
    "forwarded-protocol": get(X_Forwarded_Protocol="https"),
    "forwarded-protocol-wrong-case": get(X_Forwarded_Protocol="HTTPS"),
    "forwarded-ssl": get(X_Forwarded_Ssl="on"),
    "forwarded-ssl-off": get(X_Forwarded_Ssl="off"),
    "forwarded-for": get(X_Forwarded_For="10.0.0.1, 10.0.0.2"),
    "script-name": raw("GET /app/a%20b?c HTTP/1.1", "Host: a", "SCRIPT_NAME: /app"),
    "script-name-whole": raw("GET /app HTTP/1.1", "Host: a", "SCRIPT_NAME: /app"),
    "script-name-empty": raw("GET /app HTTP/1.1", "Host: a", "SCRIPT_NAME:"),
    "script-name-dash": raw("GET /app HTTP/1.1", "Host: a", "SCRIPT-NAME: /app"),
    "path-info": raw("GET /a HTTP/1.1", "Host: a", "PATH_INFO: /b"),
    "http-1.0": raw("GET /old?q HTTP/1.0"),
    "http-1.0-host": raw("GET /old HTTP/1.0", "Host: a:99", "Connection: keep-alive"),
    "http-1.0-post": request("POST", "/old", version="HTTP/1.0", body=b"abc"),
    "long-query": get("/?" + "q" * 4000),
    "many-headers": raw(
        "GET / HTTP/1.1", "Host: a", *(f"X-{number}: {number}" for number in range(90))
    ),
}


@pytest.mark.parametrize("data", TABLE.values(), ids=TABLE.keys())
def test_it_is_the_same_over_tcp(pair: Pair, data: bytes) -> None:
    assert_same(pair, data)


@pytest.mark.parametrize(
    "name",
    [
        "plain",
        "host-with-port",
        "host-ipv6",
        "http-1.0",
        "http-1.0-host",
        "forwarded-protocol",
        "script-name",
        "post",
    ],
)
def test_it_is_the_same_over_a_unix_socket(pair: Pair, name: str) -> None:
    """Host names the server there, a peer is always trusted, and there is no REMOTE_PORT."""
    ours = assert_same(pair, TABLE[name], lambda server: Client(str(server.directory / "socket")))
    assert ours["REMOTE_ADDR"] == ["str", "''"]


@pytest.mark.parametrize(
    "name", ["plain", "host-with-port", "http-1.0-host", "forwarded-protocol", "post"]
)
def test_an_abstract_unix_socket_is_no_different_from_a_named_one(pair: Pair, name: str) -> None:
    """gunicorn's own workers take one byte of its name, as an integer, for SERVER_NAME."""
    seen = []
    for address in (str(pair.ours.directory / "socket"), pair.ours.addresses[3]):
        with Client(address) as client:
            client.send(TABLE[name])
            seen.append(json.loads(client.response().body))
    assert seen[1] == seen[0]


@pytest.mark.parametrize("name", ["plain", "http-1.0", "forwarded-protocol"])
def test_it_is_the_same_over_ipv6(pair: Pair, name: str) -> None:
    ours = assert_same(pair, TABLE[name], lambda server: Client(server.addresses[2]))
    assert ours["REMOTE_ADDR"] == ["str", "'::1'"]


@pytest.mark.parametrize(
    "data",
    [
        get("/mounted/a"),
        get("/mounted"),
        get("/mounted?q"),
        raw("GET /app/a HTTP/1.1", "Host: a", "SCRIPT_NAME: /app"),
    ],
)
def test_script_name_of_the_process_is_honoured(mounted: Pair, data: bytes) -> None:
    assert_same(mounted, data)


def test_a_path_outside_script_name_is_a_500_on_both(mounted: Pair) -> None:
    for server in (mounted.theirs, mounted.ours):
        assert server.get("/elsewhere").status == 500


def test_the_second_request_of_a_connection_sees_nothing_of_the_first(pair: Pair) -> None:
    with pair.ours.client() as client:
        client.send(get("/a?b", X_A="1", Cookie="c=d", Content_Type="text/x") + get("/e"))
        client.response()
        second = json.loads(client.response().body)
    with pair.ours.client() as client:
        client.send(get("/e"))
        first = json.loads(client.response().body)
    second.pop("REMOTE_PORT"), first.pop("REMOTE_PORT")
    assert second == first


MOUNTED = "SCRIPT_NAME: /app"
ORDERS = [
    ["/a?b"] * 4 + ["/a"] * 4,
    ["/a?b", "/a?b", "/a?b", "/a?c", "/a?c", "/a?c", "/a?b"],
    ["/%61", "/%61", "/%61", "/a", "/a", "/a", "//a"],
    ["/app/a?b"] * 3 + [f"/app/a?b {MOUNTED}"] * 4 + ["/app/a?b"] * 4,
    ["/a?b", "/c?d", "/a?b", "/c?d", "/e", "/e", "/e", "/?", "/?", "/?"],
]


@pytest.mark.parametrize("order", ORDERS, ids=map(str, range(len(ORDERS))))
def test_a_connection_that_repeats_its_requests_sees_what_a_new_one_sees(
    pair: Pair, order: list[str]
) -> None:
    def wire(words: str) -> bytes:
        target, _, field = words.partition(" ")
        return raw(f"GET {target} HTTP/1.1", "Host: a", *filter(None, [field]))

    def asked(client: Client, words: str) -> object:
        client.send(wire(words))
        environ = json.loads(client.response().body)
        environ.pop("REMOTE_PORT")
        return environ

    with pair.ours.client() as client:
        for words in order:
            with pair.ours.client() as new:
                assert asked(client, words) == asked(new, words)


@pytest.mark.parametrize("value", ["", "a", "ab"])
def test_a_repeated_field_is_joined_even_if_its_values_are_equal(pair: Pair, value: str) -> None:
    """Strings of up to one octet are one object to the interpreter, however often they are made."""
    wire = f"GET / HTTP/1.1\r\nHost: a\r\nX-A: {value}\r\nX-A: {value}\r\n\r\n".encode()
    theirs, ours = pair.environs(wire)
    assert theirs["HTTP_X_A"] == ours["HTTP_X_A"] == ["str", repr(f"{value},{value}")]


@pytest.mark.parametrize("host", [b"Host: proxy.test\r\n", b""], ids=["Host", "no Host"])
def test_the_authority_of_an_absolute_target_is_the_host(pair: Pair, host: bytes) -> None:
    """RFC 9112 section 3.2.2; gunicorn leaves it to Host."""
    version = b"HTTP/1.1" if host else b"HTTP/1.0"
    with pair.ours.client() as client:
        client.send(b"GET http://site.test:81/p " + version + b"\r\n" + host + b"\r\n")
        seen = json.loads(client.response().body)
    assert seen["HTTP_HOST"] == ["str", "'site.test:81'"]
    assert seen["PATH_INFO"] == ["str", "'/p'"]
    assert seen["RAW_URI"] == ["str", "'http://site.test:81/p'"]


def test_each_request_has_an_environ_of_its_own() -> None:
    greedy = """
def app(environ, start_response):
    answer = repr(sorted(key for key in environ if key.startswith("app."))).encode()
    environ["app." + environ["PATH_INFO"]] = 1
    environ["wsgi.version"] = None
    environ.pop("SERVER_NAME")
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]
"""
    with Server.start(greedy, "--keep-alive", "30") as server, server.client() as client:
        for number in range(3):
            assert client.request("GET", f"/{number}").body == b"[]"


def test_what_differs_on_purpose_is_of_the_kind_that_it_stands_for(pair: Pair) -> None:
    theirs, ours = pair.environs(get())
    assert ours["wsgi.multithread"] == ["bool", str(THREADED or GREEN)]
    assert theirs["wsgi.multithread"] == ["bool", "True"]
    assert ours["wsgi.file_wrapper"] == theirs["wsgi.file_wrapper"]
    assert ours["SERVER_SOFTWARE"] == theirs["SERVER_SOFTWARE"]
    assert all(key in ours for key in DIFFERS)
