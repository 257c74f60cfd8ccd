"""Reads of `wsgi.input` at odd times and from odd places with `--threads`: they return octets of
their own request or raise, and never wait for ever."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import Server, children, eventually, request
from uploads import FRAMINGS, Upload
from wellness import unharmed

APP = """
import os
import signal
import threading

from apps.hold import wait_for_file
from apps.notes import note
from apps.routes import Routes, text

app = Routes()
kept = {}


def outcome(call, *arguments):
    try:
        return repr(call(*arguments))
    except Exception as error:
        return "raised " + type(error).__name__


def tag_of(environ):
    return environ["PATH_INFO"].split("/")[2]


@app.route
def keep(environ, start_response):
    kept[tag_of(environ)] = environ["wsgi.input"]
    return text(start_response, "kept")


@app.route
def read_kept(environ, start_response):
    result = outcome(kept.pop(tag_of(environ)).read)
    return text(start_response, result + " " + environ["wsgi.input"].read().decode())


@app.route
def reads_elsewhere(environ, start_response):
    results = []
    stream = environ["wsgi.input"]
    for _ in range(3):
        thread = threading.Thread(target=lambda: results.append(outcome(stream.read, 2)))
        thread.start()
        thread.join()
    return text(start_response, " ".join(results))


@app.route
def read_by_many(environ, start_response):
    stream, pieces = environ["wsgi.input"], []

    def read():
        while piece := stream.read(10):
            pieces.append(piece)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return text(start_response, b"".join(sorted(pieces)).decode())


@app.route
def left_reading(environ, start_response):
    tag, stream = tag_of(environ), environ["wsgi.input"]
    reading = threading.Event()

    def read():
        reading.set()
        note(f"{tag} other thread: " + outcome(stream.read))

    threading.Thread(target=read, daemon=True).start()
    reading.wait()
    wait_for_file(f"release-{tag}")
    return text(start_response, "left")


@app.route
def reads_while_it_writes(environ, start_response):
    tag, stream = tag_of(environ), environ["wsgi.input"]

    def read():
        while (piece := outcome(stream.read, 1)) != "b''":
            note(f"{tag} other thread: {piece}")

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    start_response("200 OK", [])
    for _ in range(1000):
        yield bytes(65536)
    thread.join(20)
    note(f"{tag} written")


@app.route
def forks(environ, start_response):
    tag, stream = tag_of(environ), environ["wsgi.input"]
    first = stream.read(2)
    if os.fork() == 0:
        # Ends it, if it waits for ever.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(10)
        note(f"{tag} child: " + outcome(stream.read))
        os._exit(0)
    note(f"{tag} forked")
    return text(start_response, (first + stream.read()).decode())


@app.route
def writes_all_first(environ, start_response):
    tag = tag_of(environ)
    write = start_response("200 OK", [("Content-Length", "7")])
    write(b"written")
    note(f"{tag} read: " + outcome(environ["wsgi.input"].read))
    return []


@app.route
def reads_between_blocks(environ, start_response):
    start_response("200 OK", [])
    stream = environ["wsgi.input"]
    while piece := stream.read(4):
        yield b"<" + piece + b">"


@app.route
def hands_the_input_on(environ, start_response):
    start_response("200 OK", [("Content-Length", "0")])
    kept[tag_of(environ)] = environ["wsgi.input"]
    return Reads(tag_of(environ), environ["wsgi.input"])


class Reads(list):
    def __init__(self, tag, stream):
        self.tag, self.stream = tag, stream

    def close(self):
        note(f"{self.tag} close: " + outcome(self.stream.read))


@app.route
def well(environ, start_response):
    return text(start_response, "all is well")
"""
HOOK = """
threads = 4
keepalive = 60


def post_request(worker, req, environ, resp):
    from app import note, outcome, tag_of

    if req.path.startswith("/well/"):
        note(f"{tag_of(environ)} hook: " + outcome(environ["wsgi.input"].read))
