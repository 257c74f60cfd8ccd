"""`environ["meinheld.continuation"]`: a request waits until another one, a timer or a thread lets
it go on (the historical API of meinheld 1.x)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from harness import GREEN, Client, Server, eventually, request

pytestmark = pytest.mark.own_threads

APP = """
import asyncio, socket, threading, time
from apps.notes import note
from apps.routes import Routes, text
from meinheld import middleware
from meinheld_worker import hub

routes = Routes()
waiting = []


def continuation(environ):
    return environ[middleware.CONTINUATION_KEY]


@routes.route
def suspends(environ, start_response):
    waiting.append(continuation(environ))
    note("suspends")
    try:
        value = continuation(environ).suspend(float(environ["QUERY_STRING"] or 0))
    finally:
        note("goes on")
    return text(start_response, repr(value))


@routes.route
def suspends_in_a_coroutine(environ, start_response):
    waiting.append(continuation(environ))

    async def suspends():
        loop = asyncio.get_running_loop()
        note("suspends")
        value = continuation(environ).suspend()
        await asyncio.sleep(0)
        return value, asyncio.get_running_loop() is loop

    return text(start_response, repr(asyncio.run(suspends())))


@routes.route
def suspends_and_catches(environ, start_response):
    try:
        continuation(environ).suspend(0.01)
    except TimeoutError as error:
        return text(start_response, f"caught {error}")


@routes.route
def is_resumed_when_its_time_is_over(environ, start_response):
    one = continuation(environ)
    hub.running().call_later(0.02, one.resume, "resumed")
    # Both are due when the loop looks again.
    hub.running().spawn(time.sleep, 0.05)
    return text(start_response, one.suspend(0.01))


@routes.route
def suspends_between_blocks(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"before "
    waiting.append(continuation(environ))
    note("suspends")
    yield continuation(environ).suspend()


@routes.route
def resumes(environ, start_response):
    for one in waiting:
        one.resume(*eval(environ["QUERY_STRING"] or "()"))
    count = len(waiting)
    waiting.clear()
    return text(start_response, str(count))


@routes.route
def resumes_with_names(environ, start_response):
    waiting.pop().resume(a=1)
    return text(start_response, "")


@routes.route
def resumes_with_both(environ, start_response):
    waiting.pop().resume(1, a=2)
    return text(start_response, "")


@routes.route
def resumes_from_a_thread(environ, start_response):
    thread = threading.Thread(target=waiting.pop().resume, args=("from a thread",))
    thread.start()
    thread.join()
    return text(start_response, "")


@routes.route
def resumes_later(environ, start_response):
    hub.running().call_later(0.01, waiting.pop().resume, "from a timer")
    return text(start_response, "")


@routes.route
def resumes_twice(environ, start_response):
    waiting[0].resume()
    try:
        waiting.pop().resume()
    except IOError as error:
        return text(start_response, f"{type(error).__name__}: {error}")


@routes.route
def resumes_itself(environ, start_response):
    try:
        continuation(environ).resume()
    except IOError as error:
        return text(start_response, f"{type(error).__name__}: {error}")


@routes.route
def suspends_another(environ, start_response):
    try:
        waiting[0].suspend()
    except IOError as error:
        waiting.pop().resume()
        return text(start_response, f"{type(error).__name__}: {error}")


@routes.route
def suspends_for_a_negative_time(environ, start_response):
    try:
        continuation(environ).suspend(-1)
    except ValueError as error:
        return text(start_response, str(error))


@routes.route
def has_a_client(environ, start_response):
    client = environ[middleware.CLIENT_KEY]
    same = client.get_fd() == environ["gunicorn.socket"].fileno()
    return text(start_response, f"{same} {continuation(environ).client is client}")


@routes.route
def answers_by_itself(environ, start_response):
    client = environ[middleware.CLIENT_KEY]
    client.set_closed(0)
    with socket.fromfd(client.get_fd(), socket.AF_INET, socket.SOCK_STREAM) as own:
        own.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
    client.set_closed(1)
    return []


app = middleware.ContinuationMiddleware(routes)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP) as server:
        yield server


@contextlib.contextmanager
def suspended(
    server: Server, target: str = "/suspends", headers: dict[str, str] | None = None
) -> Iterator[Client]:
    """The client of a request that is suspended."""
    before = server.notes().count("suspends")
    with server.client() as client:
        client.send(request("GET", target, headers))
        server.wait_for_note("suspends", before + 1)
        yield client


