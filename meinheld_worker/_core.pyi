"""The native half of the worker, built from ``rust/wsgi``."""

import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, final, type_check_only

__all__ = [
    "ClientSocket",
    "Disconnected",
    "EarlyHints",
    "Fields",
    "Input",
    "Loop",
    "Options",
    "Request",
    "Scoreboard",
    "Seat",
    "StartResponse",
    "Status",
    "Turns",
    "Verdict",
    "WebSocket",
    "Write",
]

@type_check_only
class Party(Protocol):
    """Somebody who waits for something."""

    def ready(self) -> None: ...

@type_check_only
class Face(Protocol):
    """What the loop calls. Hooks are ``None`` where nothing is configured. That of a loop with
    greenlets has ``green_write(write)`` besides: what ``start_response`` returns in the place of
    the native ``write``."""

    @property
    def exiting(self) -> bool: ...
    @property
    def pre_request(self) -> Callable[..., None] | None: ...
    @property
    def log_access(self) -> Callable[..., None] | None: ...
    @property
    def log_line(self) -> Callable[..., None] | None: ...
    @property
    def post_request(self) -> Callable[..., None] | None: ...
    def beat(self) -> bool: ...
    def spent(self) -> bool: ...
    def replace_thread(self) -> bool: ...
    def overwhelmed(self) -> bool: ...
    def tell_greenlets(self) -> None: ...
    def draining(self) -> None: ...
    def forked(self, error: BaseException | None, /) -> None: ...
    def rejected(self, peer: str, reason: str, /) -> None: ...
    def failed(self, error: BaseException, method: str, uri: str, /) -> None: ...
    @property
    def page(self) -> Callable[[BaseException], str] | None:
        """The text of a 500, where it is not the usual line; what it says must not wait."""
    def shed(self, count: int, /) -> None: ...
    def failed_elsewhere(self, error: BaseException, where: str, /) -> None: ...
    def warn(self, message: str, /) -> None: ...
    @property
    def take_over(self) -> Callable[[int, bytes], socket.socket]: ...
    @property
    def observe(self) -> Callable[[int], socket.socket]: ...
    @property
    def record(self) -> Callable[..., Any]: ...
    @property
    def response(self) -> Callable[..., Any]: ...

@final
class Options:
    """A worker's settings, frozen. Sizes are octets, times are seconds.

    Raises:
        ValueError: a value that names nothing.
    """

    def __new__(
        cls,
        *,
        limit_request_line: int,
        limit_request_fields: int,
        limit_request_field_size: int,
        max_body: int | None,
        header_map: str,
        forwarder_headers: Sequence[str],
        secure_scheme_headers: Sequence[tuple[str, str]],
        forwarded_allow_ips: Sequence[str],
        proxy_protocol: str,
        proxy_allow_ips: Sequence[str],
        permit_unconventional_http_method: bool,
        permit_unconventional_http_version: bool,
        permit_obsolete_folding: bool,
        strip_header_spaces: bool,
        casefold_http_method: bool,
        body_memory: int,
        body_folder: str | None,
        head_timeout: float,
        body_timeout: float,
        send_timeout: float,
        keepalive: float,
        graceful_timeout: float,
        shares_listeners: bool,
        worker_connections: int,
        queue_timeout: float | None,
        threads: int,
        green: bool,
        max_requests: int | None,
        sendfile: bool,
        script_name: str,
        http_10_only: bool,
    ) -> Options: ...

