"""Every kind of listener that gunicorn can inherit or make, and several at once."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest
from harness import TESTS, Address, Client, Server, eventually, request


def assert_serves(address: Address, target: str = "/here") -> None:
    for _ in range(2):
        with Client(address) as client:
            for _ in range(2):
                assert client.request("GET", target).body == f"GET {target}\n".encode()


def test_several_listeners_are_served_at_once() -> None:
    abstract = f"meinheld-test-{os.getpid()}"
    binds = ["127.0.0.1:0", "[::1]:0", "127.0.0.1:0", "unix:named", f"unix:\0{abstract}"]
    with Server.start(config={"bind": binds, "keepalive": 30}, binds=()) as server:
        v4, v6, other, _, _ = server.addresses
        for address in (v4, v6, other, str(server.directory / "named"), f"\0{abstract}"):
            assert_serves(address)
        assert v4[0] == "127.0.0.1" and v6[0] == "::1" and other != v4


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
def test_an_inherited_descriptor_is_served(family: socket.AddressFamily, tmp_path: Path) -> None:
    addresses: dict[int, Address] = {socket.AF_INET: ("127.0.0.1", 0), socket.AF_INET6: ("::1", 0)}
    address = addresses.get(family, str(tmp_path / "socket"))
    with socket.socket(family) as listener:
        listener.bind(address)
        listener.listen()
        name = listener.getsockname()
        with Server.start(binds=(f"fd://{listener.fileno()}",), pass_fds=[listener.fileno()]):
            assert_serves(name if isinstance(name, str) else name[:2])


def test_an_abstract_socket_may_be_inherited() -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0meinheld-test-inherited-{os.getpid()}")
        listener.listen()
        with Server.start(binds=(f"fd://{listener.fileno()}",), pass_fds=[listener.fileno()]):
            assert_serves(f"\0meinheld-test-inherited-{os.getpid()}")


def test_systemd_activation_is_served(tmp_path: Path) -> None:
    """LISTEN_PID has to name the process that becomes gunicorn, so a shell sets it and is
    replaced."""
    with socket.socket() as tcp, socket.socket(socket.AF_UNIX) as unix:
        tcp.bind(("127.0.0.1", 0))
        unix.bind(str(tmp_path / "socket"))
        for listener in (tcp, unix):
            listener.listen()
        activate = str(TESTS / "apps" / "activate.py")
        fds = [tcp.fileno(), unix.fileno()]
        with Server.start(
            binds=(), pass_fds=fds, prefix=(sys.executable, activate, *map(str, fds))
        ):
            assert_serves(tcp.getsockname())
            assert_serves(str(tmp_path / "socket"))


def test_a_listener_is_left_as_it_was_found() -> None:
    """The arbiter and the siblings share it: still listening and non-blocking when a worker has
    come and gone."""
    with Server.start("apps.echo:app", config={"keepalive": 30, "max_requests": 1}) as server:
        pids = set()
        for number in range(4):
            pids.add(server.worker_pid())
            assert server.get(f"/{number}").body == b"GET /%d\n" % number
            server.wait_for_log("Booting worker", number + 2)
        assert len(pids) >= 2


def test_a_unix_socket_is_unlinked_by_the_arbiter_alone() -> None:
    with Server.start(config={"bind": "unix:named", "max_requests": 1}, binds=()) as server:
        path = server.directory / "named"
        assert_serves_once(str(path))
        server.wait_for_log("Booting worker", 2)
        assert path.exists()
        assert_serves_once(str(path))
        assert server.stop() == 0
        assert not path.exists()


def assert_serves_once(address: Address) -> None:
    with Client(address) as client:
        assert client.request().status == 200


REUSE_PORT = """
import os

reuse_port = True
bind = "127.0.0.1:0"


def post_worker_init(worker):
    with open("port", "w") as out:
        out.write(str(worker.sockets[0].getsockname()[1]))
    os.rename("port", "port-of-worker")
"""


def test_reuse_port_is_served_from_the_workers_own_sockets_and_warned_of() -> None:
    with Server.start(config=REUSE_PORT, binds=(), ready=False) as server:
        server.wait_for_log("Booting worker")
        server.wait_for_log(r"WARNING.*reuse_port")
        path = server.directory / "port-of-worker"
        eventually(path.exists, "the worker has its socket")
        assert_serves(("127.0.0.1", int(path.read_text())))


def test_while_one_worker_is_busy_its_sibling_serves() -> None:
    with Server.start("apps.hold:app", "--workers", "2") as server, server.client() as held:
        eventually(lambda: len(server.worker_pids()) == 2, "both workers are there")
        held.send(request("GET", "/hold/one"))
        server.wait_for_note("called /hold/one")
        for _ in range(10):
            assert server.get("/free").status == 200
        assert held.is_quiet()
        (server.directory / "release-one").touch()
        assert held.response().status == 200
