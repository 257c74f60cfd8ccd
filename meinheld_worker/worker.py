"""The gunicorn worker: settings and listeners in, the native loop runs, signals end it."""

import os
import signal
import sys
import time
from types import FrameType
from typing import Any

from gunicorn.workers.base import Worker

from meinheld_worker import _core, children, claim, config, status
from meinheld_worker.face import Face
from meinheld_worker.fleet import Tmp, fleet
from meinheld_worker.listeners import describe
from meinheld_worker.serving import serve
from meinheld_worker.threads import Threads

#: Of ``graceful_timeout``, what the new workers of a reload get to become ready; the rest is for
#: answering what was begun.
PATIENCE = 0.75
#: Seconds in which an arbiter that is not inside a reload, which takes up to ``graceful_timeout``,
#: forks the replacement of a worker that has left.
FORKS_WITHIN = 2


class MeinheldWorker(Worker):
    """Serves the application with the loop of ``meinheld_worker._core``."""

    alive: bool
    tmp: Any
    loop: _core.Loop | None = None
    threads: Threads | None = None
    status: _core.Status | None = None
    exiting = False
    reopens_logs = False
    told_to_leave = False

    @classmethod
    def setup(cls) -> None:
        """gunicorn is going to use this class; with ``preload_app`` the arbiter loads the
        application."""
        claim.take("gunicorn")

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Refuse, in the arbiter, what this worker does not serve.

        Raises:
            RuntimeError: gunicorn prints its one line and exits.
        """
        config.check(cfg)
        fleet().open_status(cfg, log)
        for warning in config.warnings(cfg):
            log.warning("%s", warning)

    def __init__(self, age: int, *arguments: Any) -> None:
        """Take a seat on the scoreboard: this is the arbiter, before it forks the worker."""
        super().__init__(age, *arguments)
        self.seat = fleet().enrol(age, self.cfg, self.log)
        self.status_socket = fleet().status_socket
        self.tmp = Tmp(self.tmp, self.seat)

    @property
    def nr(self) -> int:
        """Requests that reached the application, as gunicorn's hooks know the number."""
        return self.loop.served if self.loop else 0

    @nr.setter
    def nr(self, value: int) -> None:
        """The base class starts from 0, and so does the loop."""

    def init_process(self) -> None:
        """Check the settings again before booting: on HUP gunicorn does not. An application that
        cannot be loaded ends this worker, and not the whole site as long as others serve it."""
        try:
            config.check(self.cfg)
        except RuntimeError as error:
            self.log.error("Worker refuses to boot: %s", error)
            # Until gunicorn's handlers are there, the arbiter's would swallow a stop.
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
                signal.signal(number, signal.SIG_DFL)
            # The arbiter starts another at once: not in a busy loop. Code 3 would halt the site.
            time.sleep(1)
            sys.exit(1)
        config.raise_descriptor_limit(self.cfg)
        if self.status_socket:
            self.status = status.serve(self.status_socket, self.seat, self.cfg, self.log)
        claim.take("gunicorn")
        try:
            super().init_process()
        except (Exception, SystemExit):
            if self.booted or self.exiting:
                raise
            if self.told_to_leave:
                self.log.exception("Worker failed to boot, and was told to leave")
            elif self.seat.has_company():
                self.log.exception("Worker failed to boot: the other workers serve on")
                time.sleep(1)
            else:
                raise
            sys.exit(1)

    def init_signals(self) -> None:
        """Handle what gunicorn's workers handle."""
        super().init_signals()
        children.end_by_term(self.handle_exit)

    def load_wsgi(self) -> None:
        """Load the application, which may ask for greenlets."""
        super().load_wsgi()
        config.check_green(self.cfg)

    def run(self) -> None:
        """Serve until told to leave, then until what was begun is answered."""
        serve(
            self,
            self.wsgi,
            Face(self),
            listeners=[describe(listener, self.cfg) for listener in self.sockets],
            options=config.options(self.cfg, self.max_requests),
            ready=self._ready,
        )

    def _ready(self) -> bool:
        ready = self.seat.ready()
        if ready:
            self.log.debug("Worker ready (pid: %s)", self.pid)
        return ready

    def leaves(self) -> bool:
        """Whether to stop accepting now: see ``handle_exit``. Without a TERM, where gunicorn or the
        application has set ``alive`` to False, one worker leaves at a time."""
        if self.ppid != os.getppid():
            if self.alive:
                self.log.info("Parent changed, shutting down: %s", self)
            self.alive = False
            return True
        if self.seat.stays:
            verdict = self.seat.verdict(self.cfg.graceful_timeout * PATIENCE)
            if verdict == _core.Verdict.Resume:
                self.log.warning("No new worker came up: this one serves on")
            elif verdict == _core.Verdict.Leave:
                self._go()
        if self.alive or self.told_to_leave:
            return self.told_to_leave
        return self.seat.take_leave(self.cfg.graceful_timeout + FORKS_WITHIN)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Leave on TERM, but on a reload not before the new workers are ready. Where it leaves, the
        answer that is in flight says so to its client. In a child that the application has forked,
        a handler of its own may call this: the seat is the parent's."""
        if self.pid != os.getpid():
            children.end(sig)
            return
        if self.seat.dismiss() == _core.Verdict.Leave:
            self._go()
            if self.loop:
                self.loop.leave()

    def _go(self) -> None:
        self.told_to_leave = True
        self.alive = False

    def handle_usr1(self, sig: int, frame: FrameType | None) -> None:
        """Reopen the log files at the next beat: now, one of them may be being written to."""
        self.reopens_logs = True

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """Leave at once on QUIT and INT, by a SystemExit wherever the process happens to be."""
        self.exiting = True
        super().handle_quit(sig, frame)

    def handle_abort(self, sig: int, frame: FrameType | None) -> None:
        """Name the request that hung before the arbiter's ABRT ends the worker."""
        for line in self.loop.in_flight() if self.loop else ():
            self.log.critical("Aborted while the application served %s", line)
        self.exiting = True
        if self.threads:
            self.threads.exit_code = 1
        super().handle_abort(sig, frame)
