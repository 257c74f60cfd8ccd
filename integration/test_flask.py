"""Flask on the worker."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator

import pytest
from harness import Server, chunked, request
from support import form, gunicorn, multipart, noise

pytestmark = pytest.mark.timeout(120)

FILE = noise(3_000_000)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with gunicorn("sites.flask_site:app") as running:
        (running.directory / "file.bin").write_bytes(FILE)
        yield running


def test_a_form_arrives(server: Server) -> None:
    with server.client() as client:
        answer = client.request("POST", "/form", *form(name="Ægir", text="a b&c=d"))
    assert json.loads(answer.body) == {"name": "Ægir", "text": "a b&c=d"}


def test_json_arrives(server: Server) -> None:
    with server.client() as client:
        answer = client.request(
            "POST", "/json", {"Content-Type": "application/json"}, b'{"a": [1, 2, "\xc3\xa6"]}'
        )
    assert json.loads(answer.body) == {"got": {"a": [1, 2, "æ"]}}


def test_a_session_lives_in_its_cookie() -> None:
    # Over two workers: each must be able to read what the other signed.
    with gunicorn("sites.flask_site:app", "--workers", "2") as server:
        cookie = ""
        for expected in range(1, 11):
            answer = server.get("/count", {"Cookie": cookie} if cookie else {})
            assert answer.text == str(expected)
            cookie = (answer.header("Set-Cookie") or "").partition(";")[0]


def test_an_error_handler_answers(server: Server) -> None:
    broken = server.get("/broken")
    assert (broken.status, broken.text) == (422, "handled: asked for")
    teapot = server.get("/teapot")
    assert (teapot.status, teapot.text) == (418, "short and stout")


def test_an_unhandled_error_is_a_500_on_a_connection_that_goes_on(server: Server) -> None:
    with server.client() as client:
        assert client.request(target="/unhandled").status == 500
        assert client.request().text == "Flask"
    server.wait_for_log("nobody handles this")


def test_an_unknown_path_is_a_404_and_an_unknown_method_a_405(server: Server) -> None:
    with server.client() as client:
        assert client.request(target="/nowhere").status == 404
        assert client.request("DELETE", "/").status == 405


def test_head_has_the_length_and_no_body(server: Server) -> None:
    with server.client() as client:
        head = client.request("HEAD", "/")
        assert (head.status, head.header("Content-Length")) == (200, "5")
        assert client.request().text == "Flask"


def test_a_redirect_names_the_host_that_was_asked(server: Server) -> None:
    answer = server.get("/redirect", {"Host": "example.org:81"})
    assert (answer.status, answer.header("Location")) == (302, "http://example.org:81/")


def test_a_trusted_proxy_says_the_scheme(server: Server) -> None:
    answer = server.get("/where", {"Host": "example.org", "X-Forwarded-Proto": "https"})
    assert json.loads(answer.body)["url"] == "https://example.org/where"


def test_a_streamed_response_keeps_its_request(server: Server) -> None:
    with server.client() as client:
        answer = client.request(target="/stream?name=one&blocks=500")
        lines = [f"{number} one /stream\n".ljust(64, ".") for number in range(500)]
        assert answer.text == "".join(lines)
        assert answer.framing == "chunked"
    server.wait_for_note("closed one")
    server.wait_for_note("teardown /stream?name=one&blocks=500")


def test_a_streamed_response_is_closed_when_its_client_leaves(server: Server) -> None:
    with server.client(receive_buffer=4096) as client:
        client.send(request(target="/stream?name=left&blocks=1000000"))
        assert client.read_until(b"left /stream")
        client.reset()
    server.wait_for_note("closed left")
    server.wait_for_note("teardown /stream?name=left&blocks=1000000")
    assert server.get().text == "Flask"


def test_a_file_is_sent_whole(server: Server) -> None:
    answer = server.get("/file")
    assert answer.header("Content-Length") == str(len(FILE))
    assert answer.body == FILE


def test_a_part_of_a_file_is_sent(server: Server) -> None:
    answer = server.get("/file", {"Range": "bytes=1000000-1000009"})
    assert (answer.status, answer.body) == (206, FILE[1_000_000:1_000_010])


def test_a_file_that_did_not_change_is_not_sent_again(server: Server) -> None:
    with server.client() as client:
        etag = client.request(target="/file").header("ETag")
        assert etag
        again = client.request(target="/file", headers={"If-None-Match": etag})
        assert (again.status, again.body) == (304, b"")
        assert client.request().text == "Flask"


def test_an_uploaded_file_arrives_whole(server: Server) -> None:
    with server.client() as client:
        answer = client.request(
            "POST", "/upload", *multipart({"comment": "mine"}, {"file": ("a.bin", FILE)})
        )
        assert json.loads(answer.body) == {
            "name": "a.bin",
            "size": len(FILE),
            "sha256": hashlib.sha256(FILE).hexdigest(),
            "comment": "mine",
        }
        assert client.request().text == "Flask"


def test_an_upload_in_chunks_arrives_whole(server: Server) -> None:
    pieces = [FILE[start : start + 70_001] for start in range(0, len(FILE), 70_001)]
    with server.client() as client:
        client.send(request("POST", "/raw", {"Transfer-Encoding": "chunked"}) + chunked(*pieces))
        answer = client.response()
        assert json.loads(answer.body) == {
            "size": len(FILE),
            "sha256": hashlib.sha256(FILE).hexdigest(),
        }
        assert client.request().text == "Flask"


def test_an_upload_beyond_flasks_limit_is_a_413(server: Server) -> None:
    with server.client() as client:
        # Nothing of the body is sent: Flask decides by the length.
        client.send(
            b"POST /upload HTTP/1.1\r\nHost: test\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 9000000\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        answer = client.response("POST")
        if answer.status == 100:
            # A worker may take the body before it calls the application, or some of it.
            with contextlib.suppress(BrokenPipeError):
                client.send(b"-" * 9_000_000)
            answer = client.response("POST")
        assert answer.status == 413
