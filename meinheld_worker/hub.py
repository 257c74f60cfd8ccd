"""The loop as a greenlet: it runs requests in greenlets of their own, each until it waits.

The hub takes the turns of the native loop and switches to whoever has something to do. No native
frame sleeps on a stack that is switched away: all that could wait is Python, and what the native
code has to tell the application's hooks and logs it tells between two steps: :class:`GreenFace`.
"""

from __future__ import annotations

import contextlib
import contextvars
import errno
import os
import traceback
from _thread import get_ident
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

from greenlet import GreenletExit, getcurrent, greenlet

from meinheld_worker import _core, green
from meinheld_worker.coroutines import aside
from meinheld_worker.green_face import GreenFace
from meinheld_worker.green_service import GreenService
from meinheld_worker.tasks import Task, Timer
from meinheld_worker.waiting import Cancelled, Failing, Waiter, Waker

#: Idle greenlets that are kept: one that is used again costs a tenth of a new one.
POOL = 128
#: Seconds of a turn, after which others wait for the next one, so that the heart beats.
AT_ONCE = 0.1
#: Of the time for leaving, the part that cancelled requests get for their ``finally`` blocks, and
#: how many seconds at most.
LAST_PART = 0.25
LAST_SECONDS = 1.0
#: How often what still waits is cancelled when the loop has ended.
INSISTENCE = 10

#: Called with a greenlet whose task is done, before it gets another.
at_idle: list[Callable[[greenlet], object]] = []

_running: Hub | None = None


def running() -> Hub | None:
    """The hub of this process, whichever thread asks; ``None`` where no loop runs."""
    return _running


def current() -> Hub | None:
    """The hub whose loop this greenlet may give up; ``None`` in the hub's own greenlet, in other
    threads, in forked children, and where no loop runs: there one can only block."""
    hub = _running
    return hub if hub is not None and hub.may_switch() else None


class _Ready(Protocol):
    """Something to be run by the hub."""

    def resume(self) -> None: ...


