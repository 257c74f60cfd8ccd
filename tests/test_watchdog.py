"""What hangs is reported while it hangs: which requests, for how long, and every thread's stack."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Iterator

import pytest
from harness import OURS, THREADED, Server, beats, eventually, open_files, request
from procfs import thread_status, threads_named
from thread_pool import Gate

APP = """
import faulthandler, os, signal, time
from apps import hang
from apps.hold import wait_for_file
from apps.notes import note
from apps.routes import Routes, text

app = Routes()


@app.route
def pid(environ, start_response):
    return text(start_response, str(os.getpid()))


@app.route
def sleeps(environ, start_response):
    note("hangs")
    time.sleep(1000)


@app.route
def computes(environ, start_response):
    note("hangs")
    while True:
        pass


@app.route
def holds_the_gil(environ, start_response):
    hang.holds_the_gil(environ, start_response)


@app.route
def is_held(environ, start_response):
    name = environ["PATH_INFO"].rpartition("/")[2]
    note(f"held {name}")
    wait_for_file(f"open-{name}")
    return text(start_response, f"let go {name}")


def sleeper():
    greenlet.getcurrent().parent.switch()


@app.route
def leaves_a_greenlet_and_sleeps(environ, start_response):
    global greenlet
    import greenlet
    suspended = greenlet.greenlet(sleeper)
    suspended.switch()
    note("hangs")
    wait_for_file("open-gate")
    return text(start_response, "let go")


@app.route
def streams(environ, start_response):
    start_response("200 OK", [])
    yield b"begun"
    wait_for_file("open-stream")


@app.route
def naps(environ, start_response):
    time.sleep(0.2)
    return text(start_response, "rested")


@app.route
def forks(environ, start_response):
    child = os.fork()
    if child == 0:
        time.sleep(1000)
    return text(start_response, str(child))


@app.route
def resets_signals(environ, start_response):
    for number in range(signal.SIGRTMIN, signal.SIGRTMAX + 1):
        faulthandler.unregister(number)
        signal.signal(number, signal.SIG_DFL)
    return text(start_response, "reset")
"""
TAKES_ALL_SIGNALS = """
for number in range(signal.SIGRTMIN, signal.SIGRTMAX + 1):
    signal.signal(number, lambda number, frame: None)
