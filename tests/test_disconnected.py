"""`environ["meinheld.disconnected"]` says whether the client is still there, and calls back when it
is not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import OURS, Client, Server, eventually, open_files, request
from procfs import threads_named
from thread_pool import UNIX, Gate

APP = """
import os, subprocess, threading, time
from apps.hold import wait_for_file
from apps.notes import note
from apps.routes import Routes, text

app = Routes()
kept = []


@app.route
def looks(environ, start_response):
    kept.append(environ["meinheld.disconnected"])
    return text(start_response, str(kept[-1]()))


@app.route
def looks_at_the_kept(environ, start_response):
    kept[-1].register(lambda: note("called too late"))
    return text(start_response, str(kept[-1]()))


@app.route
def looks_until_it_has_left(environ, start_response):
    disconnected = environ["meinheld.disconnected"]
    note(f"there: {not disconnected()}")
    while not disconnected():
        time.sleep(0.001)
    note("it has left")
    return text(start_response, environ["wsgi.input"].read().decode())


@app.route
def waits(environ, start_response):
    told = threading.Event()
    environ["meinheld.disconnected"].register(told.set)
    note("waits")
    told.wait(60)
    note(f"told: {told.is_set()}")
    return text(start_response, environ["wsgi.input"].read().decode())


@app.route
def registers_many(environ, start_response):
    disconnected, last = environ["meinheld.disconnected"], threading.Event()
    disconnected.register(lambda: note("first"))
    disconnected.register(lambda: 1 / 0)
    disconnected.register(lambda: note("third"))
    disconnected.register(last.set)
    note("waits")
    last.wait(60)
    again = threading.Event()
    disconnected.register(again.set)
    note(f"told again: {again.wait(60)}")
    return text(start_response, "answered")


@app.route
def registers_and_returns(environ, start_response):
    environ["meinheld.disconnected"].register(lambda: note("called too late"))
    return text(start_response, "answered")


def ends_a_child():
    child = subprocess.Popen(["sleep", "60"])
    child.terminate()
    note(f"ended by signal {-child.wait(30)}")


@app.route
def is_called_back_to_end_a_child(environ, start_response):
    environ["meinheld.disconnected"].register(ends_a_child)
    note("waits")
    wait_for_file("open-gate")
    return text(start_response, "answered")


@app.route
def registers_nonsense(environ, start_response):
    try:
        environ["meinheld.disconnected"].register("nonsense")
    except TypeError as error:
        return text(start_response, str(error))


@app.route
def is_called_back_for_long(environ, start_response):
    disconnected = environ["meinheld.disconnected"]
    disconnected.register(lambda: (note("called"), wait_for_file("open-never")))
    note("waits")
    while "called" not in open(os.environ["TEST_NOTES"]).read():
        time.sleep(0.001)
    return text(start_response, "answered")


@app.route
def holds(environ, start_response):
    environ["meinheld.disconnected"].register(lambda: note("called without need"))
    note("holds")
    wait_for_file("open-gate")
    return text(start_response, "held")


@app.route
def forks(environ, start_response):
    child = os.fork()
    if child == 0:
        wait_for_file("open-gate")
        os._exit(0)
    return text(start_response, str(child))


@app.route
def takes_over(environ, start_response):
    disconnected = environ["meinheld.disconnected"]
    disconnected.register(lambda: note("called for a socket that was taken over"))
    socket = environ["gunicorn.socket"]
    socket.sendall(b"taken")
    for ask in disconnected, lambda: disconnected.register(print):
        try:
            ask()
        except RuntimeError as error:
            note(str(error))
    note("received: " + socket.recv(100).decode())
    raise StopIteration
