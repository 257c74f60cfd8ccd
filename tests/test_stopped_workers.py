"""A worker that stood still for longer than its patience with clients (SIGSTOP, a suspended
machine) reads what has come meanwhile before it says that nothing came."""

from __future__ import annotations

import signal
import time

from harness import Client, Server, eventually, request

TIMEOUT = 0.3
ROUNDS = 12
"""Where a stop catches the worker is chance: mostly in its wait, which ends empty-handed then."""
SIZE = 8 << 20
APP = f"""
from apps.routes import Routes, text

app = Routes()


@app.route
def upload(environ, start_response):
    return text(start_response, str(len(environ["wsgi.input"].read())))


@app.route
def large(environ, start_response):
    start_response("200 OK", [("Content-Length", "{SIZE}")])
    return [bytes({SIZE})]
"""
DEADLINES = {
    "MEINHELD_HEAD_TIMEOUT": str(TIMEOUT),
    "MEINHELD_BODY_TIMEOUT": str(TIMEOUT),
    "MEINHELD_SEND_TIMEOUT": str(TIMEOUT),
}
WHOLE = request("POST", "/upload", {"Content-Length": "5"}, b"12345")


def start() -> Server:
    return Server.start(APP, "--keep-alive", "30", "--timeout", "30", env=DEADLINES)


def have_seen_all(server: Server) -> None:
    """The worker has taken in what was sent before this request."""
    for _ in range(3):
        with server.client() as witness:
            assert witness.request("POST", "/upload", body=b"1").text == "1"


def stand_still(server: Server) -> float:
    server.signal(signal.SIGSTOP, server.worker_pid())
    return time.monotonic() + 2 * TIMEOUT


def go_on(server: Server, at: float) -> None:
    eventually(lambda: time.monotonic() > at, "the worker's patience would be over")
    server.signal(signal.SIGCONT, server.worker_pid())


def test_the_rest_of_a_request_came_in_time() -> None:
    with start() as server:
        for _ in range(ROUNDS):
            # In the request line, in the head, in the body.
            cuts = [1, len(WHOLE) - 6, len(WHOLE) - 2]
            clients = [server.client() for _ in cuts]
            for client, cut in zip(clients, cuts, strict=True):
                client.send(WHOLE[:cut])
            have_seen_all(server)
            until = stand_still(server)
            for client, cut in zip(clients, cuts, strict=True):
                client.send(WHOLE[cut:])
            go_on(server, until)
            answers = [client.response() for client in clients]
            assert [(answer.status, answer.text) for answer in answers] == [(200, "5")] * 3
            for client in clients:
                client.close()


def test_a_reader_took_its_part_in_time() -> None:
    with start() as server:
        for _ in range(ROUNDS):
            with server.client(receive_buffer=4096) as client:
                client.send(request("GET", "/large"))
                have_seen_all(server)
                until = stand_still(server)
                # The worker has more, and cannot send it.
                taken = received_so_far(client)
                go_on(server, until)
                assert taken + len(client.read_exactly(SIZE - taken)) == SIZE


def received_so_far(client: Client) -> int:
    """Reads the head and all of the body that comes without the worker's help."""
    client.read_until(b"\r\n\r\n")
    client.socket.settimeout(TIMEOUT)
    taken = 0
    try:
        while True:
            taken += len(client.receive(1 << 20))
    except TimeoutError:
        client.socket.settimeout(30)
        return taken
