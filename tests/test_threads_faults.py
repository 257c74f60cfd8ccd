"""What goes wrong on an application thread costs its own request alone: the thread, its siblings
and the worker live on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from harness import OURS, Server, Truncated, children, eventually, request
from thread_pool import (
    EXIT_HOOKS,
    TOGETHER_ROUTE,
    ended_well,
    no_thread_is_left,
    side_by_side,
    threads_live_on,
)
from wellness import REAP_ROUTE

THREADS = 2
APP = (
    """
import multiprocessing, os, subprocess, sys, threading, time
from apps.hold import wait_for_file
from apps.notes import note
from apps.routes import Routes, text

app = Routes()


class Outermost(BaseException):
    pass


ERRORS = {
    error.__name__: error
    for error in (
        ValueError, SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError, RecursionError,
        StopIteration, Outermost,
    )
}


def error_of(environ):
    return ERRORS[environ["PATH_INFO"].split("/")[2]]


@app.route
def called(environ, start_response):
    raise error_of(environ)("when called")


@app.route
def begun(environ, start_response):
    start_response("200 OK", [])
    raise error_of(environ)("in the first block")
    yield b""


@app.route
def iterated(environ, start_response):
    start_response("200 OK", [])

    class Body:
        def __iter__(self):
            yield b"first"
            raise error_of(environ)("between blocks")

        def close(self):
            note("closed after an error")

    return Body()


@app.route
def closed(environ, start_response):
    class Body(list):
        def close(self):
            raise error_of(environ)("in close")

    return Body(text(start_response, "whole"))


@app.route
def hooked(environ, start_response):
    return text(start_response, "whole")


@app.route
def exits_the_thread(environ, start_response):
    import _thread

    _thread.exit()


@app.route
def deep(environ, start_response):
    def recurse():
        return recurse() + 1

    return text(start_response, str(recurse()))


@app.route
def starts_threads(environ, start_response):
    done = []
    others = [threading.Thread(target=done.append, args=(n,)) for n in range(10)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    return text(start_response, str(len(done)))


@app.route
def throws(environ, start_response):
    import ctypes

    for other in threading.enumerate():
        if other.name.startswith("meinheld-") and other is not threading.current_thread():
            ident, error = ctypes.c_ulong(other.ident), ctypes.py_object(error_of(environ))
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, error)
            note("thrown")
            # Meanwhile every request is the other thread's.
            wait_for_file(environ["QUERY_STRING"])
            return text(start_response, "thrown")


@app.route
def starts_processes(environ, start_response):
    context = multiprocessing.get_context("fork")
    process = context.Process(target=note, args=("process",))
    process.start()
    process.join()
    program = subprocess.run([sys.executable, "-c", "print(6 * 7)"], stdout=subprocess.PIPE)
    return text(start_response, f"{process.exitcode} {program.stdout.decode()}")


def fork():
    if os.fork():
        return False
    note("child")
    return True


@app.route
def child_returns(environ, start_response):
    if fork():
        return text(start_response, "child")
    return text(start_response, "parent")


@app.route
def child_raises(environ, start_response):
    if fork():
        raise ValueError("in the child")
    return text(start_response, "parent")


@app.route
def child_exits(environ, start_response):
    if fork():
        sys.exit(3)
    return text(start_response, "parent")


@app.route
def child_writes(environ, start_response):
    if fork():
        write = start_response("200 OK", [("Content-Length", "5")])
        write(b"child")
        return []
    return text(start_response, "parent")


@app.route
def child_writes_behind_the_parent_s_head(environ, start_response):
    write = start_response("200 OK", [("Content-Length", "6")])
    if fork():
        write(b"child!")
        return []
    write(b"parent")
    return []


@app.route
def child_reads(environ, start_response):
    if fork():
        environ["wsgi.input"].read()
        return text(start_response, "child")
    environ["wsgi.input"].read()
    return text(start_response, "parent")


