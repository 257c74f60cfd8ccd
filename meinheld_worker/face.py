"""The worker, as the native loop sees it: heartbeat, logs and hooks."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

from meinheld_worker import access, config, watchdog
from meinheld_worker.access_line import AccessLine, is_replaceable
from meinheld_worker.host import Host
from meinheld_worker.takeover import observe, take_over


class Face:
    """What the loop calls. Hooks that are not configured are ``None``, and cost nothing."""

    take_over = staticmethod(take_over)
    observe = staticmethod(observe)
    record = access.Request
    response = access.Response
    #: What a client is told of an exception, where that is not the usual line.
    page: Callable[[BaseException], str] | None = None

    def __init__(self, worker: Host) -> None:
        self._worker = worker
        self._log = worker.log
        cfg = worker.cfg
        self.pre_request = self._pre_request if access.has_pre_request(cfg, worker.log) else None
        self.post_request = self._post_request if access.has_post_request(cfg) else None
        self.log_access = self._log_access if access.is_logged(worker.log) else None
        self.log_line = None
        if self.log_access and is_replaceable(worker.log):
            self._line = AccessLine(worker.log)
            self.log_line = self._log_line

    @property
    def exiting(self) -> bool:
        """Whether the handler of QUIT, INT or ABRT ends the process: its SystemExit may come out of
        any Python code. One of the application's own is an error like any other."""
        return self._worker.exiting

    def beat(self) -> bool:
        """Tell the arbiter that the loop turns; return whether to go on."""
        worker = self._worker
        with contextlib.suppress(BlockingIOError):
            os.read(worker.PIPE[0], 4096)
        worker.notify()
        if worker.reopens_logs:
            worker.reopens_logs = False
            self._log.reopen_files()
            if worker.loop:
                watchdog.renew(worker.loop, self._log)
        return not worker.leaves()

    def spent(self) -> bool:
        """``max_requests`` is reached; return whether to leave at once."""
        self._log.info("Autorestarting worker after current request.")
        self._worker.alive = False
        return self._worker.leaves()

    def replace_thread(self) -> bool:
        """Have another thread take the place of one that is stuck; return whether it does."""
        threads = self._worker.threads
        try:
            if threads:
                threads.add()
        except RuntimeError as error:
            self._log.warning("One thread is stuck, and none can take its place: %s", error)
            return False
        return True

    def overwhelmed(self) -> bool:
        """More threads are stuck than there were; return whether to leave at once."""
        if self._worker.alive:
            self._log.warning("More threads are stuck than can be replaced: leaving")
        self._worker.alive = False
        return self._worker.leaves()

    def tell_greenlets(self) -> None:
        """Something hangs. Not called by the loop, which never waits for a logger that hangs."""
        watchdog.tell_greenlets(self._log)

    def draining(self) -> None:
        """Let go of the listeners: once the arbiter has too, new clients are refused at once."""
        self._worker.seat.leaving()
        if self._worker.status:
            self._worker.status.let_go()
        for listener in self._worker.sockets:
            listener.close()

    def forked(self, error: BaseException | None) -> None:
        """End a child of the application that came back out of it: it must not serve."""
        code = 1
        try:
            if isinstance(error, SystemExit):
                # Its own way to end: what it meant for its parent gets there.
                code = error.code if isinstance(error.code, int) else int(error.code is not None)
            else:
                with contextlib.suppress(BaseException):
                    self._log.error(
                        "A process that the application forked came back into the server, "
                        "and is ended",
                        exc_info=error,
                    )
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(BaseException):
                    stream.flush()
        finally:
            os._exit(code & 0xFF)

    def rejected(self, peer: str, reason: str) -> None:
        """A client was refused."""
        self._log.warning("Invalid request from ip=%s: %s", peer, reason)

    def failed(self, error: BaseException, method: str, uri: str) -> None:
        """The application failed."""
        self._log.exception("Error handling request %s %s", method, uri, exc_info=error)

    def shed(self, count: int) -> None:
        """So many requests have waited for the application for too long."""
        self._log.warning(
            "Requests answered with 503, having waited longer than %s = %s: %d",
            config.QUEUE_TIMEOUT,
            config.queue_timeout(),
            count,
        )

    def failed_elsewhere(self, error: BaseException, where: str) -> None:
        """What no request was waiting for failed."""
        self._log.exception("%s", where, exc_info=error)

    def warn(self, message: str) -> None:
        """Something is wrong that is nobody's exception."""
        self._log.warning("%s", message)

    def _pre_request(self, request: access.Request) -> None:
        self._worker.cfg.pre_request(self._worker, request)

    def _log_access(
        self, request: access.Request, environ: dict[str, Any], response: access.Response
    ) -> None:
        with self._logged("the access log"):
            environ = environ or request.environ()
            self._log.access(response, request, environ, response.duration)

    def _log_line(self, *facts: Any) -> None:
        try:
            self._line.write(*facts)
        except BaseException as error:
            self._keep(error, "the access log")

    def _post_request(
        self, request: access.Request, environ: dict[str, Any], response: access.Response
    ) -> None:
        with self._logged("post_request hook"):
            self._worker.cfg.post_request(self._worker, request, environ, response)

    @contextlib.contextmanager
    def _logged(self, where: str) -> Iterator[None]:
        """Keep what a hook raises from the loop; only a signal handler's exit goes through."""
        try:
            yield
        except BaseException as error:
            self._keep(error, where)

    def _keep(self, error: BaseException, where: str) -> None:
        if isinstance(error, SystemExit) and self.exiting:
            raise error
        self._log.exception("Exception in %s", where)
