"""Real threads, beside the greenlets of the loop."""

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator

LONG = 30
"""Seconds that no wait takes when all is well."""


def in_thread(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


@contextlib.contextmanager
def threads_switch_often() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
