"""gunicorn's server hooks, with the objects and attributes that it documents."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator

import pytest
from harness import Server, Truncated, eventually, request

HOOKS = """
import json, os
from apps.notes import note

keepalive = 30


def post_worker_init(worker):
    note(f"post_worker_init {worker.pid == os.getpid()} {worker.alive} {callable(worker.wsgi)}")


def worker_int(worker):
    note(f"worker_int {worker.pid == os.getpid()}")


def worker_exit(server, worker):
    note(f"worker_exit {worker.pid == os.getpid()} {worker.nr}")


def child_exit(server, worker):
    note(f"child_exit {server.pid == os.getpid()}")


def pre_request(worker, req):
    seen = {
        "worker": worker.pid,
        "method": req.method,
        "uri": req.uri,
        "path": req.path,
        "query": req.query,
        "headers": req.headers,
        "version": req.version,
    }
    note("pre " + json.dumps(seen))


def post_request(worker, req, environ, resp):
    seen = {
        "worker": worker.pid,
        "path": req.path,
        "environ": environ["PATH_INFO"],
        "own": environ.get("app.own"),
        "status": resp.status,
        "status_code": resp.status_code,
        "headers": resp.headers,
        "sent": resp.sent,
        "headers_sent": resp.headers_sent,
        "response_length": resp.response_length,
    }
    note("post " + json.dumps(seen))
"""
APP = """
from apps.notes import note
from apps.routes import Routes

app = Routes()


@app.route
def whole(environ, start_response):
    note("app")
    environ["app.own"] = "kept"
    start_response("200 OK", [("Content-Length", "5"), ("X-Out", "1")])
    return [b"whole"]


@app.route
def blocks(environ, start_response):
    start_response("200 OK", [])
    yield b"one"
    yield b"two"


@app.route
def error(environ, start_response):
    raise ValueError("for the hook")
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP, config=HOOKS) as server:
        yield server


def last(server: Server, kind: str, path: str) -> dict[str, object]:
    """What the hook noted for the request of that path."""

    def found() -> list[dict[str, object]]:
        notes = [
            json.loads(note.removeprefix(kind))
            for note in server.notes()
            if note.startswith(kind + " ")
        ]
        return [note for note in notes if note["path"] == path]

    return eventually(found, f"{kind}_request of {path}")[-1]


def test_pre_request_sees_the_request(server: Server) -> None:
    server.get("/whole/pre?a=b%20c", {"X-Mixed-Case": "Value"})
    seen = last(server, "pre", "/whole/pre")
    assert seen == {
        "worker": server.worker_pid(),
        "method": "GET",
        "uri": "/whole/pre?a=b%20c",
        "path": "/whole/pre",
        "query": "a=b%20c",
        "headers": [["HOST", "test"], ["X-MIXED-CASE", "Value"]],
        "version": [1, 1],
    }


def test_post_request_sees_the_request_the_environ_and_the_response(server: Server) -> None:
    server.get("/whole/post")
    assert last(server, "post", "/whole/post") == {
        "worker": server.worker_pid(),
        "path": "/whole/post",
        "environ": "/whole/post",
        "own": "kept",
        "status": "200 OK",
        "status_code": 200,
        "headers": [["Content-Length", "5"], ["X-Out", "1"]],
        "sent": 5,
        "headers_sent": True,
        "response_length": 5,
    }


def test_post_request_of_a_streamed_answer_knows_what_was_sent(server: Server) -> None:
    server.get("/blocks/post")
    seen = last(server, "post", "/blocks/post")
    assert (seen["sent"], seen["response_length"], seen["headers_sent"]) == (6, None, True)


def test_the_order_is_pre_request_application_post_request(server: Server) -> None:
    start = len(server.notes())
    with server.client() as client:
        client.send(
            request("GET", "/whole/1") + request("GET", "/whole/2", {"Connection": "close"})
        )
        client.response(), client.response()
        assert client.is_closed_by_peer()
    last(server, "post", "/whole/2")
    assert [note.split(" ")[0] for note in server.notes()[start:]] == ["pre", "app", "post"] * 2


