"""After `patch_all()` who waits keeps no other request from running, and what is made for threads
is right for greenlets, too."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest
from harness import TESTS, Server, request
from standalone import Standalone, serving

pytestmark = pytest.mark.own_threads

APPS = [
    "patched_sockets",
    "patched_names",
    "patched_waits",
    "patched_tls",
    "patched_locks",
    "patched_threads",
]


def behaviours(app: str) -> list[str]:
    """The names of what it serves; read, because importing it would patch the tests."""
    source = (TESTS / "apps" / f"{app}.py").read_text()
    return re.findall(r"^@behaviour(?:\.\w+)?\ndef (\w+)", source, re.MULTILINE)


@pytest.fixture(scope="module")
def server_of() -> Iterator[Callable[[str], Server]]:
    with ExitStack() as running:

        @cache
        def start(app: str) -> Server:
            return running.enter_context(Server.start(f"apps.{app}:app", "--threads", "1"))

        yield start


@pytest.mark.parametrize(
    ("app", "behaviour"), [(app, behaviour) for app in APPS for behaviour in behaviours(app)]
)
def test_on_the_loop(server_of: Callable[[str], Server], app: str, behaviour: str) -> None:
    response = server_of(app).get(f"/{behaviour}")
    assert response.status == 200, response.text


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


def test_a_wait_for_a_socket_ends_with_the_server() -> None:
    with Server.start(WAITS, "--threads", "1", "--graceful-timeout", "1") as server:
        with server.client() as client:
            client.send(request("GET", "/"))
            server.wait_for_note("waits")
            assert server.stop() == 0
        assert server.notes() == ["waits", "ended"]


def test_a_module_that_serves_while_it_is_imported_gives_the_loop_up() -> None:
    app = """
from meinheld import patch
patch.patch_all()
import time
from apps.behaviours import together
def app(environ, start_response):
    order = []
    def sleep():
        time.sleep(0.001)
        order.append("woken")
    together(sleep, lambda: order.append("meanwhile"))
    body = " ".join(order).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
    with Standalone.start("import serves", files={"serves.py": serving(app)}) as server:
        assert server.get().text == "meanwhile woken"