@final
class Loop:
    """The event loop of one worker process."""

    def __new__(
        cls,
        application: Callable[..., Any],
        face: Face,
        *,
        seat: Seat,
        listeners: Sequence[tuple[int, dict[str, Any], str | None]],
        signals: int,
        file_wrapper: type,
        options: Options,
        counts: bool,
    ) -> Loop:
        """Make a loop; with ``counts`` its figures are kept where its siblings read them."""

    def run(self) -> None:
        """Serve until the face says to leave and what was begun is answered.

        Raises:
            RuntimeError: its turns are taken by a hub of greenlets.
            SystemExit: of a signal handler.
        """

    def work(self, slot: int) -> None:
        """Serve requests on the calling thread, number ``slot`` of ``threads``, until the loop has
        ended.

        Raises:
            RuntimeError: the loop calls the application itself.
        """

    def leave(self, within: float | None = None) -> None:
        """Leave gracefully; a signal handler may call this while the application runs.

        within: seconds, instead of ``graceful_timeout``; of a loop that leaves, if that is less.
        The loop looks at its next turn.

        Raises:
            ValueError: what is not a time.
        """

    def watch(
        self,
        *,
        timeout: float | None,
        request_timeout: float | None,
        log: int,
        stacks: tuple[int, int] | None,
    ) -> None:
        """Have the loop and the application watched from now on, by a thread that needs no GIL.

        What is about to end by gunicorn's ``timeout`` is reported to the descriptor ``log``, and
        connections whose requests take ``request_timeout`` are aborted (seconds; ``None`` means
        never). ``stacks``: the reading end of a pipe that does not block, and the signal whose
        handler writes stacks into it. The descriptors are duplicated.

        Raises:
            OSError: no descriptor or thread can be had.
            ValueError: what is not a time.
        """

    def report_to(self, log: int) -> None:
        """Have reports written to the descriptor ``log``, which is duplicated.

        Raises:
            OSError: no descriptor can be had.
        """

    def in_flight(self) -> list[str]:
        """A line for each request that is with the application now, of the oldest hundred."""

    @property
    def served(self) -> int:
        """Requests that reached the application."""

    @property
    def shed(self) -> int:
        """Requests that were answered with 503 because they had waited for too long."""

    @property
    def gone(self) -> int:
        """Requests whose clients had gone before the application was called for them."""

    @property
    def calls_back(self) -> bool:
        """Whether a callback of ``meinheld.disconnected`` is running."""

    def await_callbacks(self, patience: float) -> None:
        """Wait until none is, for so many seconds at most. When the loop has ended, none begins."""

    @property
    def late_arrivals(self) -> int:
        """Connections on which a request arrived after a drain had closed them."""

@final
class Turns:
    """The turns of a loop with greenlets, for their hub, which takes them one by one.

    A ``party`` is somebody who waits: the object comes out of ``next``, once.
    """

    def __new__(cls, the_loop: Loop) -> Turns:
        """Take over the turns of a loop.

        Raises:
            RuntimeError: it has no greenlets.
        """

    def turn(self, *, busy: bool, stays: bool) -> bool:
        """Wait for events, for a beat at most, and not where the hub is ``busy``, because it has
        something to do; return whether the loop goes on. A hub that ``stays`` has not finished when
        all requests have.

        Raises:
            SystemExit: of a signal handler.
        """

    def next(self) -> Request | Party | None:
        """Give the next that has come in this turn; ``None`` when it is time for another turn.

        Raises:
            SystemExit: of a signal handler.
        """

    def wake(self) -> None:
        """End the present wait, or the next one at once. Any thread may call this."""

    def set_timer(self, delay: float, party: Party) -> int:
        """Have ``party`` come when so many seconds have passed; return the timer's name. Any thread
        may call this."""

    def cancel_timer(self, timer: int) -> None:
        """Take a timer back. Any thread may call this."""

    def watch_descriptor(self, fd: int, *, read: bool, write: bool, party: Party) -> int:
        """Have ``party`` come when the descriptor is ready, or has an error; return the watch's
        name, which has to be unwatched in any case. The descriptor is duplicated.

        Raises:
            OSError: no descriptor can be had, or this one cannot be watched (EPERM: a file).
        """

    def unwatch_descriptor(self, watch: int) -> None:
        """End a watch."""

    @property
    def grace_left(self) -> float | None:
        """Seconds until the worker has to be gone, once it leaves."""

    @property
    def is_draining(self) -> bool:
        """Whether the worker has begun to leave: it accepts no more."""

    def end(self) -> None:
        """Close what is left, when the hub has ended."""

