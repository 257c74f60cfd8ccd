"""`proxy_protocol` and `proxy_allow_ips`: a proxy names its client before the first request."""

from __future__ import annotations

import json
import signal
import socket
import struct
import time
from collections.abc import Iterator

import pytest
from harness import Client, Server, eventually, request

APP = """
import json

KEYS = ("PROXY_PROTOCOL", "REMOTE_ADDR", "REMOTE_PORT", "PROXY_ADDR", "PROXY_PORT", "PATH_INFO")


def app(environ, start_response):
    environ["wsgi.input"].read()
    body = json.dumps({key: environ[key] for key in KEYS if key in environ}).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
GET = request("GET", "/x")
LINE = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
NAMED = {
    "PROXY_PROTOCOL": "TCP4",
    "REMOTE_ADDR": "192.0.2.7",
    "REMOTE_PORT": "56324",
    "PROXY_ADDR": "198.51.100.1",
    "PROXY_PORT": "443",
    "PATH_INFO": "/x",
}


def binary(command: int, family: int, rest: bytes = b"") -> bytes:
    return SIGNATURE + struct.pack(">BBH", command, family, len(rest)) + rest


IPV4 = binary(
    0x21,
    0x11,
    socket.inet_aton("192.0.2.7")
    + socket.inet_aton("198.51.100.1")
    + struct.pack(">HH", 56324, 443),
)
IPV6 = binary(
    0x21,
    0x21,
    socket.inet_pton(socket.AF_INET6, "2001:db8::7")
    + socket.inet_pton(socket.AF_INET6, "::1")
    + struct.pack(">HH", 1, 2)
    + b"\x04\x00\x03abc",
)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    args = ("--proxy-protocol", "--keep-alive", "30", "--access-logfile", "-")
    with Server.start(APP, *args, env={"MEINHELD_HEAD_TIMEOUT": "1"}) as server:
        yield server


def seen(client: Client) -> dict[str, str]:
    response = client.response()
    assert response.status == 200, response
    found: dict[str, str] = json.loads(response.body)
    return found


def own(client: Client) -> dict[str, str]:
    host, port = client.socket.getsockname()[:2]
    return {"REMOTE_ADDR": host, "REMOTE_PORT": str(port), "PATH_INFO": "/x"}


@pytest.mark.parametrize("header", [LINE, IPV4], ids=["v1", "v2"])
def test_the_named_client_is_the_remote_one(server: Server, header: bytes) -> None:
    with server.client() as client:
        client.send(header + GET)
        assert seen(client) == NAMED


def test_addresses_of_ipv6_are_named_too(server: Server) -> None:
    with server.client() as client:
        client.send(IPV6 + GET)
        found = seen(client)
        assert found["PROXY_PROTOCOL"] == "TCP6"
        assert (found["REMOTE_ADDR"], found["REMOTE_PORT"]) == ("2001:db8::7", "1")
        assert (found["PROXY_ADDR"], found["PROXY_PORT"]) == ("::1", "2")


@pytest.mark.parametrize("header", [LINE, IPV4], ids=["v1", "v2"])
def test_a_header_may_come_octet_by_octet(server: Server, header: bytes) -> None:
    with server.client() as client:
        client.send_bytewise(header + GET)
        assert seen(client) == NAMED


def test_what_was_named_holds_for_every_request_of_the_connection(server: Server) -> None:
    with server.client() as client:
        client.send(LINE + GET)
        assert seen(client) == NAMED
        client.send(GET + GET)
        assert seen(client) == NAMED
        assert seen(client) == NAMED


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (b"PROXY UNKNOWN\r\n", "UNKNOWN"),
        (b"PROXY UNKNOWN ::1 ::2 3 4\r\n", "UNKNOWN"),
        (binary(0x20, 0x00), "LOCAL"),
        (binary(0x20, 0x11, bytes(12)), "LOCAL"),
        (binary(0x21, 0x00, b"ignored"), "UNSPEC"),
    ],
)
def test_a_proxy_that_names_nobody_leaves_the_connection_its_own_addresses(
    server: Server, header: bytes, name: str
) -> None:
    with server.client() as client:
        client.send(header + GET)
        assert seen(client) == {"PROXY_PROTOCOL": name, **own(client)}


def test_a_connection_without_a_header_is_served_too(server: Server) -> None:
    for before in (b"", b"\r\n"):
        with server.client() as client:
            client.send_bytewise(before + GET)
            assert seen(client) == own(client)


def test_the_access_log_names_the_client(server: Server) -> None:
    with server.client() as client:
        client.send(LINE.replace(b"0.2.7", b"0.2.99") + GET)
        seen(client)
    server.get("/after")
    assert any(line.startswith("192.0.2.99 ") for line in server.stdout_text().splitlines())


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY TCP4 192.0.2.7 198.51.100.1 56324\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 +1 443\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1 65536\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n",
        b"PROXY TCP6 192.0.2.7 ::1 1 2\r\n",
        b"PROXY " + b"x" * 200,
        binary(0x11, 0x11, bytes(12)),
        binary(0x21, 0x11, bytes(11)),
        binary(0x21, 0x12, bytes(12)),
        binary(0x21, 0x31, bytes(216)),
        binary(0x2F, 0x11, bytes(12)),
    ],
)
def test_a_malformed_header_is_answered_400_and_ends_the_connection(
    server: Server, header: bytes
) -> None:
    before = len(server.stderr_text())
    with server.client() as client:
        client.send(header + GET)
        assert client.response().status == 400
        assert client.is_closed_by_peer()
    warning = r"Invalid request from ip=127.0.0.1: invalid PROXY"
    assert server.wait_for_log(warning)
    assert "Traceback" not in server.stderr_text()[before:]


def test_a_second_header_is_no_request(server: Server) -> None:
    for header in (LINE, IPV4):
        with server.client() as client:
            client.send(LINE + GET + header + GET)
            assert seen(client) == NAMED
            assert client.response().status == 400
            assert client.is_closed_by_peer()


@pytest.mark.parametrize("part", [LINE[:3], LINE[:-1], IPV4[:5], IPV4[:20]])
def test_half_a_header_has_the_deadline_of_a_head(server: Server, part: bytes) -> None:
    with server.client() as client:
        client.send(part)
        assert client.response().status == 408
        assert client.is_closed_by_peer()


@pytest.mark.parametrize("part", [b"PRO", LINE[:-1], IPV4[:5]])
def test_half_a_header_found_at_its_deadline_ends_there(server: Server, part: bytes) -> None:
    """The worker stands still while it comes, and looks at it when the time is over."""
    with server.client() as client:
        server.get("/the connection is accepted")
        server.signal(signal.SIGSTOP, server.worker_pid())
        over = time.monotonic() + 1.5
        client.send(part)
        eventually(lambda: time.monotonic() > over, "the time for a head is over")
        server.signal(signal.SIGCONT, server.worker_pid())
        assert client.response().status == 408
        assert client.is_closed_by_peer()


def test_a_header_that_is_completed_while_the_worker_leaves_does_not_hold_it_up() -> None:
    options = ("--proxy-protocol", "auto", "--graceful-timeout", "600", "--keep-alive", "600")
    patient = {"MEINHELD_HEAD_TIMEOUT": "600"}
    with Server.start(APP, *options, env=patient) as server, server.client() as client:
        client.send(LINE[:20])
        worker = server.worker_pid()
        server.get("/the connection is accepted")
        server.signal(signal.SIGTERM)
        server.wait_for_log("Handling signal: term")
        client.send(LINE[20:])
        eventually(lambda: worker not in server.worker_pids(), "the worker leaves")
        assert server.wait() == 0


def test_logs_name_the_client_and_not_the_proxy(server: Server) -> None:
    with server.client() as client:
        client.send(LINE.replace(b"0.2.7", b"0.2.55") + b"GET /a b HTTP/1.1\r\n\r\n")
        assert client.response().status == 400
    server.wait_for_log(r"Invalid request from ip=192\.0\.2\.55: ")


@pytest.mark.parametrize("header", [LINE, IPV4, b"PROXY rubbish\r\n"])
def test_a_peer_that_is_not_allowed_is_answered_403(header: bytes) -> None:
    args = ("--proxy-protocol", "auto", "--proxy-allow-from", "192.0.2.1,10.0.0.0/8")
    with Server.start(APP, *args) as server:
        with server.client() as client:
            client.send(header + GET)
            assert client.response().status == 403
            assert client.is_closed_by_peer()
        with server.client() as client:
            client.send(GET)
            assert seen(client) == own(client)


@pytest.mark.parametrize("part", [LINE[:6], SIGNATURE, IPV4[:20]])
def test_it_is_not_waited_for_the_rest_of_a_header_that_is_not_allowed(part: bytes) -> None:
    args = ("--proxy-protocol", "auto", "--proxy-allow-from", "192.0.2.1")
    with Server.start(APP, *args) as server, server.client() as client:
        client.send(part)
        assert client.response().status == 403
        assert client.is_closed_by_peer()


def test_a_network_or_everybody_can_be_allowed() -> None:
    for allowed in ("127.0.0.0/8", "*"):
        args = ("--proxy-protocol", "auto", "--proxy-allow-from", allowed)
        with Server.start(APP, *args) as server, server.client() as client:
            client.send(LINE + GET)
            assert seen(client) == NAMED


def test_a_peer_on_a_unix_socket_is_allowed() -> None:
    args = ("--proxy-protocol", "v2", "--proxy-allow-from", "192.0.2.1")
    with (
        Server.start(APP, *args, binds=["unix:{dir}/socket"]) as server,
        server.client() as client,
    ):
        client.send(IPV4 + GET)
        assert seen(client) == NAMED


@pytest.mark.parametrize(
    ("mode", "taken", "other"), [("v1", LINE, IPV4), ("v2", IPV4, LINE), ("off", b"", LINE)]
)
def test_only_the_version_that_is_set_is_read(mode: str, taken: bytes, other: bytes) -> None:
    with Server.start(APP, "--proxy-protocol", mode) as server:
        with server.client() as client:
            client.send(taken + GET)
            assert seen(client)["PATH_INFO"] == "/x"
        with server.client() as client:
            client.send(other + GET)
            assert client.response().status == 400


def test_the_forwarder_is_the_proxy_and_not_the_client_that_it_names() -> None:
    """Whom to believe about the scheme is decided by the connection (`forwarded_allow_ips`)."""
    app = """
def app(environ, start_response):
    body = environ["wsgi.url_scheme"].encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
    for trusted, scheme in (("127.0.0.1", b"https"), ("192.0.2.7", b"http")):
        args = ("--proxy-protocol", "v1", "--forwarded-allow-ips", trusted)
        with Server.start(app, *args) as server, server.client() as client:
            client.send(LINE + request("GET", "/", {"X-Forwarded-Proto": "https"}))
            assert client.response().body == scheme
