"""A coroutine that waits for the hub: the loop of asyncio that runs it belongs to the thread."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def running_loop() -> Any:
    """The thread's loop of asyncio; ``None`` outside of coroutines."""
    asyncio = sys.modules.get("_asyncio")
    return None if asyncio is None else asyncio._get_running_loop()


def aside(wait: Callable[[], None]) -> None:
    """Wait; in a coroutine, the thread has no loop meanwhile: another greenlet may run one of its
    own."""
    loop = running_loop()
    if loop is None:
        wait()
        return
    asyncio = sys.modules["_asyncio"]
    hooks = sys.get_asyncgen_hooks()
    asyncio._set_running_loop(None)
    sys.set_asyncgen_hooks(None, None)
    try:
        wait()
    finally:
        asyncio._set_running_loop(loop)
        sys.set_asyncgen_hooks(*hooks)