@final
class Request:
    """A request that a greenlet serves, step by step. No step waits, or calls the application."""

    def begin(self) -> tuple[dict[str, Any], StartResponse] | None:
        """Have the ``pre_request`` hook called; give ``environ`` and ``start_response``, or
        ``None`` where the request cannot be served."""

    @property
    def write(self) -> Any:
        """What ``start_response`` returns."""

    def send(self, iterable: Any) -> bool:
        """Send what the application returned, if that can be sent at once; ``False`` where it is to
        be iterated."""

    def fail(self, error: BaseException) -> None:
        """The application, or what serves it, has raised this."""

    def settle(self, environ: dict[str, Any] | None, cancelled: str | None) -> None:
        """End the answer, answer for an application that has failed or was ``cancelled`` for this
        reason, and have the access log told.

        Raises:
            SystemExit: of a signal handler.
        """

    def failed_to_close(self, error: BaseException) -> None:
        """Have it logged what ``close()`` raised.

        Raises:
            SystemExit: of a signal handler.
        """

    def report(self) -> None:
        """Have the ``post_request`` hook called."""

    def await_end(self, party: Party) -> None:
        """Have ``party`` come when the client goes before the request is over.

        Raises:
            ConnectionResetError: it has gone.
            RuntimeError: the request is over.
        """

    def forget_end(self) -> None:
        """Have nobody come when the client goes.

        Raises:
            RuntimeError: the request is over.
        """

    @property
    def is_taken_over(self) -> bool:
        """Whether the application has taken the connection over."""

    def finish(self) -> None:
        """The request is over: its connection goes on, or is closed.

        Raises:
            SystemExit: of a signal handler.
        """

@final
class Scoreboard:
    """What the workers of one arbiter know of each other, in memory that they share."""

    def __new__(cls) -> Scoreboard:
        """Make a board that processes forked from now on share.

        Raises:
            OSError: there is no memory for it.
        """

    def reload(self, age: int) -> None:
        """The arbiter has read its settings: the workers from that age on come with them."""

    def enrol(self, age: int) -> Seat:
        """Give a seat to the worker that is about to be forked; for the arbiter alone.

        age: gunicorn's number of the worker, at least 1.

        Raises:
            OSError: no seat is free, and there is no memory for another board.
        """

@final
class Seat:
    """One worker's place on the board."""

    def ready(self) -> bool:
        """The worker accepts from now on. False when it was told to leave before: then it must
        not."""

    def dismiss(self) -> Verdict:
        """The arbiter tells the worker to leave. A signal handler may call this."""

    @property
    def stays(self) -> bool:
        """Whether the worker was told to leave, and accepts until its successors do."""

    def verdict(self, patience: float) -> Verdict:
        """What a worker that stays does next. patience: seconds that its successor gets."""

    def take_leave(self, patience: float) -> bool:
        """Whether the worker may leave though nobody told it to: one at a time, the next when the
        replacement of the last is ready. patience: seconds in which the arbiter forks that one, if
        it wants one."""

    def leaving(self) -> None:
        """The worker accepts no more."""

    def has_company(self) -> bool:
        """Whether another worker accepts."""

    def vacate(self) -> None:
        """The arbiter has reaped the worker."""

@final
class Status:
    """A worker's part of the endpoint that tells how the fleet is."""

    def __new__(cls, seat: Seat, socket: int, *, timeout: float | None) -> Status:
        """Answer on the descriptor ``socket``, which listens and does not block, until the process
        ends, by a thread that needs no GIL. The descriptor is duplicated.

        timeout: seconds that a healthy worker's heart may be silent; ``None`` is for ever.

        Raises:
            OSError: no descriptor or thread can be had.
        """

    def watch(self, listeners: Sequence[tuple[str, int]]) -> None:
        """Show the backlogs of these listeners: a name and a descriptor each, which is duplicated.

        Raises:
            OSError: no descriptor can be had.
        """

    def let_go(self) -> None:
        """Let go of the listeners."""

@final
class Verdict:
    """What becomes of a worker that was told to leave."""

    Stay: Verdict
    """It accepts on, until its successor does."""
    Leave: Verdict
    """It goes."""
    Resume: Verdict
    """It serves on: its successor has died, and nobody told that one to."""

