"""A body that the application leaves unread with `--threads`: a little of it is dropped so that the
connection lives on, for more of it the connection ends in order (RFC 9112 section 9.6)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Server, request
from uploads import FRAMINGS, WINDOW, Upload

DROPPED = 64 * 1024
"""gunicorn's own bound."""
LARGE = 10 << 20
GIB = 1 << 30
pytestmark = pytest.mark.own_threads


def kernel_buffers() -> int:
    """Octets that both ends' socket buffers may grow to."""
    limits = (Path(f"/proc/sys/net/ipv4/{name}").read_text() for name in ("tcp_wmem", "tcp_rmem"))
    return sum(int(limit.split()[2]) for limit in limits)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start("apps.reading:app", "--threads", "4", "--keep-alive", "60") as server:
        yield server


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("length", [1, 1000, DROPPED // 2, DROPPED - 100])
@pytest.mark.parametrize("when", ["with the head", "in parts", "after the answer"])
def test_a_small_body_is_dropped_and_the_connection_lives_on(
    server: Server, tag: str, when: str, length: int, framing: str
) -> None:
    body = bytes(length)
    first = {"with the head": body, "in parts": body[: length // 2], "after the answer": b""}[when]
    with Upload(server, f"/calls/{tag}", length, framing, first=first) as upload:
        if when == "with the head":
            upload.end()
        response = upload.response()
        assert (response.text, response.header("Connection")) == ("[]", "keep-alive")
        if when != "with the head":
            if rest := body[len(first) :]:
                upload.send(rest)
            upload.end()
        upload.client.send(request("GET", "/well"))
        assert upload.response().text == "all is well"


def test_the_rest_of_a_body_may_come_as_soon_as_its_answer_is_there(server: Server) -> None:
    """Whatever the worker still has to do for the request then: on many connections, each of them
    new, so that it comes at many moments."""
    for _ in range(1500):
        with Upload(server, "/well", 5) as upload:
            assert upload.response().text == "all is well"
            upload.client.send(b"first" + request("GET", "/well"))
            assert upload.response().text == "all is well"


def test_a_body_of_which_all_but_a_little_was_read_costs_no_connection(
    server: Server, tag: str
) -> None:
    length = 3 * WINDOW
    with Upload(server, f"/calls/{tag}", length, calls=[["read", length - 1000]]) as upload:
        upload.send(bytes(length))
        assert upload.response().header("Connection") == "keep-alive"
        upload.client.send(request("GET", "/well"))
        assert upload.response().text == "all is well"


@pytest.mark.parametrize(
    ("framing", "sent"),
    [
        ("length", 0),
        ("length", 1000),
        ("length", WINDOW),
        ("length", WINDOW + DROPPED // 2),
        ("chunked", WINDOW + 2 * DROPPED),
    ],
)
def test_a_large_body_ends_the_connection_in_order(
    server: Server, tag: str, sent: int, framing: str
) -> None:
    """The client reads its answer and a FIN, no reset, although it was sending."""
    with Upload(server, f"/calls/{tag}", LARGE, framing, [["hold"]]) as upload:
        upload.wait_for("hold ...")
        if sent:
            upload.send(bytes(sent))
        assert upload.still_waits_in("hold")
        upload.release()
        assert upload.response().text == "[null]"
        assert upload.client.read_until_closed() == b""


def test_such_an_answer_says_that_the_connection_closes(server: Server, tag: str) -> None:
    with Upload(server, f"/calls/{tag}", LARGE, first=bytes(1000)) as upload:
        response = upload.response()
        assert (response.text, response.header("Connection")) == ("[]", "close")
        assert upload.client.is_closed_by_peer()


@pytest.mark.parametrize("framing", FRAMINGS)
def test_nothing_behind_a_large_unread_body_is_a_request(
    server: Server, tag: str, framing: str
) -> None:
    """Though it looks like one, as the body itself may."""
    looks = request("GET", f"/calls/{tag}-2", {"X-Calls": "[]"})
    with Upload(server, f"/calls/{tag}", LARGE, framing, [["hold"]]) as upload:
        upload.send(looks * 8000)
        upload.wait_for("hold ...")
        upload.release()
        assert upload.response().text == "[null]"
        assert upload.client.is_closed_by_peer()
    assert server.get("/well").status == 200
    assert not [note for note in server.notes() if note.startswith(f"{tag}-2 ")]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_an_answer_to_one_that_goes_on_sending_is_complete(
    server: Server, tag: str, framing: str
) -> None:
    """It sends as much as is taken, then reads. That is one window which waits for the
    application, one receive beyond it, what is dropped before the answer and behind it, and what
    nobody takes out of the kernel."""
    with Upload(server, f"/calls/{tag}", GIB, framing) as upload:
        sent = 0
        try:
            while sent < GIB:
                upload.send(bytes(WINDOW))
                sent += WINDOW
        except ConnectionError:
            pass
        assert sent <= 2 * WINDOW + 2 * DROPPED + kernel_buffers()
        assert upload.response().text == "[]"


def test_a_body_that_was_read_to_its_end_costs_no_connection(server: Server, tag: str) -> None:
    with server.client() as client:
        for number in range(3):
            calls = [["read", 2 * WINDOW]]
            target = f"/strict/{tag}-{number}"
            upload = Upload(server, target, 2 * WINDOW, calls=calls, client=client)
            upload.send(bytes(2 * WINDOW))
            assert upload.response().header("Connection") == "keep-alive"


def test_a_chunked_body_of_which_all_but_the_last_chunk_was_read_costs_no_connection(
    server: Server, tag: str
) -> None:
    with Upload(server, f"/calls/{tag}", 0, "chunked", [["read", 4]]) as upload:
        upload.send(b"body")
        assert upload.results() == ["body"]
        upload.end()
        upload.client.send(request("GET", "/well"))
        assert upload.response().text == "all is well"


def test_a_malformed_rest_of_an_unread_body_ends_the_connection(server: Server, tag: str) -> None:
    """Its answer is given: there is nothing more to say, and nothing more to believe."""
    with Upload(server, f"/calls/{tag}", 0, "chunked", [["read", 4]]) as upload:
        upload.send(b"body")
        assert upload.results() == ["body"]
        upload.client.send(b"xyz\r\n" + request("GET", f"/calls/{tag}-2", {"X-Calls": "[]"}))
        assert upload.client.is_closed_by_peer()
    assert server.get("/well").status == 200
    assert not [note for note in server.notes() if note.startswith(f"{tag}-2 ")]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_client_that_leaves_before_the_rest_of_an_unread_body_is_forgotten(
    server: Server, tag: str, framing: str
) -> None:
    with Upload(server, f"/calls/{tag}", 1000, framing, first=b"abc") as upload:
        assert upload.results() == []
        upload.client.half_close()
        assert upload.client.is_closed_by_peer()
