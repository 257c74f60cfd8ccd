"""What INT and TERM do to a server without gunicorn."""

from __future__ import annotations

import signal

import pytest
from standalone import WAY_ENV, WAY_THREADS, WAYS, Standalone, serving

pytestmark = pytest.mark.own_threads

HOLDING = """
from apps.hold import wait_for_file
from apps.notes import note
def app(environ, start_response):
    note("begun")
    wait_for_file("go")
    start_response("200 OK", [("Content-Length", "4")])
    return [b"done"]
"""


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_when_what_is_in_flight_is_answered(
    number: signal.Signals, way: str
) -> None:
    after = "\nprint('run has returned')"
    run = f"silent=True, threads={WAY_THREADS[way]}, keepalive=60"
    source = serving(HOLDING, run) + after
    with Standalone.start(source, env=WAY_ENV[way]) as server, server.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        server.wait_for_note("begun")
        server.signal(number)
        (server.directory / "go").touch()
        response = client.response()
        assert (response.status, response.body) == (200, b"done")
        if way != "threads":
            # Who answers has run the signal's handler before it went on.
            assert response.header("connection") == "close"
        client.close()
        assert server.wait() == 0
        assert server.stdout_text() == "run has returned\n"
        assert server.stderr_text().count("\n") == 1, "an access line, and nothing else"


def test_a_child_does_not_inherit_what_its_parent_does_on_a_signal() -> None:
    # As the example of 1.0.2 with several processes does it.
    parent = """
import multiprocessing, signal
from meinheld import server
children = []
def end_all(number, frame):
    note("told")
    for child in children:
        child.terminate()
signal.signal(signal.SIGTERM, end_all)
server.listen(("127.0.0.1", 0))
children.append(multiprocessing.get_context("fork").Process(target=server.run, args=(app,)))
children[0].start()
children[0].join()
print(children[0].exitcode)
"""
    with Standalone.start(HOLDING + parent) as server, server.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        server.wait_for_note("begun")
        server.signal(signal.SIGTERM)
        server.wait_for_note("told")
        (server.directory / "go").touch()
        assert client.response().body == b"done"
        client.close()
        assert server.wait() == 0
        assert server.stdout_text() == "0\n"
        assert server.notes().count("told") == 1


@pytest.mark.parametrize("way", WAYS)
def test_a_child_that_is_busy_ends_by_term(way: str) -> None:
    app = """
import multiprocessing
def count():
    # Where no handler of Python's comes in between.
    sum(range(10**13))
def app(environ, start_response):
    child = multiprocessing.get_context("fork").Process(target=count)
    child.start()
    child.terminate()
    child.join()
    body = str(child.exitcode).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
    run = f"threads={WAY_THREADS[way]}"
    with Standalone.start(serving(app, run), env=WAY_ENV[way]) as server:
        assert server.get("/").text == str(-signal.SIGTERM)
        assert server.stop() == 0


def test_ctrl_c_comes_out_of_run_as_a_keyboard_interrupt_unless_it_is_to_be_silent() -> None:
    caught = "try:\n    server.run(app)\nexcept KeyboardInterrupt:\n    print('interrupted')\n"
    source = serving().replace("server.run(app)\n", caught)
    with Standalone.start(source) as server:
        server.signal(signal.SIGINT)
        assert server.wait() == 0
        assert server.stdout_text() == "interrupted\n"


#: Tells when it has begun, and when a signal has been handled.
STUBBORN = """
import apps.notes, time
def app(environ, start_response):
    apps.notes.note("begun")
    while not server._server.signalled:
        time.sleep(0.01)
    apps.notes.note("told")
    while True:
        try:
            while True:
                time.sleep(0.01)
        except EXCEPTION:
            apps.notes.note("caught")
"""


def test_a_second_signal_ends_it_at_once() -> None:
    source = serving(STUBBORN.replace("EXCEPTION", "ZeroDivisionError"))
    source += "\nprint('run has returned')"
    with Standalone.start(source) as server, server.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        for note in ("begun", "told"):
            server.wait_for_note(note)
            server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert "Told twice to stop" in server.stderr_text()
        assert server.stdout_text() == "run has returned\n"


def test_a_third_signal_ends_it_where_the_application_has_caught_the_second() -> None:
    source = serving(STUBBORN.replace("EXCEPTION", "BaseException"))
    with Standalone.start(source) as server, server.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        for note in ("begun", "told", "caught"):
            server.wait_for_note(note)
            server.signal(signal.SIGTERM)
        assert server.wait() == 128 + signal.SIGTERM


@pytest.mark.parametrize("where", ["config.check", "serve", "signal.set_wakeup_fd", "os.close"])
def test_signals_while_it_starts_or_ends_leave_nothing_behind(where: str) -> None:
    # Two signals come together when the function is called; at the end, one after the first.
    ends = where == "os.close"
    before = f"""
import os, signal, types
from meinheld_worker import standalone
owner, _, name = "{where}".rpartition(".")
whole = getattr(standalone, owner) if owner else standalone
def function(*args, **kwargs):
    if signal.getsignal(signal.SIGINT) != signal.default_int_handler and not sent:
        sent.append(2)
        for _ in range({1 if ends else 2}):
            os.kill(os.getpid(), signal.SIGINT)
    return usual(*args, **kwargs)
usual, sent = getattr(whole, name), []
if owner:
    setattr(standalone, owner, types.SimpleNamespace(**vars(whole) | {{name: function}}))
else:
    standalone.serve = function
before = sorted(os.listdir("/proc/self/fd"))
"""
    source = serving().replace("server.listen", before + "\nserver.listen")
    source = source.replace("server.run(app)", "server.run(app, silent=True)")
    source += """
assert sent and signal.set_wakeup_fd(-1) == -1
assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
assert sorted(os.listdir("/proc/self/fd")) == before
print("nothing left")
"""
    with Standalone.start(source, ready=ends) as server:
        if ends:
            server.signal(signal.SIGINT)
        assert server.wait() == 0, server.stderr_text()
        assert server.stdout_text() == "nothing left\n"


def test_a_signal_that_comes_before_the_loop_is_there_ends_it_without_a_word() -> None:
    before = """
import os, signal
from meinheld_worker import standalone
check = standalone.config.check
def checked(cfg):
    os.kill(os.getpid(), signal.SIGTERM)
    check(cfg)
standalone.config.check = checked
"""
    source = serving(before=before) + "\nprint('run has returned')"
    with Standalone.start(source, ready=False) as server:
        assert server.wait() == 0
        assert server.stdout_text() == "run has returned\n"
        assert server.stderr_text() == ""