@final
class WebSocket:
    """One end of a WebSocket (RFC 6455) behind its handshake. Nothing here waits: wait for the
    descriptor, then call again. Any thread may."""

    def __new__(
        cls,
        descriptor: int,
        *,
        response: bytes,
        leftover: bytes,
        max_message: int,
        max_pending: int,
    ) -> WebSocket:
        """Speak over a duplicate of ``descriptor``; ``response`` is sent first, ``leftover`` was
        received first.

        max_message: octets of a message that is received; a longer one fails the connection.
        max_pending: octets that may wait for the peer when a message is sent, and of answers to its
            pings at any time; else it is dropped.

        Raises:
            OSError: no descriptor can be had.
        """

    def receive(self) -> str | bytes | None:
        """The next message; ``None`` where none is there yet, or none comes any more. What the
        protocol asks for is answered."""

    def send(self, message: str | bytes, *, own: bool) -> bool:
        """Send or queue a message. Whether all has left: not where something waits, or the peer was
        dropped.

        own: the caller waits for the peer, so that nothing of this counts for ``max_pending``.

        Raises:
            BrokenPipeError: the WebSocket is closed.
        """

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it."""

    def ping(self) -> None: ...
    def close(self, code: int, reason: str) -> None:
        """Begin the close handshake, unless it has begun.

        Raises:
            ValueError: a code that no endpoint may send, or more than 123 octets of reason.
        """

    def abandon(self) -> None:
        """Give the peer up: nothing more is sent to it, or read from it."""

    @property
    def pending(self) -> int:
        """Octets that wait for the socket."""

    @property
    def traffic(self) -> tuple[int, int]:
        """Octets that have come, and octets that the socket has taken, since the beginning."""

    @property
    def is_open(self) -> bool:
        """Whether messages go both ways."""

    @property
    def is_heard(self) -> bool:
        """Whether the peer may still say something that is listened to."""

    def fileno(self) -> int:
        """The descriptor that becomes ready; -1 once it is detached."""

    def detach(self) -> int:
        """Give the descriptor away, the caller's from now on; -1 where it was given away before."""

@final
class StartResponse:
    """``start_response`` of PEP 3333."""

    def __call__(
        self,
        status: str,
        headers: Iterable[tuple[str, str]],
        exc_info: Any = None,
        /,
    ) -> Write:
        """Give the head; return ``write``.

        Raises:
            AssertionError: it was called before, and no ``exc_info`` is given.
            TypeError, ValueError: what HTTP or PEP 3333 forbids in a head.
            BaseException: the error in ``exc_info``, when the head has left.
        """

@final
class EarlyHints:
    """``wsgi.early_hints``."""

    def __call__(self, headers: Iterable[tuple[str | bytes, str | bytes]], /) -> None:
        """Send a 103 response (RFC 8297) if the client can have one: not after the head, nor to
        HTTP/1.0."""

@final
class Write:
    """What ``start_response`` returns; with greenlets, what that makes use of."""

    def __call__(self, block: bytes, /) -> None:
        """Send a block (PEP 3333); return when the kernel has all of it or, with ``threads``, when
        no more than 256 KiB of the answer wait.

        Raises:
            ConnectionResetError: the client has gone, or the request is over.
        """

    def give(self, block: bytes, /) -> None:
        """Send a block and do not wait.

        Raises:
            ConnectionResetError: the client has gone, or the request is over.
        """

    def has_room(self, party: Party, /) -> bool:
        """Whether the kernel has all that was given. If not, ``party`` comes when it could.

        Raises:
            ConnectionResetError: the client has gone, or the request is over.
        """

@final
class Disconnected:
    """``environ["meinheld.disconnected"]``: whether the client is still there."""

    def __call__(self) -> bool:
        """Whether the client has closed its side of the connection or gone (a FIN or a reset, also
        behind octets that nobody has read), or the request is over. Nothing is read.

        Raises:
            RuntimeError: the application has taken the socket over.
        """

    def register(self, callback: Callable[[], object], /) -> None:
        """Have ``callback`` called once, on a thread of the worker's, when the client disconnects:
        at once if it has, not after the request is over. What it raises is logged.

        Raises:
            OSError: no descriptor or thread can be had.
            RuntimeError: the application has taken the socket over.
            TypeError: it cannot be called.
        """

@final
class Fields:
    """The header fields of a request that is over."""

    def pairs(self) -> list[tuple[str, str]]:
        """Names in upper case, and values."""

@final
class Input:
    """``wsgi.input``: a request body. With ``threads`` reads wait for it.

    Raises:
        ConnectionResetError: the client has gone before its body was complete.
        TimeoutError: it has not sent for longer than ``MEINHELD_BODY_TIMEOUT``.
        OSError: the body is malformed, longer than ``MEINHELD_MAX_BODY``, or its request is over.
    """

    def read(self, size: int | None = None, /) -> bytes: ...
    def readline(self, size: int | None = None, /) -> bytes: ...
    def readlines(self, hint: int | None = None, /) -> list[bytes]: ...
    def __iter__(self) -> Iterator[bytes]: ...
    def __next__(self) -> bytes: ...

@final
class ClientSocket:
    """``environ["gunicorn.socket"]``: looking is free, any other use takes the socket over."""

    def fileno(self) -> int: ...
    def __getattr__(self, name: str) -> Any: ...
