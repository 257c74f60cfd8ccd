"""The opening handshake (RFC 6455 4.2): who gets a WebSocket, and what the others are told."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from harness import Server, request
from websocket_peer import ACCEPT, HANDSHAKE, Peer, frame, serving

pytestmark = pytest.mark.own_threads

PAGE = "https://chat.example.org"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(protocols=["v2.chat", "v1.chat"], origins=[PAGE]) as server:
        yield server


def status_of(
    server: Server,
    fields: dict[str, str],
    method: str = "GET",
    body: bytes = b"",
    version: str = "HTTP/1.1",
) -> int:
    """What a handshake gets with these fields; an empty one is left out."""
    fields = {name: value for name, value in {**HANDSHAKE, **fields}.items() if value}
    with server.client() as client:
        client.send(
            request(target="/plain", headers=fields, method=method, body=body, version=version)
        )
        return client.response().status


def test_a_handshake_is_answered_as_rfc_6455_has_it(server: Server) -> None:
    with Peer.open(server) as peer:
        answer = peer.handshake
        assert answer.header("Sec-WebSocket-Accept") == ACCEPT
        assert (answer.header("Upgrade") or "").lower() == "websocket"
        assert (answer.header("Connection") or "").lower() == "upgrade"
        assert answer.header("Sec-WebSocket-Extensions") is None
        assert answer.header("Sec-WebSocket-Protocol") is None


def test_the_application_sees_path_origin_protocol_and_environ(server: Server) -> None:
    fields = {"Origin": PAGE, "Sec-WebSocket-Protocol": "v1.chat"}
    with Peer.open(server, "/attributes/deeper?x=1", fields) as peer:
        seen = json.loads(peer.hear())
        assert seen == ["/attributes/deeper", PAGE, "v1.chat", 13, False, True]


def test_field_values_are_lists_in_any_case(server: Server) -> None:
    fields = {"Upgrade": "h2c, WebSocket", "Connection": "keep-alive, UPGRADE"}
    with Peer.open(server, fields=fields) as peer:
        peer.say("hello")
        assert peer.hear() == "hello"


def test_frames_sent_with_the_handshake_are_not_lost(server: Server) -> None:
    with Peer.open(server, behind=frame(1, b"one") + frame(1, b"two")) as peer:
        assert [peer.hear(), peer.hear()] == ["one", "two"]


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ("v1.chat", "v1.chat"),
        ("v1.chat, v2.chat", "v2.chat"),
        ("V1.CHAT", None),
        ("mqtt", None),
    ],
)
def test_the_subprotocol_is_the_first_of_ours_that_is_offered(
    server: Server, offered: str, chosen: str | None
) -> None:
    with Peer.open(server, fields={"Sec-WebSocket-Protocol": offered}) as peer:
        assert peer.handshake.header("Sec-WebSocket-Protocol") == chosen


@pytest.mark.parametrize(
    "fields",
    [
        {"Sec-WebSocket-Key": ""},
        {"Sec-WebSocket-Key": "c2hvcnQ="},
        {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ"},
        {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==, x"},
        {"Sec-WebSocket-Key": "dGhl\xe9HNhbXBsZSBub25jZQ=="},
        {"Sec-WebSocket-Version": ""},
        {"Connection": "keep-alive"},
        {"Connection": ""},
    ],
)
def test_a_bad_handshake_gets_400(server: Server, fields: dict[str, str]) -> None:
    assert status_of(server, fields) == 400


def test_a_handshake_is_a_get(server: Server) -> None:
    assert status_of(server, {}, method="POST") == 400


def test_a_handshake_has_no_body(server: Server) -> None:
    assert status_of(server, {}, body=b"x") == 400
    chunked = {"Transfer-Encoding": "chunked", "Content-Length": ""}
    assert status_of(server, chunked, body=b"1\r\nx\r\n0\r\n\r\n") == 400


def test_the_refusal_says_what_was_wrong(server: Server) -> None:
    with server.client() as client:
        answer = client.request(headers={**HANDSHAKE, "Connection": "keep-alive"})
        assert answer.text.startswith("bad WebSocket handshake: Connection does not say Upgrade")
        # The connection is as good as before.
        assert client.request(target="/plain").status == 200


@pytest.mark.parametrize("version", ["8", "12", "14", "013", "13, 8"])
def test_another_version_gets_426_with_ours(server: Server, version: str) -> None:
    with server.client() as client:
        answer = client.request(headers={**HANDSHAKE, "Sec-WebSocket-Version": version})
        assert answer.status == 426
        assert answer.header("Sec-WebSocket-Version") == "13"
        assert answer.header("Upgrade") == "websocket"


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://evil.example.org", 403),
        ("null", 403),
        (PAGE + ".evil.org", 403),
        ("http" + PAGE.removeprefix("https"), 403),
        (PAGE, 101),
        (PAGE.upper(), 101),
        ("", 101),
    ],
)
def test_pages_of_other_origins_are_refused(server: Server, origin: str, status: int) -> None:
    assert status_of(server, {"Origin": origin}) == status


def test_every_origin_is_let_in_by_default() -> None:
    with serving() as server:
        assert status_of(server, {"Origin": "https://anywhere.example.org"}) == 101


@pytest.mark.parametrize("fields", [{}, {"Upgrade": "h2c", "Connection": "Upgrade"}])
def test_other_requests_reach_the_application_without_a_websocket(
    server: Server, fields: dict[str, str]
) -> None:
    assert server.get("/plain", fields).text.startswith("websocket: None")


def test_upgrade_does_not_count_in_http_1_0(server: Server) -> None:
    assert status_of(server, {}, version="HTTP/1.0") == 200
