"""The access log is gunicorn's own: the same line as from the gthread worker, time and process
aside."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
from collections.abc import Iterator

import pytest
from harness import WORKER, Server, Truncated, eventually, request

FORMAT = (
    'h=%(h)s l=%(l)s u=%(u)s r="%(r)s" m=%(m)s U=%(U)s q=%(q)s H=%(H)s s=%(s)s b=%(b)s B=%(B)s '
    'f="%(f)s" a="%(a)s" xi=%({x-h}i)s hi=%({host}i)s xo=%({X-Out}o)s co=%({content-length}o)s '
    "e=%({REQUEST_METHOD}e)s ru=%({raw_uri}e)s none=%({x-none}i)s "
    "t=%(t)s D=%(D)s L=%(L)s M=%(M)s T=%(T)s p=%(p)s"
)
APP = """
from apps.routes import Routes, text

app = Routes()


@app.route
def whole(environ, start_response):
    environ["wsgi.input"].read()
    start_response(
        "200 OK", [("Content-Length", "5"), ("X-Out", "out"), ("Content-Type", "text/plain")]
    )
    return [b"whole"]


@app.route
def blocks(environ, start_response):
    start_response("201 Made", [("X-Out", "a"), ("X-Out", "b")])
    yield b"one"
    yield b"two"


@app.route
def nothing(environ, start_response):
    start_response("204 No Content", [])
    return []


@app.route
def missing(environ, start_response):
    return text(start_response, "missing", "404 Not Found")


@app.route
def overrun(environ, start_response):
    start_response("200 OK", [("Content-Length", "3")])
    return [b"overrun"]


@app.route
def error(environ, start_response):
    raise ValueError("for the log")


@app.route
def endless(environ, start_response):
    start_response("200 OK", [("Content-Length", "1000000000000")])
    while True:
        yield bytes(65536)
"""
TABLE = {
    "plain": request("GET", "/whole"),
    "query": request("GET", "/whole?a=b%20c"),
    "headers": request(
        "GET", "/whole", {"X-H": "seen", "Referer": "http://a/?q", "User-Agent": 'quo"ted'}
    ),
    "user": request("GET", "/whole", {"Authorization": "Basic dXNlcjpwYXNzd29yZA=="}),
    "user-broken": request("GET", "/whole", {"Authorization": "Basic ====%"}),
    "user-quoted": request("GET", "/whole", {"Authorization": "basic InU6cA=="}),
    "quoted": request("GET", '/whole/"a"?"b"', {"X-H": '"'}),
    "control": request("GET", "/whole", {"User-Agent": "a\tb", "X-H": "\tc\t"}),
    "odd-case": request("GET", "/whole", {"x-H": "1", "hOST": "odd"}),
    "post": request("POST", "/whole", body=b"12345"),
    "head": request("HEAD", "/whole"),
    "head-blocks": request("HEAD", "/blocks"),
    "chunked": request("GET", "/blocks"),
    "no-content": request("GET", "/nothing"),
    "404": request("GET", "/missing"),
    "overrun": request("GET", "/overrun"),
    "1.0": request("GET", "/whole", version="HTTP/1.0"),
    "percent": request("GET", "/whole/caf%C3%A9"),
    "latin-1": b"GET /whole HTTP/1.1\r\nHost: a\r\nUser-Agent: caf\xe9\r\n\r\n",
    "repeated": b"GET /whole HTTP/1.1\r\nHost: a\r\nX-H: 1\r\nX-H: 2\r\n\r\n",
}


def started(worker: str, bind: str = "127.0.0.1:0", template: str = FORMAT) -> Server:
    return Server.start(
        APP,
        "--access-logfile",
        "access",
        "--access-logformat",
        template,
        "--keep-alive",
        "30",
        worker=worker,
        binds=(bind,),
    )


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Server, Server]]:
    with started("gthread") as theirs, started(WORKER) as ours:
        yield theirs, ours


def lines(server: Server) -> list[str]:
    path = server.directory / "access"
    return path.read_text(errors="backslashreplace").splitlines() if path.exists() else []


def line_for(server: Server, data: bytes) -> str:
    before = len(lines(server))
    with server.client() as client:
        client.send(data)
        with contextlib.suppress(Truncated, ConnectionError):
            client.response(data.split(b" ")[0].decode())
    eventually(lambda: len(lines(server)) > before, "a line in the access log")
    said = lines(server)[before:]
    assert len(said) == 1, said
    return said[0]


@pytest.mark.parametrize("data", TABLE.values(), ids=TABLE.keys())
def test_the_line_is_the_one_that_gthread_writes(
    servers: tuple[Server, Server], data: bytes
) -> None:
    theirs, ours = (re.sub(r" t=.*", "", line_for(server, data)) for server in servers)
    assert ours == theirs


@pytest.fixture(scope="module")
def unix_servers() -> Iterator[tuple[Server, Server]]:
    bind = "unix:{dir}/socket"
    with started("gthread", bind) as theirs, started(WORKER, bind) as ours:
        yield theirs, ours


@pytest.mark.parametrize("name", ["plain", "headers", "post", "head", "chunked", "1.0"])
def test_so_is_the_line_of_a_unix_socket(unix_servers: tuple[Server, Server], name: str) -> None:
    theirs, ours = (re.sub(r" t=.*", "", line_for(server, TABLE[name])) for server in unix_servers)
    assert ours == theirs


def test_times_and_process_are_filled_in(servers: tuple[Server, Server]) -> None:
    line = line_for(servers[1], TABLE["plain"])
    date = r"\[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]"
    pattern = rf" t={date} D=\d+ L=\d+\.\d{{6}} M=\d+ T=\d+ p=<(\d+)>$"
    found = re.search(pattern, line)
    assert found, line
    assert int(found[1]) == servers[1].worker_pid()


def test_each_of_many_pipelined_requests_has_its_line(servers: tuple[Server, Server]) -> None:
    ours = servers[1]
    before = len(lines(ours))
    with ours.client() as client:
        client.send(b"".join(request("GET", f"/whole/{number}") for number in range(100)))
        for _ in range(100):
            client.response()
    eventually(lambda: len(lines(ours)) == before + 100, "a hundred lines")
    assert re.findall(r"U=/whole/(\d+)", "\n".join(lines(ours)[before:])) == [
        str(number) for number in range(100)
    ]


def test_an_application_error_is_logged_as_a_500(servers: tuple[Server, Server]) -> None:
    assert " s=500 " in line_for(servers[1], request("GET", "/error"))


def test_an_answer_that_the_client_did_not_wait_for_is_logged(
    servers: tuple[Server, Server],
) -> None:
    ours = servers[1]
    before = len(lines(ours))
    with ours.client() as client:
        client.send(request("GET", "/endless"))
        client.receive()
        client.reset()
    eventually(lambda: len(lines(ours)) > before, "a line in the access log")
    assert " U=/endless " in lines(ours)[-1]


def test_a_refused_request_is_logged_with_its_status(servers: tuple[Server, Server]) -> None:
    """gunicorn logs it as far as the request could be read."""
    ours = servers[1]
    before = len(lines(ours))
    with ours.client() as client:
        client.send(b"POST /bad HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n")
        assert client.response().status == 400
    assert ours.get("/whole").status == 200
    eventually(lambda: len(lines(ours)) > before, "a line in the access log")
    assert [line for line in lines(ours)[before:] if " s=400 " in line or "/whole" in line]


def test_the_default_format_is_gunicorns_on_standard_output() -> None:
    with Server.start(APP, "--access-logfile", "-") as server:
        server.get("/whole?q", {"User-Agent": "test", "Referer": "here"})
        eventually(server.stdout_text, "a line on standard output")
        pattern = r'127\.0\.0\.1 - - \[[^]]+\] "GET /whole\?q HTTP/1\.1" 200 5 "here" "test"\n'
        assert re.fullmatch(pattern, server.stdout_text())


LOGGER = """
from gunicorn.glogging import Logger
from apps.notes import note


