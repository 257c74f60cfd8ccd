"""Workers that hang, die or are told to: the site goes on."""

from __future__ import annotations

import signal

import pytest
from harness import OURS, Server, request
from support import ADDED_BY_HOOKS, gunicorn, replaced

pytestmark = pytest.mark.timeout(120)

INLINE = ("--threads", "1")
"""For what is so by nature where the loop calls the application itself, and stands still with it.
With threads only the thread is busy: the loop goes on accepting, and keeps the heartbeat."""


def start(*args: str) -> Server:
    return gunicorn("sites.lifecycle:app", *args, config=ADDED_BY_HOOKS)


def test_a_worker_whose_application_blocks_is_replaced() -> None:
    with start("--timeout", "2", *INLINE) as server, server.client() as client:
        server.wait_for_note("init")
        worker = server.worker_pid()
        client.send(request(target="/block"))
        server.wait_for_note("blocked")
        server.wait_for_log(rf"WORKER TIMEOUT \(pid:{worker}\)")
        if OURS:
            server.wait_for_log("Aborted while the application served GET /block from 127.0.0.1 ")
        replaced(server, [worker])
        assert server.notes().count("worker_abort") == 1
        # The client of the blocked request sees its connection end, and no made-up answer.
        assert client.is_closed_by_peer()
        assert server.get().status == 200


def test_a_blocked_worker_does_not_stop_its_sibling() -> None:
    with start("--workers", "2", "--timeout", "60", *INLINE) as server, server.client() as client:
        server.wait_for_note("init", 2)
        client.send(request(target="/block"))
        server.wait_for_note("blocked")
        pids = {server.get().text for _ in range(20)}
        assert len(pids) == 1


def test_an_idle_worker_keeps_its_heartbeat() -> None:
    # That its blocked sibling was killed is what shows that more than the timeout has passed.
    with start("--workers", "2", "--timeout", "3", *INLINE) as server, server.client() as client:
        server.wait_for_note("init", 2)
        idle = server.worker_pids()
        client.send(request(target="/block"))
        timed_out = server.wait_for_log(r"WORKER TIMEOUT \(pid:(\d+)\)")
        victim = int(timed_out.group(1))
        (survivor,) = (pid for pid in idle if pid != victim)
        server.wait_for_note("init", 3)
        assert survivor in server.worker_pids()
        assert server.stderr_text().count("WORKER TIMEOUT") == 1


def test_a_killed_worker_is_replaced() -> None:
    with start() as server:
        server.wait_for_note("init")
        worker = server.worker_pid()
        server.signal(signal.SIGKILL, worker)
        (successor,) = replaced(server, [worker])
        assert server.get().text == f"{successor}\n"
        assert server.notes().count("child_exit") == 1


def test_the_sibling_of_a_killed_worker_keeps_its_connections() -> None:
    with (
        start("--workers", "2", "--keep-alive", "60", "--timeout", "60", *INLINE) as server,
        server.client() as doomed,
    ):
        server.wait_for_note("init", 2)
        victim = int(doomed.request().text)
        # While the victim is busy, only its sibling can take a connection.
        doomed.send(request(target="/wait"))
        server.wait_for_note("entered")
        with server.client() as kept:
            survivor = int(kept.request().text)
            assert survivor != victim
            server.signal(signal.SIGKILL, victim)
            server.wait_for_log(rf"Worker \(pid:{victim}\) was sent SIGKILL")
            assert doomed.is_closed_by_peer()
            assert kept.request().text == f"{survivor}\n"
            server.wait_for_note("init", 3)
            assert survivor in server.worker_pids()


def test_system_exit_from_an_application_is_a_500_and_ends_nothing() -> None:
    with start() as server:
        server.wait_for_note("init")
        worker = server.worker_pid()
        assert server.get("/exit").status == 500
        assert server.get().text == f"{worker}\n"
        assert "SystemExit" in server.stderr_text()


def test_a_worker_leaves_after_max_requests_and_says_so() -> None:
    with start("--max-requests", "3") as server, server.client() as client:
        server.wait_for_note("init")
        worker = server.worker_pid()
        answers = [client.request() for _ in range(3)]
        assert [answer.text for answer in answers] == [f"{worker}\n"] * 3
        # The client is told, so that it does not send a fourth request into the void.
        assert [answer.header("Connection") == "close" for answer in answers] == [
            False,
            False,
            True,
        ]
        assert client.read_until_closed() == b""
        replaced(server, [worker])
        assert server.notes().count("worker_exit") == 1


def test_an_application_that_does_not_load_stops_gunicorn_at_start() -> None:
    with gunicorn("raise RuntimeError('no database')\napp = None\n", ready=False) as server:
        assert server.wait() != 0
        assert "no database" in server.stderr_text()


def test_an_application_may_run_other_programs() -> None:
    source = (
        "import subprocess, sys\n"
        "def app(environ, start_response):\n"
        "    output = subprocess.check_output([sys.executable, '-c', 'print(6 * 7)'])\n"
        "    start_response('200 OK', [('Content-Length', str(len(output)))])\n"
        "    return [output]\n"
    )
    with gunicorn(source) as server, server.client() as client:
        assert client.request().body == b"42\n"
        assert client.request().body == b"42\n"
