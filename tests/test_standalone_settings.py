"""What `meinheld.server` is told before it runs."""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import eventually
from procfs import open_files
from standalone import HELLO, Standalone, serving

from meinheld import server as api
from meinheld.watchdogs import fast_watchdog

pytestmark = pytest.mark.own_threads

#: Reads its body, and says how long it was.
COUNT = """
def app(environ, start_response):
    body = b"%d" % len(environ["wsgi.input"].read())
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


def program(settings: str, app: str = HELLO) -> str:
    return serving(app).replace("server.listen", f"{settings}\nserver.listen")


def test_connections_are_not_kept_alive_unless_that_is_said() -> None:
    with Standalone.start(serving()) as server, server.client() as client:
        assert client.request("GET", "/").header("connection") == "close"
        assert client.is_closed_by_peer()


def test_keepalive_is_the_seconds_that_a_connection_is_kept() -> None:
    source = program("server.set_keepalive(1)")
    with Standalone.start(source) as server, server.client() as client:
        for _ in range(3):
            assert client.request("GET", "/").header("connection") == "keep-alive"
        assert client.is_closed_by_peer()


def test_keepalive_of_0_is_never() -> None:
    settings = "server.set_keepalive(5)\nserver.set_keepalive(0)"
    with Standalone.start(program(settings)) as server, server.client() as client:
        assert client.request("GET", "/").header("connection") == "close"


@pytest.mark.parametrize("threads", [1, 4])
def test_a_longer_body_than_max_content_length_is_413(threads: int) -> None:
    source = program("server.set_max_content_length(10)", COUNT)
    source = source.replace("server.run(app)", f"server.run(app, threads={threads})")
    with Standalone.start(source) as server:
        with server.client() as client:
            assert client.request("POST", "/", body=b"x" * 10).body == b"10"
        with server.client() as client:
            assert client.request("POST", "/", body=b"x" * 11).status == 413


def test_what_the_operator_says_of_bodies_holds_before_max_content_length() -> None:
    source = program("server.set_max_content_length(10)", COUNT)
    with Standalone.start(source, env={"MEINHELD_MAX_BODY": "20"}) as server:
        with server.client() as client:
            assert client.request("POST", "/", body=b"x" * 20).body == b"20"
        with server.client() as client:
            assert client.request("POST", "/", body=b"x" * 21).status == 413


def test_bodies_beyond_the_buffer_go_to_a_file() -> None:
    source = program("server.set_client_body_buffer_size(100_000)", COUNT)
    with Standalone.start(source) as server, server.client() as client:
        client.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 600000\r\n\r\n" + b"x" * 599_999
        )
        eventually(lambda: _files(server), "the body is in a file")
        client.send(b"x")
        assert client.response().body == b"600000"


def test_bodies_within_the_buffer_stay_in_memory() -> None:
    source = program(
        "server.set_client_body_buffer_size(1_000_000)",
        COUNT.replace("body =", "import os, glob\n    files = FILES\n    body =")
        .replace(
            "FILES", "[os.readlink(f) for f in glob.glob('/proc/self/fd/*') if os.path.islink(f)]"
        )
        .replace("body = b", "deleted = sum('(deleted)' in name for name in files)\n    body = b")
        .replace('"Content-Length"', '"Files", str(deleted)), ("Content-Length"'),
    )
    with Standalone.start(source) as server, server.client() as client:
        response = client.request("POST", "/", body=b"x" * 600_000)
        assert (response.body, response.header("files")) == (b"600000", "0")


def _files(server: Standalone) -> list[str]:
    return [name for name in open_files(server.process.pid) if name.endswith("(deleted)")]


def test_the_oldest_idle_connection_makes_room_beyond_picoev_max_fd() -> None:
    settings = "server.set_picoev_max_fd(2)\nserver.set_keepalive(60)"
    with (
        Standalone.start(program(settings)) as server,
        server.client() as first,
        server.client() as second,
        server.client() as third,
    ):
        for client in (first, second, third):
            assert client.request("GET", "/").status == 200
        assert first.is_closed_by_peer()


@pytest.mark.parametrize(
    ("name", "default", "other"),
    [
        ("keepalive", 0, 5),
        ("max_content_length", 16 * 1024 * 1024, 1000),
        ("client_body_buffer_size", 500 * 1024, 1000),
        ("backlog", 4096, 5),
        ("picoev_max_fd", 4096, 100),
    ],
)
def test_what_is_set_can_be_got(name: str, default: int, other: int) -> None:
    get: Callable[[], int] = getattr(api, f"get_{name}")
    put: Callable[[int], None] = getattr(api, f"set_{name}")
    assert get() == default
    try:
        put(other)
        # A whole number stays one.
        assert repr(get()) == repr(other)
    finally:
        put(default)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        ("set_keepalive(-1)", ValueError, "keepalive = -1: out of range. Accepted: seconds"),
        ("set_keepalive('5')", TypeError, "keepalive = '5': not a time. Accepted: seconds"),
        ("set_backlog(0)", ValueError, "backlog = 0: out of range. Accepted: 1 or more."),
        ("set_max_content_length(0)", ValueError, "max_content_length = 0: out of range"),
        ("set_client_body_buffer_size(1.5)", TypeError, "client_body_buffer_size = 1.5: not a"),
        ("set_picoev_max_fd(True)", TypeError, "picoev_max_fd = True: not a number"),
        ("set_access_logger(1)", TypeError, "access logger = 1: nothing can be logged"),
        ("set_error_logger(1)", TypeError, "error logger = 1: it has no error method"),
        ("set_watchdog(1)", TypeError, "watchdog = 1: it cannot be called"),
        ("set_fastwatchdog(-1, 1, 1)", ValueError, "fd = -1: out of range"),
        ("set_fastwatchdog(1, 1, -1)", ValueError, "timeout = -1: out of range"),
        ("set_listen_socket([999999])", ValueError, "999999 is not a socket"),
        ("set_listen_socket(None)", TypeError, "socket_fd = None: not a descriptor. Accepted: one"),
        ("listen('127.0.0.1:8000')", ValueError, "'127.0.0.1:8000': gunicorn's way to write it."),
        ("listen('unix:/run/app')", ValueError, "Accepted: (host, port), or the path of a unix"),
        ("trampoline('0', read=True)", TypeError, "fileno = '0': not a descriptor. Accepted: one"),
        ("listen()", TypeError, "listen takes an address or a socket_fd"),
        ("listen(('127.0.0.1',))", TypeError, "not an address. Accepted: (host, port), or"),
        ("listen(('127.0.0.1', 65536))", ValueError, "port = 65536: out of range"),
        ("listen(5)", TypeError, "address = 5: not an address"),
        ("listen('a\\0b')", ValueError, "address = 'a\\x00b': not an address. Accepted: one w"),
        ("listen(('a\\0b', 0))", ValueError, "address = ('a\\x00b', 0): not an address."),
        ("listen(('ä' * 70, 0))", ValueError, "0): not an address: "),
        ("listen(('203.0.113.1', 80))", OSError, "cannot listen at ('203.0.113.1', 80)"),
        ("stop(-1)", ValueError, "timeout = -1: out of range. Accepted: seconds, 0 or more."),
        ("run(print)", TypeError, "nowhere to listen: say listen"),
        ("run(5)", TypeError, "app = 5: not a WSGI application"),
    ],
)
def test_a_wrong_argument_is_refused_in_a_line(
    call: str, error: type[Exception], said: str
) -> None:
    with pytest.raises(error) as raised:
        eval(f"api.{call}", {"api": api})
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_descriptors_that_are_refused_stay_what_they_were() -> None:
    reader, writer = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as plain:
        with pytest.raises(ValueError, match=f"{reader} is not a socket"):
            api.set_listen_socket([listener.fileno(), reader])
        with pytest.raises(ValueError, match=f"the socket {plain.fileno()} does not listen"):
            api.set_listen_socket([listener.fileno(), plain.fileno()])
        with socket.create_connection(listener.getsockname()):
            listener.accept()[0].close()
    os.write(writer, b"x")
    assert os.read(reader, 1) == b"x"
    os.close(reader)
    os.close(writer)


def test_while_the_server_runs_nothing_can_be_set() -> None:
    app = """
