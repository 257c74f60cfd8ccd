"""The server in one process, without gunicorn's arbiter: ``listen``, then ``run``.

There is one server in a process. What is set holds for every run that begins afterwards; listeners
are for the next run only, which closes them when it ends. Every ``set_…`` raises TypeError or
ValueError for what is not accepted, in a line that says what is, and RuntimeError while the server
runs.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from meinheld import logs, mlogging
from meinheld.blocks import Capitalized, Gathered
from meinheld.checks import count, seconds
from meinheld.settings import (
    Settings,
    extra_environ,
    gunicorn_settings,
    loop_settings,
    page_of,
    refuse_pool,
)
from meinheld.waits import cancel_wait, get_ident, schedule_call, sleep, spawn, trampoline
from meinheld.watchdogs import fast_watchdog
from meinheld_worker import claim, config
from meinheld_worker.binding import adopt, bind
from meinheld_worker.standalone import Standalone

__all__ = [
    "cancel_wait",
    "get_backlog",
    "get_client_body_buffer_size",
    "get_ident",
    "get_keepalive",
    "get_max_content_length",
    "get_picoev_max_fd",
    "listen",
    "run",
    "schedule_call",
    "set_access_logger",
    "set_backlog",
    "set_client_body_buffer_size",
    "set_error_logger",
    "set_fastwatchdog",
    "set_keepalive",
    "set_listen_socket",
    "set_max_content_length",
    "set_picoev_max_fd",
    "set_watchdog",
    "shutdown",
    "sleep",
    "spawn",
    "stop",
    "timeout",
    "trampoline",
]

#: What `trampoline` and a continuation's ``suspend`` raise when the time is over.
timeout = TimeoutError

#: Seconds of ``stop(timeout=0)``, for what is in flight.
SHORTLY = 1.0

_settings = Settings()
_listeners: list[Any] = []
_access_logger: Any = mlogging.logger
_error_logger: Any = mlogging.logger
_watchdog: Callable[[], object] | None = None
_server: Standalone | None = None


def listen(
    address: tuple[str, int] | str | bytes | os.PathLike[str] | None = None,
    socket_fd: int | Iterable[int] | None = None,
) -> Any:
    """Listen at ``(host, port)``, at the path of a unix socket, or on sockets that listen already;
    more calls are more listeners. Return the address, or the first, which tells what port 0 became.

    socket_fd: a descriptor or several; see `set_listen_socket`.

    Raises:
        OSError: the address cannot be had.
        RuntimeError: the server runs, or another one has loaded this application.
        TypeError, ValueError: this is no address, or no socket that listens.
    """
    _must_not_run("listen")
    _must_not_be_served("listen")
    if (address is None) == (socket_fd is None):
        raise TypeError("listen takes an address or a socket_fd, and only one of them")
    if socket_fd is not None:
        set_listen_socket(socket_fd)
        return None
    if isinstance(address, tuple):
        if len(address) != 2 or not isinstance(address[0], str):
            raise TypeError(f"address = {address!r}: not an address. {_ADDRESSES}")
        if not 0 <= count("port", address[1], least=0) <= 65535:
            raise ValueError(f"port = {address[1]!r}: out of range. Accepted: 0 to 65535.")
        listener = bind(address, _settings.backlog)
    elif isinstance(address, (str, bytes, os.PathLike)) and os.fsdecode(address):
        path = os.fsdecode(address)
        if isinstance(address, str) and _NO_PATH.fullmatch(path):
            raise ValueError(f"address = {path!r}: gunicorn's way to write it. {_ADDRESSES}")
        listener = bind(path, _settings.backlog)
    else:
        raise TypeError(f"address = {address!r}: not an address. {_ADDRESSES}")
    _listeners.append(listener)
    return listener.getsockname()


_ADDRESSES = "Accepted: (host, port), or the path of a unix socket."
#: What somebody means who is used to ``--bind``; a socket of that name would serve nobody.
_NO_PATH = re.compile(r"[^/]*:\d+|(unix|fd|tcp|https?):.*")


def listeners() -> list[Any]:
    """The sockets that the next run is to serve."""
    return list(_listeners)


def set_listen_socket(fds: int | Iterable[int]) -> None:
    """Listen on one or several sockets that somebody else has opened. They are the server's from
    now on, and closed when it has run.

    Raises:
        RuntimeError: the server runs, or another one has loaded this application.
        TypeError, ValueError: these are no descriptors of sockets that listen.
    """
    _must_not_run("set_listen_socket")
    _must_not_be_served("set_listen_socket")
    if not isinstance(fds, (int, Iterable)):
        raise TypeError(f"socket_fd = {fds!r}: not a descriptor. Accepted: one, or a list of them.")
    given = [fds] if isinstance(fds, int) else list(fds)
    _listeners.extend(adopt([count("socket_fd", one, least=0) for one in given]))


def run(
    app: Callable[..., Any],
    silent: bool = False,
    *,
    threads: int = 1,
    environ: Mapping[str, Any] | None = None,
    max_http_version: str | None = None,
    max_size: int | None = None,
    minimum_chunk_size: int | None = None,
    url_length_limit: int | None = None,
    debug: bool | None = None,
    socket_timeout: float | None = None,
    keepalive: bool | float | None = None,
    capitalize_response_headers: bool = False,
    log_output: bool = True,
    log_format: str | None = None,
    log_x_forwarded_for: bool | None = None,
    custom_pool: None = None,
) -> None:
    """Serve a WSGI application (PEP 3333) until `stop`, INT (Ctrl-C) or TERM, then until what was
    begun is answered. INT and TERM are only looked at in the main thread, and where the application
    does not handle them itself; a second one ends the server at once.

    silent: return after Ctrl-C, too.
    threads: that call the application; with 1 the loop's own does.

    The rest is for users of ``eventlet.wsgi``:

    environ: further keys for every request.
    max_http_version: ``"HTTP/1.0"`` has answers sent as to a client that knows no newer one.
    max_size: connections, in place of `set_picoev_max_fd`.
    minimum_chunk_size: octets that small blocks are gathered to; a request may set its own at
        ``environ["eventlet.minimum_write_chunk_size"]``.
    url_length_limit: octets of a request line; more is answered with 414.
    debug: of an exception, show the client the traceback; with False, nothing, not even a line.
    socket_timeout: seconds in which a client has to send its head, or to go on sending its body or
        reading its answer.
    keepalive: seconds in place of `set_keepalive`; False for never, True for ``socket_timeout`` or
        60.
    capitalize_response_headers: write names of fields as in ``Content-Type``.
    log_output: whether requests are logged.
    log_format: of a line, of client_ip, client_port, date_time, request_line, status_code,
        body_length and wall_seconds. log_x_forwarded_for: whether client_ip shows what proxies say,
        as it does unless this is False. One of them, and lines are eventlet's.

    custom_pool: is refused, since no pool of eventlet's runs here.

    Raises:
        KeyboardInterrupt: Ctrl-C has ended it.
        RuntimeError: it runs already, another one has loaded this application, or a setting is not
            served.
        TypeError, ValueError: what is not accepted; one line that says what is.
    """
    global _server
    _must_not_run("run")
    _must_not_be_served("run")
    if not callable(app):
        raise TypeError(f"app = {app!r}: not a WSGI application, because it cannot be called")
    if not _listeners:
        raise TypeError('nowhere to listen: say listen(("127.0.0.1", 8000)) before run')
    refuse_pool(custom_pool)
    if capitalize_response_headers:
        app = Capitalized(app)
    if minimum_chunk_size is not None:
        app = Gathered(app, count("minimum_chunk_size", minimum_chunk_size, least=0))
    access = None
    if log_output and _access_logger is not None:
        if log_format is None and log_x_forwarded_for is None:
            access = logs.access_of(_access_logger)
        else:
            info = logs.info_of(_access_logger)
            access = logs.EventletLine(info, log_format, log_x_forwarded_for is not False)
    server = Standalone(
        app,
        _listeners,
        cfg=gunicorn_settings(_settings, threads, max_size),
        log=logs.Log(_error_logger, access),
        beside=loop_settings(
            _settings,
            keepalive=keepalive,
            socket_timeout=socket_timeout,
            url_length_limit=url_length_limit,
            max_http_version=max_http_version,
        ),
        environ={"SERVER_SOFTWARE": "meinheld"} | extra_environ(environ),
        page=page_of(debug),
        beat=_watchdog,
    )
    _listeners.clear()
    _server = server
    try:
        server.run()
    finally:
        _server = None
    if server.signalled == signal.SIGINT and not silent:
        raise KeyboardInterrupt


def stop(timeout: float = 0) -> None:
    """Stop accepting, and have `run` return when what was begun is answered. Any thread, request or
    signal handler may call this; where no server runs it does nothing.

    timeout: seconds that this may take; 0 is one second.

    Raises:
        TypeError, ValueError: it is no time.
    """
    within = seconds("timeout", timeout, may_be_zero=True) or SHORTLY
    server = _server
    if server is not None:
        server.stop(within)


shutdown = stop


def set_keepalive(value: float) -> None:
    """Seconds for which an idle connection is kept; 0, the default, is never."""
    _must_not_run("set_keepalive")
    seconds("keepalive", value, may_be_zero=True)
    _settings.keepalive = value


def get_keepalive() -> float:
    """See `set_keepalive`."""
    return _settings.keepalive


def set_max_content_length(value: int) -> None:
    """Octets that a request body may have; more is answered with 413. The default is 16 MiB, and
    MEINHELD_MAX_BODY holds before this. An application that gunicorn's worker loads may say it,
    too; there, no bound is the default."""
    _must_not_run("set_max_content_length")
    _settings.max_content_length = count("max_content_length", value)
    config.say_max_body(value)


def get_max_content_length() -> int:
    """See `set_max_content_length`."""
    return _settings.max_content_length


def set_client_body_buffer_size(value: int) -> None:
    """Octets of a request body that are kept in memory, and not in a file; 500 KiB unless set."""
    _must_not_run("set_client_body_buffer_size")
    _settings.client_body_buffer_size = count("client_body_buffer_size", value)


def get_client_body_buffer_size() -> int:
    """See `set_client_body_buffer_size`."""
    return _settings.client_body_buffer_size


def set_backlog(value: int) -> None:
    """Connections that wait to be accepted, on listeners that are opened afterwards; 4096 unless
    set. The kernel has a bound of its own (net.core.somaxconn)."""
    _must_not_run("set_backlog")
    _settings.backlog = count("backlog", value)


def get_backlog() -> int:
    """See `set_backlog`."""
    return _settings.backlog


def set_picoev_max_fd(value: int) -> None:
    """Connections at once; 4096 unless set."""
    _must_not_run("set_picoev_max_fd")
    _settings.connections = count("picoev_max_fd", value)


def get_picoev_max_fd() -> int:
    """See `set_picoev_max_fd`."""
    return _settings.connections


def set_access_logger(logger: Any) -> None:
    """Log requests by the ``access(environ)`` of an object, or give lines to its ``info``; ``None``
    logs none.

    Raises:
        TypeError: it has neither.
    """
    global _access_logger
    _must_not_run("set_access_logger")
    if logger is not None:
        logs.access_of(logger)
    _access_logger = logger


def set_error_logger(logger: Any) -> None:
    """Log by an object with the methods of ``logging.Logger``, or with the historical
    ``error(type, value, traceback)``; ``None`` is standard error.

    Raises:
        TypeError: it has no ``error``.
    """
    global _error_logger
    _must_not_run("set_error_logger")
    if logger is not None and not callable(getattr(logger, "error", None)):
        raise TypeError(
            f"error logger = {logger!r}: it has no error method. "
            "Accepted: an object with the methods of logging.Logger, or None."
        )
    _error_logger = logger


def set_watchdog(watchdog: Callable[[], object]) -> None:
    """Have something called about once a second, as long as the loop turns."""
    global _watchdog
    _must_not_run("set_watchdog")
    if not callable(watchdog):
        raise TypeError(f"watchdog = {watchdog!r}: it cannot be called")
    _watchdog = watchdog


def set_fastwatchdog(fd: int, ppid: int, timeout: int) -> None:
    """Change the mode of a file about once a second, as gunicorn's workers tell that they live, and
    stop within ``timeout`` seconds when ``ppid`` is the parent no more."""
    count("fd", fd, least=0)
    count("ppid", ppid, least=0)
    seconds("timeout", timeout, may_be_zero=True)
    set_watchdog(fast_watchdog(fd, ppid, lambda: stop(timeout)))


def _must_not_run(what: str) -> None:
    if _server is not None and _server.is_ours():
        raise RuntimeError(f"{what}: the server runs; say it before run, or after it has returned")


def _must_not_be_served(what: str) -> None:
    who = claim.holder()
    if who is not None:
        raise RuntimeError(
            f'{what}: {who} serves here already; say listen and run below if __name__ == "__main__"'
        )
