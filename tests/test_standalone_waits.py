"""Timers, greenlets and waits of `meinheld.server`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import Server
from standalone import Standalone, serving

pytestmark = pytest.mark.own_threads

#: `app` answers what the code of the query string says, evaluated.
EVALUATE = """
import os, threading, time
from urllib.parse import unquote
def app(environ, start_response):
    try:
        said = repr(eval(unquote(environ["QUERY_STRING"]), globals()))
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
    body = said.encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
GREEN = {"MEINHELD_GREEN": "1"}


def test_a_call_is_made_when_its_time_has_come() -> None:
    before = """
import apps.notes
server.schedule_call(0, apps.notes.note, "now")
server.schedule_call(0.1, apps.notes.note, "after a while")
server.schedule_call(0.05, apps.notes.note, "never").cancel()
"""
    with Standalone.start(serving(before=before)) as server:
        server.wait_for_note("after a while")
        assert server.notes() == ["now", "after a while"]


def test_names_of_arguments_are_all_for_the_function_that_is_called() -> None:
    before = """
import apps.notes
def notes(**kwargs):
    apps.notes.note(str(kwargs))
server.schedule_call(0, notes, seconds=1, function=2)
"""
    with Standalone.start(serving(before=before)) as server:
        server.wait_for_note("{'seconds': 1, 'function': 2}")


def test_a_request_has_a_call_made_later() -> None:
    with Standalone.start(serving("import apps.notes\n" + EVALUATE), env=GREEN) as server:
        server.get("/?server.schedule_call(0.05,apps.notes.note,'later').cancel")
        server.wait_for_note("later")
        server.get("/?server.spawn(apps.notes.note,'soon')")
        server.wait_for_note("soon")


def test_what_is_spawned_before_the_start_runs_with_it_and_its_errors_are_logged() -> None:
    before = """
import apps.notes
def background(name, *, word):
    apps.notes.note(f"{name} {word}")
    server.sleep(0)
    raise LookupError("in the background")
server.spawn(background, "began", word="well")
"""
    with Standalone.start(serving(before=before)) as server:
        server.wait_for_note("began well")
        server.wait_for_log("LookupError: in the background")
        assert server.get("/").status == 200


def test_sleeping_lets_other_requests_run() -> None:
    app = """
import apps.notes
def app(environ, start_response):
    apps.notes.note(environ["PATH_INFO"])
    while environ["PATH_INFO"] == "/first" and not os.path.exists("go"):
        server.sleep(0.01)
    start_response("200 OK", [("Content-Length", "0")])
    return []
import os
"""
    with Standalone.start(serving(app), env=GREEN) as server, server.client() as first:
        first.send(b"GET /first HTTP/1.1\r\nHost: a\r\n\r\n")
        server.wait_for_note("/first")
        assert server.get("/second").status == 200
        (server.directory / "go").touch()
        assert first.response().status == 200


def test_trampoline_waits_for_a_descriptor_and_lets_other_requests_run() -> None:
    app = """
import os
reader, writer = os.pipe()
def app(environ, start_response):
    if environ["PATH_INFO"] == "/read":
        environ["wsgi.errors"].write("waits\\n")
        server.trampoline(reader, read=True, timeout=30)
        body = os.read(reader, 5)
    else:
        body = b"%d" % os.write(writer, b"hello")
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
    with Standalone.start(serving(app), env=GREEN) as server, server.client() as reader:
        reader.send(b"GET /read HTTP/1.1\r\nHost: a\r\n\r\n")
        server.wait_for_log("^waits$")
        assert server.get("/write").body == b"5"
        assert reader.response().body == b"hello"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("server.trampoline(os.pipe()[0],read=True,timeout=0.01)", "TimeoutError: timed out"),
        (
            "server.trampoline(os.pipe()[0],read=True,timeout=0.01,timeout_exc=KeyError('x'))",
            "KeyError: 'x'",
        ),
        ("server.trampoline(0,read=False,timeout=0.01,timeout_exc=None)", "None"),
        ("server.trampoline(os.pipe()[1],write=True)", "None"),
        ("server.trampoline(0)", "ValueError: trampoline waits for read, for write, or for"),
        ("server.trampoline(-1,read=True)", "ValueError: fileno = -1: out of range."),
        ("server.trampoline(99999,read=True)", "OSError: [Errno 9]"),
        ("server.sleep(-1)", "ValueError: seconds = -1: out of range."),
        ("server.spawn(5)", "TypeError: 5 cannot be called"),
        ("server.schedule_call('x',print)", "TypeError: seconds = 'x': not a time."),
        ("server.get_ident()", "<greenlet.greenlet object at"),
        ("server.cancel_wait(5)", "None"),
    ],
)
@pytest.mark.parametrize("where", ["in a request", "in a thread"])
def test_what_waits_and_calls_say(evaluating: Standalone, where: str, call: str, said: str) -> None:
    if where == "in a thread":
        call = f"in_thread(lambda:{call})"
    assert evaluating.get("/?" + call.replace(" ", "%20")).text.startswith(said)


@pytest.fixture(scope="module")
def evaluating() -> Iterator[Standalone]:
    in_thread = """
