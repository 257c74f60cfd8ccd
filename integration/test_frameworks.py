"""Pyramid, Bottle and Falcon on the worker: the same sentences for each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import pytest
from harness import Server
from support import form, gunicorn, multipart, noise

pytestmark = pytest.mark.timeout(120)

FILE = noise(1_500_000)


@pytest.fixture(scope="module", params=["Pyramid", "Bottle", "Falcon"])
def framework(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(framework: str) -> Iterator[Server]:
    with gunicorn(f"sites.{framework.lower()}_site:app") as running:
        (running.directory / "file.bin").write_bytes(FILE)
        yield running


def test_it_answers(server: Server, framework: str) -> None:
    answer = server.get()
    assert (answer.status, answer.text) == (200, framework)


def test_head_has_no_body(server: Server, framework: str) -> None:
    with server.client() as client:
        # Falcon and Bottle route HEAD only where told to, or to GET: either way no body follows.
        client.request("HEAD", "/")
        assert client.request().text == framework


def test_a_form_and_a_path_arrive(server: Server) -> None:
    with server.client() as client:
        answer = client.request("POST", "/form/%C3%86gir", *form(name="a b&c=d ø"))
    assert json.loads(answer.body) == {"name": "a b&c=d ø", "user": "Ægir"}


def test_a_generator_is_streamed_and_closed(server: Server) -> None:
    before = server.notes().count("closed")
    answer = server.get("/stream")
    assert answer.text == "".join(f"{number}\n" for number in range(100))
    assert answer.framing == "chunked"
    server.wait_for_note("closed", before + 1)
    assert server.notes().count("closed") == before + 1


def test_a_file_is_sent_whole(server: Server) -> None:
    answer = server.get("/file")
    assert answer.header("Content-Length") == str(len(FILE))
    assert answer.body == FILE


def test_an_uploaded_file_arrives_whole(server: Server, framework: str) -> None:
    with server.client() as client:
        answer = client.request("POST", "/upload", *multipart({}, {"file": ("a.bin", FILE)}))
        assert json.loads(answer.body) == {
            "name": "a.bin",
            "sha256": hashlib.sha256(FILE).hexdigest(),
        }
        assert client.request().text == framework


def test_a_redirect_is_passed_on(server: Server) -> None:
    answer = server.get("/redirect", {"Host": "example.org"})
    assert answer.status in (302, 303)
    assert (answer.header("Location") or "").removeprefix("http://example.org") == "/"


def test_an_error_handler_answers(server: Server, framework: str) -> None:
    with server.client() as client:
        answer = client.request(target="/broken")
        assert (answer.status, answer.text) == (422, "handled: asked for")
        assert client.request().text == framework


def test_an_unknown_path_is_a_404(server: Server) -> None:
    assert server.get("/nowhere").status == 404