def app(environ, start_response):
    try:
        eval(environ["QUERY_STRING"])
    except RuntimeError as error:
        body = str(error).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
    with Standalone.start(serving(app)) as server:
        for call in ("set_keepalive(1)", "listen('x')", "run(app)", "set_access_logger(None)"):
            name = call.partition("(")[0]
            said = server.get(f"/?server.{call}").text
            assert said.startswith(f"{name}: the server runs; say it before run")


def test_settings_of_the_environment_hold_and_unknown_ones_are_refused() -> None:
    env = {"MEINHELD_KEEPALIVE": "5"}
    with Standalone.start(serving(), env=env, ready=False) as server:
        assert server.wait() == 1
        assert "MEINHELD_KEEPALIVE: no such setting. Accepted: MEINHELD_" in server.stderr_text()


def test_a_wrong_choice_of_greenlets_is_refused_also_where_the_application_asks_for_them() -> None:
    source = program("from meinheld.middleware import ContinuationMiddleware as C; app = C(app)")
    with Standalone.start(source, env={"MEINHELD_GREEN": "yes"}, ready=False) as server:
        assert server.wait() == 1
        assert "MEINHELD_GREEN = 'yes': not a choice. Accepted: 1, or 0." in server.stderr_text()


def test_the_head_timeout_of_the_environment_holds() -> None:
    env = {"MEINHELD_HEAD_TIMEOUT": "0.2"}
    with Standalone.start(serving(), env=env) as server, server.client() as client:
        client.send(b"GET / HT")
        assert client.response().status == 408


