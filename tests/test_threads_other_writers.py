"""`write` called on threads that the application has started, with `--threads`: at the same time,
beside a reader, and too late."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import OURS, Server, request
from thread_pool import SMALL, SMALL_BUFFERS, TOGETHER_ROUTE, threads_live_on, wait_until_asleep

THREADS = 2
APP = (
    """
import threading, time
from apps.hold import wait_for_file
from apps.notes import note
from apps.routes import Routes, text

app = Routes()
BLOCK = 16384


def run(*calls):
    threads = [threading.Thread(target=call, daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    return threads


@app.route
def well(environ, start_response):
    return text(start_response, "all is well")


@app.route
def duplex(environ, start_response):
    \"\"\"Reads on one thread and writes on another, until the client is gone.\"\"\"
    name, first = environ["PATH_INFO"].split("/")[2:]
    write = start_response("200 OK", [])

    def reads():
        note(f"{name} reads")
        while environ["wsgi.input"].read(1):
            pass

    def writes():
        note(f"{name} writes")
        while True:
            write(bytes(BLOCK))

    def noted(call):
        try:
            call()
        except OSError as error:
            note(f"{name} {call.__name__} raised {type(error).__name__}")

    calls = {call.__name__: lambda call=call: noted(call) for call in (reads, writes)}
    (thread,) = run(calls.pop(first))
    wait_for_file(f"second-{name}")
    calls.popitem()[1]()
    thread.join()
    return []


@app.route
def many_writers(environ, start_response):
    write = start_response("200 OK", [])

    def writes(letter):
        for _ in range(50):
            write(letter * BLOCK)

    threads = run(*(lambda letter=letter: writes(letter) for letter in (b"a", b"b", b"c", b"d")))
    for thread in threads:
        thread.join()
    return []


@app.route
def late_writer(environ, start_response):
    write = start_response("200 OK", [("Content-Length", "5")])

    def writes():
        raised = set()
        while len(raised) < 1:
            try:
                write(b"stray")
                time.sleep(0)
            except Exception as error:
                raised.add(type(error).__name__)
        for _ in range(1000):
            try:
                write(b"stray")
                note("a late write went through")
            except Exception as error:
                raised.add(type(error).__name__)
        note(f"late write raised {sorted(raised)}")

    write(b"whole")
    run(writes)
    return []
"""
    + TOGETHER_ROUTE
)
pytestmark = [
    pytest.mark.own_threads,
    pytest.mark.skipif(not OURS, reason="gunicorn's own workers do otherwise"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(
        APP, "--threads", str(THREADS), "--keep-alive", "60", config=SMALL_BUFFERS
    ) as server:
        yield server


@pytest.fixture(autouse=True)
def all_threads_are_free_afterwards(server: Server) -> Iterator[None]:
    with threads_live_on(server, THREADS):
        yield


@pytest.mark.parametrize("first", ["reads", "writes"])
def test_a_writer_and_a_reader_are_told_when_the_client_vanishes(
    server: Server, first: str
) -> None:
    name = f"gone-{first}"
    with server.client(receive_buffer=SMALL) as client:
        client.send(request("POST", f"/duplex/{name}/{first}", {"Content-Length": "3"}, b"1"))
        server.wait_for_note(f"{name} {first}")
        wait_until_asleep(server)
        (server.directory / f"second-{name}").touch()
        server.wait_for_note(f"{name} reads")
        server.wait_for_note(f"{name} writes")
        wait_until_asleep(server)
        client.reset()
    server.wait_for_note(f"{name} reads raised ConnectionResetError")
    server.wait_for_note(f"{name} writes raised ConnectionResetError")


def test_blocks_of_several_threads_stay_whole(server: Server) -> None:
    with server.client(receive_buffer=SMALL) as client:
        client.send(request("GET", "/many_writers"))
        client.read_until(b"\r\n\r\n")
        chunks = list(client.chunks())
    assert all(chunk == chunk[:1] * 16384 for chunk in chunks)
    assert (
        sorted(chunk[:1] for chunk in chunks)
        == [b"a"] * 50 + [b"b"] * 50 + [b"c"] * 50 + [b"d"] * 50
    )


def test_what_is_written_when_the_request_is_over_reaches_no_later_answer(server: Server) -> None:
    with server.client() as client:
        for _ in range(20):
            assert client.request("GET", "/late_writer").body == b"whole"
            for _ in range(20):
                assert client.request("GET", "/well").text == "all is well"
        assert client.rest() == b""
    server.wait_for_note("late write raised ['ConnectionResetError']", 20)
    assert "a late write went through" not in server.notes()
