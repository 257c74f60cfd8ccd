"""`environ["gunicorn.socket"]`: looking at it changes nothing, using it takes the connection over
for good."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from harness import Client, Server, request

APP = """
import json, os, socket, threading
from apps.hold import wait_for_file
from apps.notes import note
from apps.routes import Routes, text

app = Routes()


@app.route
def observed(environ, start_response):
    sock = environ["gunicorn.socket"]
    try:
        peeked = sock.recv(4, socket.MSG_PEEK | socket.MSG_DONTWAIT).decode()
    except BlockingIOError:
        peeked = ""
    seen = {
        "inode": os.readlink(f"/proc/self/fd/{sock.fileno()}"),
        "peer": sock.getpeername(),
        "name": sock.getsockname(),
        "type": sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE),
        "peeked": peeked,
    }
    return text(start_response, json.dumps(seen))


@app.route
def considered(environ, start_response):
    sock = environ["gunicorn.socket"]
    buffer = bytearray(4)
    try:
        sock.recv_into(buffer, 4, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        pass
    seen = [
        hasattr(sock, "getpeercert"),
        hasattr(sock, "sendall"),
        sock.family == socket.AF_INET,
        sock.type == socket.SOCK_STREAM,
        sock.gettimeout() is None,
    ]
    return text(start_response, json.dumps(seen))


kept = []


@app.route
def keeps(environ, start_response):
    kept.append((environ["gunicorn.socket"], start_response("200 OK", [("Content-Length", "4")])))
    return [b"kept"]


@app.route
def uses_what_it_kept(environ, start_response):
    sock, write = kept.pop()
    raised = []
    for use in (lambda: sock.sendall(b"stray"), lambda: write(b"stray"), sock.getpeername):
        try:
            use()
        except OSError as error:
            raised.append(type(error).__name__)
    return text(start_response, json.dumps([sock.fileno(), raised]))


@app.route
def duplicated(environ, start_response):
    sock = environ["gunicorn.socket"]
    first, _ = sock.recvfrom(1)
    with sock.dup() as other:
        data = first + received(other, int(environ["QUERY_STRING"]) - 1)
    sock.sendall(b"raw " + data)
    raise StopIteration


def received(sock, count):
    data = b""
    while len(data) < count:
        block = sock.recv(count - len(data))
        if not block:
            break
        data += block
    return data


@app.route
def taken(environ, start_response):
    sock = environ["gunicorn.socket"]
    sock.setblocking(True)
    data = received(sock, int(environ["QUERY_STRING"]))
    sock.sendall(b"raw " + data)
    raise StopIteration


@app.route
def taken_and_returned(environ, start_response):
    sock = environ["gunicorn.socket"]
    sock.sendall(b"raw")
    return []


@app.route
def taken_and_answered(environ, start_response):
    environ["gunicorn.socket"].sendall(b"raw")
    return text(start_response, "an answer that nobody may see")


@app.route
def taken_after_start_response(environ, start_response):
    start_response("200 OK", [])
    environ["gunicorn.socket"].sendall(b"raw")
    raise StopIteration


@app.route
def mode(environ, start_response):
    environ["gunicorn.socket"].settimeout(5)
    environ["gunicorn.socket"].send(b"raw")
    raise StopIteration


@app.route
def detached(environ, start_response):
    descriptor = environ["gunicorn.socket"].detach()
    os.write(descriptor, b"raw")
    os.close(descriptor)
    raise StopIteration


@app.route
def shared_with_a_thread(environ, start_response):
    sock = environ["gunicorn.socket"]
    sock.sendall(b"raw")

    def listen():
        while sock.recv(65536):
            pass
        note("the thread has seen the end")

    threading.Thread(target=listen, daemon=True).start()
    raise StopIteration


@app.route
def handed_on(environ, start_response):
    descriptor = environ["gunicorn.socket"].detach()

    def serve():
        wait_for_file("handed-on")
        os.write(descriptor, b"much later")
        os.close(descriptor)

    threading.Thread(target=serve, daemon=True).start()
    raise StopIteration


@app.route
def conversation(environ, start_response):
    sock = environ["gunicorn.socket"]
    sock.setblocking(True)
    sock.sendall(
        b"HTTP/1.1 101 Switching Protocols\\r\\nUpgrade: echo\\r\\nConnection: Upgrade\\r\\n\\r\\n"
    )
    while data := sock.recv(65536):
        sock.sendall(data)
    raise StopIteration


@app.route
def other(environ, start_response):
    return text(start_response, "other")
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP, "--keep-alive", "30") as server:
        yield server