"""
pytestmark = pytest.mark.own_threads


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP, config=HOOK) as server:
        yield server


# After the request


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("body", [b"", b"first"], ids=["nothing-came", "all-came"])
def test_an_input_that_outlives_its_request_reads_no_octet_of_the_next_one(
    server: Server, tag: str, body: bytes, framing: str
) -> None:
    with Upload(server, f"/keep/{tag}", 5, framing, first=body) as upload:
        if body:
            upload.end()
        assert upload.response().text == "kept"
        if not body:
            upload.send(b"first")
            upload.end()
        upload.client.send(request("POST", f"/read_kept/{tag}", body=b"second"))
        result, _, own = upload.response().text.rpartition(" ")
        assert own == "second"
        assert result.startswith("raised ") or (body and result == "b'first'")


@pytest.mark.parametrize("framing", FRAMINGS)
def test_it_does_not_take_what_came_of_an_incomplete_body_for_a_whole_one(
    server: Server, tag: str, framing: str
) -> None:
    with Upload(server, f"/keep/{tag}", 9, framing, first=b"fir") as upload:
        assert upload.response().text == "kept"
        with server.client() as other:
            answer = other.request("GET", f"/read_kept/{tag}").text
        assert answer.startswith("raised ")


@pytest.mark.parametrize("when", ["before the answer", "after the answer"])
def test_a_thread_that_is_left_reading_comes_back(server: Server, tag: str, when: str) -> None:
    """With the body, or with an exception: when the request is over there is nothing to wait
    for. What follows on the connection is not touched."""
    with Upload(server, f"/left_reading/{tag}", 4) as upload:
        assert server.get("/well").status == 200
        if when == "before the answer":
            upload.send(b"body")
        upload.release()
        assert upload.response().text == "left"
        if when == "after the answer":
            eventually(lambda: upload.noted(), "the other thread has come back")
            assert upload.noted()[0].startswith("other thread: raised ")
            upload.send(b"body")
        upload.client.send(request("GET", "/well"))
        assert upload.response().text == "all is well"
        if when == "before the answer":
            eventually(lambda: upload.noted(), "the other thread has come back")
            assert upload.noted()[0] in ("other thread: b'body'", "other thread: raised OSError")


def test_a_hook_behind_the_request_gets_no_part_of_its_body_for_the_whole(
    server: Server, tag: str
) -> None:
    with Upload(server, f"/well/{tag}", 9, first=b"bod") as upload:
        assert upload.response().text == "all is well"
        upload.send(b"y-rest")
        upload.client.send(request("GET", "/well"))
        assert upload.response().text == "all is well"
        eventually(lambda: upload.noted(), "the hook has read")
        said = upload.noted()[0]
        assert said.startswith("hook: raised ") or said == "hook: b'body-rest'"


# After the answer


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("route", ["writes_all_first", "hands_the_input_on"])
def test_a_read_behind_a_complete_answer_gets_the_whole_body_or_raises(
    server: Server, tag: str, route: str, framing: str
) -> None:
    step = "read" if route == "writes_all_first" else "close"
    with Upload(server, f"/{route}/{tag}", 9, framing, first=b"bod") as upload:
        assert upload.response().body == (b"written" if step == "read" else b"")
        upload.send(b"y-rest")
        upload.end()
        eventually(lambda: upload.noted(), "the application has read")
        said = upload.noted()[0]
        assert said == f"{step}: b'body-rest'" or said.startswith(f"{step}: raised ")
        upload.client.send(request("GET", "/well"))
        assert upload.response().text == "all is well"


@pytest.mark.parametrize("framing", FRAMINGS)
def test_an_application_may_answer_each_part_of_a_body_before_it_reads_the_next(
    server: Server, tag: str, framing: str
) -> None:
    with Upload(server, f"/reads_between_blocks/{tag}", 12, framing) as upload:
        upload.send(b"one.")
        upload.client.read_until(b"\r\n\r\n")
        chunks = upload.client.chunks()
        assert next(chunks) == b"<one.>"
        upload.send(b"two.")
        assert next(chunks) == b"<two.>"
        upload.send(b"last")
        upload.end()
        assert list(chunks) == [b"<last>"]


# Other threads of the application


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_thread_of_the_application_reads_as_its_own_does(
    server: Server, tag: str, framing: str
) -> None:
    with Upload(server, f"/reads_elsewhere/{tag}", 5, framing) as upload:
        for piece in (b"a", b"bc", b"de"):
            upload.client.send_bytewise(upload.framed(piece))
        upload.end()
        assert upload.response().text == "b'ab' b'cd' b'e'"


@pytest.mark.parametrize("framing", FRAMINGS)
def test_threads_that_read_at_once_get_each_octet_once(
    server: Server, tag: str, framing: str
) -> None:
    """And while they wait for one another, other requests are served."""
    pieces = [b"%09d." % number for number in range(1000)]
    with Upload(server, f"/read_by_many/{tag}", 10_000, framing) as upload:
        for piece in pieces[:500]:
            upload.send(piece)
        assert server.get("/well").text == "all is well"
        for piece in pieces[500:]:
            upload.send(piece)
        upload.end()
        assert upload.response().body == b"".join(pieces)


def test_one_thread_may_read_while_another_one_writes(server: Server, tag: str) -> None:
    """Both wait for the same client: each for something else."""
    with server.client(receive_buffer=4096) as client:
        upload = Upload(server, f"/reads_while_it_writes/{tag}", 3, client=client)
        client.read_until(b"\r\n\r\n")
        for count, octet in enumerate((b"a", b"b", b"c"), 1):
            # The writer has come to wait for room before the octet comes.
            assert server.get("/well").status == 200
            client.send(octet)
            upload.wait_for(f"other thread: {octet!r}")
            assert len(upload.noted()) == count
            list(zip(range(2), client.chunks(), strict=False))
        assert len(b"".join(client.chunks())) > 0
        upload.wait_for("written")


# Children


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("rest", [b"", b"st"], ids=["the-rest-is-awaited", "the-rest-is-there"])
def test_a_read_in_a_forked_child_ends_and_takes_nothing_from_the_parent(
    server: Server, tag: str, rest: bytes, framing: str
) -> None:
    with (
        unharmed(server),
        Upload(server, f"/forks/{tag}", 4, framing, first=b"re" + rest) as upload,
    ):
        if rest:
            upload.end()
        upload.wait_for("forked")
        # The worker counts its child no more, whether it has read or was ended for trying.
        eventually(lambda: not children(server.worker_pid()), "the child has ended")
        if not rest:
            upload.send(b"st")
            upload.end()
        assert upload.response().text == "rest"
        said = [step for step in upload.noted() if step.startswith("child: ")]
        assert all(step.startswith("child: raised ") or step == "child: b'st'" for step in said)
        assert said != ["child: b'st'"] or rest
