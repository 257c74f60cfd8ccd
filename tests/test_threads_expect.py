"""`Expect: 100-continue` with `--threads`: the client is told to go on when the application reads,
as PEP 3333 wants it; RFC 9110 section 10.1.1."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import Server, request
from uploads import FRAMINGS, Upload

EXPECT = {"Expect": "100-continue"}
pytestmark = pytest.mark.own_threads


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start("apps.reading:app", "--threads", "4", "--keep-alive", "60") as server:
        yield server


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("name", ["read", "readline", "readlines", "iterate", "next"])
def test_the_client_is_told_to_go_on_at_the_first_read_and_not_before(
    server: Server, tag: str, name: str, framing: str
) -> None:
    calls = [["hold"], [name]]
    with Upload(server, f"/calls/{tag}", 4, framing, calls, EXPECT) as upload:
        assert upload.still_waits_in("hold")
        assert upload.client.is_quiet()
        upload.release()
        interim = upload.response()
        assert (interim.version, interim.status, interim.headers) == ("HTTP/1.1", 100, [])
        upload.send(b"body")
        upload.end()
        assert "body" in str(upload.results())


def test_it_is_told_once_however_often_the_application_reads(server: Server, tag: str) -> None:
    with Upload(server, f"/calls/{tag}", 4, calls=[["read", 2]] * 3, headers=EXPECT) as upload:
        assert upload.response().status == 100
        upload.send(b"bo")
        assert upload.still_waits_in("read 2")
        upload.send(b"dy")
        assert upload.results() == ["bo", "dy", ""]
        assert upload.client.rest() == b""


def test_it_is_told_once_for_each_request_of_a_connection(server: Server, tag: str) -> None:
    with server.client() as client:
        for number in range(3):
            target = f"/calls/{tag}-{number}"
            upload = Upload(server, target, 4, calls=[["read"]], headers=EXPECT, client=client)
            assert upload.response().status == 100
            upload.send(b"body")
            assert upload.results() == ["body"]
        plain = Upload(server, f"/calls/{tag}", 4, calls=[["read"]], client=client, first=b"body")
        assert plain.results() == ["body"]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_client_that_does_not_wait_is_not_told(server: Server, tag: str, framing: str) -> None:
    with Upload(
        server, f"/calls/{tag}", 4, framing, [["hold"], ["read", 4]], EXPECT, first=b"body"
    ) as upload:
        assert upload.still_waits_in("hold")
        upload.release()
        upload.end()
        assert upload.results() == [None, "body"]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_client_that_loses_patience_is_not_told(server: Server, tag: str, framing: str) -> None:
    """It sends its body while the application is busy: RFC 9110 lets it."""
    with Upload(server, f"/calls/{tag}", 4, framing, [["hold"], ["read", 4]], EXPECT) as upload:
        upload.wait_for("hold ...")
        upload.send(b"body")
        upload.end()
        assert upload.still_waits_in("hold")
        upload.release()
        assert upload.results() == [None, "body"]
        assert upload.client.rest() == b""


def test_a_read_of_no_octets_does_not_tell_it(server: Server, tag: str) -> None:
    calls = [["read", 0], ["hold"], ["read"]]
    with Upload(server, f"/calls/{tag}", 4, calls=calls, headers=EXPECT) as upload:
        assert upload.still_waits_in("hold")
        assert upload.client.is_quiet()
        upload.release()
        assert upload.response().status == 100
        upload.send(b"body")
        assert upload.results() == ["", None, "body"]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_the_answer_comes_instead_when_the_application_never_reads(
    server: Server, tag: str, framing: str
) -> None:
    """Then nobody can know whether the body will come: the connection closes (RFC 9110 section
    10.1.1, RFC 9112 section 9.6)."""
    with Upload(server, f"/calls/{tag}", 4, framing, headers=EXPECT) as upload:
        response = upload.response()
        assert (response.status, response.text) == (200, "[]")
        assert response.header("Connection") == "close"
        assert upload.client.is_closed_by_peer()


@pytest.mark.parametrize("framing", FRAMINGS)
def test_what_follows_such_an_answer_is_no_request(server: Server, tag: str, framing: str) -> None:
    """Whether the client sends the body after all, or the next request."""
    with Upload(server, f"/calls/{tag}", 4, framing, headers=EXPECT) as upload:
        assert upload.response().header("Connection") == "close"
        upload.client.send(request("GET", f"/calls/{tag}-2", {"X-Calls": "[]"}))
        assert upload.client.is_closed_by_peer()
    assert server.get("/well").status == 200
    assert not [note for note in server.notes() if note.startswith(f"{tag}-2 ")]


def test_a_body_that_came_untold_and_was_not_read_costs_no_connection(
    server: Server, tag: str
) -> None:
    """It is all there: the next request begins behind it."""
    with Upload(server, f"/calls/{tag}", 4, headers=EXPECT, first=b"body") as upload:
        upload.client.send(request("GET", "/well"))
        response = upload.response()
        assert (response.text, response.header("Connection")) == ("[]", "keep-alive")
        assert upload.response().text == "all is well"


def test_an_answer_that_has_begun_is_not_interrupted(server: Server, tag: str) -> None:
    """A 100 behind the head of the answer would be part of its body. A client that sends the body
    nevertheless is read; a connection with such a doubt closes."""
    with Upload(server, f"/early/{tag}", 4, calls=[["read"]], headers=EXPECT) as upload:
        head = upload.client.read_until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert b"\r\nConnection: close\r\n" in head
        chunks = upload.client.chunks()
        assert next(chunks) == b"early,"
        assert upload.still_waits_in("read")
        assert upload.client.is_quiet()
        upload.send(b"body")
        assert list(chunks) == [b'"body"']
        assert upload.client.is_closed_by_peer()


@pytest.mark.parametrize("headers", [EXPECT, {}])
def test_a_http_1_0_client_is_never_told(server: Server, tag: str, headers: dict[str, str]) -> None:
    with Upload(
        server, f"/calls/{tag}", 4, calls=[["read"]], headers=headers, version="HTTP/1.0"
    ) as upload:
        assert upload.still_waits_in("read")
        assert upload.client.is_quiet()
        upload.send(b"body")
        assert upload.results() == ["body"]


def test_a_client_that_did_not_ask_is_not_told(server: Server, tag: str) -> None:
    with Upload(server, f"/calls/{tag}", 4, calls=[["read"]]) as upload:
        assert upload.still_waits_in("read")
        assert upload.client.is_quiet()
        upload.send(b"body")
        assert upload.results() == ["body"]


@pytest.mark.parametrize("framing", ["length"])
def test_a_body_without_octets_is_not_asked_for(server: Server, tag: str, framing: str) -> None:
    with Upload(server, f"/calls/{tag}", 0, framing, [["read"]], EXPECT) as upload:
        assert upload.results() == [""]
        assert upload.client.rest() == b""


def test_it_is_told_behind_the_answer_before_it(server: Server, tag: str) -> None:
    """Pipelined: what comes on a connection comes in the order of its requests."""
    with Upload(server, f"/calls/{tag}", 1, calls=[["hold"]], first=b"1") as upload:
        following = Upload(
            server,
            f"/calls/{tag}-2",
            4,
            calls=[["read"]],
            headers=EXPECT,
            client=upload.client,
        )
        assert upload.still_waits_in("hold")
        assert upload.client.is_quiet()
        assert following.noted() == []
        upload.release()
        assert upload.results() == [None]
        assert following.response().status == 100
        following.send(b"body")
        assert following.results() == ["body"]


def test_hints_may_precede_it(tag: str) -> None:
    """Interim answers come in the order in which the application causes them."""
    app = """
