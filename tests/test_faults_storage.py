"""The disk fails under an upload or a log: it is a 507 for that upload alone, and a log that cannot
be written costs no answer."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from shutil import disk_usage

import pytest
from disks import small_disk
from harness import Server, eventually, request
from syscalls import traced
from wellness import WELL_ROUTE, assert_answers, unharmed

APP = """
from apps.notes import note
from apps.routes import Routes, text

app = Routes()


@app.route
def upload(environ, start_response):
    note("called for " + environ["QUERY_STRING"])
    return text(start_response, str(len(environ["wsgi.input"].read())))


@app.route
def careful(environ, start_response):
    try:
        return text(start_response, str(len(environ["wsgi.input"].read())))
    except OSError as error:
        return text(start_response, type(error).__name__, "503 Service Unavailable")


@app.route
def error(environ, start_response):
    raise ValueError("on purpose")
"""
LARGE = 1_500_000
FRAMINGS = {
    "length": request("POST", "/upload", body=bytes(LARGE)),
    "chunked": request("POST", "/upload", {"Transfer-Encoding": "chunked"})
    + b"%x\r\n%b\r\n0\r\n\r\n" % (LARGE, bytes(LARGE)),
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP + WELL_ROUTE, "--keep-alive", "60") as server:
        yield server


def assert_refused_with_507(server: Server, data: bytes) -> None:
    with server.client() as client:
        # The answer may come, and the connection end, before all is sent.
        with contextlib.suppress(ConnectionError):
            client.send(data)
        response = client.response()
        assert response.status == 507
        assert response.header("Connection") == "close"
        assert client.is_closed_by_peer()


# With threads nothing is stored: see test_scarcity.


@pytest.mark.inline_only
@pytest.mark.parametrize("data", FRAMINGS.values(), ids=FRAMINGS.keys())
@pytest.mark.parametrize(
    "failure",
    [
        "openat:error=ENOSPC:when=1+",
        "openat:error=EMFILE:when=1+",
        "openat:error=EROFS:when=1+",
        "openat:error=EACCES:when=1+",
        "write:error=ENOSPC:when=1",
        "write:error=EDQUOT:when=1",
        "write:error=EIO:when=1",
        "write:error=EFBIG:when=2",
        "lseek:error=EIO:when=1",
    ],
)
def test_an_upload_that_cannot_be_stored_is_refused_with_507(
    server: Server, failure: str, data: bytes
) -> None:
    """Wherever storing it fails: making the file, writing the first or a later block, rewinding."""
    noted = server.notes()
    name = failure.partition(":")[0]
    with unharmed(server, warnings=1):
        with traced(server.worker_pid(), name, inject=[failure]) as trace:
            assert_refused_with_507(server, data)
        assert trace.injected() >= 1
    assert server.notes() == noted


def test_an_interrupted_write_is_done_again(server: Server) -> None:
    with (
        unharmed(server),
        traced(server.worker_pid(), "write", inject=["write:error=EINTR:when=1..2"]) as trace,
        server.client() as client,
    ):
        client.send(FRAMINGS["length"])
        assert client.response().text == str(LARGE)
    assert trace.injected() == 2


@pytest.mark.inline_only
def test_a_body_that_cannot_be_read_back_is_an_oserror_in_the_application(server: Server) -> None:
    with (
        unharmed(server),
        traced(server.worker_pid(), "pread64", inject=["pread64:error=EIO:when=1"]) as trace,
        server.client() as client,
    ):
        response = client.request("POST", "/careful", body=bytes(LARGE))
        assert (response.status, response.text) == (503, "OSError")
        assert client.request("POST", "/careful", body=bytes(LARGE)).text == str(LARGE)
    assert trace.injected() == 1


@pytest.mark.inline_only
def test_an_application_that_lets_that_error_through_is_a_500(server: Server) -> None:
    with (
        unharmed(server, tracebacks=1),
        traced(server.worker_pid(), "pread64", inject=["pread64:error=EIO:when=1"]),
        server.client() as client,
    ):
        assert client.request("POST", "/upload", body=bytes(LARGE)).status == 500


@pytest.mark.inline_only
def test_a_full_disk_concerns_only_uploads_that_need_it(tmp_path: Path) -> None:
    """Before, during and after: small bodies, those that fit, and everybody else's."""
    with (
        small_disk(tmp_path, mebibytes=2),
        Server.start(
            APP + WELL_ROUTE, config={"tmp_upload_dir": str(tmp_path), "keepalive": 60}
        ) as server,
        server.client() as holding,
        server.client() as small,
        server.client() as witness,
    ):
        assert_answers(witness)
        with unharmed(server, warnings=3):
            holding.send(request("POST", "/upload", {"Content-Length": "1600000"}))
            holding.send(bytes(1_500_000))
            eventually(lambda: disk_usage(tmp_path).used > 1_000_000, "most of it is stored")
            small.send(request("POST", "/upload", {"Content-Length": "6"}, b"sma"))
            for _ in range(3):
                assert_refused_with_507(server, FRAMINGS["length"])
                assert_answers(witness)
            small.send(b"ll!")
            assert small.response().text == "6"
            holding.send(bytes(100_000))
            assert holding.response().text == "1600000"
            assert witness.request("POST", "/upload", body=bytes(LARGE)).text == str(LARGE)
        assert os.listdir(tmp_path) == []


def test_a_log_that_cannot_be_written_costs_no_answer() -> None:
    """Neither the access log nor the error log: every write fails, as on a full disk."""
    with Server.start(
        APP + WELL_ROUTE, "--keep-alive", "60", "--access-logfile", "{dir}/access"
    ) as server:
        pid = server.worker_pid()
        with server.client() as witness:
            assert_answers(witness)
            with traced(pid, "write", inject=["write:error=ENOSPC:when=1+"]) as trace:
                for _ in range(5):
                    assert_answers(witness)
                    assert server.get("/error").status == 500
                    with server.client() as client:
                        client.send(b"nonsense\r\n\r\n")
                        assert client.response().status == 400
            assert trace.injected() >= 15
            assert_answers(witness)
        with unharmed(server):
            pass
        assert server.worker_pid() == pid
