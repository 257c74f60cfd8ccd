"""What each signal to the arbiter or to a worker does: gunicorn's contract."""

from __future__ import annotations

import os
import signal

import pytest
from harness import Server, eventually, request
from support import ADDED_BY_HOOKS, gone, gunicorn, open_gate, replaced

pytestmark = pytest.mark.timeout(120)


def start(*args: str, app: str = "sites.lifecycle:app") -> Server:
    server = gunicorn(app, "--keep-alive", "60", *args, config=ADDED_BY_HOOKS)
    server.wait_for_note("init")
    return server


# TERM


def test_term_lets_a_request_in_flight_finish_and_closes_its_connection() -> None:
    with start() as server, server.client() as client:
        client.send(request(target="/wait"))
        server.wait_for_note("entered")
        server.signal(signal.SIGTERM)
        server.wait_for_note("told to stop")
        open_gate(server)
        response = client.response()
        assert (response.status, response.body) == (200, b"waited\n")
        assert response.header("Connection") == "close"
        assert client.read_until_closed() == b""
        assert server.wait() == 0


def test_term_lets_a_streamed_response_finish() -> None:
    with start() as server, server.client() as client:
        client.send(request(target="/stream"))
        server.wait_for_note("streaming")
        server.signal(signal.SIGTERM)
        server.wait_for_note("told to stop")
        open_gate(server)
        assert client.response().body == b"first\nsecond\nlast\n"
        assert client.read_until_closed() == b""
        assert server.wait() == 0
        assert server.notes().count("stream closed") == 1


def test_term_lets_a_body_that_is_still_being_sent_arrive() -> None:
    with start(app="apps.echo:app") as server, server.client() as client:
        server.get()
        client.send(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n01234")
        # An answer on a later connection: the worker has seen the half request.
        server.get()
        server.signal(signal.SIGTERM)
        server.wait_for_log("Handling signal: term")
        client.send(b"56789")
        assert client.response().body == b"POST /\n0123456789"
        assert server.wait() == 0


def test_a_request_on_an_idle_connection_is_answered_while_the_worker_drains() -> None:
    with start() as server, server.client() as idle, server.client() as busy:
        assert idle.request().status == 200
        busy.send(request(target="/wait"))
        server.wait_for_note("entered")
        server.signal(signal.SIGTERM)
        server.wait_for_note("told to stop")
        idle.send(request())
        open_gate(server)
        assert busy.response().body == b"waited\n"
        response = idle.response()
        assert response.status == 200
        assert response.header("Connection") == "close"
        assert idle.read_until_closed() == b""
        assert server.wait() == 0


def test_term_closes_an_idle_connection_in_an_orderly_way() -> None:
    with start("--graceful-timeout", "60") as server, server.client() as client:
        assert client.request().status == 200
        # Far less than both graceful_timeout and keepalive: idle peers do not hold a shutdown up.
        assert server.stop(within=15) == 0
        assert client.read_until_closed() == b""


def test_term_is_obeyed_by_a_worker_that_never_had_a_connection() -> None:
    with start() as server:
        assert server.stop() == 0
        assert "SIGKILL" not in server.stderr_text()


def test_graceful_timeout_bounds_the_drain() -> None:
    with start("--graceful-timeout", "1") as server, server.client() as client:
        client.send(request(target="/wait"))
        server.wait_for_note("entered")
        # The gate stays shut: only the arbiter's patience ends this.
        assert server.stop() == 0


def test_repeated_term_is_one_term() -> None:
    with start() as server, server.client() as client:
        worker = server.worker_pid()
        client.send(request(target="/wait"))
        server.wait_for_note("entered")
        for _ in range(5):
            server.signal(signal.SIGTERM, worker)
        server.wait_for_note("told to stop")
        for _ in range(5):
            server.signal(signal.SIGTERM, worker)
        open_gate(server)
        assert client.response().body == b"waited\n"
        replaced(server, [worker])
        assert "Traceback" not in server.stderr_text()


def test_a_worker_that_was_told_to_stop_while_it_loads_leaves_and_loses_nothing() -> None:
    loading = (
        "from apps.notes import note\nfrom sites.lifecycle import app, wait_for\n"
        "note('loading')\nwait_for('loaded')\n"
    )
    with gunicorn(loading) as server:
        server.wait_for_note("loading")
        worker = server.worker_pid()
        server.signal(signal.SIGTERM, worker)
        # Asked before the load ends: whether the leaving worker or its successor answers is theirs.
        with server.client() as client:
            client.send(request())
            open_gate(server, "loaded")
            (successor,) = replaced(server, [worker])
            assert int(client.response().text) in (worker, successor)
        assert server.get().text == f"{successor}\n"


def test_gunicorn_stops_while_its_application_still_loads() -> None:
    loading = (
        "from apps.notes import note\nfrom sites.lifecycle import app, wait_for\n"
        "note('loading')\nwait_for('loaded')\n"
    )
    with gunicorn(loading) as server:
        server.wait_for_note("loading")
        server.signal(signal.SIGTERM)
        server.wait_for_log("Handling signal: term")
        open_gate(server, "loaded")
        assert server.wait() == 0
        assert "SIGKILL" not in server.stderr_text()


# QUIT, INT and ABRT


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGINT])
def test_quit_and_int_stop_without_waiting_for_requests(number: signal.Signals) -> None:
    with start("--graceful-timeout", "60") as server, server.client() as client:
        client.send(request(target="/wait"))
        server.wait_for_note("entered")
        server.signal(number)
        assert server.wait() == 0
        assert "worker_int" in server.notes()
        assert "worker_exit" in server.notes()


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGINT])
def test_quit_and_int_to_an_idle_worker_end_it_with_status_0(number: signal.Signals) -> None:
    with start() as server:
        worker = server.worker_pid()
        server.signal(number, worker)
        replaced(server, [worker])
        server.wait_for_note("child_exit")
        assert server.notes().count("worker_int") == 1
        assert "exited with code" not in server.stderr_text()


