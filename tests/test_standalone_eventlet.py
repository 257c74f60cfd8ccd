"""Options of `run` for those who come from `eventlet.wsgi`."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import pytest
from harness import Truncated
from standalone import HELLO, Standalone, serving

pytestmark = pytest.mark.own_threads

ECHO = """
def app(environ, start_response):
    body = str(environ.get(environ["QUERY_STRING"])).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
BLOCKS = """
def app(environ, start_response):
    if environ["QUERY_STRING"]:
        environ["eventlet.minimum_write_chunk_size"] = int(environ["QUERY_STRING"])
    start_response("200 OK", [])
    return (b"%d" % number for number in range(10))
"""
BROKEN = """
def app(environ, start_response):
    if environ["PATH_INFO"] == "/late":
        start_response("200 OK", [])(b"begun")
    raise LookupError("the secret of the application")
"""


def test_environ_has_further_keys_for_every_request() -> None:
    run = 'environ={"site": "main", "wsgi.url_scheme": "https", "REQUEST_METHOD": "NONE"}'
    with Standalone.start(serving(ECHO, run)) as server:
        assert server.get("/?site").body == b"main"
        assert server.get("/?wsgi.url_scheme").body == b"https"
        assert server.get("/?REQUEST_METHOD").body == b"GET"
        assert server.get("/?SERVER_SOFTWARE").body == b"meinheld"


def test_max_http_version_of_1_0_has_answers_of_that_version() -> None:
    run = 'max_http_version="HTTP/1.0", keepalive=5'
    with Standalone.start(serving(BLOCKS, run)) as server, server.client() as client:
        response = client.request("GET", "/")
        assert (response.version, response.framing) == ("HTTP/1.0", "close")
        assert response.body == b"0123456789"
        assert response.header("connection") == "close"


def test_max_http_version_of_1_1_changes_nothing() -> None:
    with Standalone.start(serving(BLOCKS, 'max_http_version="HTTP/1.1"')) as server:
        response = server.get("/")
        assert (response.version, response.framing) == ("HTTP/1.1", "chunked")


def test_small_blocks_are_gathered_to_the_minimum_chunk_size() -> None:
    with Standalone.start(serving(BLOCKS, "minimum_chunk_size=4")) as server:
        assert _chunks(server, "/") == [b"0123", b"4567", b"89"]


def test_a_request_sets_a_minimum_of_its_own() -> None:
    with Standalone.start(serving(BLOCKS, "minimum_chunk_size=4")) as server:
        assert _chunks(server, "/?5") == [b"01234", b"56789"]
        assert _chunks(server, "/?0") == [b"%d" % number for number in range(10)]


def test_the_iterable_whose_blocks_are_gathered_is_closed() -> None:
    app = """
import apps.notes
class Blocks:
    def __iter__(self):
        yield b"a"
        yield b"b"
    def close(self):
        apps.notes.note("closed")
def app(environ, start_response):
    start_response("200 OK", [])
    return Blocks()
"""
    with Standalone.start(serving(app, "minimum_chunk_size=4")) as server:
        assert _chunks(server, "/") == [b"ab"]
        server.wait_for_note("closed")


@pytest.mark.parametrize(
    ("statement", "iteration", "said"),
    [
        (
            "environ['eventlet.minimum_write_chunk_size'] = 'many'",
            "return iter([b'a'])",
            "ValueError: eventlet.minimum_write_chunk_size = 'many': not a number. "
            "Accepted: octets, 0 or more.",
        ),
        ("pass", "raise LookupError('no blocks')", "LookupError: no blocks"),
        ("pass", "return iter(['text'])", "TypeError: a block of the body is str"),
        ("pass", "return iter([b'a', b'', 5])", "TypeError: a block of the body is int"),
    ],
)
def test_a_body_that_cannot_be_gathered_is_closed_and_the_line_names_the_fix(
    statement: str, iteration: str, said: str
) -> None:
    app = f"""
import apps.notes
class Blocks:
    def __iter__(self):
        {iteration}
    def close(self):
        apps.notes.note("closed")
def app(environ, start_response):
    {statement}
    start_response("200 OK", [])
    return Blocks()
"""
    with Standalone.start(serving(app, "minimum_chunk_size=4")) as server:
        with server.client() as client, contextlib.suppress(Truncated, ConnectionResetError):
            client.request("GET", "/")
        server.wait_for_note("closed")
        server.wait_for_log(f"^{said}")


