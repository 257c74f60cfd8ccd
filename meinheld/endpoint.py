"""One end of an open WebSocket: messages, pings and the close handshake."""

from __future__ import annotations

import selectors
from collections import deque
from dataclasses import dataclass
from sys import getsizeof
from time import monotonic
from typing import TYPE_CHECKING, Any

from meinheld.handshake import VERSION
from meinheld_worker import _core

if TYPE_CHECKING:
    from meinheld.poller import Poller, Waiters
    from meinheld_worker.tasks import Timer

#: The close code of an end that has nothing more to say (RFC 6455 7.4.1).
NORMAL = 1000
#: Messages that may wait for the application; then nothing is received until it takes one.
INBOX = 32


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

    #: Of the protocol.
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
        self._greenlet = poller.this_greenlet()
        #: Messages, and the octets of memory that each takes: a text may take four for a character.
        self._inbox: deque[tuple[str | bytes, int]] = deque()
        self._inbox_size = 0
        #: Whether what has come is for nobody: the application has closed it, or is over.
        self._discards = False
        self._readers = poller.waiters()
        self._writers = poller.waiters()
        #: How many greenlets are in `wait` or `send`, and so will know when it is closed.
        self._attending = 0
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
        # A peer that speaks faster than it is listened to would never let others have their turn.
        self._poller.breathe()
        while not self._inbox or self._discards:
            if self.websocket_closed:
                return None
            self._attend(self._readers)
        had_room = self._has_room()
        message, size = self._inbox.popleft()
        self._inbox_size -= size
        if not had_room:
            self._receive()
            self._settle()
        return message

    def send(self, message: str | bytes | bytearray | memoryview) -> None:
        """Send a message: ``str`` is text, the others are binary. Any thread may call this.

        In the request's own greenlet it returns when the kernel has the message, or the WebSocket
        is closed. Elsewhere it never waits: what a peer does not take is kept for it, and when a
        message comes while more than ``max_pending`` octets are, the peer is dropped, silently. So
        is a message for one that is closed, as long as its request waits and is about to know it.

        Raises:
            BrokenPipeError: the WebSocket is closed.
            TypeError: it is no message.
        """
        if isinstance(message, (bytearray, memoryview)):
            message = bytes(message)
        elif not isinstance(message, (str, bytes)):
            raise TypeError(f"a message is str or bytes, not {type(message).__name__}")
        own = self._poller.this_greenlet() is self._greenlet
        try:
            sent = self._connection.send(message, own=own)
        except BrokenPipeError:
            # Who leaves a chat is no error of those who speak at that moment.
            if own or not self._attending:
                raise
            return
        if not sent:
            self._settle_on_hub()
        if own:
            while self._connection.pending and self._connection.is_open:
                self._attend(self._writers)
            # Nor would one that takes all at once.
            self._poller.breathe()

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

    @property
    def is_ours(self) -> bool:
        """Whether this is the process that serves it, and no child that the application has
        forked: for the greenlet of the request."""
        return self._poller.is_here()

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
        if not self.is_ours:
            return
        self.close(code, reason)
        while self._is_needed():
            self._writers.wait()

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

    def _attend(self, waiters: Waiters) -> None:
        self._attending += 1
        try:
            waiters.wait()
        finally:
            self._attending -= 1

    def _receive(self) -> None:
        while self._has_room() and (message := self._connection.receive()) is not None:
            size = getsizeof(message)
            self._inbox.append((message, size))
            self._inbox_size += size

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
