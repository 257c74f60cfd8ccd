"""An application whose requests wait until the test opens a gate, and that says when its worker
was told to stop. No test needs to guess how long anything takes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from apps.notes import note

worker: Any = None
"""gunicorn's worker object, from the hook in support.ADDED_BY_HOOKS."""


def wait_for(gate: str, patience: float = 60.0) -> None:
    """Returns once the file `gate` is in the server's directory (gunicorn's working directory)."""
    deadline = time.monotonic() + patience
    told = False
    while not Path(gate).exists():
        if worker is not None and not worker.alive and not told:
            told = True
            note("told to stop")
        if time.monotonic() > deadline:
            raise TimeoutError(gate)
        time.sleep(0.005)


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path.startswith("/wait"):
        note("entered")
        wait_for("gate")
        body = b"waited\n"
    elif path == "/stream":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return stream()
    elif path == "/block":
        # Deaf and dumb: the interpreter's lock is free, but the loop's thread is stuck.
        note("blocked")
        time.sleep(120)
        body = b"too late\n"
    elif path == "/exit":
        raise SystemExit(3)
    else:
        body = f"{os.getpid()}\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def stream() -> Iterator[bytes]:
    try:
        yield b"first\n"
        note("streaming")
        wait_for("gate")
        yield b"second\n"
        yield b"last\n"
    finally:
        note("stream closed")
