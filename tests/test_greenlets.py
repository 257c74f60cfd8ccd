"""Applications in greenlets: who waits gives the loop up, and nobody else waits with them."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest
from harness import Server, beats, eventually, memory_kib, request

pytestmark = pytest.mark.own_threads

APP = """
import os, threading, time
from greenlet import GreenletExit
from apps.hold import wait_for_file
from apps.notes import note
from apps.routes import Routes, text
from meinheld_worker import green, hub

green.want("the test")
app = Routes()
BLOCK = b"x" * (1 << 20)


@app.route
def well(environ, start_response):
    return text(start_response, "well")


@app.route
def sleeps(environ, start_response):
    note("sleeps")
    hub.current().sleep(float(environ["QUERY_STRING"]))
    return text(start_response, "slept")


@app.route
def waits_for_a_pipe(environ, start_response):
    reader, writer = os.pipe()
    hub.running().call_later(0.01, os.write, writer, b"written")
    hub.current().wait_fd(reader, read=True, timeout=10)
    return text(start_response, os.read(reader, 10).decode())


@app.route
def waits_too_long_for_a_pipe(environ, start_response):
    reader, writer = os.pipe()
    try:
        hub.current().wait_fd(reader, read=True, timeout=0.01)
    except TimeoutError as error:
        return text(start_response, str(error))


@app.route
def waits_for_what_is_closed(environ, start_response):
    reader, writer = os.pipe()
    hub.running().spawn(hub.running().cancel_wait, reader)
    try:
        hub.current().wait_fd(reader, read=True)
    except OSError as error:
        return text(start_response, str(error))


@app.route
def waits_for_a_file(environ, start_response):
    with open(__file__) as file:
        hub.current().wait_fd(file.fileno(), read=True)
    return text(start_response, "ready")


@app.route
def streams(environ, start_response):
    start_response("200 OK", [("Content-Length", str(16 * len(BLOCK)))])
    return (BLOCK for _ in range(16))


@app.route
def writes(environ, start_response):
    write = start_response("200 OK", [("Content-Length", str(16 * len(BLOCK)))])
    for _ in range(16):
        write(BLOCK)
    return []


@app.route
def writes_from_a_thread(environ, start_response):
    write = start_response("200 OK", [("Content-Length", str(16 * len(BLOCK)))])
    done = hub.Waiter(hub.current())

    def writes():
        for _ in range(16):
            write(BLOCK)
        done.wake()

    threading.Thread(target=writes).start()
    done.wait()
    return []


@app.route
def spawns_what_fails(environ, start_response):
    hub.running().spawn(lambda: 1 / 0)
    return text(start_response, "spawned")


@app.route
def spawns_what_lasts(environ, start_response):
    def lasts():
        note("begins")
        try:
            hub.current().sleep(3600)
        finally:
            note("ends")

    hub.running().spawn(lasts)
    return text(start_response, "spawned")


@app.route
def wakes_from_threads(environ, start_response):
    waiters = [hub.Waiter(hub.current()) for _ in range(100)]
    threads = [threading.Thread(target=one.wake, args=(n,)) for n, one in enumerate(waiters)]
    for thread in threads:
        thread.start()
    return text(start_response, str(sum(one.wait() for one in waiters)))


@app.route
def is_not_current_elsewhere(environ, start_response):
    seen = []
    thread = threading.Thread(target=lambda: seen.append(hub.current()))
    thread.start()
    thread.join()
    return text(start_response, f"{seen[0]} {hub.current() is hub.running()}")


@app.route
def forks(environ, start_response):
    pid = os.fork()
    if not pid:
        os._exit(hub.current() is not None)
    return text(start_response, str(os.waitpid(pid, 0)[1]))


@app.route
def forks_and_comes_back(environ, start_response):
    if not os.fork():
        hub.current()
        return text(start_response, "the child's")
    return text(start_response, "the parent's")


@app.route
def waits_in_close(environ, start_response):
    start_response("200 OK", [("Content-Length", "1")])

    class Body:
        def __iter__(self):
            return iter([b"1"])

        def close(self):
            hub.current().sleep(0.01)
            note("closed")

    return Body()


@app.route
def exits(environ, start_response):
    raise GreenletExit()


@app.route
def never_ends(environ, start_response):
    note("never ends")
    while True:
        try:
            hub.current().sleep(3600)
        except GreenletExit:
            note("goes on")


@app.route
def streams_without_waiting(environ, start_response):
    start_response("200 OK", [])
    note("streams")
    while True:
        time.sleep(0.001)
        yield b"tick"


@app.route
def blocks(environ, start_response):
    note("blocks")
    wait_for_file("open-gate")
    return text(start_response, "unblocked")
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP) as server:
        yield server


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("/sleeps?0.01", b"slept"),
        ("/sleeps?0", b"slept"),
        ("/waits_for_a_pipe", b"written"),
        ("/waits_too_long_for_a_pipe", b"timed out"),
        ("/waits_for_what_is_closed", b"[Errno 9] Bad file descriptor"),
        ("/waits_for_a_file", b"ready"),
        ("/wakes_from_threads", str(sum(range(100))).encode()),
        ("/is_not_current_elsewhere", b"None True"),
        ("/forks", b"0"),
        ("/forks_and_comes_back", b"the parent's"),
    ],
)
def test_a_request_may(server: Server, target: str, answer: bytes) -> None:
    assert server.get(target).body == answer


