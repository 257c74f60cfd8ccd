"""A request shared between threads: those that the application starts may read, write and look,
also at the same time, also too late."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import OURS, Server, eventually, request, settled
from thread_pool import SMALL, SMALL_BUFFERS, side_by_side

APP = """
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
    \"\"\"Reads on one thread what it is sent, and writes on another.\"\"\"
    name, first, count = environ["PATH_INFO"].split("/")[2:]
    write = start_response("200 OK", [])
    received = []

    def reads():
        note(f"{name} reads")
        while block := environ["wsgi.input"].read(1):
            received.append(block)
        note(f"{name} has read {len(received)}")

    def writes():
        note(f"{name} writes")
        for _ in range(int(count)):
            write(bytes(BLOCK))
        note(f"{name} has written")

    def noted(call):
        try:
            call()
        except OSError as error:
            note(f"{name} {call.__name__} raised {type(error).__name__}")

    calls = {call.__name__: lambda call=call: noted(call) for call in (reads, writes)}
    threads = run(calls.pop(first))
    wait_for_file(f"second-{name}")
    calls.popitem()[1]()
    for thread in threads:
        thread.join()
    return [b"end"]


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
def many_readers(environ, start_response):
    received = []

    def reads():
        while block := environ["wsgi.input"].read(1000):
            received.append(block)

    for thread in run(reads, reads, reads):
        thread.join()
    return text(start_response, str(sum(map(len, received))))


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


@app.route
def late_reader(environ, start_response):
    def reads():
        note("late reader waits")
        try:
            note(f"late read gave {environ['wsgi.input'].read()}")
        except OSError as error:
            note(f"late read raised {type(error).__name__}")

    run(reads)
    wait_for_file("answer")
    return text(start_response, "not waited for")
"""
pytestmark = pytest.mark.skipif(not OURS, reason="gunicorn's own workers do otherwise")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP, "--threads", "2", "--keep-alive", "60", config=SMALL_BUFFERS) as server:
        yield server


@pytest.fixture(autouse=True)
def all_threads_are_free_afterwards(server: Server) -> Iterator[None]:
    pid = server.worker_pid()
    yield

    def ask() -> str:
        return server.get("/well").text

    assert side_by_side([ask] * 8) == ["all is well"] * 8
    assert server.worker_pid() == pid
    assert "Traceback" not in server.stderr_text()


@pytest.mark.parametrize("first", ["reads", "writes"])
def test_one_thread_may_wait_for_the_client_to_send_and_another_for_it_to_read(
    server: Server, first: str
) -> None:
    """Whichever the client does, the one that waited for it goes on."""
    name, count = f"duplex-{first}", 100
    with server.client(receive_buffer=SMALL) as client:
        client.send(
            request("POST", f"/duplex/{name}/{first}/{count}", {"Content-Length": "3"}, b"1")
        )
        server.wait_for_note(f"{name} {first}")
        settled(lambda: len(server.notes()), during=0.2)
        (server.directory / f"second-{name}").touch()
        server.wait_for_note(f"{name} reads")
        server.wait_for_note(f"{name} writes")
        settled(lambda: len(server.notes()), during=0.2)
        assert f"{name} has written" not in server.notes()
        client.read_until(b"\r\n\r\n")
        chunks = client.chunks()
        for _ in range(count):
            assert next(chunks) == bytes(16384)
        server.wait_for_note(f"{name} has written")
        client.send(b"23")
        server.wait_for_note(f"{name} has read 3")
        assert list(chunks) == [b"end"]


@pytest.mark.parametrize("first", ["reads", "writes"])
def test_both_are_told_when_the_client_vanishes(server: Server, first: str) -> None:
    name = f"gone-{first}"
    with server.client(receive_buffer=SMALL) as client:
        client.send(request("POST", f"/duplex/{name}/{first}/100", {"Content-Length": "3"}, b"1"))
        server.wait_for_note(f"{name} {first}")
        settled(lambda: len(server.notes()), during=0.2)
        (server.directory / f"second-{name}").touch()
        server.wait_for_note(f"{name} reads")
        server.wait_for_note(f"{name} writes")
        settled(lambda: len(server.notes()), during=0.2)
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


def test_several_threads_that_read_get_every_octet_once(server: Server) -> None:
    with server.client() as client:
        client.send(request("POST", "/many_readers", {"Content-Length": "300000"}))
        for _ in range(30):
            client.send(bytes(10_000))
        assert client.response().text == "300000"


def test_what_is_written_when_the_request_is_over_reaches_no_later_answer(server: Server) -> None:
    with server.client() as client:
        for _ in range(20):
            assert client.request("GET", "/late_writer").body == b"whole"
            for _ in range(20):
                assert client.request("GET", "/well").text == "all is well"
        assert client.rest() == b""
    server.wait_for_note("late write raised ['ConnectionResetError']", 20)
    assert "a late write went through" not in server.notes()


def test_who_still_reads_when_the_request_is_over_gets_an_error(server: Server) -> None:
    """And nothing of the connection's next request."""
    with server.client() as client:
        client.send(request("POST", "/late_reader", {"Content-Length": "10"}, b"12345"))
        server.wait_for_note("late reader waits")
        (server.directory / "answer").touch()
        assert client.response().text == "not waited for"
        client.send(b"67890" + request("GET", "/well"))
        assert client.response().text == "all is well"
    eventually(
        lambda: [note for note in server.notes() if note.startswith("late read ")],
        "the late reader is told",
    )
    assert "late read raised OSError" in server.notes()
