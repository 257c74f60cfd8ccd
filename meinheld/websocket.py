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

import selectors
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from meinheld.continuation import CLIENT_KEY, CONTINUATION_KEY, Continuation
from meinheld.handshake import VERSION, Accepted, Refused, is_handshake, judge
from meinheld_worker import _core, green

if TYPE_CHECKING:
    from meinheld.poller import Poller
    from meinheld_worker.hub import Hub
    from meinheld_worker.tasks import Timer

#: Close codes (RFC 6455 7.4.1).
NORMAL = 1000
POLICY = 1008
INTERNAL_ERROR = 1011
#: Messages that may wait for the application; then nothing is received until it takes one.
INBOX = 32

Application = Callable[..., Iterable[bytes]]


@dataclass(frozen=True)
class Limits:
    """What a peer may cost. Sizes are octets, times are seconds."""

    max_message_size: int
    max_pending: int
    ping_interval: float | None
    ping_timeout: float
    close_timeout: float


class WebSocket:
    """One end of an open WebSocket.

    Pings are answered, and the close handshake is, whatever the application does meanwhile. What is
    called after the request is over does nothing, or raises.
    """

    version = VERSION

    def __init__(
        self,
        connection: _core.WebSocket,
        environ: dict[str, Any],
        protocol: str | None,
        poller: Poller,
        limits: Limits,
    ) -> None:
        """For the greenlet of the request."""
        from meinheld.poller import Waiters, this_greenlet

        #: The request's.
        self.environ = environ
        #: Its ``PATH_INFO``.
        self.path: str | None = environ.get("PATH_INFO")
        #: Its ``Origin`` field.
        self.origin: str | None = environ.get("HTTP_ORIGIN")
        #: The subprotocol that was chosen.
        self.protocol = protocol
        self._connection = connection
        self._poller = poller
        self._hub = poller.hub
        self._limits = limits
        self._this_greenlet = this_greenlet
        self._greenlet = this_greenlet()
        self._inbox: deque[str | bytes] = deque()
        self._inbox_size = 0
        #: Whether what has come is for nobody: the application has closed it, or is over.
        self._discards = False
        self._readers = Waiters()
        self._writers = Waiters()
        #: What the selector looks for.
        self._events = 0
        #: When the peer was heard, and when it was pinged if it has not been heard since.
        self._heard = monotonic()
        self._asked: float | None = None
        #: Octets that it had taken when it was last looked at.
        self._taken = 0
        self._timer: Timer | None = None
        #: Gives up a peer that does not let it close.
        self._last: Timer | None = None
        poller.add(self)
        if (interval := limits.ping_interval) is not None:
            self._timer = self._hub.call_later(interval, self._check_peer, interval)
        # What came with the handshake makes no descriptor ready.
        self.ready(readable=True)

    # For the application.

    @property
    def websocket_closed(self) -> bool:
        """Whether no more messages come or go."""
        return not self._connection.is_open

    def wait(self) -> str | bytes | None:
        """The next message, text or binary; ``None`` once the WebSocket is closed.

        Raises:
            RuntimeError: not from a greenlet of the worker's loop.
        """
        if not self._poller.is_here():
            if self.websocket_closed:
                return None
            raise RuntimeError("WebSocket.wait() is for greenlets of the worker; a thread can send")
        while not self._inbox or self._discards:
            if self.websocket_closed:
                return None
            self._readers.wait(self._hub)
        had_room = self._has_room()
        message = self._inbox.popleft()
        self._inbox_size -= len(message)
        if not had_room:
            self._receive()
            self._settle()
        return message

    def send(self, message: str | bytes | bytearray | memoryview) -> None:
        """Send a message: ``str`` is text, the others are binary. Any thread may call this.

        In the request's own greenlet it returns when the kernel has the message, or the WebSocket
        is closed. Elsewhere it never waits: what a peer does not take is kept for it, and when a
        message comes while more than ``max_pending`` octets are, the peer is dropped, silently.

        Raises:
            BrokenPipeError: the WebSocket is closed.
            TypeError: it is no message.
        """
        if isinstance(message, (bytearray, memoryview)):
            message = bytes(message)
        elif not isinstance(message, (str, bytes)):
            raise TypeError(f"a message is str or bytes, not {type(message).__name__}")
        own = self._this_greenlet() is self._greenlet
        if self._connection.send(message, own=own):
            return
        self._settle_on_hub()
        if own:
            while self._connection.pending and self._connection.is_open:
                self._writers.wait(self._hub)

    def close(self, code: int = NORMAL, reason: str = "") -> None:
        """Begin the close handshake, unless it has begun; whoever waits gets ``None``. Any thread
        may call this.

        Raises:
            ValueError: a code that no endpoint may send, or more than 123 octets of reason.
        """
        self._connection.close(code, reason)
        self._discards = True
        if self.fileno() >= 0:
            self._settle_on_hub()

    # For the poller and the middleware.

    def fileno(self) -> int:
        """The descriptor; -1 when the request is over."""
        return self._connection.fileno()

    def ready(self, readable: bool) -> None:
        """Something has come, or there is room for more. Never waits."""
        if readable:
            self._heard = monotonic()
            self._receive()
        self._connection.flush()
        self._settle()

    def dismiss(self, code: int, reason: str) -> None:
        """Begin the close handshake, unless it has begun. What has come until now still is for the
        application."""
        self._receive()
        self._connection.close(code, reason)
        self._settle()

    def finish(self, code: int, reason: str) -> None:
        """Bring the close handshake to its end, or give the peer up."""
        self.close(code, reason)
        while self._is_needed():
            self._writers.wait(self._hub)

    def abandon(self) -> None:
        """Give the peer up."""
        self._connection.abandon()
        self._settle()

    def release(self) -> int:
        """Give the descriptor away. Nothing can be done with it by this object any more."""
        for timer in (self._timer, self._last):
            if timer is not None:
                timer.cancel()
        self.abandon()
        self._poller.remove(self)
        self._inbox.clear()
        return self._connection.detach()

    def _receive(self) -> None:
        while self._has_room() and (message := self._connection.receive()) is not None:
            self._inbox.append(message)
            self._inbox_size += len(message)

    def _is_needed(self) -> bool:
        return self._connection.is_heard or self._connection.pending > 0

    def _has_room(self) -> bool:
        return len(self._inbox) < INBOX and self._inbox_size < self._limits.max_message_size

    def _settle_on_hub(self) -> None:
        if self._poller.is_here():
            self._settle()
        else:
            self._hub.spawn(self._settle)

    def _settle(self) -> None:
        """Look for what the connection needs now, and wake whom it concerns."""
        connection = self._connection
        if connection.fileno() < 0:
            return
        if self._discards:
            self._inbox.clear()
            self._inbox_size = 0
        events = 0
        if connection.is_heard and self._has_room():
            events |= selectors.EVENT_READ
        if connection.pending:
            events |= selectors.EVENT_WRITE
        if events != self._events:
            self._poller.watch(self, self._events, events)
            self._events = events
        if not connection.is_open and self._last is None and self._is_needed():
            self._last = self._hub.call_later(self._limits.close_timeout, self.abandon)
        if self._inbox or not connection.is_open:
            self._readers.wake()
        if not connection.pending or not connection.is_open:
            self._writers.wake()

    def _check_peer(self, interval: float) -> None:
        """Ping a peer that was silent, or took nothing, for so long, and drop one that stays so."""
        connection, timeout = self._connection, self._limits.ping_timeout
        had_come, _ = connection.traffic
        # A loop that was held up has not looked: the answer may be there.
        self._receive()
        connection.flush()
        self._settle()
        if not connection.is_heard:
            return
        had_taken, (come, self._taken) = self._taken, connection.traffic
        if connection.pending:
            is_alive = self._taken > had_taken
        else:
            # Of one that is not listened to nothing is known.
            is_alive = not self._events & selectors.EVENT_READ
        now = monotonic()
        if is_alive or come > had_come:
            self._heard = now
        if self._asked is not None and self._heard >= self._asked:
            self._asked = None
        if self._asked is not None:
            pause = self._asked + timeout - now
        else:
            pause = self._heard + interval - now
            if pause <= 0:
                self._asked, pause = now, timeout
                connection.ping()
                self._settle()
        if pause <= 0:
            self.abandon()
        else:
            self._timer = self._hub.call_later(min(pause, interval), self._check_peer, interval)


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
        self._origins = (
            None if origins is None else {origin.lower() for origin in _names("origins", origins)}
        )
        self._limits = Limits(
            max_message_size=_size("max_message_size", max_message_size),
            max_pending=_size("max_pending", max_pending),
            ping_interval=None if ping_interval is None else _time("ping_interval", ping_interval),
            ping_timeout=_time("ping_timeout", ping_timeout),
            close_timeout=_time("close_timeout", close_timeout),
        )
        self._poller: Poller | None = None

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
            socket.give_back(websocket.release())
            # It refers to the environ, too.
            environ.pop("wsgi.websocket", None)
        return []

    def _open(self, socket: Any, environ: dict[str, Any], accepted: Accepted) -> WebSocket:
        poller = self._poller_of(self._hub())
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

    def _poller_of(self, hub: Hub) -> Poller:
        from meinheld.poller import Poller

        if self._poller is None or self._poller.hub is not hub:
            self._poller = Poller(hub)
        return self._poller

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


def _names(what: str, values: Iterable[str]) -> list[str]:
    names = [values] if isinstance(values, str) else list(values)
    if isinstance(values, str) or not all(isinstance(name, str) and name for name in names):
        raise TypeError(f"{what} = {values!r}: not strings. Accepted: a list of strings.")
    return names


def _size(what: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{what} = {value!r}: not a size. Accepted: octets, at least 1.")
    return value


def _time(what: str, value: float) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 < value < 1e9:
        raise ValueError(f"{what} = {value!r}: not a time. Accepted: seconds, above 0.")
    return float(value)
