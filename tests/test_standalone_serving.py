"""`from meinheld import server`: listen, run, stop."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess

import pytest
from harness import Server, eventually
from procfs import children
from standalone import HELLO, WAY_ENV, WAY_THREADS, WAYS, Standalone, listening, serving

pytestmark = pytest.mark.own_threads


#: Of meinheld 1.0.2, with another port.
README = """
from meinheld import server

def hello_world(environ, start_response):
    status = '200 OK'
    res = b"Hello world!"
    response_headers = [('Content-type', 'text/plain'), ('Content-Length', str(len(res)))]
    start_response(status, response_headers)
    return [res]

server.listen(("0.0.0.0", 0))
server.run(hello_world)
"""


def test_the_program_of_the_readme_serves() -> None:
    with Standalone.start(README) as server:
        response = server.get("/")
    assert (response.status, response.body) == (200, b"Hello world!")
    assert response.header("content-type") == "text/plain"


def test_what_that_readme_gives_as_a_status_is_an_error_whose_line_names_the_fix() -> None:
    with Standalone.start(README.replace("'200 OK'", "b'200 OK'")) as server:
        assert server.get("/").status == 500
        server.wait_for_log("^TypeError: the status is bytes: write '200 OK', a str$")


def test_the_names_of_the_server_are_those_of_the_package_too() -> None:
    source = f"import meinheld\n{HELLO}\nmeinheld.listen(('127.0.0.1', 0))\nmeinheld.run(app)\n"
    with Standalone.start(source) as server:
        assert server.get("/").status == 200


def test_it_listens_at_the_path_of_a_unix_socket_and_removes_it_at_the_end() -> None:
    source = f"from meinheld import server\n{HELLO}\nserver.listen(b'sock')\nserver.run(app)\n"
    with Standalone.start(source) as server:
        path = server.directory / "sock"
        server.addresses = [str(path)]
        assert server.get("/").status == 200
        assert server.stop() == 0
        assert not path.exists()


def test_a_unix_socket_that_another_server_has_replaced_stays() -> None:
    source = f"from meinheld import server\n{HELLO}\nserver.listen('sock')\nserver.run(app)\n"
    with Standalone.start(source) as server, socket.socket(socket.AF_UNIX) as other:
        path = server.directory / "sock"
        path.unlink()
        other.bind(str(path))
        assert server.stop() == 0
        assert path.exists()


def test_a_stale_unix_socket_is_replaced_and_one_that_is_listened_to_is_not() -> None:
    source = f"from meinheld import server\n{HELLO}\nserver.listen(PATH)\nserver.run(app)\n"
    with Standalone.start(source.replace("PATH", "'sock'")) as first:
        path = str(first.directory / "sock")
        with Standalone.start(source.replace("PATH", repr(path)), ready=False) as second:
            assert second.wait() == 1
            assert f"cannot listen at '{path}': another process listens there" in (
                second.stderr_text()
            )
        first.process.kill()
        first.process.wait()
        with Standalone.start(source.replace("PATH", repr(path))) as third:
            assert third.get("/").status == 200


def test_several_calls_of_listen_are_several_listeners() -> None:
    before = 'server.listen(("127.0.0.1", 0))\nserver.listen("sock")'
    with Standalone.start(serving(before=before)) as server:
        path = server.directory / "sock"
        assert len(server.addresses) == 3
        for address in (*server.addresses[:2], str(path)):
            server.addresses = [address]
            assert server.get("/").status == 200


def test_it_listens_at_an_address_of_ipv6() -> None:
    source = serving().replace("127.0.0.1", "::1")
    with Standalone.start(source) as server:
        assert server.address[0] == "::1"
        assert server.get("/").status == 200


def test_processes_that_were_forked_after_listen_serve_together() -> None:
    app = """
import os
def app(environ, start_response):
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
    before = "os.fork()"
    with Standalone.start(serving(app, before=before)) as server:
        pids = {server.process.pid, *children(server.process.pid)}
        assert len(pids) == 2
        assert int(server.get("/").body) in pids
        # The one that is left serves on.
        assert server.stop() == 0
        assert {int(server.get("/").body) for _ in range(5)} == pids - {server.process.pid}


def test_listen_returns_the_address_that_port_0_became() -> None:
    source = (
        serving()
        .replace("server.listen", "print")
        .replace('print(("127.0.0.1", 0))', 'print(server.listen(("127.0.0.1", 0)))')
    )
    with Standalone.start(source) as server:
        assert server.stdout_text() == f"{server.address}\n"


