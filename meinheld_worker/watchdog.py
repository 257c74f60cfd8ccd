"""What the native watchdog needs of Python: where reports go, and how stacks get into them."""

import contextlib
import faulthandler
import fcntl
import gc
import logging
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from itertools import islice
from typing import Any

from meinheld_worker import _core

#: Octets of stacks that fit the pipe, of 100 threads 30 calls deep. More is cut, never waited for.
PIPE = 256 * 1024
#: Greenlets that are shown.
GREENLETS = 100


def watch(loop: _core.Loop, timeout: int, request_timeout: float | None, log: Any) -> None:
    """Have hangs reported that last as long as gunicorn's ``timeout`` (seconds; 0 is for ever), and
    connections aborted whose requests take ``request_timeout`` (seconds)."""
    if not timeout and request_timeout is None:
        return
    try:
        loop.watch(
            timeout=timeout or None,
            request_timeout=request_timeout,
            log=_descriptor(log),
            stacks=_write_stacks(log) if timeout else None,
        )
    except OSError as error:
        log.warning("No watchdog, so requests that hang are neither reported nor ended: %s", error)


def renew(loop: _core.Loop, log: Any) -> None:
    """Follow the error log, whose files were reopened."""
    try:
        loop.report_to(_descriptor(log))
    except OSError as error:
        log.warning("The watchdog reports to the error log's old file: %s", error)


def tell_greenlets(log: Any) -> None:
    """Log where greenlets are suspended, whoever has made them; ``faulthandler`` shows threads."""
    kind = getattr(sys.modules.get("greenlet"), "greenlet", None)
    if kind is None:
        return
    suspended = (one for one in gc.get_objects() if isinstance(one, kind) and one.gr_frame)
    for one in islice(suspended, GREENLETS):
        stack = "".join(traceback.format_stack(one.gr_frame))
        log.warning("Suspended while something hangs: %r\n%s", one, stack)


def _write_stacks(log: Any) -> tuple[int, int] | None:
    """Have a signal write all stacks into a pipe; return where to read them, and the signal.

    It stays so until the process ends, which may hang, too. The interpreter takes the handler back
    before it takes itself down.
    """
    number = _free_signal()
    if number is None:
        log.warning("No real-time signal is free, so hangs are reported without stacks")
        return None
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    with contextlib.suppress(OSError):
        # Since Python 3.10 on Linux.
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE)
    faulthandler.register(number, file=writer, all_threads=True, chain=False)
    return reader, number


def _free_signal() -> int | None:
    """The highest real-time signal that nobody in this process handles, ignores or blocks.

    proc(5) knows handlers that were not installed through ``signal``, too. The very last signal is
    left alone: debuggers and profilers like it.
    """
    taken = 0
    try:
        with open("/proc/self/status") as status:
            for line in status:
                name, _, mask = line.partition(":")
                if name in ("SigBlk", "SigIgn", "SigCgt"):
                    taken |= int(mask, 16)
    except OSError:
        return None
    candidates = range(signal.SIGRTMAX - 1, signal.SIGRTMIN, -1)
    return next((number for number in candidates if not taken >> (number - 1) & 1), None)


def _descriptor(log: Any) -> int:
    """Where the error log is written to; standard error where that has no descriptor, as syslog."""
    for stream in (*_streams(getattr(log, "error_log", None)), sys.stderr):
        # Of a stream that is closed, none, or only looks like a file.
        with contextlib.suppress(AttributeError, OSError, ValueError):
            return int(stream.fileno())
    return 2


def _streams(logger: logging.Logger | None) -> Iterator[Any]:
    """The streams of all handlers that get this logger's records."""
    while logger:
        for handler in logger.handlers:
            yield getattr(handler, "stream", None)
        logger = logger.parent if logger.propagate else None