def test_a_suspended_request_waits_while_others_are_served(server: Server) -> None:
    with suspended(server) as client:
        assert server.get("/has_a_client").status == 200
        assert client.is_quiet()
        server.get("/resumes")
        assert client.response().status == 200


@pytest.mark.parametrize(
    ("given", "got"),
    [("", "()"), ("(1,)", "1"), ("(1,2)", "(1, 2)"), ("(None,)", "None"), ("('a',)", "'a'")],
)
def test_suspend_returns_what_resume_is_given(server: Server, given: str, got: str) -> None:
    with suspended(server) as client:
        server.get(f"/resumes?{given}")
        assert client.response().body.decode() == got


def test_coroutines_that_are_suspended_keep_their_own_loops(server: Server) -> None:
    path = "/suspends_in_a_coroutine"
    with suspended(server, path) as one, suspended(server, path) as another:
        server.get("/resumes?(1,)")
        assert [one.response().text, another.response().text] == ["(1, True)"] * 2


def test_suspend_returns_named_arguments_as_a_dictionary(server: Server) -> None:
    with suspended(server) as client:
        server.get("/resumes_with_names")
        assert client.response().body == b"{'a': 1}"


def test_suspend_returns_both_as_a_pair(server: Server) -> None:
    with suspended(server) as client:
        server.get("/resumes_with_both")
        assert client.response().body == b"((1,), {'a': 2})"


def test_a_thread_resumes(server: Server) -> None:
    with suspended(server) as client:
        server.get("/resumes_from_a_thread")
        assert client.response().body == b"'from a thread'"


def test_a_timer_resumes(server: Server) -> None:
    with suspended(server) as client:
        server.get("/resumes_later")
        assert client.response().body == b"'from a timer'"


def test_a_request_may_be_suspended_in_the_middle_of_its_answer(server: Server) -> None:
    with suspended(server, "/suspends_between_blocks") as client:
        server.get("/resumes?(b'after',)")
        assert client.response().body == b"before after"


def test_resuming_what_was_resumed_is_an_ioerror(server: Server) -> None:
    with suspended(server) as client:
        assert server.get("/resumes_twice").body == b"OSError: not suspended"
        assert client.response().status == 200


def test_resuming_what_never_was_suspended_is_an_ioerror(server: Server) -> None:
    assert server.get("/resumes_itself").body == b"OSError: not suspended"


def test_suspending_what_is_suspended_is_an_ioerror(server: Server) -> None:
    with suspended(server) as client:
        assert server.get("/suspends_another").body == b"OSError: already suspended"
        assert client.response().status == 200


def test_after_its_timeout_a_request_fails(server: Server) -> None:
    assert server.get("/suspends?0.01").status == 500
    server.wait_for_log("TimeoutError: timed out")
    server.get("/resumes")  # What is in the list by now has gone: nobody is resumed.


def test_an_application_may_catch_the_timeout(server: Server) -> None:
    assert server.get("/suspends_and_catches").body == b"caught timed out"


def test_until_it_knows_that_its_time_is_over_a_request_can_be_resumed(server: Server) -> None:
    # Or a loop that resumes all who wait would break off at one of them.
    assert server.get("/is_resumed_when_its_time_is_over").text == "resumed"


def test_a_negative_timeout_is_refused(server: Server) -> None:
    answer = server.get("/suspends_for_a_negative_time")
    assert answer.body == b"timeout = -1: not a time. Accepted: seconds, or 0 for ever."


def test_the_client_knows_its_connection(server: Server) -> None:
    assert server.get("/has_a_client").body == b"True True"


def test_the_client_is_told_when_the_application_has_answered_by_itself(server: Server) -> None:
    with server.client() as client:
        client.send(request("GET", "/answers_by_itself"))
        assert client.response().body == b"ok"
        assert client.read_until_closed() == b""


def test_a_request_whose_client_resets_goes_on_with_an_error() -> None:
    with Server.start(APP) as server:
        with suspended(server) as client:
            client.reset()
        server.wait_for_note("goes on")


def test_one_client_may_have_many_suspended_connections() -> None:
    with Server.start(APP, "--worker-connections", "600") as server:
        clients = [server.client() for _ in range(500)]
        for client in clients:
            client.send(request("GET", "/suspends"))
        server.wait_for_note("suspends", 500)
        assert server.get("/resumes").body == b"500"
        assert {client.response().status for client in clients} == {200}
        for client in clients:
            client.close()


