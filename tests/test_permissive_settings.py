"""gunicorn's `permit_obsolete_folding`, `strip_header_spaces` and
`permit_unconventional_http_version`, and the strict defaults without them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from harness import Response, Server

APP = """
import json


def app(environ, start_response):
    body = environ["wsgi.input"].read().decode("latin-1")
    seen = {k: v for k, v in environ.items() if isinstance(v, str)} | {"body": body}
    body = json.dumps(seen).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
PERMISSIVE = {
    "permit_obsolete_folding": True,
    "strip_header_spaces": True,
    "permit_unconventional_http_version": True,
}


@pytest.fixture(scope="module")
def permissive() -> Iterator[Server]:
    with Server.start(APP, config=PERMISSIVE) as server:
        yield server


@pytest.fixture(scope="module")
def strict() -> Iterator[Server]:
    with Server.start(APP) as server:
        yield server


def sent(server: Server, wire: bytes) -> Response:
    with server.client() as client:
        client.send(wire)
        return client.response()


def get(fields: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    return b"GET / " + version + b"\r\nHost: a\r\n" + fields + b"\r\n"


def test_a_folded_value_is_joined_by_one_space(permissive: Server) -> None:
    response = sent(permissive, get(b"X-Folded: one\r\n two\t\r\n\t three\r\n"))
    assert json.loads(response.body)["HTTP_X_FOLDED"] == "one two three"


def test_a_space_before_the_colon_is_no_part_of_the_name(permissive: Server) -> None:
    response = sent(permissive, get(b"X-Name \t: value\r\nContent-Length : 2\r\n") + b"ab")
    seen = json.loads(response.body)
    assert seen["HTTP_X_NAME"] == "value"
    assert (seen["CONTENT_LENGTH"], seen["body"]) == ("2", "ab")


@pytest.mark.parametrize(
    ("version", "answered"), [(b"HTTP/0.9", "HTTP/1.0"), (b"HTTP/2.0", "HTTP/1.1")]
)
def test_an_unconventional_version_reaches_environ(
    permissive: Server, version: bytes, answered: str
) -> None:
    """The answer is in ours: RFC 9110 section 2.5."""
    response = sent(permissive, get(b"", version))
    assert json.loads(response.body)["SERVER_PROTOCOL"] == version.decode()
    assert response.version == answered


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (get(b"X: a\r\n b\r\n"), 400),
        (get(b"X : a\r\n"), 400),
        (get(b"", b"HTTP/2.0"), 505),
        (get(b"", b"HTTP/1.2"), 505),
    ],
)
def test_without_the_settings_each_is_refused(strict: Server, wire: bytes, status: int) -> None:
    assert sent(strict, wire).status == status


@pytest.mark.parametrize(
    "fields",
    [
        b"X: a\n b\r\n",
        b"Content-Length: 1\r\n 2\r\n",
        b"Content-Length : 1\r\nTransfer-Encoding : chunked\r\n",
        b"Host : b\r\n",
        b"X Y: a\r\n",
        b"X: a\r\n \x00\r\n",
    ],
)
def test_the_settings_open_nothing_else(permissive: Server, fields: bytes) -> None:
    assert sent(permissive, get(fields)).status == 400


def test_a_folded_field_is_bounded_as_one_field() -> None:
    settings = PERMISSIVE | {"limit_request_field_size": 50, "limit_request_fields": 2}
    with Server.start(APP, config=settings) as server:
        assert sent(server, get(b"X: a\r\n" + b" b\r\n" * 9)).status == 200
        assert sent(server, get(b"X: a\r\n" + b" b\r\n" * 12)).status == 431