class Hub:
    """The greenlet of the thread that serves, and what it knows of the others."""

    def __init__(
        self, application: Callable[..., Any], request_timeout: float | None = None
    ) -> None:
        """request_timeout: seconds after which a request is cancelled."""
        self._application = application
        self._request_timeout = request_timeout
        self._greenlet: greenlet | None = None
        self._thread = 0
        self._idle: list[greenlet] = []
        # What a greenlet is to do when it is switched to next.
        self._jobs: dict[greenlet, tuple[Callable[..., None], tuple[Any, ...]]] = {}
        self._has_ended = False
        self._ready: deque[_Ready] = deque()
        self._parked: dict[greenlet, Waiter] = {}
        self._waits: dict[int, set[Waiter]] = {}
        self._deferred: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self._at_drain: list[Callable[[], object]] = []
        # At work on the drain: it waits for them.
        self._draining = 0
        # When the loop is to have its next turn.
        self._until = 0.0

    # The loop.

    def face(self, face: Any) -> GreenFace:
        """What the native loop is to be given in the place of ``face``."""
        self._face = face
        self._green_face = GreenFace(face, self)
        return self._green_face

    def run(self, loop: _core.Loop) -> None:
        """Serve until the loop has ended.

        Raises:
            SystemExit: of a signal handler.
        """
        global _running
        self._turns = _core.Turns(loop)
        self._greenlet = getcurrent()
        self._thread = get_ident()
        self._context = contextvars.copy_context()
        _running = self
        # It refers to the hub, which must not refer to it: nothing is to wait for the garbage
        # collector when all is over.
        service = GreenService(self, self._application, self._request_timeout)
        for function in green.take_at_start():
            function(self)
        try:
            while self._turns.turn(busy=bool(self._ready), stays=bool(self._draining)):
                self._until = monotonic() + AT_ONCE
                while (party := self._turns.next()) is not None:
                    if isinstance(party, _core.Request):
                        self.start(service.serve, party)
                    else:
                        party.ready()
                self._run_ready()
        finally:
            # There is no next turn to make room for.
            self._until = float("inf")
            try:
                # Also where a signal handler has ended it all.
                self._end_greenlets()
            finally:
                _running = None
                # What the loop still has to say is said at once.
                self._green_face.let_go()
                self._turns.end()
                self._let_go()

    def _let_go(self) -> None:
        """The garbage collector does not see through greenlets that are suspended: what they refer
        to would be there for ever."""
        self._has_ended = True
        while self._idle:
            self._idle.pop().throw()

    def _run_ready(self) -> None:
        # What becomes ready meanwhile has to let the loop look at its descriptors first.
        for _ in range(len(self._ready)):
            self._ready.popleft().resume()
            if monotonic() > self._until:
                break

    def may_switch(self) -> bool:
        """Whether the calling greenlet may give the loop up."""
        return self._thread == get_ident() and self._greenlet is not getcurrent()

    def switch(self) -> None:
        """Give the loop up, until somebody switches back."""
        assert self._greenlet is not None
        self._greenlet.switch()

    def start(self, function: Callable[..., None], *args: Any) -> None:
        """Run a function in a greenlet until it waits: for the hub's own greenlet."""
        one = self._idle.pop() if self._idle else greenlet(self._work, self._greenlet)
        # Context variables of one request must not be seen by the next.
        one.gr_context = self._context.copy()
        self._jobs[one] = function, args
        self.switch_to(one)

    def switch_to(self, one: greenlet, error: BaseException | None = None) -> None:
        """Let a greenlet go on until it waits, with an error where it is: for the hub's own
        greenlet."""
        try:
            if error is None:
                one.switch()
            else:
                one.throw(error)
        except BaseException as raised:
            self.survive(raised, "Error in a greenlet")
        if _running is not self:
            # A child that it has forked has come back: what waits here is the parent's.
            self._face.forked(None)
        if self._idle and self._idle[-1].gr_context is not None:
            # Nor does what they refer to live on.
            self._idle[-1].gr_context = None

    def _work(self) -> None:
        me = getcurrent()
        while True:
            job = self._jobs.pop(me, None)
            if job is not None:
                function, args = job
                function(*args)
                for tell in at_idle:
                    tell(me)
                del job, function, args
                if len(self._idle) >= POOL:
                    return
                self._idle.append(me)
            try:
                # Others may switch here, too: a greenlet whose parent this is, when it ends.
                self.switch()
            except BaseException as error:
                if self._has_ended:
                    return
                self.survive(error, "Error in a greenlet")

    def park(self, waiter: Waiter, timeout: float | None) -> None:
        """Give the loop up until ``waiter`` is over: for waiters."""
        if not self.may_switch():
            raise RuntimeError("the loop's own greenlet, and other threads, cannot wait for it")
        timer = None
        if timeout is not None:
            expiry = Failing(waiter, TimeoutError, "timed out")
            timer = self._turns.set_timer(timeout, expiry)
        me = getcurrent()
        self._parked[me] = waiter
        try:
            aside(waiter.sleep)
        finally:
            self._parked.pop(me, None)
            if timer is not None:
                self._turns.cancel_timer(timer)

    def run_soon(self, ready: _Ready) -> None:
        """Resume in this turn or the next. Any thread may call this."""
        self._ready.append(ready)
        if get_ident() != self._thread:
            self._turns.wake()

    # What greenlets ask for.

    def spawn(self, function: Callable[..., object], /, *args: Any, **kwargs: Any) -> None:
        """Run a function in a greenlet of its own; what it raises is logged. Any thread may call
        this."""
        self.run_soon(Task(self, function, args, kwargs))

    def call_later(
        self, seconds: float, function: Callable[..., object], /, *args: Any, **kwargs: Any
    ) -> Timer:
        """As :meth:`spawn`, when so many seconds have passed."""
        return Timer(self._turns, seconds, Task(self, function, args, kwargs))

    def sleep(self, seconds: float) -> None:
        """Give the loop up for so many seconds; with 0, to whoever is ready."""
        waiter = Waiter(self)
        if seconds > 0:
            name = self._turns.set_timer(seconds, waiter)
            try:
                waiter.wait()
            finally:
                self._turns.cancel_timer(name)
        else:
            self.run_soon(Waker(waiter))
            waiter.wait()

    def breathe(self) -> None:
        """Give the loop up if its next turn is due: for what could go on for ever without waiting,
        in a greenlet of the loop's."""
        if monotonic() > self._until:
            self.sleep(0)

    def wait_fd(
        self, fd: int, *, read: bool = False, write: bool = False, timeout: float | None = None
    ) -> None:
        """Give the loop up until a descriptor can be read from or written to, or has an error.

        timeout: seconds.

        Raises:
            TimeoutError: so many seconds have passed.
            OSError: EBADF after :meth:`cancel_wait`, or where there is no such descriptor.
        """
        waiter = Waiter(self)
        try:
            watch = self._turns.watch_descriptor(fd, read=read, write=write, party=waiter)
        except PermissionError:
            # A regular file, which is always ready.
            return
        self._waits.setdefault(fd, set()).add(waiter)
        try:
            waiter.wait(timeout)
        finally:
            self._turns.unwatch_descriptor(watch)
            waits = self._waits.get(fd, set())
            waits.discard(waiter)
            if not waits:
                self._waits.pop(fd, None)

    def cancel_wait(self, fd: int) -> None:
        """Whoever waits for a descriptor gets EBADF: it is about to be closed."""
        for waiter in tuple(self._waits.get(fd, ())):
            waiter.throw(OSError(errno.EBADF, os.strerror(errno.EBADF)))

    # Leaving.

    @property
    def is_draining(self) -> bool:
        """Whether the worker has stopped accepting."""
        return self._turns.is_draining

    @property
    def grace_left(self) -> float:
        """Seconds until what still runs is cancelled; infinite before the drain."""
        left = self._turns.grace_left
        return float("inf") if left is None else left

    def at_drain(self, function: Callable[[], object]) -> None:
        """Have a function called, in a greenlet, when the worker has stopped accepting. The drain
        waits for it."""
        self._at_drain.append(function)
        if self.is_draining:
            self._begin_at_drain()

    def drain(self) -> None:
        """The worker has stopped accepting: for the face."""
        self._begin_at_drain()
        left = self._turns.grace_left
        if left is not None:
            last = min(LAST_SECONDS, left * LAST_PART)
            self.call_later(left - last, self._cancel_all)

    def _begin_at_drain(self) -> None:
        while self._at_drain:
            self._draining += 1
            self.spawn(self._run_at_drain, self._at_drain.pop(0))

    def _run_at_drain(self, function: Callable[[], object]) -> None:
        try:
            function()
        finally:
            self._draining -= 1

    def _cancel_all(self) -> None:
        me = getcurrent()
        for one, waiter in list(self._parked.items()):
            if one is not me:
                waiter.throw(Cancelled("the server is stopping"))

    def _end_greenlets(self) -> None:
        """Let ``finally`` blocks run that have waited until now. Nothing can be waited for any
        more."""
        for _ in range(INSISTENCE):
            self._cancel_all()
            if not self._ready:
                break
            for _ in range(len(self._ready)):
                # One that takes this for its own end, or a signal's, is not the last.
                with contextlib.suppress(BaseException):
                    self._ready.popleft().resume()

    # What becomes of greenlets.

    def waiter_of(self, one: greenlet) -> Waiter | None:
        """Where a greenlet waits."""
        return self._parked.get(one)

    def outermost(self) -> greenlet:
        """The greenlet of the hub's that the calling one is, or was made in."""
        one = getcurrent()
        while one.parent is not None and one.parent is not self._greenlet:
            one = one.parent
        return one

    def waiter_below(self, one: greenlet) -> Waiter | None:
        """Where a greenlet waits that ``one`` has made, and waits for."""
        for parked, waiter in self._parked.items():
            ancestor = parked.parent
            while ancestor is not None and ancestor is not one:
                ancestor = ancestor.parent
            if ancestor is one:
                return waiter
        return None

    def survive(self, error: BaseException, where: str) -> None:
        """Log an error that must end nobody; raise what a signal handler ends the process with."""
        if self._ends_worker(error):
            raise error
        try:
            self._face.failed_elsewhere(error, where)
        except BaseException as another:
            if self._ends_worker(another):
                raise
            # As the native code does where not even the log can be written.
            traceback.print_exception(another)

    def warn(self, message: str) -> None:
        """Log that something is wrong."""
        self._face.warn(message)

    def _ends_worker(self, error: BaseException) -> bool:
        return isinstance(error, SystemExit) and self._face.exiting

    # What the native code tells hooks and logs, from between its steps.

    def call_after_step(self, function: Callable[..., object], args: tuple[Any, ...]) -> None:
        """Have a function called after the step of a greenlet that this is called by. What the
        loop has to tell by itself is told in a greenlet, too: a log may wait."""
        if self.may_switch():
            self._deferred.append((function, args))
        elif get_ident() == self._thread:
            self.spawn(function, *args)
        else:
            function(*args)

    def call_deferred(self) -> None:
        """Call what a step has left to be called; what that raises is raised."""
        while self._deferred:
            calls, self._deferred = self._deferred, []
            for function, args in calls:
                function(*args)

    def tell(self) -> None:
        """As :meth:`call_deferred`, but a log or a hook that fails ends nobody."""
        while self._deferred:
            calls, self._deferred = self._deferred, []
            for function, args in calls:
                try:
                    function(*args)
                except GreenletExit:
                    pass
                except BaseException as error:
                    self.survive(error, "Error in a log or a hook")


def _forget() -> None:
    global _running
    _running = None


# A child has no loop: there everything blocks as it always did.
os.register_at_fork(after_in_child=_forget)
