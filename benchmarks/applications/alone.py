"""How much an application costs without a server: it is called in a loop.

    python alone.py flask_hello:app 1.0

The `environ` is the least that PEP 3333 and the frameworks want, fresh for each call, the iterable
is exhausted and closed. Printed are the calls and the nanoseconds of processor time they took.
"""

from __future__ import annotations

import importlib
import io
import sys
import time
from typing import Any

AT_ONCE = 100
"""Calls between two looks at the clock."""
WARM_UP = 500
"""Calls before the clock starts."""
ENVIRON: dict[str, Any] = {
    "REQUEST_METHOD": "GET",
    "SCRIPT_NAME": "",
    "PATH_INFO": "/",
    "QUERY_STRING": "",
    "SERVER_NAME": "127.0.0.1",
    "SERVER_PORT": "8000",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REMOTE_ADDR": "127.0.0.1",
    "HTTP_HOST": "127.0.0.1:8000",
    "wsgi.version": (1, 0),
    "wsgi.url_scheme": "http",
    "wsgi.errors": sys.stderr,
    "wsgi.multithread": False,
    "wsgi.multiprocess": False,
    "wsgi.run_once": False,
}


def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> None:
    assert status == "200 OK", status


def call(app: Any, times: int) -> None:
    for _ in range(times):
        iterable = app({**ENVIRON, "wsgi.input": io.BytesIO()}, start_response)
        for _block in iterable:
            pass
        if hasattr(iterable, "close"):
            iterable.close()


def main() -> None:
    module, _, name = sys.argv[1].partition(":")
    app = getattr(importlib.import_module(module), name)
    call(app, WARM_UP)
    calls, until, used = 0, time.monotonic() + float(sys.argv[2]), time.process_time_ns()
    while time.monotonic() < until:
        call(app, AT_ONCE)
        calls += AT_ONCE
    print(calls, time.process_time_ns() - used)


if __name__ == "__main__":
    main()