def test_what_is_no_body_is_the_servers_to_explain() -> None:
    app = "def app(environ, start_response):\n    start_response('200 OK', [])\n"
    with Standalone.start(serving(app, "minimum_chunk_size=4")) as server:
        assert server.get("/").status == 500
        gathered = server.wait_for_log("^TypeError: .*").group()
    with Standalone.start(serving(app)) as server:
        assert server.get("/").status == 500
        assert server.wait_for_log("^TypeError: .*").group() == gathered


def test_blocks_are_gathered_where_there_is_no_file_wrapper() -> None:
    run = "minimum_chunk_size=4, environ={'wsgi.file_wrapper': None}"
    with Standalone.start(serving(BLOCKS, run)) as server:
        assert _chunks(server, "/") == [b"0123", b"4567", b"89"]


def _chunks(server: Standalone, target: str) -> list[bytes]:
    with server.client() as client:
        client.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        client.read_until(b"\r\n\r\n")
        return list(client.chunks())


def test_a_request_line_beyond_url_length_limit_is_414() -> None:
    with Standalone.start(serving(run="url_length_limit=40")) as server:
        assert server.get("/" + "a" * 20).status == 200
        assert server.get("/" + "a" * 40).status == 414


def test_url_length_limit_can_be_more_than_gunicorn_allows() -> None:
    with Standalone.start(serving(run="url_length_limit=20000")) as server:
        assert server.get("/" + "a" * 19000).status == 200


@pytest.mark.parametrize("env", [{}, {"MEINHELD_GREEN": "1"}])
def test_debug_shows_the_client_the_traceback(env: dict[str, str]) -> None:
    with Standalone.start(serving(BROKEN, "debug=True"), env=env) as server:
        response = server.get("/")
        assert response.status == 500
        assert response.text.startswith("Traceback (most recent call last):")
        assert "LookupError: the secret of the application" in response.text
        server.wait_for_log("LookupError: the secret of the application")


def test_debug_shows_a_lone_surrogate_escaped() -> None:
    app = BROKEN.replace("the secret", "\\udcff, the secret")
    with Standalone.start(serving(app, "debug=True")) as server:
        assert "LookupError: \\udcff, the secret" in server.get("/").text


def test_without_debug_the_body_is_empty() -> None:
    with Standalone.start(serving(BROKEN, "debug=False")) as server:
        response = server.get("/")
        assert (response.status, response.body) == (500, b"")
        assert response.header("content-length") == "0"
        server.wait_for_log("LookupError: the secret of the application")


def test_unless_debug_is_said_the_client_gets_a_line() -> None:
    with Standalone.start(serving(BROKEN)) as server:
        assert server.get("/").body == b"the application failed\n"


def test_with_debug_an_answer_that_has_begun_is_broken_off() -> None:
    with Standalone.start(serving(BROKEN, "debug=True")) as server, server.client() as client:
        client.send(b"GET /late HTTP/1.1\r\nHost: a\r\n\r\n")
        with pytest.raises((Truncated, ConnectionResetError)) as broken:
            client.response()
        if isinstance(broken.value, Truncated):
            assert b"secret" not in broken.value.partial


@pytest.mark.parametrize("threads", [1, 4])
def test_socket_timeout_is_what_a_silent_client_gets(threads: int) -> None:
    run = f"socket_timeout=0.3, threads={threads}"
    app = ECHO.replace("body = str", "environ['wsgi.input'].read(); body = str")
    with Standalone.start(serving(app, run)) as server:
        with server.client() as client:
            client.send(b"GET / HT")
            assert client.response().status == 408
        with server.client() as client:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345")
            assert client.response().status == 408


@pytest.mark.parametrize(
    ("keepalive", "connection"), [("False", "close"), ("0", "close"), ("True", "keep-alive")]
)
def test_keepalive_says_whether_connections_are_kept(keepalive: str, connection: str) -> None:
    source = serving(run=f"keepalive={keepalive}")
    source = source.replace("server.listen", "server.set_keepalive(5)\nserver.listen")
    with Standalone.start(source) as server:
        assert server.get("/").header("connection") == connection


def test_keepalive_can_be_the_seconds_that_a_connection_is_kept() -> None:
    with Standalone.start(serving(run="keepalive=0.5")) as server, server.client() as client:
        assert client.request("GET", "/").header("connection") == "keep-alive"
        assert client.is_closed_by_peer()


def test_names_of_header_fields_get_capitals_where_that_is_said() -> None:
    app = HELLO.replace("Content-Length", "content-length")
    for run, name in (
        ("capitalize_response_headers=True", "Content-Length"),
        ("", "content-length"),
    ):
        with Standalone.start(serving(app, run)) as server:
            assert name in [name for name, _ in server.get("/").headers]


