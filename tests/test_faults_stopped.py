"""SIGSTOP and SIGCONT, of a client and of the worker, in the middle of a request and of an answer:
whoever goes on gets what is due."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from harness import (
    PATIENCE,
    THREADED,
    Client,
    Server,
    chunked,
    cpu_seconds,
    eventually,
    request,
    settled,
)
from wellness import WELL_ROUTE, assert_answers, unharmed

APP = """
from apps.hold import wait_for_file
from apps.notes import note
from apps.routes import Routes, text

app = Routes()
SIZE = 6_000_000


@app.route
def blocks(environ, start_response):
    start_response("200 OK", [])
    for number in range(100):
        yield b"%08d" % number * (SIZE // 800)
    note("all was taken")


@app.route
def whole(environ, start_response):
    return text(start_response, "".join("%08d" % number for number in range(SIZE // 8)))


@app.route
def hold(environ, start_response):
    note("holding")
    wait_for_file("release")
    return text(start_response, "held")


@app.route
def upload(environ, start_response):
    return text(start_response, str(len(environ["wsgi.input"].read())))
"""
SIZE = 6_000_000
BLOCKS = b"".join(b"%08d" % number * (SIZE // 800) for number in range(100))
WHOLE_BODY = b"".join(b"%08d" % number for number in range(SIZE // 8))
DEADLINES = {
    "MEINHELD_HEAD_TIMEOUT": "1.0",
    "MEINHELD_BODY_TIMEOUT": "1.0",
    "MEINHELD_SEND_TIMEOUT": "1.0",
}
BEYOND_THE_DEADLINES = 1.6
CROWD = 300
"""More connections than one wait of the worker's reports as ready."""
CLIENT = """
import hashlib, socket, sys

port, kind = int(sys.argv[1]), sys.argv[2]
client = socket.socket()
client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
client.connect(("127.0.0.1", port))
blocks = []
if kind == "reads":
    client.sendall(b"GET /whole HTTP/1.0\\r\\n\\r\\n")
    blocks.append(client.recv(1))
    print("begun", flush=True)
    sys.stdin.readline()
else:
    client.sendall(b"POST /upload HTTP/1.0\\r\\nContent-Length: 6000000\\r\\n\\r\\n")
    client.sendall(bytes(2_000_000))
    print("begun", flush=True)
    sys.stdin.readline()
    client.sendall(bytes(4_000_000))
while block := client.recv(65536):
    blocks.append(block)
head, _, body = b"".join(blocks).partition(b"\\r\\n\\r\\n")
print(head[:12].decode(), hashlib.sha256(body).hexdigest(), flush=True)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP + WELL_ROUTE, "--keep-alive", "60", "--timeout", "60") as server:
        yield server


@pytest.fixture(scope="module")
def strict() -> Iterator[Server]:
    """With deadlines that are shorter than the worker is stopped for."""
    settings = ["--keep-alive", "60", "--timeout", "60", "--worker-connections", str(CROWD * 2)]
    if THREADED:
        # Half a body keeps a thread, which waits for the other half.
        settings += ["--threads", str(CROWD + 2)]
    with Server.start(APP + WELL_ROUTE, *settings, env=DEADLINES) as strict:
        yield strict


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process stands still while the block runs."""

    def state() -> str:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]

    os.kill(pid, signal.SIGSTOP)
    try:
        eventually(lambda: state() == "T", "the process stands still")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def hears_nothing_until_the_deadlines_have_passed(client: Client) -> None:
    client.socket.settimeout(BEYOND_THE_DEADLINES)
    with pytest.raises(TimeoutError):
        client.receive()
    client.socket.settimeout(PATIENCE)


# The client stands still


@pytest.mark.parametrize(
    ("kind", "body"), [("reads", WHOLE_BODY), ("sends", b"6000000")], ids=["reading", "sending"]
)
def test_a_client_process_that_stands_still_gets_its_whole_answer(
    server: Server, kind: str, body: bytes
) -> None:
    with (
        unharmed(server),
        subprocess.Popen(
            [sys.executable, "-c", CLIENT, str(server.port), kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as client,
    ):
        assert client.stdin and client.stdout
        assert client.stdout.readline() == "begun\n"
        with stopped(client.pid):
            client.stdin.write("\n")
            client.stdin.flush()
            for _ in range(20):
                with server.client() as other:
                    assert_answers(other)
        status, digest = client.stdout.readline().rsplit(" ", 1)
        assert status == "HTTP/1.0 200"
        assert digest.strip() == sha256(body).hexdigest()


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
def test_a_client_that_stops_reading_for_a_while_gets_its_whole_answer(
    server: Server, version: str
) -> None:
    before = server.notes().count("all was taken")
    with unharmed(server), server.client(receive_buffer=65536) as client:
        client.send(request("GET", "/blocks", {"Connection": "close"}, version=version))
        first = client.receive(1)
        settled(lambda: cpu_seconds(server.worker_pid()), during=0.3)
        assert server.notes().count("all was taken") == before
        client.buffer = first
        assert client.response().body == BLOCKS


# The worker stands still


def test_a_worker_that_stands_still_for_a_while_loses_nothing(server: Server) -> None:
    """Whatever was on its way: connections, heads, bodies, answers, the next request."""
    pid = server.worker_pid()
    with contextlib.ExitStack() as stack, unharmed(server):

        def client() -> Client:
            return stack.enter_context(server.client(receive_buffer=65536))

        new, head, body, chunks, answer, idle = (client() for _ in range(6))
        head.send(request("GET", "/well")[:20])
        body.send(request("POST", "/upload", {"Content-Length": "1000000"}, bytes(300_000)))
        chunks.send(request("POST", "/upload", {"Transfer-Encoding": "chunked"}, b"5\r\n12"))
        answer.send(request("GET", "/whole"))
        assert_answers(idle)
        with stopped(pid):
            new.send(request("GET", "/well"))
            head.send(request("GET", "/well")[20:])
            body.send(bytes(700_000))
            chunks.send(b"345\r\n" + chunked(b"67890"))
            idle.send(request("GET", "/well") * 3)
            newer = client()
            newer.send(request("GET", "/well"))
        assert answer.response().body == WHOLE_BODY
        for one, count in ((new, 1), (head, 1), (idle, 3), (newer, 1)):
            for _ in range(count):
                assert one.response().status == 200
        assert body.response().text == "1000000"
        assert chunks.response().text == "10"
        for one in (new, head, body, chunks, answer, idle, newer):
            one.close()


GET = request("GET", "/well")
LONG_HEAD = request("GET", "/well", {f"X-{number}": "a" * 1000 for number in range(60)})
BODY = request("POST", "/upload", body=b"a" * 100)
LONG_BODY = request("POST", "/upload", body=b"a" * 400_000)
CHUNKS = request("POST", "/upload", {"Transfer-Encoding": "chunked"}) + chunked(b"a" * 100)
IN_PARTS = {
    "head": (GET, 10),
    "long-head": (LONG_HEAD, 10),
    "body": (BODY, len(BODY) - 50),
    "long-body": (LONG_BODY, len(LONG_BODY) - 399_990),
    "last-chunk": (CHUNKS, len(CHUNKS) - 3),
}


@pytest.mark.parametrize(("data", "cut"), IN_PARTS.values(), ids=IN_PARTS.keys())
def test_what_came_in_time_while_the_worker_stood_still_is_served(
    strict: Server, data: bytes, cut: int
) -> None:
    """The deadlines have passed when the worker goes on, but the octets lay in its socket."""
    with unharmed(strict), strict.client() as witness, strict.client() as client:
        client.send(data[:cut])
        assert_answers(witness)
        with stopped(strict.worker_pid()):
            client.send(data[cut:])
            hears_nothing_until_the_deadlines_have_passed(client)
        assert client.response().status == 200


@pytest.mark.parametrize(
    ("data", "cut"), [IN_PARTS["head"], IN_PARTS["body"]], ids=["heads", "bodies"]
)
def test_what_came_in_time_from_a_crowd_is_served_to_the_last(
    strict: Server, data: bytes, cut: int
) -> None:
    with unharmed(strict), strict.client() as witness:
        clients = [strict.client() for _ in range(CROWD)]
        for client in clients:
            client.send(data[:cut])
        assert_answers(witness)
        with stopped(strict.worker_pid()):
            for client in clients:
                client.send(data[cut:])
            hears_nothing_until_the_deadlines_have_passed(witness)
        statuses = Counter(client.response().status for client in clients)
        for client in clients:
            client.close()
        assert statuses == {200: CROWD}


def test_what_came_in_time_while_the_application_worked_is_served_to_the_last(
    strict: Server,
) -> None:
    """An application that takes its time holds the worker up just as a signal does; beside one on
    a thread of its own, everybody is served meanwhile."""
    with unharmed(strict), strict.client() as slow, strict.client() as witness:
        clients = [strict.client() for _ in range(CROWD)]
        for client in clients:
            client.send(GET[:10])
        assert_answers(witness)
        slow.send(request("GET", "/hold"))
        strict.wait_for_note("holding")
        for client in clients:
            client.send(GET[10:])
        hears_nothing_until_the_deadlines_have_passed(slow)
        (strict.directory / "release").touch()
        assert slow.response().status == 200
        statuses = Counter(client.response().status for client in clients)
        for client in clients:
            client.close()
        assert statuses == {200: CROWD}


def test_connections_that_came_while_the_worker_stood_still_are_served(strict: Server) -> None:
    with unharmed(strict), strict.client() as witness:
        with stopped(strict.worker_pid()):
            clients = [strict.client() for _ in range(CROWD)]
            for client in clients:
                client.send(GET)
            hears_nothing_until_the_deadlines_have_passed(witness)
        for client in clients:
            assert client.response().status == 200
            client.close()


def test_requests_on_idle_connections_that_expired_meanwhile_are_served() -> None:
    with Server.start(
        APP + WELL_ROUTE, "--keep-alive", "1", "--worker-connections", str(CROWD * 2)
    ) as server:
        clients = [server.client() for _ in range(CROWD)]
        for client in clients:
            client.send(GET)
        for client in clients:
            assert client.response().status == 200
        with stopped(server.worker_pid()):
            for client in clients:
                client.send(GET)
            hears_nothing_until_the_deadlines_have_passed(clients[0])
        for client in clients:
            assert client.response().status == 200
            client.close()


def test_a_reader_that_took_octets_while_the_worker_stood_still_gets_its_whole_answer(
    strict: Server,
) -> None:
    with unharmed(strict), strict.client(receive_buffer=65536) as client:
        client.send(request("GET", "/blocks", {"Connection": "close"}, version="HTTP/1.0"))
        answer = client.read_exactly(1)
        with stopped(strict.worker_pid()):
            # All that the kernel holds; the worker has more.
            client.socket.settimeout(BEYOND_THE_DEADLINES)
            with contextlib.suppress(TimeoutError):
                while block := client.receive():
                    answer += block
            assert len(answer) < SIZE
        client.socket.settimeout(PATIENCE)
        answer += client.read_until_closed()
    assert answer.partition(b"\r\n\r\n")[2] == BLOCKS


def test_a_client_that_was_late_all_the_same_is_still_answered_408(strict: Server) -> None:
    with unharmed(strict, warnings=2), strict.client() as head, strict.client() as body:
        head.send(GET[:10])
        body.send(BODY[:-10])
        with strict.client() as witness:
            assert_answers(witness)
        with stopped(strict.worker_pid()):
            hears_nothing_until_the_deadlines_have_passed(head)
        assert head.response().status == 408
        assert body.response().status == 408