def test_the_drain_waits_for_suspended_requests() -> None:
    with Server.start(APP) as server, suspended(server, "/suspends?0.5") as client:
        worker = server.worker_pid()
        server.process.terminate()
        assert client.response().status == 500
        assert server.wait() == 0
        assert f"Worker (pid:{worker})" not in server.stderr_text()


def test_what_is_suspended_when_the_grace_is_over_gets_an_exception() -> None:
    with (
        Server.start(APP, "--graceful-timeout", "1") as server,
        suspended(server) as client,
    ):
        server.process.terminate()
        assert client.response().status == 503
        server.wait_for_note("goes on")
        assert server.wait() == 0


def test_a_request_that_takes_too_long_is_cancelled() -> None:
    env = {"MEINHELD_REQUEST_TIMEOUT": "0.2"}
    with Server.start(APP, env=env) as server, suspended(server) as client:
        assert client.response().status == 503
        server.wait_for_note("goes on")
        server.wait_for_log(r"Cancelled: GET /suspends from 127.0.0.1.*REQUEST_TIMEOUT is 0.2 s")


def test_the_middleware_has_its_old_name_too() -> None:
    old = "app = middleware.SpawnMiddleware(routes)\n"
    source = APP.replace("app = middleware.ContinuationMiddleware(routes)\n", old)
    assert old in source
    with Server.start(source) as server, suspended(server) as client:
        server.get("/resumes")
        assert client.response().status == 200


def test_middleware_that_comes_too_late_is_refused() -> None:
    source = """
from meinheld.middleware import ContinuationMiddleware

def app(environ, start_response):
    return ContinuationMiddleware(app)(environ, start_response)
"""
    env = {"MEINHELD_GREEN": "0"}
    with Server.start(source, env=env) as server:
        assert server.get("/").status == 500
        server.wait_for_log("RuntimeError: ContinuationMiddleware needs greenlets, and the server")


def test_gunicorns_own_workers_answer_500_and_say_why() -> None:
    with Server.start(APP, worker="sync", env={"MEINHELD_GREEN": "0"}) as server:
        assert server.get("/has_a_client").status == 500
        server.wait_for_log("RuntimeError: ContinuationMiddleware needs the meinheld worker")


def test_more_than_one_thread_is_refused() -> None:
    with Server.start(APP, "--threads", "2", ready=False) as server:
        server.wait_for_log("threads = 2: ContinuationMiddleware needs greenlets")
        assert server.wait() == 3


def test_greenlets_may_be_asked_for_by_the_environment() -> None:
    source = """
from apps.routes import Routes, text
app = Routes()

@app.route
def has_a_client(environ, start_response):
    multithread = environ["wsgi.multithread"]
    return text(start_response, f"{'meinheld.client' in environ} {multithread}")
"""
    with Server.start(source, env={"MEINHELD_GREEN": "1"}) as server:
        assert server.get("/has_a_client").body == b"True True"
    if not GREEN:
        with Server.start(source) as server:
            assert server.get("/has_a_client").body == b"False False"


def test_a_wrong_choice_is_refused() -> None:
    with Server.start(env={"MEINHELD_GREEN": "yes"}, ready=False) as server:
        server.wait_for_log("MEINHELD_GREEN = 'yes': not a choice. Accepted: 1, or 0.")
        assert server.wait() != 0


def test_context_variables_of_one_request_are_not_those_of_the_next() -> None:
    source = """
import contextvars
from apps.routes import Routes, text
from meinheld.middleware import ContinuationMiddleware
routes, variable = Routes(), contextvars.ContextVar("variable", default="unset")

@routes.route
def sets(environ, start_response):
    before = variable.get()
    variable.set("set")
    return text(start_response, before)

app = ContinuationMiddleware(routes)
"""
    with Server.start(source) as server:
        assert [server.get("/sets").body for _ in range(3)] == [b"unset"] * 3


def test_without_greenlet_a_clear_error_says_how_to_get_it() -> None:
    source = """
import sys
sys.modules["greenlet"] = None
from meinheld.middleware import ContinuationMiddleware
try:
    ContinuationMiddleware(None)
except ImportError as error:
    message = str(error).encode()

def app(environ, start_response):
    start_response("200 OK", [])
    return [message]
"""
    with Server.start(source, env={"MEINHELD_GREEN": "0"}) as server:
        expected = b"ContinuationMiddleware needs greenlet: pip install 'meinheld[green]'"
        assert eventually(lambda: server.get("/").body, "an answer") == expected