@app.route
def child_generates(environ, start_response):
    start_response("200 OK", [("Content-Length", "6")])
    yield b"pa"
    yield b"child!" if fork() else b"rent"


@app.route
def child_closes(environ, start_response):
    class Body(list):
        def close(self):
            fork()

    return Body(text(start_response, "parent"))


@app.route
def child_sends_through_the_socket(environ, start_response):
    if fork():
        try:
            environ["gunicorn.socket"].sendall(b"child")
        finally:
            return text(start_response, "child")
    return text(start_response, "parent")
"""
    + REAP_ROUTE
    + TOGETHER_ROUTE
)
HOOKS = """
def raised_by(hook, path):
    parts = path.split("/")
    if parts[1] == "hooked" and parts[3] == hook:
        import builtins

        raise getattr(builtins, parts[2])(f"in {hook}")


def pre_request(worker, req):
    raised_by("pre_request", req.path)


def post_request(worker, req, environ, resp):
    raised_by("post_request", req.path)
"""
ERRORS = [
    "ValueError",
    "SystemExit",
    "KeyboardInterrupt",
    "GeneratorExit",
    "MemoryError",
    "RecursionError",
    "StopIteration",
    "Outermost",
]
pytestmark = [
    pytest.mark.own_threads,
    pytest.mark.skipif(not OURS, reason="gunicorn's own workers do otherwise"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(
        APP, "--threads", str(THREADS), "--keep-alive", "60", config=HOOKS + EXIT_HOOKS
    ) as server:
        yield server


@pytest.fixture(autouse=True)
def all_threads_live_on(server: Server) -> Iterator[None]:
    with threads_live_on(server, THREADS, tracebacks=None):
        yield


# Exceptions


@pytest.mark.parametrize(
    ("way", "error"),
    [
        (way, error)
        for way in ("called", "begun")
        for error in ERRORS
        # That is how an application says that it has taken the socket over.
        if (way, error) != ("called", "StopIteration")
    ],
)
def test_an_error_before_the_head_has_left_is_a_500(server: Server, way: str, error: str) -> None:
    """SystemExit too: it is the application's, and ends nothing."""
    said = server.stderr_text().count(error)
    for _ in range(THREADS * 3):
        assert server.get(f"/{way}/{error}").status == 500
    eventually(
        lambda: server.stderr_text().count(error) >= said + THREADS * 3, "the errors are logged"
    )


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_between_blocks_breaks_the_answer_off_and_close_is_called(
    server: Server, error: str
) -> None:
    before = server.notes().count("closed after an error")
    for _ in range(THREADS * 3):
        with pytest.raises((Truncated, ConnectionResetError)):
            server.get(f"/iterated/{error}")
    server.wait_for_note("closed after an error", before + THREADS * 3)
    assert server.notes().count("closed after an error") == before + THREADS * 3


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_in_close_leaves_the_answer_complete(server: Server, error: str) -> None:
    for _ in range(THREADS * 3):
        assert server.get(f"/closed/{error}").text == "whole"


@pytest.mark.parametrize("error", ["ValueError", "SystemExit", "KeyboardInterrupt"])
def test_an_error_in_pre_request_is_a_500(server: Server, error: str) -> None:
    for _ in range(THREADS * 3):
        assert server.get(f"/hooked/{error}/pre_request").status == 500


@pytest.mark.parametrize("error", ["ValueError", "SystemExit", "KeyboardInterrupt"])
def test_an_error_in_post_request_leaves_the_answer_complete(server: Server, error: str) -> None:
    said = server.stderr_text().count("in post_request")
    for _ in range(THREADS * 3):
        assert server.get(f"/hooked/{error}/post_request").text == "whole"
    eventually(
        lambda: server.stderr_text().count("in post_request") >= said + THREADS * 3,
        "the errors are logged",
    )


@pytest.mark.parametrize("path", ["/exits_the_thread", "/deep"])
def test_neither_leaving_the_thread_nor_exhausting_its_stack_ends_it(
    server: Server, path: str
) -> None:
    for _ in range(THREADS * 3):
        assert server.get(path).status == 500