@pytest.mark.parametrize("target", ["/", "/wait"], ids=["idle", "busy"])
def test_abrt_calls_worker_abort_and_ends_the_worker_with_status_1(target: str) -> None:
    with start() as server, server.client() as client:
        worker = server.worker_pid()
        client.send(request(target=target))
        if target == "/":
            client.response()
        else:
            server.wait_for_note("entered")
        server.signal(signal.SIGABRT, worker)
        replaced(server, [worker])
        server.wait_for_log(rf"Worker \(pid:{worker}\) exited with code 1")
        assert server.notes().count("worker_abort") == 1
        assert server.notes().count("worker_exit") == 1


# USR1 and WINCH


def test_usr1_makes_the_arbiter_and_the_worker_reopen_their_logs() -> None:
    # The error log has the name under which the harness looks for it.
    with start("--access-logfile", "{dir}/access.log", "--error-logfile", "{dir}/stderr") as server:
        access, error = server.directory / "access.log", server.directory / "stderr"
        with server.client() as client:
            client.request(target="/before")
            eventually(lambda: "/before" in access.read_text(), "the first access record")
            old_access = access.rename(server.directory / "access.log.1")
            old_error = error.rename(server.directory / "stderr.1")
            server.signal(signal.SIGUSR1)
            # The arbiter creates both files again; the worker does when its own signal comes.
            eventually(lambda: access.exists() and error.exists(), "the logs are there again")

            def reopened() -> bool:
                # Asking over and over: the record after the worker's USR1 is in the new file.
                client.request(target="/after")
                return "/after" in access.read_text()

            eventually(reopened, "the worker writes to the new access log")
            moved = old_access.read_text()
            client.request(target="/last")
            eventually(lambda: "/last" in access.read_text(), "the last access record")
            assert old_access.read_text() == moved
            assert client.request("BAD METHOD", "/").status == 400
            eventually(lambda: "Invalid" in error.read_text(), "a warning in the new error log")
            assert "Invalid" not in old_error.read_text()


def test_usr1_does_not_disturb_a_request_in_flight() -> None:
    with start() as server, server.client() as client:
        client.send(request(target="/wait"))
        server.wait_for_note("entered")
        server.signal(signal.SIGUSR1)
        server.wait_for_log("Handling signal: usr1")
        open_gate(server)
        assert client.response().body == b"waited\n"
        assert client.request().status == 200


def test_winch_and_chld_leave_a_worker_alone() -> None:
    with start() as server:
        worker = server.worker_pid()
        server.signal(signal.SIGWINCH, worker)
        server.signal(signal.SIGCHLD, worker)
        assert server.get().text == f"{worker}\n"


# The arbiter itself


def test_workers_leave_when_their_arbiter_is_killed() -> None:
    with start("--workers", "2") as server:
        server.wait_for_note("init", 2)
        workers = server.worker_pids()
        server.signal(signal.SIGKILL)
        server.wait(15)
        eventually(lambda: all(gone(pid) for pid in workers), f"workers {workers} leave")
        assert server.notes().count("worker_exit") == 2


def test_a_worker_with_connections_leaves_when_its_arbiter_is_killed() -> None:
    with start() as server, server.client() as client:
        assert client.request().status == 200
        worker = server.worker_pid()
        server.signal(signal.SIGKILL)
        server.wait(15)
        eventually(lambda: gone(worker), "the worker leaves")
        assert client.read_until_closed() == b""


def test_ttin_and_ttou_change_the_number_of_workers() -> None:
    with start() as server:
        first = server.worker_pid()
        server.signal(signal.SIGTTIN)
        server.wait_for_note("init", 2)
        assert len(server.worker_pids()) == 2
        server.signal(signal.SIGTTOU)
        replaced(server, [first])
        # The last one stays, whatever TTOU says.
        server.signal(signal.SIGTTOU)
        server.wait_for_log("Handling signal: ttou", 2)
        assert server.get().status == 200
        assert len(server.worker_pids()) == 1


def test_hup_reads_the_configuration_and_the_application_anew() -> None:
    version = (
        "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'{}']\n"
    )
    with gunicorn(version.format("one")) as server:
        assert server.get().body == b"one"
        before = server.worker_pids()
        (server.directory / "app.py").write_text(version.format("two"))
        (server.directory / "gunicorn.conf.py").write_text("workers = 2\n")
        server.signal(signal.SIGHUP)
        replaced(server, before, 2)
        assert server.get().body == b"two"


def test_hooks_are_called_once_for_each_worker() -> None:
    with start("--workers", "2") as server:
        server.wait_for_note("init", 2)
        assert server.stop() == 0
        notes = server.notes()
        assert [notes.count(name) for name in ("worker_exit", "child_exit", "on_exit")] == [2, 2, 1]
        assert notes.count("worker_int") == 0


def test_a_pid_file_names_the_arbiter_and_goes_with_it() -> None:
    with start("--pid", "{dir}/pid") as server:
        pid_file = server.directory / "pid"
        assert int(pid_file.read_text()) == server.process.pid != os.getpid()
        assert server.stop() == 0
        assert not pid_file.exists()
