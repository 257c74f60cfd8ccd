"""What the application's own signal handlers raise while the loop waits."""

from __future__ import annotations

import os
import signal

from harness import Server, eventually
from wellness import assert_comes_to_rest

APP = """
import signal, sys
from apps.routes import Routes, text

app = Routes()


def raises(number, frame):
    raise ValueError("too late")


def exits(number, frame):
    sys.exit(7)


@app.route
def here(environ, start_response):
    return text(start_response, "here")


signal.signal(signal.SIGALRM, raises)
signal.signal(signal.SIGVTALRM, exits)
"""


def test_an_exception_ends_nothing_and_is_in_the_error_log() -> None:
    """A timer that a request has set and not taken back, say."""
    with Server.start(APP, "--keep-alive", "30") as server, server.client() as client:
        pid = server.worker_pid()
        assert client.request("GET", "/here").text == "here"
        # Until then it would be an error of that request.
        assert_comes_to_rest(pid)
        os.kill(pid, signal.SIGALRM)
        server.wait_for_log("Error in a signal handler")
        server.wait_for_log("ValueError: too late")
        assert client.request("GET", "/here").text == "here"
        assert server.worker_pid() == pid


def test_an_exit_ends_the_worker() -> None:
    with Server.start(APP) as server:
        pid = server.worker_pid()
        assert_comes_to_rest(pid)
        os.kill(pid, signal.SIGVTALRM)
        eventually(lambda: server.worker_pids() not in ([], [pid]), "the worker is replaced")
        assert server.get("/here").text == "here"