"""
THREAD = "meinheld-gone"
LEAVING = {
    "half-close": Client.half_close,
    "close": Client.close,
    "reset": Client.reset,
}
WAYS = ["looks_until_it_has_left", "waits"]

pytestmark = pytest.mark.skipif(not OURS, reason="gunicorn's own workers do not have it")


@pytest.fixture
def server() -> Iterator[Server]:
    with Server.start(APP, "--keep-alive", "60") as server:
        yield server


def told(server: Server, way: str) -> None:
    server.wait_for_note("told: True" if way == "waits" else "it has left")


def begun(server: Server, way: str) -> None:
    server.wait_for_note("waits" if way == "waits" else "there: True")


@pytest.mark.parametrize("binds", [["127.0.0.1:0"], UNIX], ids=["tcp", "unix"])
def test_it_says_when_the_client_has_left(binds: list[str]) -> None:
    with Server.start(APP, binds=binds) as server:
        for leaves in LEAVING.values():
            for way in WAYS:
                (server.directory / "notes").unlink(missing_ok=True)
                with server.client() as client:
                    assert client.request("GET", "/looks").text == "False"
                    client.send(request("GET", f"/{way}"))
                    begun(server, way)
                    leaves(client)
                    told(server, way)
        assert server.stderr_text().count("Traceback") == 0


@pytest.mark.parametrize("way", WAYS)
def test_octets_that_nobody_has_read_do_not_hide_it(server: Server, way: str) -> None:
    """And those that were read are not lost."""
    with server.client() as client:
        client.send(request("POST", f"/{way}", body=b"a body"))
        begun(server, way)
        client.send(request("GET", "/looks") * 100)
        client.half_close()
        told(server, way)
        assert client.response().text == "a body"
        for _ in range(100):
            assert client.response().text == "True"
        assert client.read_until_closed() == b""


def test_so_it_is_in_http_1_0_and_behind_a_proxy() -> None:
    with Server.start(APP, "--proxy-protocol", "v1") as server, server.client() as client:
        client.send(b"PROXY TCP4 192.0.2.7 127.0.0.1 5 80\r\n")
        client.send(request("GET", "/waits", version="HTTP/1.0"))
        server.wait_for_note("waits")
        client.half_close()
        server.wait_for_note("told: True")
        assert client.response().status == 200


def test_of_a_request_that_is_over_it_says_that_nobody_listens(server: Server) -> None:
    with server.client() as client:
        assert client.request("GET", "/looks").text == "False"
        assert client.request("GET", "/looks_at_the_kept").text == "True"
        client.send(request("GET", "/waits"))
        server.wait_for_note("waits")
        client.half_close()
        server.wait_for_note("told: True")
    assert "called too late" not in server.notes()


def test_each_callback_is_called_once_whatever_others_raise(server: Server) -> None:
    with server.client() as client:
        client.send(request("GET", "/registers_many"))
        server.wait_for_note("waits")
        client.half_close()
        assert client.response().text == "answered"
    assert server.notes() == ["waits", "first", "third", "told again: True"]
    server.wait_for_log("Error in a callback of meinheld.disconnected")
    server.wait_for_log("ZeroDivisionError")
    assert server.get("/looks").text == "False"


def test_what_a_callback_starts_can_be_ended_by_signals(server: Server) -> None:
    with server.client() as client:
        client.send(request("GET", "/is_called_back_to_end_a_child"))
        server.wait_for_note("waits")
        client.half_close()
        server.wait_for_note("ended by signal 15")
        Gate(server).open()
        assert client.response().text == "answered"


def test_no_callback_is_called_when_the_request_is_over(server: Server) -> None:
    with server.client() as client:
        for _ in range(10):
            assert client.request("GET", "/registers_and_returns").text == "answered"
        client.half_close()
        assert client.read_until_closed() == b""
    with server.client() as client:
        client.send(request("GET", "/waits"))
        server.wait_for_note("waits")
        client.half_close()
        assert client.response().status == 200
    assert server.notes() == ["waits", "told: True"]


def test_what_cannot_be_called_is_refused(server: Server) -> None:
    assert server.get("/registers_nonsense").text == "the callback is not callable"


def test_thousands_of_registrations_leave_nothing_behind(server: Server) -> None:
    pid, rounds, burst = server.worker_pid(), 100, 100
    asked = request("GET", "/registers_and_returns") * burst
    with server.client() as client:
        assert client.request("GET", "/looks").text == "False"
        assert threads_named(pid, THREAD) == []
        before = len(open_files(pid))
        for _ in range(rounds):
            client.send(asked)
            for _ in range(burst):
                assert client.response().text == "answered"
        # The thread's own descriptor.
        eventually(lambda: len(open_files(pid)) <= before + 1, "no duplicate is left")
        assert len(eventually(lambda: threads_named(pid, THREAD), "its thread")) == 1


def test_a_worker_leaves_while_callbacks_are_registered() -> None:
    with Server.start(APP, "--max-requests", "2") as server, server.client() as client:
        pid = server.worker_pid()
        client.send(request("GET", "/holds"))
        server.wait_for_note("holds")
        eventually(lambda: threads_named(pid, THREAD), "its thread")
        server.process.terminate()
        Gate(server).open()
        assert client.response().text == "held"
        assert client.rest() == b""
        assert server.wait() == 0
        assert server.notes() == ["holds"]
        assert "Traceback" not in server.stderr_text()


def test_a_callback_that_never_ends_does_not_keep_the_worker() -> None:
    with Server.start(APP) as server, server.client() as client:
        client.send(request("GET", "/is_called_back_for_long"))
        server.wait_for_note("waits")
        client.half_close()
        assert client.response().text == "answered"
        assert server.get("/looks").text == "False"
        assert server.stop() == 0
        said = server.stderr_text()
        assert "Left behind, still in a callback of meinheld.disconnected" in said
        assert "Fatal" not in said and "panicked" not in said


@pytest.mark.inline_only
def test_processes_that_the_application_forks_do_not_watch(server: Server) -> None:
    assert server.get("/registers_and_returns").text == "answered"
    eventually(lambda: threads_named(server.worker_pid(), THREAD), "its thread")
    child = int(server.get("/forks").text)
    assert threads_named(child, THREAD) == []
    Gate(server).open()


def test_a_socket_that_was_taken_over_says_itself_whether_its_client_has_left(
    server: Server,
) -> None:
    with server.client() as client:
        client.send(request("GET", "/takes_over"))
        assert client.read_exactly(5) == b"taken"
        client.half_close()
        assert client.read_until_closed() == b""
    said = "the application has taken the socket over"
    assert server.notes() == [said, said, "received: "]


@pytest.mark.own_threads
def test_one_request_does_not_hear_of_another_ones_client() -> None:
    with (
        Server.start(APP, "--threads", "2") as server,
        server.client() as first,
        server.client() as second,
    ):
        first.send(request("GET", "/holds"))
        server.wait_for_note("holds")
        second.send(request("GET", "/waits"))
        server.wait_for_note("waits")
        second.half_close()
        server.wait_for_note("told: True")
        Gate(server).open()
        assert first.response().text == "held"
        assert "called without need" not in server.notes()