"""
ENABLES_FAULTHANDLER = """
faulthandler.enable()
"""
WATCHED = r"^\[[-0-9: +]+\] \[%s\] \[WATCHDOG\] "
HANGS = WATCHED + r"The worker hangs: no heartbeat for \d+\.\d s; timeout is "
REQUEST = r"GET /%s from 127\.0\.0\.1 for \d+\.\d s"
STACKS = "Every Python thread's stack"
HANGING_WAYS = ["holds_the_gil"] if THREADED else ["holds_the_gil", "sleeps", "computes"]

pytestmark = pytest.mark.skipif(not OURS, reason="gunicorn's own workers have no watchdog")


def start(*args: str, timeout: int = 4, app: str = APP) -> Server:
    return Server.start(app, "--timeout", str(timeout), *args)


@contextlib.contextmanager
def arbiter_asleep(server: Server) -> Iterator[None]:
    """Nobody ends a worker that hangs in this block."""
    server.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.signal(signal.SIGCONT)


def reports(server: Server, pattern: str = r"\[WATCHDOG\] ") -> int:
    return len(re.findall(pattern, server.stderr_text(), re.MULTILINE))


def is_reported(server: Server, pid: int, target: str, hangs: int = 1) -> None:
    """Waits until the worker was reported as often, with this request and its stack."""
    server.wait_for_log(HANGS % pid, hangs)
    server.wait_for_log(WATCHED % pid + "With the application: " + REQUEST % target)
    server.wait_for_log(WATCHED % pid + STACKS, hangs)
    server.wait_for_log(rf'File ".*app\.py", line \d+ in {target.partition("/")[0]}$')


def is_replaced(server: Server, pid: int) -> None:
    server.wait_for_log(rf"WORKER TIMEOUT \(pid:{pid}\)")
    eventually(lambda: pid not in server.worker_pids(), "the arbiter has ended the worker")
    assert server.get("/pid").status == 200


def wait_for_beat(pid: int) -> None:
    last = beats(pid)
    eventually(lambda: beats(pid) != last, "the worker's heart beats")


@pytest.mark.parametrize("way", HANGING_WAYS)
def test_a_hang_is_reported_once_and_before_the_arbiter_ends_it(way: str) -> None:
    with start() as server, server.client() as client:
        pid = server.worker_pid()
        client.send(request("GET", f"/{way}"))
        server.wait_for_note("hangs")
        is_reported(server, pid, way)
        is_replaced(server, pid)
        log = server.stderr_text()
        last = log.index(f"in {way}\n")
        assert log.index("[WATCHDOG] The worker hangs") < last < log.index("WORKER TIMEOUT")
        assert log.count("The worker hangs") == log.count(STACKS) == 1


@pytest.mark.inline_only
def test_another_hang_is_reported_again() -> None:
    with start(timeout=2) as server, server.client() as client, arbiter_asleep(server):
        pid = server.worker_pid()
        for count, name in enumerate(["first", "second"], 1):
            client.send(request("GET", f"/is_held/{name}"))
            is_reported(server, pid, f"is_held/{name}", hangs=count)
            Gate(server, name).open()
            # It goes on as if nobody had looked.
            assert client.response().text == f"let go {name}"
        assert reports(server, HANGS % pid) == 2


@pytest.mark.inline_only
def test_a_worker_that_is_idle_or_in_short_requests_is_not_reported() -> None:
    """That its sibling is ended is what shows that more than the timeout has passed."""
    with start("--workers", "3") as server, server.client() as client:
        client.send(request("GET", "/sleeps"))
        server.wait_for_note("hangs")
        with server.client() as other:
            while "WORKER TIMEOUT" not in server.stderr_text():
                assert other.request("GET", "/naps").text == "rested"
        victim = re.search(r"WORKER TIMEOUT \(pid:(\d+)\)", server.stderr_text())
        assert victim
        assert reports(server, "The worker hangs") == reports(server, HANGS % victim[1]) == 1


@pytest.mark.own_threads
def test_with_threads_each_request_that_has_not_come_back_is_reported_once() -> None:
    with (
        start("--threads", "4", timeout=2) as server,
        server.client() as stream,
        server.client() as first,
        server.client() as second,
    ):
        pid = server.worker_pid()
        slow = WATCHED % pid + "A thread has not come back: "
        # What has begun to be answered may last.
        stream.send(request("GET", "/streams"))
        stream.read_until(b"begun\r\n")
        for count, (client, name) in enumerate([(first, "first"), (second, "second")], 1):
            client.send(request("GET", f"/is_held/{name}"))
            with server.client() as other:
                # Requests that take less than the timeout are not named, beside one that is.
                while reports(server, slow + REQUEST % f"is_held/{name}") == 0:
                    assert other.request("GET", "/naps").text == "rested"
            server.wait_for_log(WATCHED % pid + STACKS, count)
            server.wait_for_log(r"line \d+ in is_held$", count * (count + 1) // 2)
        assert reports(server, slow) == reports(server, WATCHED % pid + STACKS) == 2
        # The worker lives on, and answers whoever it named.
        for client, name in [(first, "first"), (second, "second")]:
            Gate(server, name).open()
            assert client.response().text == f"let go {name}"
        Gate(server, "stream").open()
        assert server.get("/pid").text == str(pid)
        assert reports(server, "The worker hangs") == 0


@pytest.mark.parametrize("way", HANGING_WAYS[:1])
def test_reports_go_to_the_error_log_also_after_usr1_has_reopened_it(way: str) -> None:
    # The error log has the name under which the harness looks for it.
    with start("--error-logfile", "{dir}/stderr") as server, server.client() as client:
        pid, log = server.worker_pid(), server.directory / "stderr"
        eventually(lambda: threads_named(pid, "meinheld-watch"), "the watchdog watches")
        old = log.rename(server.directory / "stderr.1")
        server.signal(signal.SIGUSR1)
        eventually(log.exists, "the arbiter has reopened the log")
        # Standard error itself, which the harness has opened, stays where it is.
        eventually(lambda: open_files(pid).count(str(old)) == 1, "the worker has reopened it")
        client.send(request("GET", f"/{way}"))
        is_reported(server, pid, way)
        assert "[WATCHDOG]" not in old.read_text()
        is_replaced(server, pid)


def test_suspended_greenlets_are_shown_where_the_gil_can_be_had() -> None:
    with start(timeout=2) as server, server.client() as client, arbiter_asleep(server):
        client.send(request("GET", "/leaves_a_greenlet_and_sleeps"))
        server.wait_for_log("Suspended while something hangs: <greenlet.greenlet object")
        server.wait_for_log(r'File ".*app\.py", line \d+, in sleeper$')
        Gate(server).open()
        assert client.response().text == "let go"


@pytest.mark.inline_only
def test_the_application_may_have_taken_every_signal() -> None:
    with start(app=APP + TAKES_ALL_SIGNALS) as server, server.client() as client:
        pid = server.worker_pid()
        server.wait_for_log("No real-time signal is free, so hangs are reported without stacks")
        client.send(request("GET", "/sleeps"))
        server.wait_for_log(WATCHED % pid + "With the application: " + REQUEST % "sleeps")
        server.wait_for_log("WORKER TIMEOUT")
        assert STACKS not in server.stderr_text()


@pytest.mark.inline_only
def test_a_signal_whose_handler_was_taken_away_is_not_raised() -> None:
    """Nobody would handle it, and it would end the worker."""
    with start(timeout=2) as server, server.client() as client, arbiter_asleep(server):
        pid = server.worker_pid()
        assert client.request("GET", "/resets_signals").text == "reset"
        client.send(request("GET", "/is_held/gate"))
        server.wait_for_log(WATCHED % pid + "With the application: " + REQUEST % "is_held/gate")
        Gate(server).open()
        assert client.response().text == "let go gate"
        assert client.request("GET", "/pid").text == str(pid)


@pytest.mark.inline_only
def test_faulthandler_goes_on_working_for_the_application() -> None:
    with start(app=APP + ENABLES_FAULTHANDLER) as server, server.client() as client:
        pid = server.worker_pid()
        client.send(request("GET", "/sleeps"))
        is_reported(server, pid, "sleeps")
        server.wait_for_log("Fatal Python error: Aborted")
        server.wait_for_log(r"line \d+ in sleeps$", 2)


@pytest.mark.inline_only
def test_a_process_that_the_application_forked_is_not_watched() -> None:
    with start() as server, server.client() as client:
        pid = server.worker_pid()
        child = int(client.request("GET", "/forks").text)
        assert threads_named(child, "meinheld-watch") == []
        client.send(request("GET", "/sleeps"))
        server.wait_for_log(rf"WORKER TIMEOUT \(pid:{pid}\)")
        assert reports(server, WATCHED % pid) == reports(server) > 0


def test_a_worker_that_does_not_hang_is_hardly_looked_at() -> None:
    with start(timeout=30) as server:
        pid = server.worker_pid()
        (thread,) = eventually(lambda: threads_named(pid, "meinheld-watch"), "the watchdog")
        eventually(lambda: thread_status(thread, "State").startswith("S"), "it sleeps")
        woken = int(thread_status(thread, "voluntary_ctxt_switches"))
        for _ in range(4):
            wait_for_beat(pid)
        assert int(thread_status(thread, "voluntary_ctxt_switches")) - woken <= 1


def test_without_a_timeout_nobody_watches() -> None:
    with start(timeout=0) as server:
        assert server.get("/pid").status == 200
        assert threads_named(server.worker_pid(), "meinheld-watch") == []