def test_an_application_may_start_threads_of_its_own(server: Server) -> None:
    for _ in range(THREADS * 3):
        assert server.get("/starts_threads").text == "10"


def test_an_application_may_start_processes(server: Server) -> None:
    for _ in range(THREADS * 3):
        assert server.get("/starts_processes").text == "0 42\n"


@pytest.mark.parametrize("error", ["ValueError", "SystemExit", "KeyboardInterrupt"])
def test_an_exception_thrown_into_an_idle_thread_costs_one_request_at_most(
    server: Server, error: str
) -> None:
    """As those libraries do that set a time limit, and are late. It may come out anywhere."""

    def ask() -> int:
        try:
            return server.get("/hooked/nothing/nowhere").status
        except (Truncated, ConnectionResetError):
            return 0

    for number in range(3):
        release = f"{error}-{number}"
        with server.client() as client:
            before = server.notes().count("thrown")
            client.send(request("GET", f"/throws/{error}?{release}"))
            server.wait_for_note("thrown", before + 1)
            statuses = [ask() for _ in range(5)]
            assert statuses.count(200) >= len(statuses) - 1, statuses
            (server.directory / release).touch()
            assert client.response().text == "thrown"


# Processes


FORKS = [
    "child_returns",
    "child_raises",
    "child_exits",
    "child_writes",
    "child_writes_behind_the_parent_s_head",
    "child_reads",
    "child_generates",
    "child_closes",
    "child_sends_through_the_socket",
]


def no_child_is_left(server: Server) -> None:
    def all_reaped() -> bool:
        assert server.get("/reap").text == "reaped"
        return not children(server.worker_pid())

    eventually(all_reaped, "the children have ended")


@pytest.mark.parametrize("path", FORKS)
def test_a_child_that_comes_back_from_the_application_ends_and_says_nothing(
    server: Server, path: str
) -> None:
    before = server.notes().count("child")
    with server.client() as client:
        for _ in range(3):
            response = client.request("POST", f"/{path}", body=b"hello")
            if path == "child_sends_through_the_socket":
                break
            assert response.text == "parent"
        else:
            assert client.rest() == b""
            server.wait_for_note("child", before + 3)
    no_child_is_left(server)
    assert [note for note in server.notes() if note.startswith("child_exit")] == []


def test_children_forked_while_other_threads_work_end_too(server: Server) -> None:
    """Whatever lock another thread held in that moment nobody will ever release in the child."""
    before, each = server.notes().count("child"), 25
    done = threading.Event()

    def load() -> int:
        count = 0
        with server.client() as client:
            while not done.is_set():
                assert client.request("GET", "/starts_threads").text == "10"
                count += 1
        return count

    def fork() -> int:
        try:
            for number in range(each):
                path = FORKS[number % (len(FORKS) - 1)]
                with server.client() as client:
                    assert client.request("POST", f"/{path}", body=b"hello").text == "parent"
        finally:
            done.set()
        return each

    assert each in side_by_side([fork, load, load])
    server.wait_for_note("child", before + each)
    no_child_is_left(server)


# And it all comes to an end


def test_after_all_that_the_worker_still_leaves_as_it_should() -> None:
    with (
        Server.start(
            APP, "--threads", str(THREADS), "--graceful-timeout", "60", config=HOOKS + EXIT_HOOKS
        ) as server,
        ExitStack() as stack,
    ):
        pid = server.worker_pid()
        for error in ERRORS:
            for way in ("called", "iterated", "closed"):
                with suppress(Truncated, OSError):
                    server.get(f"/{way}/{error}")
        for path in FORKS:
            client = stack.enter_context(server.client())
            client.send(request("POST", f"/{path}", body=b"hello"))
            client.receive()
        no_child_is_left(server)
        server.signal(signal.SIGHUP)
        ended_well(server, pid)
        no_thread_is_left(server)
