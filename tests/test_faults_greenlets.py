"""What an application in greenlets may do wrong, and whose affair that is: its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import Server, eventually, request

pytestmark = pytest.mark.own_threads

APP = """
import contextvars, gc, os, signal, threading, time, weakref
from greenlet import GreenletExit, greenlet
from apps.notes import note
from apps.routes import Routes, text
from meinheld import middleware
from meinheld_worker import hub

app = Routes()
served = middleware.ContinuationMiddleware(app)
BLOCK = b"x" * (1 << 20)
kept = []


@app.route
def well(environ, start_response):
    return text(start_response, "well")


@app.route
def forks_in_the_middle(environ, start_response):
    start_response("200 OK", [])
    yield b"before "
    if not os.fork():
        return
    os.wait()
    yield b"after"


@app.route
def forks_and_exits(environ, start_response):
    if not os.fork():
        raise GreenletExit()
    os.wait()
    return text(start_response, "the parent's")


@app.route
def spawns_a_fork(environ, start_response):
    done = hub.Waiter(hub.current())

    def forks():
        if os.fork():
            os.wait()
            done.wake()

    hub.running().spawn(forks)
    hub.running().spawn(note, "once")
    done.wait()
    return text(start_response, "forked")


@app.route
def two_write(environ, start_response):
    write = start_response("200 OK", [("Content-Length", str(4 * len(BLOCK)))])
    done = hub.Waiter(hub.current())

    def writes():
        write(BLOCK)
        write(BLOCK)
        done.wake()

    hub.running().spawn(writes)
    hub.current().sleep(0)
    write(BLOCK)
    write(BLOCK)
    done.wait()
    return []


@app.route
def one_writes_and_one_is_suspended(environ, start_response):
    write = start_response("200 OK", [("Content-Length", str(4 * len(BLOCK)))])
    continuation = environ[middleware.CONTINUATION_KEY]

    def writes():
        for _ in range(4):
            write(BLOCK)
        continuation.resume()

    threading.Thread(target=writes).start()
    continuation.suspend()
    return []


@app.route
def leaves_a_writer_behind(environ, start_response):
    write = start_response("200 OK", [("Content-Length", str(16 * len(BLOCK)))])

    def writes():
        try:
            for _ in range(32):
                write(BLOCK)
        except OSError as error:
            note(f"{type(error).__name__}")

    threading.Thread(target=writes).start()
    note("left")
    hub.current().sleep(0.05)
    raise ValueError("the request ends")


@app.route
def is_suspended_when_its_client_has_gone(environ, start_response):
    note("waits")
    while not environ["meinheld.disconnected"]():
        hub.current().sleep(0.001)
    try:
        environ[middleware.CONTINUATION_KEY].suspend()
    except ConnectionResetError as error:
        note(f"suspend: {error}")
    return []


@app.route
def exits_with_a_secret(environ, start_response):
    raise GreenletExit("password \\udcff")


class Unspeakable:
    def __str__(self):
        raise ValueError("unspeakable")


@app.route
def exits_with_what_has_no_text(environ, start_response):
    raise GreenletExit(Unspeakable())


@app.route
def keeps_its_greenlet(environ, start_response):
    kept.append(environ[middleware.CLIENT_KEY].get_greenlet())
    return text(start_response, "kept")


@app.route
def switches_to_an_idle_greenlet(environ, start_response):
    # Who does that does not come back; the others do.
    kept.pop().switch(1)
    return text(start_response, "back")


@app.route
def throws_into_an_idle_greenlet(environ, start_response):
    kept.pop().throw(ValueError("thrown"))
    return text(start_response, "back")


@app.route
def waits_in_short_steps(environ, start_response):
    try:
        while True:
            hub.current().sleep(0.0005)
    finally:
        note("ended")


@app.route
def waits_in_a_greenlet_of_its_own(environ, start_response):
    note("waits")
    try:
        while True:
            greenlet(lambda: hub.current().sleep(3600)).switch()
    finally:
        note("ended")


@app.route
def streams_for_ever(environ, start_response):
    start_response("200 OK", [])
    while True:
        yield b"tick"
        hub.current().sleep(0.01)


@app.route
def is_suspended(environ, start_response):
    note("suspended")
    try:
        hub.current().sleep(3600)
    finally:
        note("finally")


@app.route
def answers_an_exit_with_another(environ, start_response):
    note("suspended")
    try:
        hub.current().sleep(3600)
    except GreenletExit:
        raise SystemExit(7)


variable = contextvars.ContextVar("variable")
alive = weakref.WeakSet()


class Value:
    pass


@app.route
def sets_a_variable(environ, start_response):
    value = Value()
    alive.add(value)
    variable.set(value)
    hub.current().sleep(0.01)
    return text(start_response, "set")


@app.route
def counts_what_is_alive(environ, start_response):
    gc.collect()
    return text(start_response, str(len(alive)))


@app.route
def looks_what_a_timeout_keeps(environ, start_response):
    class Held:
        pass

    def wait(held):
        try:
            hub.Waiter(hub.current()).wait(0.001)
        except TimeoutError:
            return weakref.ref(held)

    gc.disable()
    try:
        held = wait(Held())
        return text(start_response, str(held()))
    finally:
        gc.enable()


@app.route
def keeps_its_continuation(environ, start_response):
    kept.append(environ[middleware.CONTINUATION_KEY])
    return text(start_response, "kept")


