"""One request after the other, each in a greenlet, step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from greenlet import GreenletExit, getcurrent, greenlet

from meinheld_worker import _core, config
from meinheld_worker.client import Client
from meinheld_worker.waiting import Cancelled

if TYPE_CHECKING:
    from meinheld_worker.hub import Hub

#: What a client is told whose request has ended itself, by an exception that says so.
EXITED = "the request was cancelled"
#: Seconds from try to try to end a request that takes too long, and did not wait just then.
AGAIN = 0.05


class GreenService:
    """The application, and what is done with a request for it."""

    def __init__(
        self, hub: Hub, application: Callable[..., Any], request_timeout: float | None
    ) -> None:
        """request_timeout: seconds after which a request is cancelled."""
        self._hub = hub
        self._application = application
        self._request_timeout = request_timeout

    def serve(self, request: _core.Request) -> None:
        """Serve a request in this greenlet."""
        environ: Any = None
        iterable: Any = None
        start_response: Any = None
        deadline = cancelled = None
        # Kept until the native code has let go of it: what is freed with it may wait.
        raised: list[BaseException] = []
        if self._request_timeout is not None:
            deadline = Deadline(self._hub, request, getcurrent(), self._request_timeout)
        try:
            begun = request.begin()
            self._hub.call_deferred()
            if begun is not None:
                environ, start_response = begun
                socket = environ["gunicorn.socket"]
                environ["meinheld.client"] = Client(self._hub, request, socket, getcurrent())
                iterable = self._application(environ, start_response)
                if not request.send(iterable):
                    write = request.write
                    for block in iterable:
                        write(block)
        except BaseException as error:
            raised.append(error)
            request.fail(error)
            if isinstance(error, GreenletExit):
                cancelled = str(error) if isinstance(error, Cancelled) else EXITED
        try:
            request.settle(environ, cancelled)
            raised.clear()
            self._hub.tell()
            if iterable is not None and type(iterable) is not list:
                self._close(request, iterable)
            request.report()
            self._hub.tell()
        finally:
            if deadline is not None:
                deadline.end()
            # What nobody knows any more can be used again by the next request.
            environ = start_response = socket = begun = iterable = write = block = None
            raised.clear()
            request.finish()

    def _close(self, request: _core.Request, iterable: Any) -> None:
        """``close()`` of PEP 3333, once, whatever happened."""
        try:
            close = iterable.close
        except BaseException:
            return
        try:
            close()
        except GreenletExit:
            pass
        except BaseException as error:
            request.failed_to_close(error)
            self._hub.tell()


class Deadline:
    """Cancels a request that takes too long, unless it has become a WebSocket, say, which may
    last."""

    def __init__(
        self, hub: Hub, request: _core.Request, one: greenlet, request_timeout: float
    ) -> None:
        self._hub = hub
        self._request = request
        self._greenlet = one
        self._limit = request_timeout
        self._is_told = self._is_over = False
        self._timer = hub.call_later(request_timeout, self._cut)

    def end(self) -> None:
        """The request is over."""
        self._is_over = True
        self._timer.cancel()

    def _cut(self) -> None:
        if self._is_over or self._request.is_taken_over:
            return
        error = Cancelled("the application takes too long")
        waiter = self._hub.waiter_of(self._greenlet)
        if waiter is not None and waiter.throw(error):
            self._tell()
            return
        # It goes on just now, or waits for a greenlet that it has made and gets what that ends
        # with: then, at the second try, it is called back from there.
        inner = None if waiter else self._hub.waiter_below(self._greenlet)
        if inner and self._is_told:
            self._hub.run_soon(self)
            return
        if inner and inner.throw(error):
            self._tell()
        self._timer = self._hub.call_later(AGAIN, self._cut)

    def resume(self) -> None:
        """Call the request back: for the hub."""
        if not self._is_over:
            self._hub.switch_to(self._greenlet, Cancelled("the application takes too long"))

    def _tell(self) -> None:
        if not self._is_told:
            self._is_told = True
            limit = f"{config.REQUEST_TIMEOUT} is {self._limit:.1f} s"
            self._hub.warn(f"Cancelled: {self._request}; {limit}")