def test_while_one_sleeps_others_are_served(server: Server) -> None:
    with server.client() as client:
        client.send(request("GET", "/sleeps?60"))
        server.wait_for_note("sleeps")
        assert server.get("/well").body == b"well"
        assert client.is_quiet()


@pytest.mark.parametrize("target", ["/streams", "/writes", "/writes_from_a_thread"])
def test_a_slow_reader_holds_nobody_up(server: Server, target: str) -> None:
    with server.client(receive_buffer=8192) as slow:
        slow.send(request("GET", target))
        slow.read_until(b"\r\n\r\n")
        for _ in range(3):
            assert server.get("/well").body == b"well"
        assert len(slow.read_exactly(16 << 20)) == 16 << 20


def test_a_stream_that_never_waits_keeps_nobody_from_being_served(server: Server) -> None:
    with server.client() as client:
        client.send(request("GET", "/streams_without_waiting"))
        server.wait_for_note("streams")
        assert server.get("/well").body == b"well"
        client.read_until(b"tick")


def test_a_pipelined_request_waits_for_the_one_before(server: Server) -> None:
    with server.client() as client:
        client.send(request("GET", "/sleeps?0.05") + request("GET", "/well"))
        assert [client.response().body for _ in range(2)] == [b"slept", b"well"]


def test_close_may_wait(server: Server) -> None:
    assert server.get("/waits_in_close").body == b"1"
    server.wait_for_note("closed")


def test_what_a_spawned_function_raises_is_logged(server: Server) -> None:
    assert server.get("/spawns_what_fails").body == b"spawned"
    server.wait_for_log("Error in a greenlet\nTraceback")


def test_a_request_that_exits_is_a_503(server: Server) -> None:
    assert server.get("/exits").status == 503


def test_hooks_and_logs_may_wait() -> None:
    config = """
from meinheld_worker import hub

def waits(where):
    from apps.notes import note
    hub.current().sleep(0.01)
    note(where)

def pre_request(worker, request):
    waits("pre_request")

def post_request(worker, request, environ, response):
    waits("post_request " + str(response.status_code))
"""
    with Server.start(APP, config=config) as server:
        assert [server.get("/well").body for _ in range(2)] == [b"well"] * 2
        server.wait_for_note("post_request 200", 2)
        assert server.notes() == ["pre_request", "post_request 200"] * 2


def test_what_the_pre_request_hook_raises_fails_the_request() -> None:
    config = "def pre_request(worker, request):\n    raise ValueError('hook')"
    with Server.start(APP, config=config) as server:
        assert server.get("/well").status == 500
        server.wait_for_log("ValueError: hook")


def test_a_spawned_greenlet_does_not_keep_the_worker_but_ends_with_it() -> None:
    with Server.start(APP) as server:
        server.get("/spawns_what_lasts")
        server.wait_for_note("begins")
        assert server.stop() == 0
        assert server.notes() == ["begins", "ends"]


def test_who_does_not_end_does_not_keep_the_worker_for_longer_than_the_grace() -> None:
    with Server.start(APP, "--graceful-timeout", "1") as server, server.client() as client:
        client.send(request("GET", "/never_ends"))
        server.wait_for_note("never ends")
        assert server.stop() == 0
        assert "goes on" in server.notes()


def test_a_worker_that_quits_runs_finally_blocks() -> None:
    with Server.start(APP) as server:
        server.get("/spawns_what_lasts")
        server.wait_for_note("begins")
        assert server.quit()


def test_sleepers_do_not_stop_the_heart() -> None:
    with Server.start(APP) as server, server.client() as client:
        client.send(request("GET", "/sleeps?60"))
        server.wait_for_note("sleeps")
        worker = server.worker_pid()
        before = beats(worker)
        eventually(lambda: beats(worker) != before, "a heartbeat")


def test_a_request_that_blocks_the_loop_is_cut_off_by_the_watchdog() -> None:
    env = {"MEINHELD_REQUEST_TIMEOUT": "0.2"}
    with Server.start(APP, env=env) as server, server.client() as client:
        client.send(request("GET", "/blocks"))
        assert client.is_closed_by_peer()
        server.wait_for_log("Connection aborted: GET /blocks")


def test_ten_thousand_suspended_requests_are_ordinary() -> None:
    count = 10_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(2 * count, hard), hard))
    try:
        with Server.start(APP, "--worker-connections", str(count + 10)) as server:
            before = memory_kib(server.worker_pid())
            clients = [server.client() for _ in range(count)]
            for client in clients:
                client.send(request("GET", "/sleeps?3600"))
            server.wait_for_note("sleeps", count)
            assert server.get("/well").body == b"well"
            each = (memory_kib(server.worker_pid()) - before) / count
            assert each < 32, f"{each:.1f} KiB a suspended request"
            for client in clients:
                client.close()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
