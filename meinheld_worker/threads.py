"""Threads that run the application, from the start of a worker to the end of its process."""

import atexit
import contextlib
import logging
import os
import sys
import threading
import time

from meinheld_worker import _core

#: Seconds that idle threads get to end when the loop has, on a machine that is busy.
PATIENCE = 1.0
#: As much when a thread is stuck, and the arbiter about to lose its patience.
HURRY = 0.1


class Threads:
    """The threads that call the application, none where the loop does it itself, and the loop's own
    that calls back.

    They are daemons, because one that is stuck in the application must not keep the process.
    ``exit_code`` is what the process ends with in that case.
    """

    def __init__(self, loop: _core.Loop, count: int) -> None:
        self.exit_code = 0
        self._loop = loop
        self._count = count if count > 1 else 0
        # By their slots.
        self._threads: dict[int, threading.Thread] = {}

    def start(self) -> None:
        """Start them all.

        Raises:
            RuntimeError: the system has no more threads.
        """
        for _ in range(self._count):
            self.add()

    def add(self) -> None:
        """Start another one, in the first slot that no living thread has.

        Raises:
            RuntimeError: the system has no more threads.
        """
        slot = 0
        while slot in self._threads and self._threads[slot].is_alive():
            slot += 1
        thread = threading.Thread(
            target=self._loop.work, args=(slot,), name=f"meinheld-{slot + 1}", daemon=True
        )
        thread.start()
        self._threads[slot] = thread

    def join(self) -> bool:
        """Wait for those that are idle; return whether all have ended."""
        deadline = time.monotonic() + (HURRY if self._loop.in_flight() else PATIENCE)
        for thread in self._threads.values():
            thread.join(max(0.0, deadline - time.monotonic()))
        self._loop.await_callbacks(max(0.0, deadline - time.monotonic()))
        if not self.alive():
            return True
        global _stuck
        _stuck = _Stuck(self)
        return False

    def alive(self) -> bool:
        """Whether any of them still runs."""
        return self._loop.calls_back or any(thread.is_alive() for thread in self._threads.values())


class _Stuck:
    """How the process ends when a thread is stuck in the application.

    Should that come back while the interpreter is being taken down, the interpreter would end it by
    unwinding its stack, which native code does not survive. So the process leaves before.
    """

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._end = threading.Event()
        # What is to be flushed may be locked by the very thread that is stuck: nobody waits for it
        # for long. Started while the interpreter still starts threads.
        self._flusher = threading.Thread(target=self._flush, daemon=True)
        with contextlib.suppress(RuntimeError):
            self._flusher.start()

    def _flush(self) -> None:
        self._end.wait()
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()

    def leave(self) -> None:
        """End the process, unless the thread has come back."""
        if self._threads.alive():
            self._end.set()
            # Of one that the system did not start there is nothing to join.
            with contextlib.suppress(RuntimeError):
                self._flusher.join(HURRY)
            os._exit(self._threads.exit_code)


_stuck: _Stuck | None = None


def _leave_stuck_threads() -> None:
    # Registered before an application is loaded, this runs when all that it has registered has run.
    if _stuck is not None:
        _stuck.leave()


atexit.register(_leave_stuck_threads)
