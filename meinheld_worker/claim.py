"""Who serves in this process, where that is not for the application to do."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

_pid = 0
_who = ""


def take(who: str) -> None:
    """Claim this process, but not those that are forked from it."""
    global _pid, _who
    _pid, _who = os.getpid(), who


@contextmanager
def held(who: str) -> Iterator[None]:
    """Claim this process for a while."""
    global _pid
    take(who)
    try:
        yield
    finally:
        _pid = 0


def holder() -> str | None:
    """Who has claimed this process."""
    return _who if _pid == os.getpid() else None
