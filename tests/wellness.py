"""What a fault must leave behind: nothing.

    with unharmed(server):
        ...  # the fault

After it the same worker answers a correct client correctly, holds the descriptors that it held
before and no more, is at rest, and has logged no traceback and no warning that was not expected.
The application answers `WELL` on `/well`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from harness import PATIENCE, Client, Server, cpu_seconds, eventually, open_files, settled

WELL = b"all is well"
WELL_ROUTE = """
@app.route
def well(environ, start_response):
    return text(start_response, "all is well")
"""
REAP_ROUTE = """
import os


@app.route
def reap(environ, start_response):
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
    return text(start_response, "reaped")
"""


@contextmanager
def unharmed(
    server: Server, warnings: int | None = 0, tracebacks: int | None = 0
) -> Iterator[None]:
    """Fails unless the server is as well after the block as before it; `warnings` and
    `tracebacks` say how many lines of each kind the error log must have got (None: any number)."""
    pid = server.worker_pid()
    assert_serves(server)
    before = settled(lambda: len(open_files(pid)), during=0.05)
    said = len(server.stderr_text())
    yield
    for _ in range(3):
        assert_serves(server)
    assert server.worker_pid() == pid, "the worker was replaced"
    eventually(lambda: len(open_files(pid)) <= before, "the descriptors are closed")
    assert_comes_to_rest(pid)
    log = server.stderr_text()[said:]
    assert tracebacks is None or log.count("Traceback") == tracebacks, log
    assert warnings is None or log.count("[WARNING]") == warnings, log


def assert_serves(server: Server) -> None:
    """A correct client of its own gets a correct answer."""
    with server.client() as client:
        assert_answers(client)


def assert_answers(client: Client) -> None:
    """A correct answer on a connection that stays open. Once it is here, the worker has read what
    was sent to it on other connections before."""
    response = client.request("GET", "/well")
    assert (response.status, response.body) == (200, WELL)


def assert_comes_to_rest(pid: int) -> None:
    """Once it has nothing to do, the worker uses (nearly) no processor time: a share of the time
    that passes is measured, so that a busy machine makes no difference."""

    def rests() -> bool:
        used, since = cpu_seconds(pid), time.monotonic()
        with_nothing_to_do = 0.1
        while time.monotonic() - since < with_nothing_to_do:
            time.sleep(0.01)
        return cpu_seconds(pid) - used <= 0.25 * (time.monotonic() - since)

    eventually(rests, "the worker is at rest", PATIENCE)