class OwnLogger(Logger):
    def access(self, resp, req, environ, request_time):
        scheme, timed = environ["wsgi.url_scheme"], request_time.total_seconds() >= 0
        note(f"{req.method} {req.path} {resp.status} {resp.sent} {scheme} {timed}")


logger_class = OwnLogger
"""


def test_a_logger_class_is_called_even_without_an_access_log() -> None:
    with Server.start(APP, config=LOGGER) as server:
        assert server.get("/whole?q").body == b"whole"
        server.wait_for_note("GET /whole 200 OK 5 http True")
        server.get("/blocks")
        server.wait_for_note("GET /blocks 201 Made 6 http True")


def test_statsd_counts_requests_without_an_access_log() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(15)
        port = receiver.getsockname()[1]
        with Server.start(
            APP, "--statsd-host", f"127.0.0.1:{port}", "--statsd-prefix", "here"
        ) as server:
            server.get("/whole")
            server.get("/missing")
            seen: list[str] = []
            # A request's status is told last; threads tell theirs at the same time.
            while not all(any(f"status.{code}" in text for text in seen) for code in (200, 404)):
                seen.append(receiver.recv(65536).decode())
        assert (
            len([text for text in seen if text.startswith("here.gunicorn.request.duration:")]) == 2
        )
        assert len([text for text in seen if text.startswith("here.gunicorn.requests:1|c")]) == 2
        assert [text for text in seen if text.startswith("here.gunicorn.request.status.200:1|c")]


def test_usr1_reopens_the_access_log() -> None:
    with Server.start(APP, "--access-logfile", "access", "--keep-alive", "30") as server:
        server.get("/whole/before")
        eventually(lambda: lines(server), "a line in the access log")
        (server.directory / "access").rename(server.directory / "access.1")
        server.signal(signal.SIGUSR1)
        eventually((server.directory / "access").exists, "the master has reopened its log")

        def reopened() -> bool:
            server.get("/whole/after")
            return any("/whole/after" in line for line in lines(server))

        eventually(reopened, "the worker writes to the new file")
