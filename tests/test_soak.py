"""Many requests on one worker: its resident memory is flat after the first tenth.

MEINHELD_SOAK_REQUESTS says how many; the default keeps the suite short.
"""

from __future__ import annotations

import os

from harness import Server, chunked, memory_kib, request

REQUESTS = int(os.environ.get("MEINHELD_SOAK_REQUESTS", "100000"))
BATCH = 500
ROUNDS = 10
APP = """
from apps.routes import Routes, text

app = Routes()


@app.route
def whole(environ, start_response):
    return text(start_response, environ["QUERY_STRING"] * 3)


@app.route
def body(environ, start_response):
    return text(start_response, str(len(environ["wsgi.input"].read())))


@app.route
def blocks(environ, start_response):
    start_response("200 OK", [("X-Number", environ["QUERY_STRING"])])
    yield environ["QUERY_STRING"].encode()
    yield b"."


@app.route
def error(environ, start_response):
    start_response("500 On Purpose", [("Content-Length", "0")])
    return []
"""


def batch(start: int) -> bytes:
    """Requests of every kind, each with a header of its own so that no cache fits."""
    kinds = []
    for number in range(start, start + BATCH):
        headers = {"X-Number": str(number), f"X-Name-{number % 50}": "a" * (number % 100)}
        if number % 5 == 1:
            kinds.append(request("POST", "/body", headers, b"b" * (number % 3000 + 1)))
        elif number % 5 == 2:
            kinds.append(
                request(
                    "POST",
                    "/body",
                    {**headers, "Transfer-Encoding": "chunked"},
                    chunked(b"chunk" * 10, b"x"),
                )
            )
        elif number % 5 == 3:
            kinds.append(request("GET", f"/blocks?{number}", headers))
        elif number % 50 == 4:
            kinds.append(request("GET", "/error", headers))
        else:
            kinds.append(request("GET", f"/whole?{number}", headers))
    return b"".join(kinds)


def serve(server: Server, count: int, start: int) -> None:
    """`count` requests in pipelined batches, a new connection every ten batches."""
    end = start + count
    while start < end:
        with server.client() as client:
            for _ in range(10):
                client.send(batch(start))
                statuses = [client.response().status for _ in range(BATCH)]
                assert set(statuses) <= {200, 500}
                start += BATCH
                if start >= end:
                    break


def test_memory_is_flat_after_the_first_tenth() -> None:
    with Server.start(APP, "--keep-alive", "60") as server:
        pid = server.worker_pid()
        serve(server, REQUESTS // ROUNDS, 0)
        first = memory_kib(pid)
        for number in range(1, ROUNDS):
            serve(server, REQUESTS // ROUNDS, number * REQUESTS // ROUNDS)
        assert memory_kib(pid) - first < 1024, f"from {first} to {memory_kib(pid)} KiB"
        assert server.worker_pid() == pid
