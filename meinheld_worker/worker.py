"""The gunicorn worker: settings and listeners in, the native loop runs, signals end it."""

import sys
import time
from types import FrameType
from typing import Any

from gunicorn.workers.base import Worker

from meinheld_worker import _core, config
from meinheld_worker.face import Face
from meinheld_worker.listeners import describe
from meinheld_worker.threads import Threads


class MeinheldWorker(Worker):
    """Serves the application with the loop of ``meinheld_worker._core``."""

    loop: _core.Loop | None = None
    threads: Threads | None = None
    exiting = False
    reopens_logs = False

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Refuse, in the arbiter, what this worker does not serve.

        Raises:
            RuntimeError: gunicorn prints its one line and exits.
        """
        config.check(cfg)
        for warning in config.warnings(cfg):
            log.warning("%s", warning)

    @property
    def nr(self) -> int:
        """Requests that reached the application, as gunicorn's hooks know the number."""
        return self.loop.served if self.loop else 0

    @nr.setter
    def nr(self, value: int) -> None:
        """The base class starts from 0, and so does the loop."""

    def init_process(self) -> None:
        """Check the settings again before booting: on HUP gunicorn does not."""
        try:
            config.check(self.cfg)
        except RuntimeError as error:
            self.log.error("Worker refuses to boot: %s", error)
            # The arbiter starts another at once: not in a busy loop. Code 3 would halt the site.
            time.sleep(1)
            sys.exit(1)
        config.raise_descriptor_limit(self.cfg)
        super().init_process()

    def run(self) -> None:
        """Serve until told to leave, then until what was begun is answered."""
        face = Face(self)
        self.loop = _core.Loop(
            self.wsgi,
            face,
            listeners=[describe(listener, self.cfg) for listener in self.sockets],
            signals=self.PIPE[0],
            file_wrapper=config.file_wrapper(),
            options=config.options(self.cfg, self.max_requests),
        )
        self.threads = Threads(self.loop, self.cfg.threads)
        self.threads.start()
        try:
            self.loop.run()
        finally:
            if not self.threads.join():
                for line in self.loop.in_flight():
                    self.log.warning("Left behind, still with the application: %s", line)
        if late := self.loop.late_arrivals:
            self.log.warning("Requests lost on connections closed while leaving: %d", late)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Leave on TERM; the answer that is in flight says so to its client."""
        super().handle_exit(sig, frame)
        if self.loop:
            self.loop.leave()

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