def test_post_worker_init_runs_once_with_the_loaded_application(server: Server) -> None:
    server.get("/whole")
    assert [note for note in server.notes() if note.startswith("post_worker_init")] == [
        "post_worker_init True True True"
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT, signal.SIGINT])
def test_the_end_of_a_worker_is_told(number: signal.Signals) -> None:
    with Server.start(APP, config=HOOKS) as server:
        server.get("/whole")
        server.signal(number)
        assert server.wait() == 0
        notes = server.notes()
        assert notes.count("worker_exit True 1") == 1
        assert notes.count("worker_int True") == (0 if number == signal.SIGTERM else 1)


def test_child_exit_runs_in_the_master_for_a_worker_that_ended() -> None:
    with Server.start(APP, config=HOOKS) as server:
        # Before a worker serves, its signal handlers are still the arbiter's.
        server.get("/whole")
        os.kill(server.worker_pid(), signal.SIGTERM)
        server.wait_for_note("child_exit True")
        # Nor has its successor them before it serves, and it would miss the test's last signal.
        assert server.get("/whole").status == 200


FAILING = """
keepalive = 30


def pre_request(worker, req):
    if "pre" in req.path:
        raise ValueError("in pre_request")


def post_request(worker, req, environ, resp):
    if "post" in req.path:
        raise ValueError("in post_request")
    if "exit" in req.path:
        raise SystemExit(3)
"""


@pytest.fixture(scope="module")
def failing() -> Iterator[Server]:
    with Server.start(APP, config=FAILING) as server:
        yield server


def test_an_error_in_pre_request_is_a_500_and_logged(failing: Server) -> None:
    pid = failing.worker_pid()
    assert failing.get("/whole/pre").status == 500
    failing.wait_for_log("ValueError: in pre_request")
    assert failing.get("/whole").status == 200
    assert failing.worker_pid() == pid


def test_an_error_in_post_request_is_logged_and_the_answer_is_complete(failing: Server) -> None:
    with failing.client() as client:
        assert client.request("GET", "/whole/post").body == b"whole"
        failing.wait_for_log("ValueError: in post_request")
        assert client.request("GET", "/whole").body == b"whole"


def test_a_hook_that_exits_does_not_end_the_worker(failing: Server) -> None:
    # Code 3 would even halt the arbiter.
    pid = failing.worker_pid()
    assert failing.get("/whole/exit").body == b"whole"
    failing.wait_for_log("Exception in post_request hook[^$]*SystemExit: 3")
    assert failing.get("/whole").body == b"whole"
    assert failing.worker_pid() == pid


@pytest.mark.parametrize(
    ("hook", "parameters"), [("worker_exit", "server, worker"), ("worker_int", "worker")]
)
def test_an_error_in_the_last_hooks_does_not_keep_the_worker(hook: str, parameters: str) -> None:
    config = f"def {hook}({parameters}):\n    raise ValueError('in {hook}')\n"
    with Server.start(APP, config=config) as server:
        server.get("/whole")
        server.signal(signal.SIGQUIT)
        assert server.wait() == 0
        assert f"in {hook}" in server.stderr_text()


def test_an_error_in_post_worker_init_stops_the_server() -> None:
    with Server.start(
        APP,
        config="def post_worker_init(worker):\n    raise ValueError('in post_worker_init')\n",
        ready=False,
    ) as server:
        assert server.wait() != 0
        assert "in post_worker_init" in server.stderr_text()


def test_hooks_run_for_an_answer_that_the_application_broke(server: Server) -> None:
    with contextlib.suppress(Truncated):
        server.get("/error/hook")
    assert last(server, "post", "/error/hook")["path"] == "/error/hook"