@pytest.mark.parametrize("call", ["listen(socket_fd={})", "set_listen_socket([{}])"])
def test_it_listens_on_sockets_that_somebody_else_has_opened(call: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        source = (
            f"from meinheld import server\n{HELLO}\nserver.{call.format(number)}\nserver.run(app)"
        )
        with Standalone.start(source, pass_fds=[number]) as server:
            assert server.addresses == [listener.getsockname()]
            assert server.get("/").status == 200


def test_as_many_clients_wait_for_it_as_the_backlog_says() -> None:
    source = """
from meinheld import server
server.set_backlog(3)
server.listen("sock")
print("listens")
input()
"""
    with Standalone.start(source, ready=False) as server:
        eventually(lambda: server.stdout_text() == "listens\n", "it listens")
        path = str(server.directory / "sock")
        with contextlib.ExitStack() as clients:
            waiting = 0
            while clients.enter_context(_unix_client()).connect_ex(path) == 0:
                waiting += 1
        # unix(7) counts from 0.
        assert waiting == 3 + 1


def _unix_client() -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.setblocking(False)
    return client


@pytest.mark.parametrize(
    ("how", "way"),
    [("stop()", "inline"), ("stop()", "green"), ("shutdown(timeout=5)", "threads")],
)
def test_a_request_stops_the_server_and_is_answered(how: str, way: str) -> None:
    app = f"""
def app(environ, start_response):
    server.{how}
    start_response("200 OK", [("Content-Length", "4")])
    return [b"done"]
"""
    with Standalone.start(serving(app, f"threads={WAY_THREADS[way]}"), env=WAY_ENV[way]) as server:
        assert server.get("/").body == b"done"
        assert server.wait() == 0


def test_a_thread_stops_the_server() -> None:
    before = "import threading\nthreading.Thread(target=lambda: (input(), server.stop())).start()"
    with Standalone.start(serving(before=before), stdin=subprocess.PIPE) as server:
        assert server.get("/").status == 200
        assert server.process.stdin
        server.process.stdin.write(b"\n")
        server.process.stdin.close()
        assert server.wait() == 0


def test_a_signal_handler_of_the_applications_own_stops_the_server() -> None:
    before = """
import signal
def handle(number, frame):
    print("handled", flush=True)
    server.stop()
signal.signal(signal.SIGTERM, handle)
"""
    with Standalone.start(serving(before=before)) as server:
        assert server.get("/").status == 200
        assert server.stop() == 0
        assert server.stdout_text() == "handled\n"


def test_where_no_server_runs_there_is_nothing_to_stop() -> None:
    with Standalone.start("from meinheld import server\nserver.stop()", ready=False) as server:
        assert server.wait() == 0


def test_it_runs_in_another_thread_too() -> None:
    source = serving().replace(
        "server.run(app)",
        "import threading\nrunner = threading.Thread(target=server.run, args=(app,))\n"
        "runner.start()\ninput()\nserver.stop()\nrunner.join()",
    )
    with Standalone.start(source, ready=False, stdin=subprocess.PIPE) as server:
        eventually(lambda: listening(server.process.pid), "it listens")
        server.addresses = listening(server.process.pid)
        assert server.get("/").status == 200
        assert server.process.stdin
        server.process.stdin.write(b"\n")
        server.process.stdin.close()
        assert server.wait() == 0


@pytest.mark.parametrize("way", WAYS)
def test_what_takes_longer_than_the_timeout_is_cut_off(way: str) -> None:
    app = """
def app(environ, start_response):
    if environ["PATH_INFO"] == "/stop":
        server.stop(timeout=1)
        start_response("200 OK", [("Content-Length", "0")])
        return []
    write = start_response("200 OK", [])
    return iter(lambda: b"x" * 65536, None)
"""
    with (
        Standalone.start(serving(app, f"threads={WAY_THREADS[way]}"), env=WAY_ENV[way]) as server,
        # It does not read, so that its answer never ends.
        server.client(receive_buffer=4096) as endless,
        server.client() as stopping,
    ):
        if way == "inline":
            # Nobody else is served while an answer is made.
            stopping.send(b"GET /stop HTTP/1.1\r\nHost: a\r\n\r\n")
            stopping.response()
            endless.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        else:
            endless.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            endless.read_until(b"\r\n\r\n")
            stopping.request("GET", "/stop")
        assert server.wait() == 0


@pytest.mark.parametrize("way", ["threads", "green"])
def test_an_application_that_never_comes_back_keeps_nobody(way: str) -> None:
    app = """
import apps.notes, time
def app(environ, start_response):
    if environ["PATH_INFO"] == "/stop":
        server.stop(1)
        start_response("200 OK", [("Content-Length", "0")])
        return []
    apps.notes.note("begun")
    wait(1000)
"""
    wait = {"threads": "wait = time.sleep", "green": "wait = server.sleep"}[way]
    source = serving(app, f"threads={WAY_THREADS[way]}", wait) + "\nprint('run has returned')"
    with Standalone.start(source, env=WAY_ENV[way]) as server, server.client() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        server.wait_for_note("begun")
        assert server.get("/stop").status == 200
        assert server.wait() == 0
        assert server.stdout_text() == "run has returned\n"


def test_it_can_run_again_and_leaves_nothing_behind() -> None:
    source = """
import gc, http.client, os, signal, threading, weakref
from meinheld import server

class Application:
    def __call__(self, environ, start_response):
        start_response("200 OK", [("Content-Length", "0")])
        server.stop()
        return []

def state():
    wakeup = signal.set_wakeup_fd(-1)
    return (
        wakeup, signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT),
        len(os.listdir("/proc/self/fd")), threading.active_count(),
    )

def serve(threads):
    address = server.listen(("127.0.0.1", 0))
    def get():
        connection = http.client.HTTPConnection(*address)
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        connection.close()
    client = threading.Thread(target=get)
    client.start()
    app = Application()
    server.run(app, threads=threads)
    client.join()
    return weakref.ref(app)

before = state()
for threads in (1, 4, 1, 4):
    app = serve(threads)
    gc.collect()
    assert state() == before, (state(), before)
    assert app() is None, gc.get_referrers(app())
print("all the same")
"""
    with Standalone.start(source, ready=False) as server:
        assert server.wait() == 0, server.stderr_text()
        assert server.stdout_text() == "all the same\n"


def test_a_child_process_of_the_applications_neither_serves_nor_stops_the_server() -> None:
    app = """
import os, signal
def app(environ, start_response):
    child = os.fork()
    if child == 0:
        server.stop()
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    _, status = os.waitpid(child, 0)
    body = b"ended by %d" % os.WTERMSIG(status)
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
    with Standalone.start(serving(app)) as server:
        for _ in range(2):
            assert server.get("/").body == b"ended by %d" % signal.SIGTERM
        assert server.stop() == 0


@pytest.mark.parametrize("logger", ["", "server.set_error_logger(Broken())"])
@pytest.mark.parametrize("way", WAYS)
def test_a_child_process_that_comes_back_from_the_application_is_ended(
    way: str, logger: str
) -> None:
    app = """
import os
class Broken:
    def error(self, *exc):
        raise LookupError("in the logger")
def app(environ, start_response):
    child = os.fork()
    body = b"ended with %d" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) if child else b""
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
    source = serving(app, f"threads={WAY_THREADS[way]}", logger) + "\nprint('run has returned')"
    with Standalone.start(source, env=WAY_ENV[way]) as server:
        assert server.get("/").body == b"ended with 1"
        if not logger:
            server.wait_for_log("forked came back into the server, and is ended")
        assert server.stop() == 0
        assert server.stdout_text() == "run has returned\n"
        assert "Traceback" not in server.stderr_text()


