"""Holds a request until the test releases it, then answers with the length and hash of its body."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable
from typing import Any

from apps.notes import note
from apps.routes import text


def wait_for_file(name: str) -> None:
    """Until the test has made the file `name` in the server's directory; a minute at most."""
    deadline = time.monotonic() + 60
    while not os.path.exists(name) and time.monotonic() < deadline:
        time.sleep(0.005)


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    note(f"called {environ['PATH_INFO']}")
    if environ["PATH_INFO"].startswith("/hold"):
        wait_for_file("release" + environ["PATH_INFO"].removeprefix("/hold").replace("/", "-"))
    length, digest = 0, hashlib.sha256()
    while block := environ["wsgi.input"].read(65536):
        length += len(block)
        digest.update(block)
    return text(start_response, f"{length} {digest.hexdigest()}")
