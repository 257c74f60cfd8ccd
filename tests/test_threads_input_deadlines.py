"""`MEINHELD_BODY_TIMEOUT` with `--threads`: a read waits as long as its client makes progress, and
an application that takes its time costs its client nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import Server
from uploads import FRAMINGS, WINDOW, Upload, pour
from wellness import unharmed

DEADLINE = 1.0
TIMED_OUT = {"raised": "TimeoutError", "an OSError": True}
pytestmark = pytest.mark.own_threads


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(
        "apps.reading:app",
        "--threads",
        "4",
        "--keep-alive",
        "60",
        env={"MEINHELD_BODY_TIMEOUT": str(DEADLINE)},
    ) as server:
        yield server


def let_the_deadline_pass(server: Server) -> None:
    """Another client stalls from now on, until it is cut off for that."""
    with Upload(server, "/strict/clock", 1, calls=[["read"]]) as clock:
        assert clock.response().status == 408


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("name", ["read", "readline", "readlines", "iterate", "next"])
def test_a_stalled_body_raises_a_timeout_error(
    server: Server, tag: str, name: str, framing: str
) -> None:
    """The application may give its own answer, which is the last one of the connection."""
    with Upload(server, f"/calls/{tag}", 10, framing, [["read", 1], [name]]) as upload:
        upload.send(b"abc")
        response = upload.response()
        assert response.status == 200
        assert response.text == '["a", {"raised": "TimeoutError", "an OSError": true}]'
        assert response.header("Connection") == "close"
        assert upload.client.is_closed_by_peer()


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("sent", [b"", b"abc"])
def test_a_stalled_body_is_answered_408_when_the_application_lets_it_through(
    server: Server, tag: str, sent: bytes, framing: str
) -> None:
    with (
        unharmed(server, warnings=1),
        Upload(server, f"/strict/{tag}", 10, framing, [["read"]], first=sent) as upload,
    ):
        response = upload.response()
        assert (response.status, response.header("Connection")) == (408, "close")
        assert upload.client.is_closed_by_peer()


def test_reads_after_it_raise_at_once(server: Server, tag: str) -> None:
    """Each for a deadline more would hold the thread as long as the application is patient."""
    calls = [["read"]] * 100
    with Upload(server, f"/calls/{tag}", 10, calls=calls) as upload:
        upload.send(b"abc")
        assert upload.results() == [TIMED_OUT] * 100


def test_a_client_that_was_told_to_go_on_and_does_not_is_answered_408(
    server: Server, tag: str
) -> None:
    with Upload(
        server, f"/strict/{tag}", 4, calls=[["read"]], headers={"Expect": "100-continue"}
    ) as upload:
        assert upload.response().status == 100
        assert upload.response().status == 408
        assert upload.client.is_closed_by_peer()


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("call", [["read"], ["read", 1], ["readline"]])
def test_a_body_that_trickles_is_cut_off(
    server: Server, tag: str, call: list[object], framing: str
) -> None:
    """Twenty octets a second are not progress, also where each of them ends a read."""
    calls = [call] * 400
    with Upload(server, f"/strict/{tag}", 400, framing, calls) as upload:
        octet = b"\n" if call == ["readline"] else b"x"
        upload.client.socket.settimeout(0.05 * len(upload.framed(octet)))
        for _ in range(400):
            upload.send(octet)
            try:
                assert upload.client.read_until(b"\r\n").startswith(b"HTTP/1.1 408 ")
                return
            except TimeoutError:
                continue
    raise AssertionError("the body went on for ever")


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("size", [1, 512, 10_000])
def test_a_body_that_goes_on_arriving_is_not_cut_off(
    server: Server, tag: str, size: int, framing: str
) -> None:
    """Its parts come more slowly than the deadline altogether, each well within it."""
    headers = {"X-Sizes": f"[{size}]"}
    with Upload(server, "/digest", 12 * 512, framing, headers=headers) as upload:
        for _ in range(12):
            upload.client.socket.settimeout(0.15)
            with pytest.raises(TimeoutError):
                upload.client.receive()
            upload.send(bytes(512))
        upload.client.socket.settimeout(10)
        upload.end()
        assert upload.response().text.startswith("6144 ")


@pytest.mark.parametrize("sent", [0, 3, 4 * WINDOW], ids=["nothing", "something", "a-full-window"])
def test_a_deadline_runs_only_while_a_read_waits(server: Server, tag: str, sent: int) -> None:
    """A client that is stopped because nobody reads is not one that stalls."""
    length = sent + 3
    calls = [["hold"], ["read", sent], ["read"]]
    with Upload(server, f"/strict/{tag}", length, calls=calls) as upload:
        upload.wait_for("hold ...")
        [taken] = pour([upload.client], bytes(sent))
        let_the_deadline_pass(server)
        upload.release()
        upload.client.send(bytes(sent - taken) + b"end")
        assert upload.results()[-1] == "end"


def test_a_deadline_does_not_run_for_a_request_that_waits_for_a_thread(tag: str) -> None:
    deadline = {"MEINHELD_BODY_TIMEOUT": str(DEADLINE)}
    with (
        Server.start("apps.reading:app", "--threads", "2", env=deadline) as server,
        Upload(server, f"/calls/{tag}-busy", 1, calls=[["hold"]]) as busy,
        Upload(server, f"/strict/{tag}-clock", 1, calls=[["read"]]) as clock,
    ):
        busy.wait_for("hold ...")
        clock.wait_for("read ...")
        with Upload(server, f"/calls/{tag}", 6, calls=[["read"]]) as upload:
            upload.send(b"abc")
            # It gets the thread that the stalled one held for the whole deadline.
            assert clock.response().status == 408
            upload.wait_for("read ...")
            upload.send(b"def")
            assert upload.results() == ["abcdef"]
        busy.release()


def test_an_unread_body_that_does_not_come_does_not_keep_its_connection(
    server: Server, tag: str
) -> None:
    """Its answer has been given: a 408 would be the answer to something else."""
    with Upload(server, f"/calls/{tag}", 10, calls=[]) as upload:
        assert upload.results() == []
        assert upload.client.is_closed_by_peer()


def test_two_hundred_that_stall_in_their_bodies_hold_four_threads_for_their_deadlines_only(
    tag: str,
) -> None:
    """Everybody else is served after them."""
    deadline = {"MEINHELD_BODY_TIMEOUT": "0.1"}
    with (
        Server.start("apps.reading:app", "--threads", "4", env=deadline) as server,
        unharmed(server, warnings=200),
    ):
        stalled = [
            Upload(server, f"/strict/{tag}-{number}", 10, calls=[["read"]], first=b"abc")
            for number in range(200)
        ]
        assert server.get("/well").text == "all is well"
        for upload in stalled:
            with upload:
                assert upload.response().status == 408


def test_two_hundred_that_stall_and_leave_free_the_threads_at_once(server: Server) -> None:
    """None is waited for."""
    with unharmed(server, warnings=None):
        stalled = [
            Upload(server, f"/strict/left-{number}", 10, calls=[["read"]], first=b"abc")
            for number in range(200)
        ]
        for upload in stalled:
            upload.client.reset()
