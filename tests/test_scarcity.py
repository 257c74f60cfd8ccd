"""What happens when descriptors or disk space run out: the worker waits without spinning, and
recovers."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from disks import small_disk
from harness import (
    Client,
    Server,
    chunked,
    cpu_seconds,
    eventually,
    memory_kib,
    open_files,
    request,
    settled,
)

FILES = 64
MANY = 10_000


def test_without_a_free_descriptor_the_worker_neither_dies_nor_spins() -> None:
    with Server.start(
        "apps.echo:app", "--keep-alive", "60", "--worker-connections", "5000", max_files=FILES
    ) as server:
        pid = server.worker_pid()
        with server.client() as served:
            assert served.request().status == 200
            clients = [server.client() for _ in range(FILES * 2)]
            eventually(lambda: len(open_files(pid)) >= FILES - 2, "the descriptors are used up")
            settled(lambda: len(open_files(pid)))
            idle = cpu_seconds(pid)
            with pytest.raises(TimeoutError), Client(server.address, timeout=1.5) as late:
                late.request()
            assert cpu_seconds(pid) - idle < 0.75, "the worker spins while it cannot accept"
            assert server.stderr_text().count("accepting connections paused") == 1
            assert served.request().status == 200
            for client in clients:
                client.close()
            assert served.request().status == 200
        assert server.get("/recovered").body == b"GET /recovered\n"
        assert server.worker_pid() == pid


@pytest.mark.inline_only
def test_an_upload_that_fills_the_disk_is_refused_with_507(tmp_path: Path) -> None:
    config = {"tmp_upload_dir": str(tmp_path), "keepalive": 30}
    with (
        small_disk(tmp_path, mebibytes=1),
        Server.start("apps.hold:app", config=config) as server,
    ):
        pid = server.worker_pid()
        for framing in ({"Content-Length": "4000000"}, {"Transfer-Encoding": "chunked"}):
            with server.client() as client:
                client.send(request("POST", "/full", framing))
                with contextlib.suppress(ConnectionError):
                    client.send(
                        (b"3d0900\r\n" if "Content-Length" not in framing else b"")
                        + bytes(4_000_000)
                    )
                response = client.response()
                assert response.status == 507
                assert response.header("Connection") == "close"
        server.wait_for_log(r"No space left|507|(?i:storage)")
        with server.client() as client:
            assert client.request("POST", "/small", body=bytes(700_000)).text.startswith("700000 ")
        assert server.worker_pid() == pid
        assert not [note for note in server.notes() if "full" in note]
        assert os.listdir(tmp_path) == []


def test_with_threads_an_upload_needs_no_disk(tmp_path: Path) -> None:
    """It goes to the application as it arrives."""
    config = {"tmp_upload_dir": str(tmp_path), "keepalive": 30, "threads": 2}
    with (
        small_disk(tmp_path, mebibytes=1),
        Server.start("apps.hold:app", config=config) as server,
        server.client() as client,
    ):
        for headers, body in (
            ({"Content-Length": "4000000"}, bytes(4_000_000)),
            ({"Transfer-Encoding": "chunked"}, chunked(bytes(4_000_000))),
        ):
            client.send(request("POST", "/full", headers, body))
            assert client.response().text.startswith("4000000 ")
        assert os.listdir(tmp_path) == []


@pytest.fixture
def many_descriptors() -> Iterator[int]:
    """Allows this process, and the servers it starts, room for ten thousand connections."""
    needed = MANY + 200
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        pytest.skip(f"RLIMIT_NOFILE is {hard}: {needed} descriptors are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    yield needed
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "most"),
    [
        (b"", 2048),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX-Half: ", 4096),
        # With threads, each of these keeps the thread that reads it.
        pytest.param(
            request("POST", "/", {"Content-Length": "5000000"}, b"half"),
            4096,
            marks=pytest.mark.inline_only,
        ),
        pytest.param(
            request("POST", "/", {"Transfer-Encoding": "chunked"}, b"1\r\nx\r\nff"),
            4096,
            marks=pytest.mark.inline_only,
        ),
    ],
    ids=["idle", "half a head", "half a body", "half a chunk size"],
)
def test_ten_thousand_connections_are_held_while_requests_are_served(
    capsys: pytest.CaptureFixture[str], many_descriptors: int, sent: bytes, most: int
) -> None:
    """Each has been served once, and then sends `sent`: it costs `most` octets at most."""
    options = ("--keep-alive", "600", "--worker-connections", str(many_descriptors))
    patient = {"MEINHELD_HEAD_TIMEOUT": "600", "MEINHELD_BODY_TIMEOUT": "600"}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Server.start("apps.echo:app", *options, env=patient))
        pid = server.worker_pid()
        assert server.get().status == 200
        before = memory_kib(pid)
        clients: list[Client] = []
        for number in range(MANY):
            clients.append(stack.enter_context(server.client()))
            assert clients[-1].request("GET", f"/{number}").status == 200
            clients[-1].send(sent)
        with server.client() as client:
            for number in range(1000):
                assert client.request("GET", f"/{number}").body == b"GET /%d\n" % number
        each = (memory_kib(pid) - before) * 1024 / MANY
        with capsys.disabled():
            print(f"\n{MANY} connections with {sent[:20]!r}: {each:.0f} bytes of memory each")
        assert each < most
        assert all(client.is_quiet() for client in clients[: MANY // 20])
        if not sent:
            for client in clients[:: MANY // 100]:
                assert client.request().status == 200
        assert server.worker_pid() == pid
