"""``environ["meinheld.client"]``: the client of a request that runs in a greenlet, which may be
suspended until somebody resumes it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from greenlet import greenlet

from meinheld_worker import _core
from meinheld_worker.waiting import Failing, Suspension

if TYPE_CHECKING:
    from meinheld_worker.hub import Hub


class Client:
    """Who waits for the answer to a request."""

    __slots__ = ("_greenlet", "_hub", "_request", "_socket", "_waiter")

    def __init__(
        self, hub: Hub, request: _core.Request, socket: _core.ClientSocket, one: greenlet
    ) -> None:
        self._hub = hub
        self._request = request
        self._socket = socket
        self._greenlet = one
        self._waiter: Suspension | None = None

    def get_fd(self) -> int:
        """The connection's descriptor; -1 when it has gone."""
        return self._socket.fileno()

    def get_greenlet(self) -> greenlet:
        """The greenlet that serves the request."""
        return self._greenlet

    def set_closed(self, closed: int) -> None:
        """Say that the application has answered by itself, through a duplicate of the descriptor:
        nothing else is sent, and the connection ends with the request. 0 says nothing."""
        if closed:
            self._socket.close()

    def suspend(self, timeout: float = 0) -> Any:
        """Give the loop up until :meth:`resume`; return what that is given.

        timeout: seconds; 0 is for ever.

        Raises:
            ConnectionResetError: the client has gone.
            OSError: the request is suspended already, or over.
            RuntimeError: this is no greenlet of the loop's thread.
            TimeoutError: nobody has resumed it in time.
            ValueError: the timeout is negative.
        """
        if not timeout >= 0:
            raise ValueError(f"timeout = {timeout}: not a time. Accepted: seconds, or 0 for ever.")
        if self._waiter is not None:
            raise OSError("already suspended")
        if not self._hub.may_switch():
            raise RuntimeError("only a greenlet of the loop's thread can be suspended")
        self._waiter = waiter = Suspension(self._hub)
        try:
            try:
                self._request.await_end(
                    Failing(waiter, ConnectionResetError, "the client has gone")
                )
            except RuntimeError as error:
                raise OSError("the request is over") from error
            return waiter.wait(timeout or None)
        finally:
            self._waiter = None
            with contextlib.suppress(RuntimeError):
                self._request.forget_end()

    def resume(self, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> None:
        """Let it go on. Any thread may call this.

        It gets what greenlets get: one argument as it is, several as a tuple, named ones as a
        dictionary, both as a pair of the two.

        Raises:
            OSError: the request is not suspended.
        """
        waiter = self._waiter
        if waiter is None or not waiter.wake(_switched(args, kwargs)):
            raise OSError("not suspended")


def _switched(args: tuple[Any, ...], kwargs: Mapping[str, Any] | None) -> Any:
    if kwargs:
        return (args, dict(kwargs)) if args else dict(kwargs)
    return args[0] if len(args) == 1 else args
