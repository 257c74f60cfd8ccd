"""Requests that wait for each other: `/together/COUNT` is answered once so many are inside at the
same time, with the name of its thread."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from apps.routes import text

barriers: dict[str, threading.Barrier] = {}


def together(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    count = environ["PATH_INFO"].split("/")[2]
    try:
        barriers.setdefault(count, threading.Barrier(int(count))).wait(30)
    except threading.BrokenBarrierError:
        return text(start_response, "alone", "500 Alone")
    return text(start_response, threading.current_thread().name)
