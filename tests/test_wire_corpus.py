"""The corpus of tests/wire over a real socket: whole, byte by byte, and with a tail."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import TESTS, Response, Server

CASES = sorted((TESTS / "wire").glob("*.http"))
TAIL = b"GET /tail HTTP/1.1\r\nHost: tail\r\n\r\n"
APP = """
import json


def app(environ, start_response):
    seen = {
        "method": environ["REQUEST_METHOD"],
        "target": environ["RAW_URI"],
        "query": environ["QUERY_STRING"],
        "version": environ["SERVER_PROTOCOL"],
        "body": environ["wsgi.input"].read().decode("latin-1"),
    }
    answer = json.dumps(seen).encode()
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP, "--keep-alive", "30") as server:
        yield server


def unescape(text: str) -> bytes:
    text = re.sub(r"\{(\d+)\*(.)\}", lambda match: match[2] * int(match[1]), text)
    return text.encode("ascii").decode("unicode_escape").encode("latin-1")


def parsed(path: Path) -> tuple[dict[str, str], bytes]:
    """The expectations by name (without `field`, which may be repeated), and the octets."""
    head, _, octets = path.read_text("ascii").partition("\n---\n")
    lines = [line.partition(":") for line in head.splitlines() if line and not line.startswith("#")]
    expectations = {
        name: unescape(value.strip()).decode("latin-1")
        for name, _, value in lines
        if name != "field"
    }
    return expectations, unescape(octets.replace("\n", ""))


def assert_expected(response: Response, expectations: dict[str, str]) -> None:
    assert response.status == int(expectations["status"]), response
    if response.status != 200:
        assert expectations.get("reason", "") in response.text
        assert response.header("Connection") == "close"
    elif expectations.get("method") != "HEAD":
        seen = json.loads(response.body)
        for name in ("method", "target", "query", "version", "body"):
            assert seen[name] == expectations.get(name, seen[name]), name


@pytest.mark.parametrize("delivery", ["whole", "bytewise", "tail"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_each_case_becomes_what_it_says(server: Server, case: Path, delivery: str) -> None:
    expectations, octets = parsed(case)
    if delivery == "bytewise" and len(octets) > 40_000:
        octets, delivery = octets + b"", "whole"
    method = expectations.get("method", "GET")
    with server.client() as client:
        if delivery == "bytewise":
            try:
                client.send_bytewise(octets)
            except ConnectionError:
                assert expectations["status"] != "200"
        else:
            client.send(octets + (TAIL if delivery == "tail" else b""))
        response = client.response(method)
        if response.status == 100:
            assert expectations.get("continue") == "yes"
            response = client.response(method)
        assert_expected(response, expectations)
        if delivery == "tail" and expectations.get("keep-alive") == "yes":
            assert json.loads(client.response().body)["target"] == "/tail"
            assert client.rest() == b""
        elif expectations.get("keep-alive") == "yes":
            assert client.rest() == b""
        else:
            assert client.is_closed_by_peer()


def test_the_corpus_is_there() -> None:
    assert len(CASES) > 50