def test_the_status_endpoint_of_the_environment_is_there_for_every_run() -> None:
    source = """
import http.client, socket, threading
from meinheld import server

def app(environ, start_response):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(STATUS)
        client.sendall(b"GET /readyz HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
        print(client.recv(4096).split()[1].decode(), flush=True)
    server.stop()
    start_response("200 OK", [("Content-Length", "0")])
    return []

def get(address):
    http.client.HTTPConnection(*address).request("GET", "/")

STATUS = f"{__import__('os').getcwd()}/status"
__import__("os").environ["MEINHELD_STATUS"] = "unix:" + STATUS
for _ in range(3):
    client = threading.Thread(target=get, args=[server.listen(("127.0.0.1", 0))])
    client.start()
    server.run(app)
    client.join()
"""
    with Standalone.start(source, ready=False) as server:
        assert server.wait() == 0, server.stderr_text()
        assert server.stdout_text() == "200\n" * 3
        assert "WARNING" not in server.stderr_text()


def test_a_watchdog_is_called_while_the_loop_turns_and_its_errors_are_logged() -> None:
    settings = """
import apps.notes
def watchdog():
    apps.notes.note("looked")
    raise LookupError("of the watchdog")
server.set_watchdog(watchdog)"""
    with Standalone.start(program(settings)) as server:
        server.wait_for_note("looked", 2)
        server.wait_for_log("Exception in the watchdog")
        assert server.get("/").status == 200


def test_a_fast_watchdog_changes_the_mode_of_its_file() -> None:
    settings = """
import os
file = os.open("alive", os.O_CREAT | os.O_RDWR)
server.set_fastwatchdog(file, os.getppid(), 1)"""
    with Standalone.start(program(settings)) as server:
        path = server.directory / "alive"

        def has_mode(mode: int) -> bool:
            return path.stat().st_mode & 0o777 == mode

        for mode in (1, 0):
            eventually(functools.partial(has_mode, mode), "the mode changes")
        assert server.get("/").status == 200


@pytest.mark.parametrize("after", ["", "os.close(file)"])
def test_a_fast_watchdog_ends_the_server_when_its_parent_is_another(after: str) -> None:
    settings = f"""
import os
file = os.open("alive", os.O_CREAT | os.O_RDWR)
server.set_fastwatchdog(file, 1, 1)
{after}"""
    with Standalone.start(program(settings), ready=False) as server:
        assert server.wait() == 0


def test_a_fast_watchdog_leaves_another_file_alone_that_has_got_its_descriptor(
    tmp_path: Path,
) -> None:
    first, second = (os.open(tmp_path / name, os.O_CREAT | os.O_RDWR) for name in ("a", "b"))
    mode = os.fstat(second).st_mode
    watchdog = fast_watchdog(first, os.getppid(), lambda: None)
    watchdog()
    assert os.fstat(first).st_mode & 0o777 == 1
    os.dup2(second, first)
    watchdog()
    assert os.fstat(second).st_mode == mode
    os.close(first)
    os.close(second)
    with pytest.raises(ValueError, match=f"fd = {first}: not open"):
        fast_watchdog(first, os.getppid(), lambda: None)


def test_a_path_that_is_too_long_is_refused_with_the_reason() -> None:
    with pytest.raises(OSError, match=r"^cannot listen at 'a{200}': AF_UNIX path too long$"):
        api.listen("a" * 200)


def test_a_socket_that_is_given_twice_is_refused_and_stays_what_it_was() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        with pytest.raises(ValueError, match="a socket is there twice"):
            api.set_listen_socket([number, number])
        assert listener.getsockname()


def test_a_backlog_beyond_what_the_kernel_knows_is_as_much_as_it_has() -> None:
    with Standalone.start(program("server.set_backlog(2**40)")) as server:
        assert server.get("/").status == 200
