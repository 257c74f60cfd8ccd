"""What a read of `wsgi.input` raises with `--threads` when the body does not come as announced:
always an OSError, never a short body."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import Server, Truncated, chunked, request
from uploads import FRAMINGS, WINDOW, Upload
from wellness import unharmed

THREADS = 4
MAX_BODY = 1_000_000
ALL = ["read", "readline", "readlines", "iterate", "next"]
TAIL = request("GET", "/calls/tail", {"X-Calls": "[]"})
pytestmark = pytest.mark.own_threads


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(
        "apps.reading:app",
        "--threads",
        str(THREADS),
        "--keep-alive",
        "60",
        env={"MEINHELD_MAX_BODY": str(MAX_BODY)},
    ) as server:
        yield server


def raised(kind: str) -> dict[str, object]:
    """As `apps.reading` tells it."""
    return {"raised": kind, "an OSError": True}


# A client that leaves


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("ending", ["reset", "half_close", "close"])
@pytest.mark.parametrize("name", ALL)
def test_a_client_that_leaves_in_its_body_raises_in_the_read_that_waits(
    server: Server, tag: str, name: str, ending: str, framing: str
) -> None:
    """Also a FIN: the rest of the body can no more come."""
    with (
        unharmed(server, warnings=None),
        Upload(server, f"/calls/{tag}", 100, framing, [["read", 3], [name]]) as upload,
    ):
        upload.send(b"abcdef")
        upload.wait_for("read 3 = 'abc'")
        assert upload.still_waits_in(name)
        getattr(upload.client, ending)()
        upload.wait_for(f"{name} raised ConnectionResetError")


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("ending", ["reset", "half_close"])
def test_a_client_that_leaves_while_nobody_reads_raises_in_the_next_read(
    server: Server, tag: str, ending: str, framing: str
) -> None:
    with (
        unharmed(server, warnings=None),
        Upload(server, f"/calls/{tag}", 100, framing, [["hold"], ["read"], ["read", 1]]) as upload,
    ):
        upload.send(b"abc")
        assert upload.still_waits_in("hold")
        getattr(upload.client, ending)()
        assert upload.still_waits_in("hold")
        upload.release()
        upload.wait_for("read raised ConnectionResetError")
        upload.wait_for("read 1 raised ConnectionResetError")


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_read_after_such_an_error_never_says_that_the_body_has_ended(
    server: Server, tag: str, framing: str
) -> None:
    """An application that tries again, or that swallowed it, must not take a part for the whole."""
    calls = [["read"], ["read"], ["read", 1], ["readline"], ["readlines"], ["iterate"], ["next"]]
    with Upload(server, f"/calls/{tag}", 100, framing, calls) as upload:
        upload.send(b"abc")
        assert upload.still_waits_in("read")
        upload.client.half_close()
        upload.wait_for("next raised ConnectionResetError")
        assert not [step for step in upload.noted() if " = " in step]


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("ending", ["reset", "half_close"])
def test_an_application_that_lets_it_through_leaves_no_traceback(
    server: Server, tag: str, ending: str, framing: str
) -> None:
    """It is not at fault: there is nothing to be repaired in it. A client that said with a FIN
    that the rest will not come is told nothing."""
    with unharmed(server, warnings=None):
        upload = Upload(server, f"/strict/{tag}", 100, framing, [["read"]])
        upload.send(b"abc")
        assert upload.still_waits_in("read")
        getattr(upload.client, ending)()
        upload.wait_for("read raised ConnectionResetError")
        if ending == "half_close":
            assert upload.client.read_until_closed() == b""
        upload.client.close()


@pytest.mark.parametrize("framing", FRAMINGS)
def test_an_application_that_catches_what_a_fin_raises_gives_its_own_answer_which_is_the_last(
    server: Server, tag: str, framing: str
) -> None:
    """Its client sends no more, and listens."""
    with Upload(server, f"/calls/{tag}", 100, framing, [["read"]]) as upload:
        upload.send(b"abc")
        assert upload.still_waits_in("read")
        upload.client.half_close()
        response = upload.response()
        assert (response.status, response.header("Connection")) == (200, "close")
        assert response.text == '[{"raised": "ConnectionResetError", "an OSError": true}]'
        assert upload.client.read_until_closed() == b""


# A FIN that is a half-close


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("when", ["at once", "in a read", "before a read"])
def test_a_fin_behind_a_whole_request_is_no_fault(
    server: Server, tag: str, when: str, framing: str
) -> None:
    calls = [["hold"], ["read"]] if when == "before a read" else [["read"]]
    with Upload(server, f"/calls/{tag}", 6, framing, calls) as upload:
        upload.send(b"who")
        if when != "at once":
            upload.wait_for(f"{calls[0][0]} ...")
        upload.send(b"le\n")
        upload.end()
        upload.client.half_close()
        if when == "before a read":
            assert upload.still_waits_in("hold")
            upload.release()
        assert upload.results()[-1] == "whole\n"
        assert upload.client.read_until_closed() == b""


def test_a_fin_behind_two_requests_lets_both_be_answered(server: Server, tag: str) -> None:
    calls = [["hold"], ["read"]]
    with Upload(server, f"/calls/{tag}", 4, calls=calls, first=b"body") as upload:
        upload.client.send(request("GET", "/well"))
        upload.client.half_close()
        assert upload.still_waits_in("hold")
        upload.release()
        assert upload.results() == [None, "body"]
        assert upload.response().text == "all is well"
        assert upload.client.read_until_closed() == b""


# A body that is not what it should be

MALFORMED = {
    "size": b"xyz\r\nabc\r\n0\r\n\r\n",
    "size-sign": b"+3\r\nabc\r\n0\r\n\r\n",
    "size-huge": b"f" * 17 + b"\r\nabc",
    "end-of-chunk": b"3\r\nabcXX0\r\n\r\n",
    "bare-lf": b"3\nabc\r\n0\r\n\r\n",
    "trailer": b"3\r\nabc\r\n0\r\nno colon\r\n\r\n",
    "trailer-length": b"3\r\nabc\r\n0\r\nContent-Length: 4\r\n\r\n",
    "second-chunk": b"3\r\nabc\r\n-1\r\n",
}


@pytest.mark.parametrize("early", [False, True], ids=["during", "before"])
@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("wire", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_chunk_raises(
    server: Server, tag: str, wire: bytes, name: str, early: bool
) -> None:
    """Whether it comes while the read waits or was there before it."""
    calls = [["hold"], [name]] if early else [[name]]
    with Upload(server, f"/calls/{tag}", 0, "chunked", calls) as upload:
        upload.wait_for(f"{calls[0][0]} ...")
        upload.client.send(wire + TAIL)
        if early:
            assert upload.still_waits_in("hold")
            upload.release()
        results = upload.results()
        if name in ("readline", "next") and results[-1] == "abc":
            pytest.fail("a line without an end, and the body has not ended")
        assert results[-1] == raised("OSError")


@pytest.mark.parametrize("wire", MALFORMED.values(), ids=MALFORMED.keys())
def test_an_application_that_catches_it_gives_its_own_answer_which_is_the_last(
    server: Server, tag: str, wire: bytes
) -> None:
    with Upload(server, f"/calls/{tag}", 0, "chunked", [["read"]]) as upload:
        upload.wait_for("read ...")
        upload.client.send(wire + TAIL)
        response = upload.response()
        assert (response.status, response.header("Connection")) == (200, "close")
        assert upload.client.is_closed_by_peer()
    assert server.get("/well").status == 200
    assert "tail called" not in server.notes()


@pytest.mark.parametrize("wire", MALFORMED.values(), ids=MALFORMED.keys())
def test_an_application_that_lets_it_through_has_the_client_answered_400(
    server: Server, tag: str, wire: bytes
) -> None:
    with (
        unharmed(server, warnings=1),
        Upload(server, f"/strict/{tag}", 0, "chunked", [["read"]]) as upload,
    ):
        upload.wait_for("read ...")
        upload.client.send(wire + TAIL)
        response = upload.response()
        assert (response.status, response.header("Connection")) == (400, "close")
        assert upload.client.is_closed_by_peer()
    assert "tail called" not in server.notes()


@pytest.mark.parametrize("wire", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_known_before_the_application_is_called_is_answered_without_it(
    server: Server, tag: str, wire: bytes
) -> None:
    """All threads are busy when it comes. The answer is that of the inline way."""
    holding = [Upload(server, f"/calls/{tag}-{n}", 0, calls=[["hold"]]) for n in range(THREADS)]
    for upload in holding:
        upload.wait_for("hold ...")
    with server.client() as witness, Upload(server, f"/calls/{tag}", 0, "chunked") as upload:
        upload.client.send(wire + TAIL)
        # The worker has read all of the above when it has refused this.
        witness.send(b"nonsense\r\n\r\n")
        assert witness.response().status == 400
        for held in holding:
            with held:
                held.release()
                assert held.results() == [None]
        response = upload.response()
        assert (response.status, response.header("Connection")) == (400, "close")
        assert upload.client.is_closed_by_peer()
        assert upload.noted() == []
    assert "tail called" not in server.notes()


def test_an_answer_whose_head_has_left_is_cut_instead(server: Server, tag: str) -> None:
    """The client sees that it is not whole."""
    with Upload(server, f"/early/{tag}", 0, "chunked", [["read"]]) as upload:
        upload.client.read_until(b"early,\r\n")
        upload.client.send(b"xyz\r\n" + TAIL)
        with pytest.raises((Truncated, ConnectionError)):
            list(upload.client.chunks())
    assert "tail called" not in server.notes()


def test_an_application_that_does_not_read_it_answers_and_the_connection_closes(
    server: Server, tag: str
) -> None:
    with Upload(server, f"/calls/{tag}", 0, "chunked", [["hold"]]) as upload:
        upload.wait_for("hold ...")
        upload.client.send(b"xyz\r\n" + TAIL)
        assert upload.still_waits_in("hold")
        upload.release()
        response = upload.response()
        assert (response.status, response.header("Connection")) == (200, "close")
        assert upload.client.is_closed_by_peer()
    assert "tail called" not in server.notes()


# MEINHELD_MAX_BODY


def test_a_chunked_body_beyond_max_body_raises_where_it_exceeds(server: Server, tag: str) -> None:
    calls = [["read", 950_000], ["read"]]
    with Upload(server, f"/calls/{tag}", 0, "chunked", calls) as upload:
        upload.send(bytes(950_000))
        upload.wait_for("read ...")
        upload.send(bytes(50_001))
        response = upload.response()
        assert response.text.endswith('{"raised": "OSError", "an OSError": true}]')
        assert response.header("Connection") == "close"
        assert upload.client.is_closed_by_peer()


def test_such_a_body_is_answered_413_when_the_application_lets_it_through(
    server: Server, tag: str
) -> None:
    with (
        unharmed(server, warnings=1),
        Upload(server, f"/strict/{tag}", 0, "chunked", [["read"]]) as upload,
    ):
        for octets in (*[WINDOW - 1000] * 3, MAX_BODY - 3 * (WINDOW - 1000) - 9, 10):
            upload.send(bytes(octets))
        response = upload.response()
        assert (response.status, response.header("Connection")) == (413, "close")


def test_a_chunked_body_of_max_body_is_whole(server: Server, tag: str) -> None:
    with Upload(server, "/digest", 0, "chunked") as upload:
        upload.client.send(chunked(bytes(MAX_BODY - 7), bytes(7)) + request("GET", "/well"))
        assert upload.response().text.startswith(f"{MAX_BODY} ")
        assert upload.response().text == "all is well"


def test_a_read_of_more_than_any_memory_is_a_read_of_what_there_is(
    server: Server, tag: str
) -> None:
    calls = [["read", 2], ["read", 10**15], ["read", 10**30]]
    with Upload(server, f"/calls/{tag}", 4, calls=calls) as upload:
        upload.send(b"body")
        assert upload.results() == ["bo", "dy", ""]
