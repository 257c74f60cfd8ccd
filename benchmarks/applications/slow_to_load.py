"""hello of an application that needs two seconds to load, asleep: as one that waits for a database
or a remote configuration. What a server does meanwhile is what benchmarks/reload.py looks at."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

BODY = b"Hello, world!\n"
LOADING = 2.0
"""Seconds."""

time.sleep(LOADING)


def hello(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "14")])
    return [BODY]