def test_max_size_is_the_number_of_connections() -> None:
    run = "max_size=2, keepalive=60"
    with (
        Standalone.start(serving(run=run)) as server,
        server.client() as first,
        server.client() as second,
        server.client() as third,
    ):
        for client in (first, second, third):
            assert client.request("GET", "/").status == 200
        assert first.is_closed_by_peer()


def test_log_output_of_false_logs_no_request() -> None:
    with Standalone.start(serving(run="log_output=False")) as server:
        assert server.get("/").status == 200
        assert server.stop() == 0
        assert server.stderr_text() == ""


def test_log_format_is_that_of_a_line() -> None:
    run = (
        "log_format='%(client_ip)s|%(request_line)s|%(status_code)s|%(body_length)s"
        "|%(wall_seconds).6f|%(date_time)s|%(client_port)s'"
    )
    with Standalone.start(serving(run=run)) as server, server.client() as client:
        client.request("GET", "/a?b=%20c")
        port = client.socket.getsockname()[1]
        line = server.wait_for_log(r"^127\.0\.0\.1\|.*$").group()
        facts = line.split("|")
        assert facts[1:4] == ["GET /a?b=%20c HTTP/1.1", "200", "12"]
        assert re.fullmatch(r"\d+\.\d{6}", facts[4])
        assert re.fullmatch(r"\d\d/\w{3}/\d{4} \d\d:\d\d:\d\d", facts[5])
        assert facts[6] == str(port)


@pytest.mark.parametrize(
    ("shown", "client"), [("True", "198.51.100.1,198.51.100.2,127.0.0.1"), ("False", "127.0.0.1")]
)
def test_lines_are_those_of_eventlet_and_show_forwarders_where_that_is_said(
    shown: str, client: str
) -> None:
    with Standalone.start(serving(run=f"log_x_forwarded_for={shown}")) as server:
        server.get("/", {"X-Forwarded-For": "198.51.100.1, 198.51.100.2"})
        server.wait_for_log(rf'^{re.escape(client)} - - \[.*\] "GET / HTTP/1.1" 200 12 0\.\d{{6}}$')


def test_lines_of_eventlet_show_whatever_the_application_made_of_environ() -> None:
    app = HELLO.replace(
        "    body", "    environ.update(HTTP_X_FORWARDED_FOR=5, REQUEST_METHOD=None)\n    body", 1
    )
    with Standalone.start(serving(app, "log_x_forwarded_for=True")) as server:
        assert server.get("/").status == 200
        server.wait_for_log(r'^5,127\.0\.0\.1 - - \[.*\] "None / HTTP/1.1" 200 12')


REFUSED = [
    ("custom_pool=object()", "requests are not run by a pool of eventlet's here"),
    ("max_http_version='HTTP/2'", "not a version. Accepted: 'HTTP/1.0' or 'HTTP/1.1'."),
    ("minimum_chunk_size=-1", "minimum_chunk_size = -1: out of range. Accepted: 0 or more."),
    ("url_length_limit=0", "url_length_limit = 0: out of range. Accepted: 1 or more."),
    ("debug='yes'", "debug = 'yes': not a choice. Accepted: True, False, or None."),
    ("socket_timeout=0", "socket_timeout = 0: out of range. Accepted: seconds, more than 0."),
    ("keepalive='on'", "keepalive = 'on': not a time. Accepted: seconds, 0 or more."),
    ("max_size=0", "max_size = 0: out of range. Accepted: 1 or more."),
    ("threads=0", "threads = 0: out of range. Accepted: 1 or more."),
    ("environ=[1]", "environ = [1]: not a dict whose keys are str."),
    ("log_format='%(nothing)s'", "Accepted: %(name)s of client_ip, client_port, date_time"),
    ("log_format='%(status_code)'", "log_format = '%(status_code)': ValueError("),
    ("protocol=None", "unexpected keyword argument 'protocol'"),
]


@pytest.fixture(scope="module")
def refusals() -> Iterator[dict[str, str]]:
    """What `run` says of each."""
    calls = "".join(
        f"try:\n    server.run(app, {run})\nexcept (TypeError, ValueError) as error:\n"
        "    print(error)\n"
        for run, _ in REFUSED
    )
    source = f"from meinheld import server\n{HELLO}\nserver.listen(('127.0.0.1', 0))\n{calls}"
    with Standalone.start(source, ready=False) as server:
        assert server.wait() == 0, server.stderr_text()
        said = server.stdout_text().splitlines()
    yield {run: line for (run, _), line in zip(REFUSED, said, strict=True)}


@pytest.mark.parametrize(("run", "said"), REFUSED)
def test_what_is_not_accepted_is_refused_in_a_line(
    refusals: dict[str, str], run: str, said: str
) -> None:
    assert said in refusals[run]
