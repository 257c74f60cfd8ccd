"""Make the standard library give the loop up where it blocks: ``patch_all()``.

To be called at the top of the application's module, before whatever uses sockets or threads is
imported. It chooses greenlets, so that each request runs in one of its own. On the loop ``socket``,
``ssl``, ``select`` and ``time.sleep`` then wait without keeping other requests from running, and
what ``threading`` and ``queue`` have for threads is right for greenlets, too. In other threads,
before the server runs and in forked children all of it is what it always was. It cannot be taken
back.
"""

from __future__ import annotations

import contextlib
import queue
import select
import socket as _socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from meinheld import held
from meinheld_worker import green

__all__ = ["patch_all", "patch_socket"]

#: How many holders an error names.
_NAMED = 10

_done: set[str] = set()


def patch_all(socket: bool = True, aggressive: bool = True) -> None:
    """Patch ``socket`` and ``ssl``, ``select``, ``time.sleep``, ``threading`` and ``queue``.

    socket: whether the first two are. aggressive: of no effect, as it always was.

    Raises:
        ImportError: there is no greenlet.
        RuntimeError: modules hold the originals already, or a loop runs without greenlets.
    """
    names = held.OTHERS | (held.SOCKETS if socket and "socket" not in _done else {})
    _prepare("meinheld.patch.patch_all()", "others", names)
    if socket:
        patch_socket(aggressive)
    if "others" not in _done:
        _done.add("others")
        _patch_waits()
        _patch_threads()


def patch_socket(aggressive: bool = False) -> None:
    """Patch ``socket`` and ``ssl`` alone.

    aggressive: of no effect, as it always was.

    Raises:
        ImportError: there is no greenlet.
        RuntimeError: modules hold the originals already, or a loop runs without greenlets.
    """
    _prepare("meinheld.patch.patch_socket()", "socket", held.SOCKETS)
    if "socket" in _done:
        return
    _done.add("socket")
    from meinheld import green_dns, green_socket

    _put(_socket.socket, green_socket.METHODS)
    _put(_socket, green_dns.FUNCTIONS)
    _put(_socket, {"patched": True})
    # Without OpenSSL there is none.
    with contextlib.suppress(ImportError):
        import ssl

        from meinheld import green_ssl

        _put(ssl.SSLSocket, green_ssl.METHODS)


def _prepare(what: str, part: str, names: dict[str, tuple[str, ...]]) -> None:
    green.want(what)
    if part in _done:
        return
    holders = list(held.holders(names))
    if holders:
        more = f" and {len(holders) - _NAMED} more" if len(holders) > _NAMED else ""
        raise RuntimeError(
            f"{what} comes too late: {', '.join(holders[:_NAMED])}{more} would go on blocking. "
            "Call it before these modules are imported, at the top of the application's module or "
            "of gunicorn.conf.py"
        )


def _patch_waits() -> None:
    import selectors

    from meinheld import green_waits

    _put(time, {"sleep": green_waits.sleep})
    _put(select, {"select": green_waits.select, "poll": green_waits.poll})
    # subprocess, multiprocessing and socketserver wait with these.
    _put(selectors.SelectSelector, {"_select": staticmethod(green_waits.select)})
    _put(selectors.PollSelector, {"_selector_cls": green_waits.poll})


def _patch_threads() -> None:
    from meinheld import green_local, green_locks, green_threads

    _put(
        threading,
        {
            "Lock": green_locks.Lock,
            # Conditions, also older ones, wait with it.
            "_allocate_lock": green_locks.Lock,
            # What threading.RLock() makes.
            "_CRLock": green_locks.RLock,
            "local": green_local.local,
            "get_ident": green_threads.get_ident,
            "current_thread": green_threads.current_thread,
        },
    )
    _put(threading.Thread, green_threads.THREAD_METHODS)
    _put(ThreadPoolExecutor, {"submit": green_threads.submit})
    _put(queue, {"SimpleQueue": green_locks.SimpleQueue})


def _put(where: Any, members: dict[str, Any]) -> None:
    for name, value in members.items():
        setattr(where, name, value)
