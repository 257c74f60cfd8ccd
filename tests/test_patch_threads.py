"""After `patch_all()` locals, idents and threads are right for greenlets, too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import Server
from patched import assert_behaves, behaviours, serving
from standalone import Standalone
from standalone import serving as program

pytestmark = pytest.mark.own_threads

APP = "patched_threads"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(APP) as server:
        yield server


@pytest.mark.parametrize("behaviour", behaviours(APP))
def test_on_the_loop(server: Server, behaviour: str) -> None:
    assert_behaves(server, behaviour)


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
    with Standalone.start("import serves", files={"serves.py": program(app)}) as server:
        assert server.get().text == "meanwhile woken"
