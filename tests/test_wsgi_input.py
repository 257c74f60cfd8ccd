"""`wsgi.input`: the methods of PEP 3333, compared with io.BytesIO, in memory and spooled, with a
length and chunked."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from apps.input_calls import perform
from harness import Server, chunked, request

LINES = b"first\nsecond line\r\n\nlast without an end"
CALLS: list[list[list[Any]]] = [
    [["read"]],
    [["read", -1]],
    [["read", None]],
    [["read", 0], ["read", 3], ["read", 3], ["read"]],
    [["read", 1000], ["read", 1000], ["read"]],
    [["read", 5], ["readline"], ["readline"], ["read", 2], ["readline"], ["read"]],
    [["readline"], ["readline"], ["readline"], ["readline"], ["readline"], ["readline"]],
    [
        ["readline", 3],
        ["readline", 3],
        ["readline", 100],
        ["readline", 0],
        ["readline", -1],
        ["readline", None],
    ],
    [["readlines"]],
    [["readlines", 0], ["readlines"]],
    [["readlines", 7], ["readlines", 7], ["readlines"]],
    [["readlines", -1]],
    [["readlines", None]],
    [["read", 2], ["readlines"], ["read"]],
    [["iterate"], ["read"], ["readline"], ["readlines"]],
    [["next"], ["read", 3], ["next"], ["readline"], ["iterate"], ["next"]],
    [["readline"], ["iterate"]],
    [["read", 3], ["next"], ["readlines", 1], ["read", 4], ["next"]],
]
BODIES = {
    "empty": b"",
    "newline": b"\n",
    "lines": LINES,
    "no-newline": b"x" * 100,
    "binary": bytes(range(256)),
    "long-lines": (b"y" * 5000 + b"\n") * 3,
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start("apps.input_calls:app", "--keep-alive", "30") as server:
        yield server


def ask(server: Server, body: bytes, calls: list[list[Any]], framing: str = "length") -> Any:
    headers = {"X-Calls": json.dumps(calls)}
    with server.client() as client:
        if framing == "chunked":
            pieces = [body[start : start + 4096] for start in range(0, len(body), 4096)]
            client.send(
                request("POST", "/", {**headers, "Transfer-Encoding": "chunked"}, chunked(*pieces))
            )
        else:
            client.send(request("POST", "/", {**headers, "Content-Length": str(len(body))}, body))
        client.send(request("GET", "/tail", {"X-Calls": "[]", "Connection": "close"}))
        response = client.response()
        assert response.status == 200, server.stderr_text()[-2000:]
        assert client.response().text == "[]"
        return json.loads(response.body)


class WithoutHints(io.BytesIO):
    """PEP 3333: "the `hint` argument to `readlines()` is optional for both caller and
    implementer"."""

    def readlines(self, hint: int | None = None) -> list[bytes]:
        return super().readlines()


def expected(body: bytes, calls: list[list[Any]]) -> list[list[Any]]:
    """What a file returns, with the hints of `readlines` followed and ignored."""
    return [
        [perform(stream, name, arguments) for name, *arguments in calls]
        for stream in (io.BytesIO(body), WithoutHints(body))
    ]


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
@pytest.mark.parametrize("calls", CALLS, ids=lambda calls: ",".join(str(call[0]) for call in calls))
def test_it_reads_as_a_file_does(
    server: Server, calls: list[list[Any]], body: bytes, framing: str
) -> None:
    assert ask(server, body, calls, framing) in expected(body, calls)


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("seed", range(5))
def test_a_spooled_body_reads_as_a_file_does(server: Server, seed: int, framing: str) -> None:
    chance = random.Random(seed)
    body = b"".join(
        chance.randbytes(chance.randrange(3000)).replace(b"\n", b"") + b"\n" for _ in range(500)
    )
    calls: list[list[Any]] = [
        [chance.choice(["read", "readline"]), chance.randrange(5000)] for _ in range(60)
    ]
    calls += [["next"], ["readlines", 9000], ["read"], ["read"]]
    assert ask(server, body, calls, framing) in expected(body, calls)


def test_past_the_end_everything_is_empty(server: Server) -> None:
    calls: list[list[Any]] = [
        ["read"],
        ["read"],
        ["read", 10],
        ["readline"],
        ["readlines"],
        ["iterate"],
        ["next"],
    ]
    assert ask(server, b"body", calls) == ["body", "", "", "", [], [], "stop"]


def test_a_request_without_a_body_has_an_empty_input(server: Server) -> None:
    with server.client() as client:
        calls = [["read"], ["read", 1], ["readline"], ["readlines"], ["iterate"]]
        assert json.loads(client.request("GET", "/", {"X-Calls": json.dumps(calls)}).body) == [
            "",
            "",
            "",
            [],
            [],
        ]


@pytest.mark.parametrize("name", ["read", "readline"])
def test_a_size_that_is_no_integer_is_a_type_error(server: Server, name: str) -> None:
    assert ask(server, b"body", [[name, "3"], ["read"]]) == [{"raised": "TypeError"}, "body"]


def test_an_input_that_outlives_its_request_reads_no_byte_of_the_next_one() -> None:
    keeping = """
kept = []


def app(environ, start_response):
    kept.append(environ["wsgi.input"])
    seen = b""
    if len(kept) > 1:
        try:
            seen = kept[0].read()
        except Exception:
            pass
    body = seen + b"|" + environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
    with Server.start(keeping, "--keep-alive", "30") as server, server.client() as client:
        client.send(request("POST", "/", body=b"one") + request("POST", "/", body=b"two"))
        assert client.response().body == b"|one"
        assert client.response().body == b"|two"
