"""Request bodies: whole before the application is called, in memory up to 512 KiB, in an unlinked
temporary file beyond. With threads they are handed over as they arrive, and never stored."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import (
    Client,
    Server,
    chunked,
    eventually,
    forget_peak_memory,
    memory_kib,
    open_files,
    request,
)

KIB = 1024
IN_MEMORY = 512 * KIB
UPLOADS = """
import os

tmp_upload_dir = os.path.abspath("uploads")
os.makedirs(tmp_upload_dir, exist_ok=True)
keepalive = 30
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start("apps.hold:app", config=UPLOADS) as server:
        yield server


def some_bytes(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def spooled(server: Server) -> list[str]:
    """The unlinked files under tmp_upload_dir that the worker holds."""
    directory = str(server.directory / "uploads")
    return [name for name in open_files(server.worker_pid()) if name.startswith(directory)]


def framed(target: str, body: bytes, framing: str) -> bytes:
    if framing == "chunked":
        pieces = [body[start : start + 65536] for start in range(0, len(body), 65536)]
        return request("POST", target, {"Transfer-Encoding": "chunked"}, chunked(*pieces))
    return request("POST", target, {"Content-Length": str(len(body))}, body)


@contextlib.contextmanager
def held(server: Server, client: Client, name: str, body: bytes, framing: str) -> Iterator[None]:
    """While the application has been called with the body and holds it."""
    client.send(framed(f"/hold/{name}", body, framing))
    server.wait_for_note(f"called /hold/{name}")
    try:
        yield
    finally:
        (server.directory / f"release-{name}").touch()
    assert client.response().status == 200


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("size", [0, 1, IN_MEMORY - 1, IN_MEMORY, IN_MEMORY + 1, 5 * KIB * KIB])
def test_a_body_of_any_size_arrives_intact(server: Server, size: int, framing: str) -> None:
    body = some_bytes(size)
    with server.client() as client:
        client.send(framed("/", body, framing))
        assert client.response().text == f"{size} {hashlib.sha256(body).hexdigest()}"
        assert client.request("POST", "/", body=b"next").text.startswith("4 ")


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_of_512_kib_stays_in_memory(server: Server, framing: str) -> None:
    name = f"small-{framing}"
    with server.client() as client, held(server, client, name, some_bytes(IN_MEMORY), framing):
        assert spooled(server) == []


@pytest.mark.inline_only
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("size", [IN_MEMORY + 1, IN_MEMORY * 3])
def test_a_longer_body_is_an_unlinked_file_in_tmp_upload_dir(
    server: Server, size: int, framing: str
) -> None:
    name = f"large-{framing}-{size}"
    with server.client() as client:
        with held(server, client, name, some_bytes(size), framing):
            assert len(spooled(server)) == 1
            assert spooled(server)[0].endswith("(deleted)")
            assert list((server.directory / "uploads").iterdir()) == []
        eventually(lambda: spooled(server) == [], "the temporary file is closed after the request")


@pytest.mark.inline_only
def test_the_file_is_gone_when_the_client_leaves_in_the_middle_of_its_upload(
    server: Server,
) -> None:
    with server.client() as client:
        client.send(
            request(
                "POST", "/left", {"Content-Length": str(IN_MEMORY * 4)}, some_bytes(IN_MEMORY * 2)
            )
        )
        eventually(lambda: spooled(server), "the upload is spooled")
        client.reset()
    eventually(lambda: spooled(server) == [], "the temporary file is closed")
    assert "called /left" not in server.notes()


@pytest.mark.inline_only
def test_a_file_that_the_default_directory_holds_is_unlinked_too() -> None:
    with Server.start("apps.hold:app", env={"TMPDIR": "/tmp"}) as server, server.client() as client:
        before = len([name for name in open_files(server.worker_pid()) if "(deleted)" in name])
        with held(server, client, "default", some_bytes(IN_MEMORY * 3), "length"):
            now = [name for name in open_files(server.worker_pid()) if "(deleted)" in name]
            assert len(now) == before + 1


@pytest.mark.inline_only
def test_the_application_is_called_when_the_whole_body_is_there(server: Server) -> None:
    with server.client() as client:
        client.send(request("POST", "/waits", {"Content-Length": "10"}, b"12345"))
        assert server.get("/other").status == 200
        assert "called /waits" not in server.notes()
        client.send(b"67890")
        assert client.response().text.startswith("10 ")


def test_a_large_upload_does_not_grow_the_worker(server: Server) -> None:
    size = 64 * KIB * KIB
    block = some_bytes(KIB * KIB)
    with server.client() as client:
        client.send(framed("/", block, "length"))
        assert client.response().status == 200
        pid = server.worker_pid()
        forget_peak_memory(pid)
        before = memory_kib(pid, "VmHWM")
        client.send(request("POST", "/", {"Content-Length": str(size)}))
        for _ in range(size // len(block)):
            client.send(block)
        assert client.response().text.startswith(f"{size} ")
        assert memory_kib(pid, "VmHWM") - before < 4 * KIB


def test_twenty_uploads_at_once_do_not_mix(server: Server) -> None:
    bodies = [some_bytes(IN_MEMORY + number * 1000) for number in range(20)]
    clients = [server.client() for _ in bodies]
    for half in (0, 1):
        for client, body in zip(clients, bodies, strict=True):
            middle = len(body) // 2
            client.send(
                body[middle:]
                if half
                else request("POST", "/", {"Content-Length": str(len(body))}, body[:middle])
            )
    for client, body in zip(clients, bodies, strict=True):
        with client:
            assert client.response().text == f"{len(body)} {hashlib.sha256(body).hexdigest()}"


def test_nothing_is_left_in_the_upload_directory(server: Server) -> None:
    with server.client() as client:
        client.send(framed("/", some_bytes(IN_MEMORY * 2), "length"))
        client.response()
    assert list(Path(server.directory / "uploads").iterdir()) == []


def test_the_answer_to_a_head_request_has_no_body_even_if_the_request_s_is_malformed(
    server: Server,
) -> None:
    with server.client() as client:
        client.send(request("HEAD", "/", {"Transfer-Encoding": "chunked"}, b"no size\r\n"))
        head, end = client.read_until_closed().split(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400 ")
        assert end == b""