from apps.routes import text


def app(environ, start_response):
    environ["wsgi.early_hints"]([("Link", "</style.css>; rel=preload")])
    return text(start_response, environ["wsgi.input"].read().decode())
"""
    with (
        Server.start(app, "--threads", "2") as server,
        Upload(server, f"/{tag}", 4, headers=EXPECT) as upload,
    ):
        assert upload.response().status == 103
        assert upload.response().status == 100
        upload.send(b"body")
        assert upload.response().text == "body"


@pytest.mark.parametrize("ending", ["reset", "half_close"])
def test_a_client_that_leaves_instead_of_going_on_is_noticed(
    server: Server, tag: str, ending: str
) -> None:
    with Upload(server, f"/calls/{tag}", 4, calls=[["read"]], headers=EXPECT) as upload:
        assert upload.response().status == 100
        getattr(upload.client, ending)()
        upload.wait_for("read raised ConnectionResetError")


def test_a_body_beyond_max_body_is_refused_instead(tag: str) -> None:
    """By its announced length, before the application is called."""
    limit = {"MEINHELD_MAX_BODY": "1000"}
    with (
        Server.start("apps.reading:app", "--threads", "2", env=limit) as server,
        Upload(server, f"/calls/{tag}", 1001, calls=[["read"]], headers=EXPECT) as upload,
    ):
        assert upload.response().status == 413
        assert upload.client.is_closed_by_peer()
        assert upload.noted() == []