@app.route
def suspends_what_is_over(environ, start_response):
    try:
        kept.pop().suspend()
    except OSError as error:
        return text(start_response, f"{type(error).__name__}: {error}")


@app.route
def waits_for_no_descriptor(environ, start_response):
    errors = []
    for number in (-1, 100000):
        try:
            hub.current().wait_fd(number, read=True)
        except OSError as error:
            errors.append(error.errno)
    return text(start_response, str(errors))


app = served
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP) as server:
        yield server


@pytest.fixture(autouse=True)
def the_worker_lives_on(server: Server) -> Iterator[None]:
    pid = server.worker_pid()
    yield
    assert server.get("/well").body == b"well"
    assert server.worker_pid() == pid


def test_a_child_that_comes_back_out_of_a_generator_says_nothing(server: Server) -> None:
    with server.client() as client:
        assert client.request("GET", "/forks_in_the_middle").body == b"before after"
        assert client.request("GET", "/well").body == b"well"


def test_a_child_that_exits_says_nothing(server: Server) -> None:
    with server.client() as client:
        assert client.request("GET", "/forks_and_exits").body == b"the parent's"
        assert client.request("GET", "/well").body == b"well"


def test_a_child_of_a_spawned_function_runs_nobody_else(server: Server) -> None:
    assert server.get("/spawns_a_fork").body == b"forked"
    assert server.notes().count("once") == 1


@pytest.mark.parametrize("target", ["/two_write", "/one_writes_and_one_is_suspended"])
def test_several_may_wait_for_the_same_client(server: Server, target: str) -> None:
    with server.client(receive_buffer=8192) as slow:
        slow.send(request("GET", target))
        slow.read_until(b"\r\n\r\n")
        assert server.get("/well").body == b"well"
        assert len(slow.read_exactly(4 << 20)) == 4 << 20


def test_a_thread_that_writes_when_the_request_ends_is_told(server: Server) -> None:
    with server.client(receive_buffer=8192) as slow:
        slow.send(request("GET", "/leaves_a_writer_behind"))
        server.wait_for_note("left")
        server.wait_for_note("ConnectionResetError")


def test_suspending_for_a_client_that_has_gone_is_an_error(server: Server) -> None:
    with server.client() as client:
        client.send(request("GET", "/is_suspended_when_its_client_has_gone"))
        server.wait_for_note("waits")
        client.reset()
    server.wait_for_note("suspend: the client has gone")


@pytest.mark.parametrize("target", ["/exits_with_a_secret", "/exits_with_what_has_no_text"])
def test_what_an_exit_says_is_not_told_to_the_client(server: Server, target: str) -> None:
    answer = server.get(target)
    assert (answer.status, answer.body) == (503, b"the request was cancelled\n")


@pytest.mark.parametrize("what", ["/switches_to_an_idle_greenlet", "/throws_into_an_idle_greenlet"])
def test_who_disturbs_an_idle_greenlet_ends_nobody(server: Server, what: str) -> None:
    server.get("/keeps_its_greenlet")
    with server.client() as client:
        client.send(request("GET", what))
        assert server.get("/well").body == b"well"


def test_context_variables_do_not_outlive_their_request(server: Server) -> None:
    clients = [server.client() for _ in range(20)]
    for client in clients:
        client.send(request("GET", "/sets_a_variable"))
    for client in clients:
        assert client.response().body == b"set"
        client.close()
    alive = eventually(
        lambda: server.get("/counts_what_is_alive").body == b"0", "all values are freed"
    )
    assert alive


def test_a_wait_that_failed_leaves_nothing_to_the_garbage_collector(server: Server) -> None:
    assert server.get("/looks_what_a_timeout_keeps").body == b"None"


def test_suspending_a_request_that_is_over_is_an_ioerror(server: Server) -> None:
    server.get("/keeps_its_continuation")
    assert server.get("/suspends_what_is_over").body == b"OSError: the request is over"


def test_errors_of_descriptors_keep_their_number(server: Server) -> None:
    assert server.get("/waits_for_no_descriptor").body == b"[9, 9]"


@pytest.mark.parametrize("target", ["/waits_in_short_steps", "/waits_in_a_greenlet_of_its_own"])
def test_a_request_that_takes_too_long_is_cancelled_however_it_waits(target: str) -> None:
    with Server.start(APP, env={"MEINHELD_REQUEST_TIMEOUT": "0.1"}) as server:
        for number in range(5):
            server.get(target)
            server.wait_for_note("ended", number + 1)


def test_a_stream_that_is_cut_is_logged_as_what_its_client_got() -> None:
    with Server.start(APP, "--graceful-timeout", "1", "--access-logfile", "-") as server:
        with server.client() as client:
            client.send(request("GET", "/streams_for_ever"))
            client.read_until(b"tick")
            assert server.stop() == 0
        assert '"GET /streams_for_ever HTTP/1.1" 200 ' in server.stdout_text()


def test_when_the_worker_quits_every_request_is_ended() -> None:
    with Server.start(APP) as server:
        clients = [server.client() for _ in range(4)]
        for client in clients[:2]:
            client.send(request("GET", "/answers_an_exit_with_another"))
        for client in clients[2:]:
            client.send(request("GET", "/is_suspended"))
        server.wait_for_note("suspended", 4)
        server.process.send_signal(3)
        assert server.wait() == 0
        assert server.notes().count("finally") == 2
        for client in clients:
            client.close()