from concurrent.futures import ThreadPoolExecutor
def in_thread(function):
    return ThreadPoolExecutor(1).submit(function).result()
"""
    with Standalone.start(serving(in_thread + EVALUATE), env=GREEN) as server:
        yield server


def test_a_wait_that_is_cancelled_is_ebadf() -> None:
    app = """
import errno, os
reader, writer = os.pipe()
def app(environ, start_response):
    body = b""
    if environ["PATH_INFO"] == "/read":
        environ["wsgi.errors"].write("waits\\n")
        try:
            server.trampoline(reader, read=True)
        except OSError as error:
            body = errno.errorcode[error.errno].encode()
    else:
        server.cancel_wait(reader)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
    with Standalone.start(serving(app), env=GREEN) as server, server.client() as reader:
        reader.send(b"GET /read HTTP/1.1\r\nHost: a\r\n\r\n")
        server.wait_for_log("^waits$")
        server.get("/cancel")
        assert reader.response().body == b"EBADF"


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize(
    "call",
    [
        "sleep(0)",
        "spawn(print)",
        "schedule_call(0,print)",
        "trampoline(0,read=1)",
        "cancel_wait(0)",
    ],
)
def test_a_first_use_after_the_start_raises_and_says_so(
    plain: dict[int, Standalone], threads: int, call: str
) -> None:
    said = plain[threads].get(f"/?server.{call}").text
    name = call.partition("(")[0]
    assert said.startswith(
        f"RuntimeError: {name} needs greenlets, and the server has started without"
    )


@pytest.fixture(scope="module")
def plain() -> Iterator[dict[int, Standalone]]:
    with (
        Standalone.start(serving(EVALUATE)) as one,
        Standalone.start(serving(EVALUATE, "threads=4")) as four,
    ):
        yield {1: one, 4: four}


def test_with_threads_greenlets_are_refused() -> None:
    source = serving(run="threads=4", before="server.spawn(print)")
    with Standalone.start(source, ready=False) as server:
        assert server.wait() == 1
        assert "threads = 4: spawn needs greenlets" in server.stderr_text().splitlines()[-1]


def test_without_greenlet_the_first_use_says_what_to_install() -> None:
    source = "import sys\nsys.modules['greenlet'] = None\n" + serving(before="server.sleep(0)")
    with Standalone.start(source, ready=False) as server:
        assert server.wait() == 1
        last = server.stderr_text().splitlines()[-1]
        assert last == "ImportError: sleep needs greenlet: pip install 'meinheld[green]'"


def test_under_gunicorn_they_are_the_same() -> None:
    app = "import apps.notes\nfrom meinheld import server\n" + EVALUATE
    app += "\nserver.schedule_call(0.05, apps.notes.note, 'scheduled')\n"
    with Server.start(app, "--threads=1") as server:
        server.wait_for_note("scheduled")
        assert server.get("/?server.sleep(0.01)").text == "None"


def test_the_green_way_can_run_again_too() -> None:
    source = """
import http.client, os, threading
from meinheld import server

def app(environ, start_response):
    server.sleep(0.01)
    server.stop()
    start_response("200 OK", [("Content-Length", "0")])
    return []

def get(address):
    http.client.HTTPConnection(*address).request("GET", "/")

counts = [len(os.listdir("/proc/self/fd"))]
for _ in range(4):
    client = threading.Thread(target=get, args=[server.listen(("127.0.0.1", 0))])
    client.start()
    server.run(app)
    client.join()
    counts.append(len(os.listdir("/proc/self/fd")))
assert len(set(counts)) == 1, counts
print("all the same")
"""
    with Standalone.start(source, ready=False, env=GREEN) as server:
        assert server.wait() == 0, server.stderr_text()
        assert server.stdout_text() == "all the same\n"