def test_a_path_whose_server_has_no_room_for_another_client_is_refused_at_once() -> None:
    source = """
import socket
from meinheld import server
listener = socket.socket(socket.AF_UNIX)
listener.bind("sock")
listener.listen(0)
waiting = socket.socket(socket.AF_UNIX)
waiting.connect("sock")
server.listen("sock")
"""
    with Standalone.start(source, ready=False) as server:
        assert server.wait() == 1
        assert "cannot listen at 'sock': another process listens there" in server.stderr_text()


@pytest.mark.parametrize("where", ["when it is loaded", "when it is preloaded", "in a request"])
def test_an_application_of_gunicorn_is_told_that_it_runs_no_server(where: str) -> None:
    program = README.partition("server.listen")[0]
    app = f"""{program}
def run():
    server.listen(("127.0.0.1", 0))
    server.run(hello_world)

{"" if where == "in a request" else "run()"}
def app(environ, start_response):
    run()
"""
    said = (
        r"^(Runtime)?Error: listen: gunicorn serves here already; "
        r'say listen and run below if __name__ == "__main__"$'
    )
    args = ["--preload"] if where == "when it is preloaded" else []
    with Server.start(app, *args, ready=where == "in a request") as server:
        if where == "in a request":
            assert server.get("/").status == 500
        else:
            assert server.wait() != 0
        server.wait_for_log(said)
