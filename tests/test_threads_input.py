"""`wsgi.input` with `--threads`: the request is handed over at its head, and a read waits for the
octets of its body as they arrive."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from apps.reading import digest_of
from harness import Server, chunked, open_files, request, settled
from uploads import FRAMINGS, WINDOW, Upload

THREADS = 4
LONG_FIELD = 100_000
"""More than one receive brings."""
LINES = b"first\nsecond line\r\n\nlast without an end"
pytestmark = pytest.mark.own_threads


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    limits = ["--limit-request-field_size", str(LONG_FIELD)]
    settings = ["--threads", str(THREADS), "--keep-alive", "60", *limits]
    with Server.start("apps.reading:app", *settings) as server:
        yield server


# When octets come


@pytest.mark.parametrize("framing", FRAMINGS)
def test_the_request_is_handed_over_at_its_head(server: Server, tag: str, framing: str) -> None:
    with Upload(server, f"/calls/{tag}", 4, framing, [["read"]]) as upload:
        upload.wait_for("called")
        assert upload.client.is_quiet()
        upload.send(b"body")
        upload.end()
        assert upload.results() == ["body"]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_octets_that_have_arrived_are_read_before_the_rest_is_sent(
    server: Server, tag: str, framing: str
) -> None:
    with Upload(server, f"/calls/{tag}", 6, framing, [["read", 2]] * 4) as upload:
        for number, piece in enumerate((b"ab", b"cd", b"ef")):
            assert upload.still_waits_in("read 2")
            assert len(upload.noted()) == 2 + 2 * number
            upload.send(piece)
            upload.wait_for(f"read 2 = {piece.decode()!r}")
        upload.end()
        assert upload.results() == ["ab", "cd", "ef", ""]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_read_waits_for_as_many_octets_as_it_was_asked_for(
    server: Server, tag: str, framing: str
) -> None:
    """As in gunicorn: an application that reads a record of known length gets the whole of it."""
    with Upload(server, f"/calls/{tag}", 5, framing, [["read", 3], ["read", 3]]) as upload:
        upload.send(b"a")
        assert upload.still_waits_in("read 3")
        upload.send(b"b")
        assert upload.still_waits_in("read 3")
        upload.send(b"cd")
        upload.wait_for("read 3 = 'abc'")
        upload.send(b"e")
        upload.end()
        assert upload.results() == ["abc", "de"]


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("call", [["readline"], ["next"], ["readline", 100], ["readline", -1]])
def test_a_line_is_read_when_its_end_has_arrived(
    server: Server, tag: str, call: list[object], framing: str
) -> None:
    shown = " ".join(map(str, call))
    with Upload(server, f"/calls/{tag}", 10, framing, [call, call, ["read"]]) as upload:
        upload.send(b"fir")
        assert upload.still_waits_in(shown)
        upload.send(b"st\ns")
        upload.wait_for(f"{shown} = 'first\\n'")
        assert upload.still_waits_in(shown)
        upload.send(b"e\n")
        upload.wait_for(f"{shown} = 'se\\n'")
        upload.send(b"x")
        upload.end()
        assert upload.results() == ["first\n", "se\n", "x"]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_line_is_cut_where_the_application_says_without_waiting_for_its_end(
    server: Server, tag: str, framing: str
) -> None:
    with Upload(server, f"/calls/{tag}", 6, framing, [["readline", 3], ["readline"]]) as upload:
        upload.send(b"abcd")
        upload.wait_for("readline 3 = 'abc'")
        upload.send(b"e\n")
        upload.end()
        assert upload.results() == ["abc", "de\n"]


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize(
    ("call", "whole"),
    [
        (["read"], LINES.decode()),
        (["read", -1], LINES.decode()),
        (["read", 1000], LINES.decode()),
        (["readlines"], [line.decode() for line in LINES.splitlines(keepends=True)]),
        (["iterate"], [line.decode() for line in LINES.splitlines(keepends=True)]),
    ],
)
def test_a_call_for_all_of_it_waits_for_the_end(
    server: Server, tag: str, call: list[object], whole: object, framing: str
) -> None:
    shown = " ".join(map(str, call))
    with Upload(server, f"/calls/{tag}", len(LINES), framing, [call, ["read", 1]]) as upload:
        for piece in (LINES[:8], LINES[8:20], LINES[20:-1]):
            upload.send(piece)
            assert upload.still_waits_in(shown)
        upload.send(LINES[-1:])
        upload.end()
        assert upload.results() == [whole, ""]


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("name", ["read", "readline"])
def test_a_call_for_no_octets_does_not_wait(
    server: Server, tag: str, name: str, framing: str
) -> None:
    with Upload(server, f"/calls/{tag}", 4, framing, [[name, 0], ["read"]]) as upload:
        upload.wait_for(f"{name} 0 = ''")
        upload.send(b"body")
        upload.end()
        assert upload.results() == ["", "body"]


def test_a_chunked_body_has_no_end_before_its_last_chunk_and_trailer(
    server: Server, tag: str
) -> None:
    with Upload(server, f"/calls/{tag}", 0, "chunked", [["read", 4], ["read", 1]]) as upload:
        upload.send(b"body")
        upload.wait_for("read 4 = 'body'")
        for part in (b"0\r\n", b"X-Sum: 27\r\n"):
            upload.client.send(part)
            assert upload.still_waits_in("read 1")
        upload.client.send(b"\r\n")
        assert upload.results() == ["body", ""]


def test_a_trailer_may_be_as_long_as_a_head(server: Server, tag: str) -> None:
    with Upload(server, f"/calls/{tag}", 0, "chunked", [["read"]]) as upload:
        upload.send(b"body")
        upload.wait_for("read ...")
        upload.client.send(b"0\r\n" + b"X-Sum: ".ljust(LONG_FIELD - 2, b"7") + b"\r\n\r\n")
        assert upload.results() == ["body"]


def test_a_body_of_known_length_ends_without_a_further_octet(server: Server, tag: str) -> None:
    with Upload(server, f"/calls/{tag}", 4, calls=[["read", 4], ["read", 1]]) as upload:
        upload.send(b"body")
        assert upload.results() == ["body", ""]


def test_where_chunks_end_is_not_seen(server: Server, tag: str) -> None:
    calls = [["read", 3], ["readline"], ["read"]]
    with Upload(server, f"/calls/{tag}", 0, "chunked", calls) as upload:
        for octet in (b"%c" % octet for octet in b"abcde\nfgh"):
            upload.client.send_bytewise(upload.framed(octet))
        upload.end()
        assert upload.results() == ["abc", "de\n", "fgh"]


@pytest.mark.parametrize("version", ["HTTP/1.1", "HTTP/1.0"])
@pytest.mark.parametrize("headers", [{}, {"Content-Length": "0"}])
def test_a_request_without_a_body_has_an_input_that_is_at_its_end(
    server: Server, tag: str, headers: dict[str, str], version: str
) -> None:
    calls = '[["read"], ["read", 1], ["readline"], ["iterate"]]'
    with server.client() as client:
        client.send(request("GET", f"/calls/{tag}", {"X-Calls": calls, **headers}, version=version))
        assert client.response().text == '["", "", "", []]'


def test_a_body_of_http_1_0_is_read_as_it_arrives(server: Server, tag: str) -> None:
    calls = [["read", 2], ["read"]]
    with Upload(server, f"/calls/{tag}", 4, calls=calls, version="HTTP/1.0") as upload:
        upload.send(b"bo")
        upload.wait_for("read 2 = 'bo'")
        upload.send(b"dy")
        assert upload.results() == ["bo", "dy"]


# Which octets


def some_body(size: int) -> bytes:
    """With a line feed now and then."""
    return random.Random(size).randbytes(size)


@pytest.fixture(scope="module")
def inline() -> Iterator[Server]:
    with Server.start("apps.reading:app", "--threads", "1", "--keep-alive", "60") as server:
        yield server


@pytest.mark.parametrize("framing", FRAMINGS)
def test_odd_pieces_of_a_big_body_are_those_of_the_inline_way(
    server: Server, inline: Server, framing: str
) -> None:
    body, chance = some_body(5_000_003), random.Random(framing)
    sizes = [1, 7, 4095, -300, 65_537, -1, 300_001, 2, -100_000]
    answers = []
    for asked in (server, inline):
        headers = {"X-Sizes": str(sizes)}
        with Upload(asked, "/digest", len(body), framing, headers=headers) as upload:
            at = 0
            while at < len(body):
                piece = body[at : at + chance.choice([1, 100, 8191, 65_536, 400_009])]
                upload.send(piece)
                at += len(piece)
            upload.end()
            answers.append(upload.response().text)
    assert answers == [digest_of(body, sizes)] * 2


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("size", [WINDOW, WINDOW - 1, 1 << 30, 1000])
@pytest.mark.parametrize("length", [k * WINDOW + d for k in (1, 2) for d in (-1, 0, 1)])
def test_a_body_that_ends_where_the_window_ends_is_whole(
    server: Server, length: int, size: int, framing: str
) -> None:
    """Twice on one connection, so that the next request begins where the body ended."""
    body, headers = some_body(length), {"X-Sizes": f"[{size}]"}
    with server.client() as client:
        for _ in range(2):
            upload = Upload(server, "/digest", length, framing, headers=headers, client=client)
            upload.send(body)
            upload.end()
            assert upload.response().text == digest_of(body, [size])


@pytest.mark.parametrize("framing", FRAMINGS)
def test_the_octets_behind_a_body_are_the_next_request(
    server: Server, tag: str, framing: str
) -> None:
    following = request("POST", f"/calls/{tag}-2", {"X-Calls": '[["read"]]'}, b"following")
    with Upload(server, f"/calls/{tag}", 4, framing, [["read", 2], ["read"]]) as upload:
        upload.send(b"bo")
        upload.wait_for("read 2 = 'bo'")
        end = chunked() if upload.chunked else b""
        upload.client.send(upload.framed(b"dy") + end + following[:-3])
        assert upload.results() == ["bo", "dy"]
        server.wait_for_note(f"{tag}-2 read ...")
        upload.client.send(following[-3:] + request("GET", "/well"))
        assert upload.response().text == '["following"]'
        assert upload.response().text == "all is well"


def test_bodies_of_twenty_clients_that_take_turns_do_not_mix(server: Server) -> None:
    """More clients than threads: the others wait for theirs."""
    bodies = [some_body(2000 + number) for number in range(20)]
    headers = {"X-Sizes": "[10, 33]"}
    uploads = [Upload(server, "/digest", len(body), headers=headers) for body in bodies]
    for at in range(0, 2020, 101):
        for upload, body in zip(uploads, bodies, strict=True):
            upload.send(body[at : at + 101])
    for upload, body in zip(uploads, bodies, strict=True):
        with upload:
            assert upload.response().text == digest_of(body, [10, 33])


def test_a_large_body_is_not_spooled(server: Server, tag: str) -> None:
    before = [name for name in open_files(server.worker_pid()) if "(deleted)" in name]
    with Upload(server, f"/strict/{tag}", 4 * WINDOW, calls=[["read", 3], ["hold"]]) as upload:
        upload.send(bytes(WINDOW))
        upload.wait_for("hold ...")
        now = [name for name in open_files(server.worker_pid()) if "(deleted)" in name]
        assert now == before
        upload.release()


# Who else is served while a read waits


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("name", ["read", "readline", "next", "readlines", "iterate"])
def test_the_gil_is_released_while_a_read_waits(
    server: Server, tag: str, name: str, framing: str
) -> None:
    """Or no other thread could answer; all of them but one wait."""
    uploads = [
        Upload(server, f"/calls/{tag}-{number}", 2, framing, [[name]])
        for number in range(THREADS - 1)
    ]
    for upload in uploads:
        assert upload.still_waits_in(name)
    for _ in range(20):
        assert server.get("/well").text == "all is well"
    for upload in uploads:
        with upload:
            upload.send(b"x\n")
            upload.end()
            assert "x\\n" in str(upload.results())


def test_threads_that_all_wait_are_served_in_whichever_order_their_octets_come(
    server: Server, tag: str
) -> None:
    """And a request that found no thread gets the first that is free again."""
    uploads = [
        Upload(server, f"/calls/{tag}-{number}", 4, calls=[["read"]]) for number in range(THREADS)
    ]
    for upload in uploads:
        upload.wait_for("read ...")
    with server.client() as client:
        client.send(request("GET", "/well"))
        for upload in uploads:
            upload.send(b"bod")
        assert settled(client.is_quiet, during=0.1)
        for number in (2, 0, 3, 1):
            with uploads[number] as upload:
                upload.send(b"y")
                assert upload.results() == ["body"]
                if number == 2:
                    assert client.response().text == "all is well"


def test_a_worker_whose_threads_all_wait_is_alive_to_its_arbiter(tag: str) -> None:
    with Server.start("apps.reading:app", "--threads", "2", "--timeout", "1") as server:
        pids = server.worker_pids()
        uploads = [Upload(server, f"/calls/{tag}-{n}", 4, calls=[["read"]]) for n in range(2)]
        for upload in uploads:
            upload.wait_for("read ...")
        assert settled(server.worker_pids, during=2.5) == pids
        for upload in uploads:
            with upload:
                upload.send(b"body")
                assert upload.results() == ["body"]


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_drain_lets_a_body_that_arrives_come_to_its_end(tag: str, framing: str) -> None:
    with (
        Server.start("apps.reading:app", "--threads", "2", "--graceful-timeout", "30") as server,
        Upload(server, f"/calls/{tag}", 4, framing, [["read"]]) as upload,
    ):
        upload.send(b"bo")
        upload.wait_for("read ...")
        with server.client() as idle:
            assert idle.request("GET", "/well").status == 200
            server.process.terminate()
            assert idle.is_closed_by_peer()
        upload.send(b"dy")
        upload.end()
        response = upload.response()
        assert response.text == '["body"]'
        assert response.header("Connection") == "close"
        assert upload.client.is_closed_by_peer()
        assert server.stop() == 0
