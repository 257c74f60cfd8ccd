"""One process without an arbiter: it serves until it is told to stop, and can serve again."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any

from meinheld_worker import _core, children, config, status
from meinheld_worker.face import Face
from meinheld_worker.fleet import fleet
from meinheld_worker.listeners import describe
from meinheld_worker.serving import serve
from meinheld_worker.threads import Threads

#: The text of a 500: what an exception means to the client.
Page = Callable[[BaseException], str]

#: gunicorn's numbers of workers; here one a run.
_ages = iter(range(1, 2**63))
#: The process that has looked whether there is to be a status endpoint.
_looked = 0
#: Its part of the endpoint, which lasts as long as the process does.
_part: _core.Status | None = None
#: What handled INT and TERM in the process that has forked this one. It is not for a server here:
#: that of a parent with several such children, say, ends all of them.
_inherited: dict[int, Any] = {}


class Interrupt(SystemExit):
    """A second signal: the server leaves at once, wherever it happens to be."""


class StandaloneFace(Face):
    """What the loop calls, where the client may be told more of an error."""

    def __init__(self, host: "Standalone", page: Page | None) -> None:
        super().__init__(host)
        self.page = page


class Standalone:
    """A process that serves ``application`` on ``sockets``.

    cfg: gunicorn's settings. beside: what is said in their place of ``_core.Options``. environ: for
    every request. beat: called about once a second while the loop turns.
    """

    alive = True
    exiting = False
    reopens_logs = False
    loop: _core.Loop | None = None
    threads: Threads | None = None
    status: _core.Status | None = None
    seat: _core.Seat

    def __init__(
        self,
        application: Callable[..., Any],
        sockets: Sequence[Any],
        *,
        cfg: Any,
        log: Any,
        beside: Mapping[str, Any],
        environ: Mapping[str, Any],
        page: Page | None,
        beat: Callable[[], object] | None,
    ) -> None:
        self.cfg = cfg
        self.log = log
        self.sockets = list(sockets)
        #: The signal that has ended it.
        self.signalled: int | None = None
        self._signals = 0
        #: Whether a second one may cut off what is being done.
        self._is_interruptible = False
        self._application = application
        self._beside = beside
        self._environ = environ
        self._page = page
        self._beat = beat
        self._pid = os.getpid()
        self._told = False
        self._within: float | None = None
        # A signal handler may find it locked by the code that it has interrupted.
        self._lock = threading.RLock()
        self.PIPE: Sequence[int] = ()

    def run(self) -> None:
        """Serve until told to stop, then until what was begun is answered. The listeners are closed
        afterwards, whatever happens.

        Raises:
            RuntimeError: a setting that is not served; one line.
        """
        ours: dict[int, Any] = {}
        try:
            ours = self._take_signals()
            self._run()
        except Interrupt:
            self.log.warning("Told twice to stop: requests in flight were cut off")
        finally:
            for listener in self.sockets:
                listener.close()
            children.end_by_term(None)
            # From here on Ctrl-C is a KeyboardInterrupt again.
            for number, handler in ours.items():
                signal.signal(number, handler)

    def is_ours(self) -> bool:
        """Whether it runs in this process, and not in the one that forked it."""
        return self._pid == os.getpid()

    def stop(self, within: float | None = None) -> None:
        """Stop accepting, and end when what was begun is answered; any thread, request or signal
        handler may call this.

        within: seconds that this may take; gunicorn's ``graceful_timeout`` unless said.
        """
        with self._lock:
            # A child of the application's has its own life.
            if not self.is_ours():
                return
            self._told = True
            self._within = within
            if self.loop:
                self.loop.leave(within)
            if self.PIPE:
                with contextlib.suppress(BlockingIOError):
                    os.write(self.PIPE[1], b".")

    def notify(self) -> None:
        """The heart beats."""
        if self._beat:
            try:
                self._beat()
            except Exception:
                self.log.exception("Exception in the watchdog")

    def leaves(self) -> bool:
        """Whether to stop accepting now."""
        return self._told

    def _run(self) -> None:
        is_woken = threading.current_thread() is threading.main_thread()
        pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        wakeup = signal.set_wakeup_fd(pipe[1], warn_on_full_buffer=False) if is_woken else -1
        with self._lock:
            self.PIPE = pipe
        try:
            # There is one Interrupt at most: where it comes out of the inner `finally`, none can
            # come out of the outer one.
            try:
                self._is_interruptible = True
                self._prepare()
            finally:
                self._is_interruptible = False
        finally:
            self._is_interruptible = False
            if is_woken:
                signal.set_wakeup_fd(wakeup)
            with self._lock:
                self.PIPE = ()
            for descriptor in pipe:
                os.close(descriptor)

    def _prepare(self) -> None:
        config.check(self.cfg)
        for warning in config.warnings(self.cfg):
            self.log.warning("%s", warning)
        config.raise_descriptor_limit(self.cfg)
        _open_status(self)
        self.seat = fleet().enrol(next(_ages), self.cfg, self.log)
        try:
            self.status = _status_part(self)
            self._serve()
        finally:
            self.seat.vacate()

    def _serve(self) -> None:
        listeners = [describe(one, self.cfg) for one in self.sockets]
        for _, environ, _ in listeners:
            environ.update(self._environ)
        try:
            serve(
                self,
                self._application,
                StandaloneFace(self, self._page),
                listeners=listeners,
                options=config.options(self.cfg, sys.maxsize, **self._beside),
                ready=self._ready,
            )
        finally:
            with self._lock:
                # It refers to this object, by way of its face.
                self.loop = self.threads = None

    def _ready(self) -> bool:
        self.seat.ready()
        with self._lock:
            if self._told and self.loop:
                self.loop.leave(self._within)
        return True

    def _take_signals(self) -> dict[int, Any]:
        """Stop on INT and TERM, unless the application handles them in this process; return who
        handled them. Only the main thread can have them handled."""
        if threading.current_thread() is not threading.main_thread():
            return {}
        usual: dict[int, Any] = {
            signal.SIGTERM: signal.SIG_DFL,
            signal.SIGINT: signal.default_int_handler,
        }
        ours = {
            number: handler
            for number in usual
            if (handler := signal.getsignal(number)) == usual[number]
            # Who ignores it means his children as well.
            or (callable(handler) and handler == _inherited.get(number))
        }
        # INT first, and last when it is given back: nothing else is begun while it can raise.
        for number in reversed(ours):
            signal.signal(number, self._handle)
        children.end_by_term(self._handle)
        return ours

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.is_ours():
            children.end(number)
            return
        self._signals += 1
        if self.signalled is None:
            self.signalled = number
            self.stop()
        elif self._signals > 2:
            # An application may have caught the second.
            os._exit(128 + number)
        elif self._is_interruptible:
            self.exiting = True
            raise Interrupt(128 + number)


def _open_status(host: Standalone) -> None:
    """Open the status endpoint, once in a process, if there is to be one.

    Raises:
        RuntimeError: one line that says why it cannot be had.
    """
    global _looked, _part
    if _looked != os.getpid():
        fleet().open_status(host.cfg, host.log)
        _looked, _part = os.getpid(), None


def _status_part(host: Standalone) -> _core.Status | None:
    """This process's part of the endpoint."""
    global _part
    listener = fleet().status_socket
    if listener and _part is None:
        _part = status.serve(listener, host.seat, host.cfg, host.log)
    return _part


def _inherit() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        _inherited[number] = signal.getsignal(number)


os.register_at_fork(after_in_child=_inherit)
