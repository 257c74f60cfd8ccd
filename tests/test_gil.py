"""Free-threaded Python stays free-threaded: the native module does not switch the GIL on again.

On an interpreter that is built with a GIL this cannot fail: it shows something only on a
free-threaded one.
"""

from __future__ import annotations

import sysconfig

import pytest
from harness import Server

APP = """
import sys
from apps.routes import text


def app(environ, start_response):
    return text(start_response, str(getattr(sys, "_is_gil_enabled", lambda: True)()))
"""
pytestmark = pytest.mark.own_threads


@pytest.mark.parametrize("threads", ["1", "4"])
def test_a_worker_has_the_gil_only_where_the_interpreter_has_one(threads: str) -> None:
    built_with_one = not sysconfig.get_config_var("Py_GIL_DISABLED")
    with Server.start(APP, "--threads", threads) as server:
        assert server.get().text == str(built_with_one)
