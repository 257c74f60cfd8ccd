"""Frames (RFC 6455 5 to 8): what a peer may send, and what ends the connection."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import Server
from websocket_peer import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    Peer,
    close_payload,
    frame,
    serving,
)

pytestmark = pytest.mark.own_threads

LIMIT = 100_000


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(max_message_size=LIMIT) as server:
        yield server


@pytest.fixture
def peer(server: Server) -> Iterator[Peer]:
    with Peer.open(server) as peer:
        yield peer


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, LIMIT])
def test_messages_of_every_length_form(peer: Peer, size: int) -> None:
    peer.say(bytes(size))
    assert peer.hear() == bytes(size)
    peer.say("x" * size)
    assert peer.hear() == "x" * size


def test_text_is_any_unicode(peer: Peer) -> None:
    peer.say("κόσμε \U0001f600 \0")
    assert peer.hear() == "κόσμε \U0001f600 \0"


def test_a_frame_may_come_octet_by_octet(peer: Peer) -> None:
    peer.send_bytewise(frame(TEXT, b"x" * 200))
    assert peer.hear() == "x" * 200


def test_fragments_are_one_message_also_with_a_ping_between(peer: Peer) -> None:
    # In the middle of a character.
    first, second = "größe".encode()[:3], "größe".encode()[3:]
    peer.send(frame(TEXT, first, first=0) + frame(PING, b"between"))
    assert peer.frame() == Frame(PONG, b"between")
    peer.send(frame(CONTINUATION, second, first=0) + frame(CONTINUATION))
    assert peer.hear() == "größe"


def test_a_ping_is_answered_with_what_it_brought(peer: Peer) -> None:
    for payload in (b"", bytes(range(125))):
        peer.ping(payload)
        assert peer.frame() == Frame(PONG, payload)


def test_a_pong_that_nobody_asked_for_is_nothing(peer: Peer) -> None:
    peer.send(frame(PONG, b"unasked"))
    peer.say("hello")
    assert peer.hear() == "hello"


PROTOCOL_ERRORS = {
    "unmasked": frame(TEXT, b"x", masked=False),
    "unmasked ping": frame(PING, masked=False),
    "first reserved bit": frame(TEXT, b"x", first=0xC0),
    "second reserved bit": frame(TEXT, b"x", first=0xA0),
    "third reserved bit": frame(TEXT, b"x", first=0x90),
    "reserved data opcode": frame(3, b"x"),
    "reserved control opcode": frame(11),
    "fragmented ping": frame(PING, first=0),
    "long ping": frame(PING, bytes(126)),
    "continuation of nothing": frame(CONTINUATION, b"x"),
    "message within a message": frame(TEXT, b"x", first=0) + frame(TEXT, b"y"),
    "close of one octet": frame(CLOSE, b"\x03"),
    "close code 999": frame(CLOSE, close_payload(999)),
    "close code 1005": frame(CLOSE, close_payload(1005)),
    "close code 1006": frame(CLOSE, close_payload(1006)),
    "close code 1015": frame(CLOSE, close_payload(1015)),
    "close code 2999": frame(CLOSE, close_payload(2999)),
    "close code 5000": frame(CLOSE, close_payload(5000)),
}


@pytest.mark.parametrize("octets", PROTOCOL_ERRORS.values(), ids=PROTOCOL_ERRORS.keys())
def test_a_breach_of_the_protocol_ends_with_1002(peer: Peer, octets: bytes) -> None:
    peer.send(octets)
    assert peer.hear_close().code == 1002
    assert peer.is_closed_by_peer()


INVALID = {
    "invalid octet": [b"\xff"],
    "surrogate": ["\ud800".encode("utf-8", "surrogatepass")],
    "overlong": [b"\xc0\xaf"],
    "cut off": ["ö".encode()[:1]],
    "cut off behind fragments": [b"x", "ö".encode()[:1]],
}


@pytest.mark.parametrize("parts", INVALID.values(), ids=INVALID.keys())
def test_text_that_is_not_utf_8_ends_with_1007(peer: Peer, parts: list[bytes]) -> None:
    for index, part in enumerate(parts):
        opcode = CONTINUATION if index else TEXT
        peer.send(frame(opcode, part, first=0x80 if index == len(parts) - 1 else 0))
    assert peer.hear_close().code == 1007
    assert peer.is_closed_by_peer()


def test_a_reason_that_is_not_utf_8_ends_with_1007(peer: Peer) -> None:
    peer.send(frame(CLOSE, close_payload(1000) + b"\xff"))
    assert peer.hear_close().code == 1007


def test_a_message_above_the_limit_ends_with_1009_before_it_is_read(peer: Peer) -> None:
    # The head of a frame says how long it is.
    peer.send(frame(BINARY, bytes(LIMIT + 1))[:14])
    assert peer.hear_close().code == 1009
    assert peer.is_closed_by_peer()


def test_the_limit_is_for_all_fragments_together(peer: Peer) -> None:
    peer.send(frame(BINARY, bytes(LIMIT), first=0) + frame(CONTINUATION, b"x"))
    assert peer.hear_close().code == 1009


def test_the_largest_length_that_can_be_written_is_no_trouble(peer: Peer) -> None:
    peer.send(b"\x82\xff" + b"\x7f" + b"\xff" * 7 + bytes(4))
    assert peer.hear_close().code == 1009


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1011, 3000, 4999])
def test_a_close_is_answered_with_its_code_and_then_a_fin(peer: Peer, code: int) -> None:
    peer.say_close(code, "enough")
    assert peer.frame() == Frame(CLOSE, close_payload(code, "enough"))
    assert peer.read_until_closed() == b""


def test_a_close_without_a_code_is_answered_without_one(peer: Peer) -> None:
    peer.send(frame(CLOSE))
    assert peer.hear_close().code == 1005
    assert peer.read_until_closed() == b""


def test_nothing_behind_a_close_is_listened_to(peer: Peer) -> None:
    peer.send(frame(CLOSE, close_payload(1000)) + frame(TEXT, b"x") + frame(PING))
    assert peer.hear_close().code == 1000
    assert peer.is_closed_by_peer()


def test_broken_connections_leave_the_worker_intact(server: Server) -> None:
    worker = server.worker_pid()
    for octets in PROTOCOL_ERRORS.values():
        with Peer.open(server) as peer:
            peer.send(octets)
            peer.reset()
    with Peer.open(server) as peer:
        peer.say("still there")
        assert peer.hear() == "still there"
    assert server.worker_pid() == worker
    assert "[ERROR]" not in server.stderr_text()
