"""After `patch_all()` a socket that waits keeps no other request from running."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import Server, request
from patched import assert_behaves, behaviours, serving

pytestmark = pytest.mark.own_threads

APP = "patched_sockets"

WAITS = """
from meinheld import patch
patch.patch_all()
import socket
from apps.notes import note
def app(environ, start_response):
    one, _other = socket.socketpair()
    try:
        note("waits")
        one.recv(1)
    finally:
        note("ended")
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(APP) as server:
        yield server


@pytest.mark.parametrize("behaviour", behaviours(APP))
def test_on_the_loop(server: Server, behaviour: str) -> None:
    assert_behaves(server, behaviour)


def test_a_wait_for_a_socket_ends_with_the_server() -> None:
    with Server.start(WAITS, "--threads", "1", "--graceful-timeout", "1") as server:
        with server.client() as client:
            client.send(request("GET", "/"))
            server.wait_for_note("waits")
            assert server.stop() == 0
        assert server.notes() == ["waits", "ended"]
