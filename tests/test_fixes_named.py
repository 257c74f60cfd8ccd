"""What Python 2 took from an application is a 500 whose line in the log says what to write."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import Server

MISTAKES = {
    "/status": ('start_response(b"200 OK", [])', "the status is bytes: write '200 OK', a str"),
    "/number": ("start_response(200, [])", "the status is int: write a str"),
    "/name": (
        'start_response("200 OK", [(b"X-Name", "value")])',
        "a header name is bytes: write 'X-Name', a str",
    ),
    "/value": (
        'start_response("200 OK", [("X-Name", b"secret")])',
        "the value of the header 'X-Name' is bytes: write a str, as value.decode('latin-1')",
    ),
    "/length": (
        'start_response("200 OK", [("Content-Length", 5)])',
        "the value of the header 'Content-Length' is int: write a str, as str(value)",
    ),
    "/block": (
        'start_response("200 OK", []); return ["text"]',
        "a block of the body is str: write bytes, as text.encode()",
    ),
    "/later": (
        'start_response("200 OK", []); return iter(["text"])',
        "a block of the body is str: write bytes, as text.encode()",
    ),
    "/written": (
        'start_response("200 OK", [])("text")',
        "a block of the body is str: write bytes, as text.encode()",
    ),
    "/text": (
        'start_response("200 OK", []); return "text"',
        "the application returned str: return [text.encode()]",
    ),
    "/bytes": (
        'start_response("200 OK", []); return b"bytes"',
        "the application returned bytes: return a list of it, [body]",
    ),
}
APP = (
    "def app(environ, start_response):\n"
    + "".join(
        f'    if environ["PATH_INFO"] == "{path}":\n        {mistake}\n'
        for path, (mistake, _) in MISTAKES.items()
    )
    + '    start_response("200 OK", [])\n    return environ["PATH_INFO"][1:]\n'
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP) as server:
        yield server


@pytest.mark.parametrize("path", MISTAKES)
def test_the_log_names_the_fix(server: Server, path: str) -> None:
    assert server.get(path).status == 500
    log = server.wait_for_log(
        rf"Error handling request GET {path}$[\s\S]*?^TypeError: (?P<said>.*)$"
    )
    assert log["said"] == MISTAKES[path][1]


def test_the_value_of_a_field_is_not_repeated(server: Server) -> None:
    server.get("/value")
    said = server.wait_for_log("^TypeError: the value of the header 'X-Name'.*$").group()
    assert "secret" not in said


def test_an_empty_text_is_an_empty_body(server: Server) -> None:
    assert (server.get("/").status, server.get("/").body) == (200, b"")
