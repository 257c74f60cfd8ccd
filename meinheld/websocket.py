"""WebSockets (RFC 6455) for WSGI applications: ``environ["wsgi.websocket"]``.

    from meinheld.middleware import WebSocketMiddleware

    def application(environ, start_response):
        websocket = environ["wsgi.websocket"]
        while (message := websocket.wait()) is not None:
            websocket.send(message)
        return []

    application = WebSocketMiddleware(application)

Each request is a greenlet of its own, which waits without holding anybody up.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from meinheld.checks import count, seconds
from meinheld.continuation import CLIENT_KEY, CONTINUATION_KEY, Continuation
from meinheld.endpoint import NORMAL, Limits, WebSocket
from meinheld.handshake import Accepted, Refused, is_handshake, judge
from meinheld_worker import _core, green

if TYPE_CHECKING:
    from meinheld_worker.hub import Hub

__all__ = ["WebSocket", "WebSocketMiddleware", "WebSocketWSGI"]

#: Close codes for what an application does (RFC 6455 7.4.1).
POLICY = 1008
INTERNAL_ERROR = 1011

Application = Callable[..., Iterable[bytes]]


class WebSocketMiddleware:
    """Answers handshakes, and calls the application with a :class:`WebSocket` in
    ``environ["wsgi.websocket"]``; without it for every other request."""

    def __init__(
        self,
        app: Application,
        *,
        protocols: Iterable[str] = (),
        origins: Iterable[str] | None = None,
        max_message_size: int = 1 << 20,
        max_pending: int = 1 << 20,
        ping_interval: float | None = 20.0,
        ping_timeout: float = 20.0,
        close_timeout: float = 10.0,
    ) -> None:
        """Choose greenlets for the worker.

        protocols: subprotocols that the application speaks, the preferred first.
        origins: ``https://example.org`` and the like, whose pages may connect; others get 403.
            ``None`` allows all. A client that names no origin, which is no page, is let in.
        max_message_size: octets of a message that is received; longer ones are refused (1009).
        max_pending: octets kept for a peer that does not take them; then it is dropped. What the
            request itself sends does not count.
        ping_interval: seconds of silence after which a peer is pinged; ``None`` is never.
        ping_timeout: seconds after which one that does not answer is dropped.
        close_timeout: seconds that it may take to answer a close, and to take what was sent before.

        Raises:
            ImportError: there is no greenlet.
            RuntimeError: the server has started without greenlets.
            TypeError, ValueError: an argument that means nothing.
        """
        green.want(type(self).__name__)
        self.app = app
        self._protocols = _names("protocols", protocols)
        self._origins = None if origins is None else _origins(origins)
        self._limits = Limits(
            max_message_size=count("max_message_size", max_message_size),
            max_pending=count("max_pending", max_pending),
            ping_interval=None if ping_interval is None else _time("ping_interval", ping_interval),
            ping_timeout=_time("ping_timeout", ping_timeout),
            close_timeout=_time("close_timeout", close_timeout),
        )

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """``application`` of PEP 3333."""
        if CLIENT_KEY in environ:
            # As in 1.x.
            environ[CONTINUATION_KEY] = Continuation(environ[CLIENT_KEY])
        if not is_handshake(environ) or "wsgi.websocket" in environ:
            return self.app(environ, start_response)
        try:
            accepted = judge(environ, self._protocols, self._origins)
        except Refused as refused:
            return _answer(start_response, refused.status, str(refused), *refused.headers)
        socket = environ["gunicorn.socket"]
        environ["wsgi.websocket"] = websocket = self._open(socket, environ, accepted)
        try:
            code, reason = self._call(environ, websocket)
            websocket.finish(code, reason)
        except Exception:
            websocket.finish(INTERNAL_ERROR, "internal error")
            raise
        finally:
            # A child that comes back here is about to be ended, and the peer is its parent's.
            if websocket.is_ours:
                socket.give_back(websocket.release())
                # It refers to the environ, too.
                environ.pop("wsgi.websocket", None)
        return []

    def _open(self, socket: Any, environ: dict[str, Any], accepted: Accepted) -> WebSocket:
        from meinheld.poller import Poller

        poller = Poller.of(self._hub())
        # This takes the connection over.
        socket.setblocking(False)
        leftover = socket.recv(len(socket.leftover)) if socket.leftover else b""
        connection = _core.WebSocket(
            socket.fileno(),
            response=accepted.response,
            leftover=leftover,
            max_message=self._limits.max_message_size,
            max_pending=self._limits.max_pending,
        )
        # It has a duplicate: one descriptor for each connection is enough.
        socket.close()
        return WebSocket(connection, environ, accepted.protocol, poller, self._limits)

    def _hub(self) -> Hub:
        from meinheld_worker import hub

        current = hub.current()
        if current is None:
            raise RuntimeError(
                f"{type(self).__name__} needs the meinheld worker, and a request's own greenlet"
            )
        return current

    def _call(self, environ: dict[str, Any], websocket: WebSocket) -> tuple[int, str]:
        """Call the application; return with what to close, unless it has done so."""
        begun = "200 OK"

        def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
            nonlocal begun
            begun = status
            return lambda block: None

        body = self.app(environ, start_response)
        try:
            # It may be a generator, which runs here. What it yields is for nobody.
            for _ in body or ():
                if websocket.websocket_closed:
                    break
        finally:
            close = getattr(body, "close", None)
            if close is not None:
                close()
        # An application that knows no such route, say, or wants to know who it is.
        code = {"4": POLICY, "5": INTERNAL_ERROR}.get(begun[:1], NORMAL)
        return code, "" if code == NORMAL else begun[:30]


class WebSocketWSGI(WebSocketMiddleware):
    """An application that calls ``handler`` with each :class:`WebSocket`, and answers 400 to
    everything else."""

    def __init__(self, handler: Callable[[WebSocket], object], **settings: Any) -> None:
        """settings: of :class:`WebSocketMiddleware`."""
        super().__init__(self._handle, **settings)
        self.handler = handler

    def _handle(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if "wsgi.websocket" not in environ:
            return _answer(start_response, "400 Bad Request", "only WebSockets are served here")
        self.handler(environ["wsgi.websocket"])
        return []


def _answer(
    start_response: Any, status: str, text: str, *headers: tuple[str, str]
) -> Iterable[bytes]:
    body = f"{text}\n".encode()
    fields = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    start_response(status, [*fields, *headers])
    return [body]


def _origins(values: Iterable[str]) -> set[str]:
    origins = {origin.lower() for origin in _names("origins", values)}
    for origin in sorted(origins):
        # Whatever else it is, no browser would ever send it (RFC 6454 6.2).
        if origin != "null" and not _ORIGIN.fullmatch(origin):
            raise ValueError(
                f"origins: {origin!r} never matches. Accepted: as in 'https://example.org' or "
                "'http://localhost:8000', without a path; None for all."
            )
    return origins


_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#*\s]+")


def _names(what: str, values: Iterable[str]) -> list[str]:
    names = list(values) if isinstance(values, Iterable) else [values]
    if isinstance(values, str) or not all(isinstance(name, str) and name for name in names):
        raise TypeError(f"{what} = {values!r}: not strings. Accepted: a list of strings.")
    return names


def _time(what: str, value: float) -> float:
    return seconds(what, value, may_be_zero=False)
