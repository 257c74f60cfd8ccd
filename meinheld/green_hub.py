"""Where a wait may give the loop up."""

from __future__ import annotations

import importlib
from _thread import get_ident
from collections.abc import Callable
from typing import Any
from weakref import ref

from meinheld_worker import green
from meinheld_worker.coroutines import running_loop
from meinheld_worker.hub import Hub, current

#: Whether the loop's thread is inside of something that must not give the loop up.
_held = False
#: The locks of modules that are being imported, as weak references. They belong to threads: another
#: greenlet that imports such a module gets it as far as it is.
_module_locks: dict[str, Callable[[], Any]] = getattr(importlib._bootstrap, "_module_locks", {})
#: Of those, what the loop's thread had before the loop, as weak references.
_imported_before: list[ref[Any]] = []


def hub_here(*, importing: bool = False, in_coroutine: bool = False) -> Hub | None:
    """The hub to give up to; ``None`` where one can only block: where no loop runs, in its own
    greenlet, in other threads, while a module is imported, so that no other greenlet sees half of
    it, and in a coroutine, since a running loop of asyncio belongs to the thread.

    importing, in_coroutine: also there, for waits that another greenlet may have to end.
    """
    hub = current()
    if hub is None or _held or (_module_locks and not importing and _imports()):
        return None
    return None if not in_coroutine and running_loop() is not None else hub


def _imports() -> bool:
    return any(ref(lock) not in _imported_before for lock in _own_module_locks())


def _own_module_locks() -> list[Any]:
    # Other threads may start to import meanwhile.
    found = [lock() for lock in _module_locks.copy().values()]
    return [lock for lock in found if lock is not None and lock.owner == get_ident()]


def _note_imports(_: object = None) -> None:
    """A loop may be started by a module that is being imported, for as long as the loop runs."""
    global _imported_before
    _imported_before = [ref(lock) for lock in _own_module_locks()]
    green.at_start(_note_imports)


_note_imports()


def without_switching(function: Callable[[], Any]) -> Any:
    """Call something that holds standard locks, of which another greenlet of this thread would wait
    for ever."""
    global _held
    if hub_here(importing=True, in_coroutine=True) is None:
        return function()
    _held = True
    try:
        return function()
    finally:
        _held = False