def test_the_names_of_1_x_are_where_they_were() -> None:
    source = """
from meinheld import *
import meinheld
from meinheld import server as module
from meinheld.common import CLIENT_KEY, CONTINUATION_KEY, Continuation
from meinheld.server import timeout
assert set(module.__all__) <= set(meinheld.__all__), set(module.__all__) - set(meinheld.__all__)
assert listen is module.listen and mlogging.logger and issubclass(timeout, IOError)
print(CLIENT_KEY, CONTINUATION_KEY)
"""
    with Standalone.start(source, ready=False) as server:
        assert server.wait() == 0, server.stderr_text()
        assert server.stdout_text() == "meinheld.client meinheld.continuation\n"


#: Beside the constants of `socket`.
NAMES_OF_MSOCKET = """
    SocketType error fromfd gaierror getaddrinfo getdefaulttimeout getfqdn gethostbyname gethostname
    getprotobyname getservbyname getservbyport herror htonl htons inet_aton inet_ntoa inet_ntop
    inet_pton ntohl ntohs setdefaulttimeout socket socketpair timeout wait_read wait_readwrite
    wait_write
"""


def test_the_names_of_msocket_and_mlogging_are_there() -> None:
    source = f"""
import socket
from meinheld import mlogging, msocket
constants = {{name for name in socket.__all__ if isinstance(getattr(socket, name), (int, str))}}
print(*sorted(set(msocket.__all__) ^ constants ^ {set(NAMES_OF_MSOCKET.split())}))
assert isinstance(mlogging.logger, mlogging.Logger) and mlogging.SafeAtoms and msocket.patched
from meinheld.msocket import *
"""
    with Standalone.start(source, ready=False) as server:
        assert server.wait() == 0, server.stderr_text()
        assert server.stdout_text() == "\n"


def test_spawn_takes_what_it_took_in_1_x() -> None:
    before = """
import apps.notes
def notes(*args, **kwargs):
    apps.notes.note(f"{args} {kwargs}")
server.spawn(notes, args=(1,), kwargs={"a": 2})
call = server.schedule_call(0, lambda: apps.notes.note(f"called: {call.called}"))
assert not call.called
"""
    with Standalone.start(serving(before=before)) as server:
        server.wait_for_note("called: True")
        server.wait_for_note("(1,) {'a': 2}")


def test_a_child_that_the_application_forked_later_may_serve() -> None:
    source = """
import http.client, os, sys, threading
from meinheld import server

def app(environ, start_response):
    server.stop()
    start_response("200 OK", [("Content-Length", "0")])
    return []

def once():
    address = server.listen(("127.0.0.1", 0))
    seen = []
    def get():
        connection = http.client.HTTPConnection(*address, timeout=10)
        connection.request("GET", "/")
        seen.append(connection.getresponse().status)
    client = threading.Thread(target=get)
    client.start()
    server.run(app)
    client.join()
    return seen == [200]

assert once()
child = os.fork()
if not child:
    os._exit(not once())
assert os.waitpid(child, 0)[1] == 0
print("both")
"""
    with Standalone.start(source, ready=False) as server:
        assert server.wait() == 0, server.stderr_text()
        assert server.stdout_text() == "both\n"


@pytest.mark.parametrize("green", ["0", "1"])
def test_who_says_stop_again_and_again_does_not_put_the_end_off(green: str) -> None:
    before = """
def stops():
    if told.is_set():
        server.stop(1)
server.set_watchdog(stops)
"""
    app = """
import threading, time
told = threading.Event()
def app(environ, start_response):
    told.set()
    start_response("200 OK", [])
    while True:
        yield b"tick"
        time.sleep(0.01)
"""
    env = {"MEINHELD_GREEN": green}
    with (
        Standalone.start(serving(app, before=before), env=env) as server,
        server.client() as client,
    ):
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        client.read_until(b"tick")
        assert server.wait() == 0
