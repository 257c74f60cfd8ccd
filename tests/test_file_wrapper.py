"""`wsgi.file_wrapper`: sendfile(2) for a real file, streaming for anything else that reads."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator

import pytest
from harness import Server, eventually, request

APP = """
import gzip, io, os, tempfile
from urllib.parse import parse_qs
from apps.notes import note
from apps.routes import Routes

app = Routes()
SIZE = 3_000_000
with open("data", "wb") as out:
    out.write(b"".join(b"%07d\\n" % number for number in range(SIZE // 8)))


def answer(environ, start_response, source):
    query = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    source.seek(int(query.get("from", 0)))
    start_response("200 OK", [("Content-Length", query["length"])] if "length" in query else [])
    return environ["wsgi.file_wrapper"](source, int(query.get("block", 8192)))


@app.route
def file(environ, start_response):
    return answer(environ, start_response, open("data", "rb"))


@app.route
def unbuffered(environ, start_response):
    return answer(environ, start_response, open("data", "rb", buffering=0))


@app.route
def shrinking(environ, start_response):
    with open("shrinking", "wb") as out:
        out.truncate(100_000_000)
    return answer(environ, start_response, open("shrinking", "rb"))


@app.route
def temporary(environ, start_response):
    copy = tempfile.NamedTemporaryFile()
    copy.write(open("data", "rb").read())
    copy.flush()
    return answer(environ, start_response, copy)


@app.route
def unpacked(environ, start_response):
    with gzip.open("data.gz", "wb") as out:
        out.write(b"unpacked")
    return answer(environ, start_response, gzip.open("data.gz"))


class Deciphers:
    # Has a file, but the octets of that are not the ones it gives.

    def __init__(self, file):
        self.file = file

    def read(self, size):
        return bytes(octet ^ 1 for octet in self.file.read(size))


@app.route
def deciphered(environ, start_response):
    with open("ciphered", "wb") as out:
        out.write(bytes(octet ^ 1 for octet in b"plain"))
    start_response("200 OK", [])
    return environ["wsgi.file_wrapper"](Deciphers(open("ciphered", "rb")))


@app.route
def memory(environ, start_response):
    return answer(environ, start_response, io.BytesIO(open("data", "rb").read()))


class OnlyReads:
    def __init__(self, blocks):
        self.blocks = blocks

    def read(self, size):
        assert size == 8192
        return self.blocks.pop(0) if self.blocks else b""

    def close(self):
        note("closed")


@app.route
def only_reads(environ, start_response):
    start_response("200 OK", [])
    return environ["wsgi.file_wrapper"](OnlyReads([b"one", b"two" * 10000, b"six"]), 8192)


@app.route
def pipe(environ, start_response):
    reading, writing = os.pipe()
    os.write(writing, b"through a pipe")
    os.close(writing)
    start_response("200 OK", [])
    return environ["wsgi.file_wrapper"](open(reading, "rb"))


class Noted(io.FileIO):
    def close(self):
        if not self.closed:
            note("file closed")
        super().close()


@app.route
def noted(environ, start_response):
    start_response("200 OK", [])
    return environ["wsgi.file_wrapper"](Noted("data"))


@app.route
def position(environ, start_response):
    file = open("data", "rb")
    os.lseek(file.fileno(), 8, os.SEEK_SET)
    start_response("200 OK", [("Content-Length", "8")])
    return environ["wsgi.file_wrapper"](file)


@app.route
def empty(environ, start_response):
    start_response("200 OK", [])
    return environ["wsgi.file_wrapper"](open("/dev/null", "rb"))


@app.route
def iterated(environ, start_response):
    start_response("200 OK", [])
    return iter(list(environ["wsgi.file_wrapper"](io.BytesIO(b"0123456789"), 3)))
"""
DATA = b"".join(b"%07d\n" % number for number in range(375_000))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP, "--keep-alive", "30") as server:
        yield server


@pytest.fixture(scope="module", params=["sendfile", "no-sendfile"])
def either(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server.start(
        APP, "--keep-alive", "30", config={} if request.param == "sendfile" else {"sendfile": False}
    ) as server:
        yield server


@pytest.mark.parametrize("kind", ["file", "unbuffered", "temporary", "memory"])
def test_the_whole_file_is_sent_and_the_connection_goes_on(either: Server, kind: str) -> None:
    with either.client() as client:
        for _ in range(2):
            assert client.request("GET", f"/{kind}").body == DATA


@pytest.mark.parametrize("kind", ["file", "unbuffered", "temporary", "memory"])
def test_it_is_sent_from_its_position_on(either: Server, kind: str) -> None:
    assert either.get(f"/{kind}?from=2999984").body == DATA[-16:]


@pytest.mark.parametrize("kind", ["file", "unbuffered", "temporary", "memory"])
def test_no_more_than_content_length_is_sent(either: Server, kind: str) -> None:
    with either.client() as client:
        assert client.request("GET", f"/{kind}?from=8&length=16").body == DATA[8:24]
        assert client.request("GET", f"/{kind}?length=2500001").body == DATA[:2500001]
        assert client.request("GET", f"/{kind}?from=3000000").body == b""


def test_the_position_that_lseek_set_is_honoured_too(either: Server) -> None:
    assert either.get("/position").body == DATA[8:16]


def test_a_file_reaches_a_http_1_0_client_whole(either: Server) -> None:
    with either.client() as client:
        client.send(request("GET", "/file", version="HTTP/1.0"))
        assert client.response().body == DATA


def test_an_object_that_only_reads_is_streamed_and_closed_once(server: Server) -> None:
    before = server.notes().count("closed")
    assert server.get("/only_reads").body == b"one" + b"two" * 10000 + b"six"
    server.wait_for_note("closed", before + 1)
    assert server.get("/empty").status == 200
    assert server.notes().count("closed") == before + 1


def test_an_object_that_gives_other_octets_than_its_file_is_streamed(server: Server) -> None:
    assert server.get("/unpacked").body == b"unpacked"
    assert server.get("/deciphered").body == b"plain"


def test_a_file_that_shrinks_while_it_is_sent_is_an_aborted_answer(server: Server) -> None:
    with server.client(receive_buffer=8192) as client:
        client.send(request("GET", "/shrinking"))
        client.read_until(b"\r\n\r\n")
        os.truncate(server.directory / "shrinking", 0)
        with pytest.raises(ConnectionResetError):
            client.read_until_closed()
    server.wait_for_log("an answer to 127.0.0.1 was aborted: its file became shorter")


def test_a_descriptor_that_cannot_seek_is_streamed(server: Server) -> None:
    assert server.get("/pipe").body == b"through a pipe"


def test_an_empty_file_is_an_empty_body(server: Server) -> None:
    assert server.get("/empty").body == b""


def test_the_wrapper_can_be_iterated_by_the_application(server: Server) -> None:
    assert server.get("/iterated").body == b"0123456789"


def test_a_real_file_is_closed_once_when_it_is_sent(server: Server) -> None:
    before = server.notes().count("file closed")
    assert server.get("/noted").body == DATA
    server.wait_for_note("file closed", before + 1)
    server.get("/empty")
    assert server.notes().count("file closed") == before + 1


def test_a_real_file_is_closed_once_when_the_client_leaves(server: Server) -> None:
    before = server.notes().count("file closed")
    with server.client(receive_buffer=4096) as client:
        client.send(request("GET", "/noted"))
        client.receive(100)
        client.reset()
    server.wait_for_note("file closed", before + 1)
    server.get("/empty")
    assert server.notes().count("file closed") == before + 1


def traced_calls(server: Server, target: str) -> str:
    """The system calls that the worker used to answer `target`, as strace prints them."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed: whether sendfile(2) is used cannot be seen")
    trace = server.directory / "trace"
    trace.unlink(missing_ok=True)
    tracer = subprocess.Popen(
        [
            strace,
            "-f",
            "-e",
            "trace=sendfile,sendfile64",
            "-o",
            str(trace),
            "-p",
            str(server.worker_pid()),
        ],
        stderr=subprocess.PIPE,
    )
    try:
        assert tracer.stderr is not None
        words = tracer.stderr.readline()
        if b"attached" not in words:
            pytest.skip(f"strace cannot attach here: {words.decode().strip()}")
        assert server.get(target).body == DATA
        eventually(lambda: server.get("/empty").status == 200, "the worker has finished")
    finally:
        if tracer.poll() is None:
            tracer.send_signal(signal.SIGINT)
        tracer.wait(10)
        tracer.stderr.close() if tracer.stderr else None
    return trace.read_text()


def test_a_real_file_goes_out_by_sendfile(server: Server) -> None:
    sent = [
        int(count)
        for count in re.findall(
            r"sendfile(?:64)?\(.*= (\d+)$", traced_calls(server, "/file"), re.MULTILINE
        )
    ]
    assert sum(sent) == len(DATA)


def test_sendfile_false_is_honoured() -> None:
    with Server.start(APP, config={"sendfile": False}) as server:
        assert "sendfile" not in traced_calls(server, "/file")
