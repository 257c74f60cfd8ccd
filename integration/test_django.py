"""Django on the worker."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator

import pytest
from harness import Client, Server, eventually, request
from support import gunicorn, multipart, noise

pytestmark = pytest.mark.timeout(120)

FILE = noise(4_000_000)
"""Beyond 2.5 MiB, where Django itself goes to a temporary file."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    # Two workers of a preloaded application, so that the arbiter made the tables before the fork.
    with gunicorn("sites.django_site:application", "--preload", "--workers", "2") as running:
        (running.directory / "file.bin").write_bytes(FILE)
        yield running


@pytest.fixture
def fresh() -> Iterator[Server]:
    """A server with one worker and a database of its own."""
    with gunicorn("sites.django_site:application") as running:
        yield running


def test_it_answers(server: Server) -> None:
    assert server.get().text == "Django"


def test_the_orm_keeps_what_was_added(fresh: Server) -> None:
    with fresh.client() as client:
        for text in ("one", "two", "three"):
            assert client.request(target=f"/add?text={text}").status == 201
        assert json.loads(client.request(target="/entries").body) == {
            "entries": ["one", "two", "three"]
        }


def test_a_failed_view_rolls_its_transaction_back(fresh: Server) -> None:
    with fresh.client() as client:
        assert client.request(target="/add-and-fail?text=never").status == 500
        assert json.loads(client.request(target="/entries").body) == {"entries": []}


def test_two_workers_share_the_database(server: Server) -> None:
    before = json.loads(server.get("/entries").body)["entries"]
    for number in range(10):
        assert server.get(f"/add?text=shared{number}").status == 201
    after = json.loads(server.get("/entries").body)["entries"]
    assert after == before + [f"shared{number}" for number in range(10)]


def open_form(client: Client) -> tuple[str, str]:
    """The cookie and the token that Django's CSRF protection wants back."""
    page = client.request(target="/upload")
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    cookie = (page.header("Set-Cookie") or "").partition(";")[0]
    assert token and cookie.startswith("csrftoken=")
    return cookie, token.group(1)


def test_an_upload_form_takes_a_file_that_goes_to_disk(server: Server) -> None:
    with server.client() as client:
        cookie, token = open_form(client)
        fields = {"csrfmiddlewaretoken": token, "comment": "mine"}
        headers, body = multipart(fields, {"file": ("a.bin", FILE)})
        answer = client.request("POST", "/upload", {**headers, "Cookie": cookie}, body)
        assert json.loads(answer.body) == {
            "name": "a.bin",
            "size": len(FILE),
            "sha256": hashlib.sha256(FILE).hexdigest(),
            "comment": "mine",
            "on disk": True,
        }


def test_an_upload_without_its_token_is_refused(server: Server) -> None:
    with server.client() as client:
        answer = client.request("POST", "/upload", *multipart({}, {"file": ("a.bin", b"small")}))
        assert answer.status == 403
    assert server.get().text == "Django"


def test_a_cursor_is_streamed(fresh: Server) -> None:
    with fresh.client() as client:
        assert json.loads(client.request(target="/fill?rows=3000").body) == {"rows": 3000}
        answer = client.request(target="/export")
        lines = answer.text.splitlines()
        assert answer.framing == "chunked"
        assert len(lines) == 3000
        assert lines[-1].startswith("3000,row 2999,")


def test_a_streamed_cursor_survives_requests_that_finish_meanwhile(fresh: Server) -> None:
    with fresh.client() as other:
        assert json.loads(other.request(target="/fill?rows=20000").body) == {"rows": 20000}
        with fresh.client(receive_buffer=4096) as slow:
            slow.send(request(target="/export"))
            assert slow.read_until(b"\r\n\r\n")
            # Asked while the stream waits for its reader; answered whenever its turn comes.
            other.send(request())
            body = b"".join(slow.chunks())
            assert other.response().text == "Django"
    lines = body.splitlines()
    assert [line.split(b",")[0] for line in lines] == [b"%d" % number for number in range(1, 20001)]


def test_a_file_is_sent_whole(server: Server) -> None:
    answer = server.get("/file")
    assert answer.header("Content-Length") == str(len(FILE))
    assert answer.body == FILE


def test_a_session_lives_in_its_cookie(server: Server) -> None:
    cookie = ""
    for expected in range(1, 6):
        answer = server.get("/count", {"Cookie": cookie} if cookie else {})
        assert answer.text == str(expected)
        cookie = (answer.header("Set-Cookie") or "").partition(";")[0]


def test_a_trusted_proxy_makes_a_request_secure(server: Server) -> None:
    answer = server.get("/where", {"Host": "example.org", "X-Forwarded-Proto": "https"})
    assert json.loads(answer.body) == {
        "url": "https://example.org/where",
        "secure": True,
        "remote": "127.0.0.1",
    }


def test_an_error_is_a_500_on_a_connection_that_goes_on(server: Server) -> None:
    with server.client() as client:
        assert client.request(target="/broken").status == 500
        assert client.request().text == "Django"


def test_request_finished_is_sent_once_for_each_request(fresh: Server) -> None:
    # Django sends it from the response's close(): connections are given back there.
    with fresh.client() as client:
        for target in ("/", "/entries", "/broken", "/export", "/nowhere"):
            client.request(target=target)
        eventually(lambda: fresh.notes().count("request_finished") == 5, "five requests finished")
        assert client.request("HEAD", "/").status == 200
        eventually(lambda: fresh.notes().count("request_finished") == 6, "six requests finished")
