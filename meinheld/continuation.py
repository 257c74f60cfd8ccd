"""Requests that wait for each other: long polling, chats."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from meinheld_worker import green

if TYPE_CHECKING:
    from meinheld_worker.client import Client

#: Where ``environ`` has the client, and the :class:`Continuation`.
CLIENT_KEY = "meinheld.client"
CONTINUATION_KEY = "meinheld.continuation"


class Continuation:
    """A request that can be suspended, and resumed by another one, a timer or a thread."""

    def __init__(self, client: Client) -> None:
        #: Who waits for the answer.
        self.client = client

    def suspend(self, timeout: float = 0) -> Any:
        """Give the loop up until :meth:`resume`; return what that is given: one argument as it is,
        several as a tuple, named ones as a dictionary, both as a pair of the two.

        timeout: seconds; 0 is for ever.

        Raises:
            OSError: the request is suspended already, or over; ConnectionResetError, if its client
                has gone.
            RuntimeError: this is no greenlet of the loop's thread.
            TimeoutError: nobody has resumed it in time.
            ValueError: the timeout is negative.
        """
        return self.client.suspend(timeout)

    def resume(self, *args: Any, **kwargs: Any) -> None:
        """Let the request go on. Any thread may call this.

        Raises:
            OSError: it is not suspended.
        """
        self.client.resume(args, kwargs)


class ContinuationMiddleware:
    """Gives each request a :class:`Continuation`, at ``environ["meinheld.continuation"]``.

    Raises:
        ImportError: there is no greenlet.
        RuntimeError: the server has started, without greenlets.
    """

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        green.want(type(self).__name__)
        self.app = app

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Call the application.

        Raises:
            RuntimeError: another server's worker calls this.
        """
        client = environ.get(CLIENT_KEY)
        if client is None:
            raise RuntimeError(
                f"{type(self).__name__} needs the meinheld worker: "
                "--worker-class=egg:meinheld#gunicorn_worker"
            )
        environ[CONTINUATION_KEY] = Continuation(client)
        return self.app(environ, start_response)


class SpawnMiddleware(ContinuationMiddleware):
    """The old name of :class:`ContinuationMiddleware`."""
