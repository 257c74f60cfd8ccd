"""Application threads, from the start of a worker to the end of its process."""

import atexit
import logging
import os
import sys
import threading
import time

from meinheld_worker import _core

#: Seconds that threads get to end when the loop has: all but those that are stuck are idle then.
FAREWELL = 1.0


class Threads:
    """The threads that call the application; none where the loop does it itself.

    They are daemons, because one that is stuck in the application must not keep the process.
    ``exit_code`` is what the process ends with in that case.
    """

    def __init__(self, loop: _core.Loop, count: int) -> None:
        self.exit_code = 0
        self._threads = [
            threading.Thread(
                target=loop.work, args=(slot,), name=f"meinheld-{slot + 1}", daemon=True
            )
            for slot in range(count if count > 1 else 0)
        ]

    def start(self) -> None:
        """Start them all.

        Raises:
            RuntimeError: the system has no more threads.
        """
        for thread in self._threads:
            thread.start()

    def join(self) -> bool:
        """Wait for those that are idle; return whether all have ended."""
        deadline = time.monotonic() + FAREWELL
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, deadline - time.monotonic()))
        if not self.alive():
            return True
        global _stuck
        _stuck = self
        return False

    def alive(self) -> bool:
        """Whether any of them still runs."""
        return any(thread.is_alive() for thread in self._threads)


_stuck: Threads | None = None


def _leave_stuck_threads() -> None:
    """End the process here if a thread is stuck in the application.

    Should it come back while the interpreter is being taken down, the interpreter would end it by
    unwinding its stack, which native code does not survive. Being registered before an application
    is loaded, this runs when all that it has registered has run.
    """
    if _stuck is not None and _stuck.alive():
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(_stuck.exit_code)


atexit.register(_leave_stuck_threads)
