"""One greenlet that reads, writes and answers pings for all WebSockets of a worker."""

from __future__ import annotations

import errno
import selectors
from time import monotonic
from typing import Protocol
from weakref import ref

from greenlet import getcurrent, greenlet

from meinheld.green_hub import hub_here
from meinheld_worker import hub as hubs
from meinheld_worker.waiting import Waiter

#: Code and reason of a close for a service restart (the registry of RFC 6455 11.7).
RESTART = 1012, "service restart"
#: Seconds between two closes of a drain, at most; and the part of the grace that all of them take,
#: so that the rest is for the peers' answers, and for what applications do then.
PACE = 0.01
PART = 0.5
#: Seconds from look to look while there is no descriptor to wait with.
SCARCE = 0.05
#: Sockets that are attended to before others have their turn.
AT_ONCE = 64


class Socket(Protocol):
    """A WebSocket, as far as it is polled."""

    def fileno(self) -> int:
        """Its descriptor."""

    def ready(self, readable: bool) -> None:
        """Something has come, or there is room for more. Never waits."""

    def dismiss(self, code: int, reason: str) -> None:
        """Begin the close handshake, unless it has begun."""

    def abandon(self) -> None:
        """Give the peer up."""


class Poller:
    """The sockets of one hub. They have a selector of their own, so that the hub watches one
    descriptor, and nobody waits for each.

    Everything here is for the hub's thread.
    """

    #: The hub keeps it: with it would stay, when the server has run, all that the hub knows.
    _latest: ref[Poller] | None = None

    @classmethod
    def of(cls, hub: hubs.Hub) -> Poller:
        """This hub's: an application may make a middleware for each request."""
        poller = None if cls._latest is None else cls._latest()
        if poller is None or poller.hub is not hub:
            poller = cls(hub, selectors.DefaultSelector())
            cls._latest = ref(poller)
        return poller

    def __init__(self, hub: hubs.Hub, selector: selectors.DefaultSelector) -> None:
        """The selector is its own from now on."""
        self.hub = hub
        self._selector = selector
        self._sockets: dict[int, Socket] = {}
        self._runs = False
        hub.at_drain(self._drain)

    def __del__(self) -> None:
        # A selector refers to itself: it would be there until the garbage collector comes.
        self._selector.close()

    def add(self, socket: Socket) -> None:
        """Serve a socket from now on."""
        self._sockets[id(socket)] = socket
        if not self._runs:
            self._runs = True
            self.hub.spawn(self._run)
        if self.hub.is_draining:
            socket.dismiss(*RESTART)

    def remove(self, socket: Socket) -> None:
        """Serve it no more."""
        del self._sockets[id(socket)]
        if not self._sockets:
            # Nothing may outlive the last socket: a worker that drains would wait for it.
            self.hub.cancel_wait(self._selector.fileno())

    def is_here(self) -> bool:
        """Whether the caller is on the hub's thread, and may touch this."""
        return hubs.current() is self.hub

    def breathe(self) -> None:
        """Let others have their turn if that is due, and if the caller can be left where it is: not
        in a coroutine, and not in a forked child."""
        if hub_here() is self.hub:
            self.hub.breathe()

    def this_greenlet(self) -> greenlet:
        """The calling one, on whichever thread."""
        return getcurrent()

    def waiters(self) -> Waiters:
        """Greenlets of the hub's that are to wait for something."""
        return Waiters(self.hub)

    def watch(self, socket: Socket, before: int, events: int) -> None:
        """Look for these events, where so far others were looked for."""
        if not before:
            self._selector.register(socket.fileno(), events, socket)
        elif events:
            self._selector.modify(socket.fileno(), events, socket)
        else:
            self._selector.unregister(socket.fileno())

    def _run(self) -> None:
        try:
            while self._sockets:
                try:
                    self.hub.wait_fd(self._selector.fileno(), read=True)
                except OSError as error:
                    if error.errno != errno.EBADF:
                        # To wait takes a descriptor, and none is left. Others may give some back.
                        self.hub.sleep(SCARCE)
                for number, (key, events) in enumerate(self._selector.select(0), 1):
                    if not number % AT_ONCE:
                        self.hub.sleep(0)
                    self._attend(key.data, bool(events & selectors.EVENT_READ))
        finally:
            self._runs = False

    def _attend(self, socket: Socket, readable: bool) -> None:
        try:
            socket.ready(readable)
        except Exception as error:
            # No memory, say. The others are served on.
            socket.abandon()
            self.hub.survive(error, "Error in a WebSocket")

    def _drain(self) -> None:
        """The successors accept: whoever is told now reconnects to them."""
        sockets = list(self._sockets.values())
        pause = min(PACE, self.hub.grace_left * PART / max(len(sockets), 1))
        due = monotonic()
        for socket in sockets:
            socket.dismiss(*RESTART)
            due += pause
            # A sleep may last for longer than a pause: then the next ones are due already.
            if (ahead := due - monotonic()) > 0:
                self.hub.sleep(ahead)
            else:
                self.hub.breathe()


class Waiters:
    """Greenlets of one hub that wait for the same thing."""

    def __init__(self, hub: hubs.Hub) -> None:
        self._hub = hub
        self._waiting: list[Waiter] = []

    def wait(self) -> None:
        """Wait for :meth:`wake`."""
        waiter = Waiter(self._hub)
        self._waiting.append(waiter)
        try:
            waiter.wait()
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def wake(self) -> None:
        """All of them look again."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.wake()
