"""What tells one task from the next: the hub uses its greenlets again."""

from __future__ import annotations

from itertools import count

from greenlet import getcurrent, greenlet

from meinheld_worker import hub

_NAME = "_meinheld_identity"
#: Never an ident of a thread, which is an address.
_numbers = count(1)


class Identity:
    """One task of a greenlet."""

    __slots__ = ("__weakref__", "number")

    def __init__(self) -> None:
        self.number = next(_numbers)


def identity() -> Identity | None:
    """That of the calling greenlet's task; ``None`` for a thread as a whole: in other threads, in
    the hub's own greenlet and where no loop runs. A forked child goes on as the task that has
    forked it."""
    own = vars(getcurrent())
    found: Identity | None = own.get(_NAME)
    if found is None and hub.current() is not None:
        found = own[_NAME] = Identity()
    return found


def _forget(one: greenlet) -> None:
    vars(one).pop(_NAME, None)


hub.at_idle.append(_forget)