def address_of(client: Client) -> list[object]:
    return list(client.socket.getsockname())


def test_it_is_the_connection_of_the_request(server: Server) -> None:
    with server.client() as client:
        seen = json.loads(client.request("GET", "/observed").body)
        assert seen["peer"] == address_of(client)
        assert seen["name"] == list(client.socket.getpeername())
        assert seen["type"] == 1
        assert seen["inode"].startswith("socket:")


def test_looking_at_it_leaves_the_connection_to_the_worker(server: Server) -> None:
    with server.client() as client:
        for _ in range(3):
            assert client.request("GET", "/observed").status == 200
        client.send(request("GET", "/observed") + request("GET", "/other"))
        assert json.loads(client.response().body)["peeked"] in ("", "GET ")
        assert client.response().text == "other"
        assert client.rest() == b""


@pytest.mark.parametrize("size", [1, 100, 65536, 1_000_000])
def test_whoever_reads_it_gets_the_bytes_after_the_request_first(server: Server, size: int) -> None:
    data = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n".ljust(size, b".")[:size]
    with server.client() as client:
        client.send(request("GET", f"/taken?{size}") + data)
        assert client.read_until_closed() == b"raw " + data


def test_bytes_that_arrive_later_follow_the_ones_that_were_there(server: Server) -> None:
    with server.client() as client:
        client.send(request("GET", "/conversation") + b"first ")
        assert client.read_until(b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
        assert client.read_exactly(6) == b"first "
        client.send(b"second")
        assert client.read_exactly(6) == b"second"
        client.half_close()
        assert client.read_until_closed() == b""


@pytest.mark.parametrize(
    "path",
    ["taken_and_returned", "taken_and_answered", "taken_after_start_response", "mode", "detached"],
)
def test_no_response_is_written_to_a_connection_that_was_taken_over(
    server: Server, path: str
) -> None:
    before = server.stderr_text()
    with server.client() as client:
        client.send(request("GET", f"/{path}"))
        assert client.read_until_closed() == b"raw"
    assert server.get("/other").text == "other"
    assert "Traceback" not in server.stderr_text()[len(before) :]


@pytest.mark.parametrize("closes", [True, False])
def test_a_connection_that_was_taken_over_ends_with_its_request(
    server: Server, closes: bool
) -> None:
    """Also for a thread that still receives from it, as those of WebSocket libraries do, and
    although the client does not close its side."""
    seen = server.notes().count("the thread has seen the end")
    with server.client() as client:
        client.send(request("GET", "/shared_with_a_thread"))
        assert client.read_until_closed() == b"raw"
        if closes:
            client.close()
        server.wait_for_note("the thread has seen the end", seen + 1)


def test_a_descriptor_that_the_application_has_detached_stays_its_own(server: Server) -> None:
    with server.client() as client:
        client.send(request("GET", "/handed_on"))
        assert server.get("/other").text == "other"
        assert client.is_quiet()
        (server.directory / "handed-on").touch()
        assert client.read_until_closed() == b"much later"


def test_asking_what_it_can_do_does_not_take_it_over(server: Server) -> None:
    with server.client() as client:
        seen = json.loads(client.request("GET", "/considered").text)
        assert seen == [False, True, True, True, True]
        assert client.request("GET", "/other").text == "other"


def test_when_the_request_is_over_it_is_closed_to_the_application(server: Server) -> None:
    with server.client() as client:
        assert client.request("GET", "/keeps").text == "kept"
        answer = json.loads(client.request("GET", "/uses_what_it_kept").text)
        assert answer == [-1, ["OSError", "ConnectionResetError", "OSError"]]
        assert client.request("GET", "/other").text == "other"


def test_a_duplicate_goes_on_where_the_socket_stands(server: Server) -> None:
    with server.client() as client:
        client.send(request("GET", "/duplicated?6") + b"abc")
        client.send(b"def")
        assert client.read_until_closed() == b"raw abcdef"


def test_a_stop_iteration_closes_quietly(server: Server) -> None:
    before = server.stderr_text()
    with server.client() as client:
        client.send(request("GET", "/taken?1") + b"x")
        assert client.read_until_closed() == b"raw x"
    assert server.get("/other").text == "other"
    assert server.stderr_text() == before
