"""gunicorn's settings, handed to the native loop; what it does not serve is refused at start."""

import os
import resource
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from gunicorn.http.message import DEFAULT_MAX_HEADERFIELD_SIZE, MAX_HEADERS, MAX_REQUEST_LINE
from gunicorn.http.wsgi import FileWrapper

from meinheld_worker import _core, green, status

#: Octets of a request body that are kept in memory.
BODY_MEMORY = 512 * 1024
#: What gunicorn's ``limit_request_line = 0``, "unlimited", means here: as in its own fast parser.
UNLIMITED_REQUEST_LINE = 1024 * 1024
#: Descriptors a worker needs beside its connections: logs, listeners, the application's own.
SPARE_DESCRIPTORS = 64

#: What a kernel allows a process by default (pid_max); memory for more is not there either.
MOST_THREADS = 32768

#: Settings of gunicorn's that are served at one value only so far, and why others are not.
ONLY: tuple[tuple[str, Any, str], ...] = (
    ("certfile", None, "TLS is not served yet: put nginx or another proxy in front"),
    ("keyfile", None, "TLS is not served yet: put nginx or another proxy in front"),
    ("protocol", "http", "the uwsgi protocol is not served yet"),
    ("http_protocols", ["h1"], "HTTP/2 is not served yet"),
    ("http2_cleartext", "off", "HTTP/2 is not served yet"),
    ("http_parser", "auto", "this worker always uses its own parser"),
)

#: Settings of our own: environment variables, also through gunicorn's ``raw_env``.
SECONDS = {
    "MEINHELD_HEAD_TIMEOUT": 60.0,
    "MEINHELD_BODY_TIMEOUT": 60.0,
    "MEINHELD_SEND_TIMEOUT": 60.0,
}
REQUEST_TIMEOUT = "MEINHELD_REQUEST_TIMEOUT"
QUEUE_TIMEOUT = "MEINHELD_QUEUE_TIMEOUT"
MAX_BODY = "MEINHELD_MAX_BODY"

_max_body_said: int | None = None


def check(cfg: Any) -> None:
    """Refuse settings that this worker does not serve.

    Raises:
        RuntimeError: one line that names the setting, its value and what is accepted.
    """
    for name, served, reason in ONLY:
        value = cfg.settings[name].get()
        if value != served:
            raise RuntimeError(f"{name} = {value!r}: {reason}. Accepted: {served!r}.")
    if cfg.threads < 1:
        raise RuntimeError(f"threads = {cfg.threads!r}: nobody would serve. Accepted: 1 or more.")
    if cfg.threads > MOST_THREADS:
        raise RuntimeError(
            f"threads = {cfg.threads!r}: so many cannot be had. Accepted: up to {MOST_THREADS}."
        )
    folder = cfg.tmp_upload_dir
    if folder is not None and not os.access(folder, os.W_OK | os.X_OK):
        raise RuntimeError(
            f"tmp_upload_dir = {folder!r}: not a folder that can be written to. "
            "Accepted: an existing folder, or None for the system's own."
        )
    known = [*SECONDS, REQUEST_TIMEOUT, QUEUE_TIMEOUT, MAX_BODY, status.STATUS, green.GREEN]
    for name in sorted(os.environ):
        if name.startswith("MEINHELD_") and name not in known:
            raise RuntimeError(f"{name}: no such setting. Accepted: {', '.join(known)}.")
    for name in SECONDS:
        _seconds(os.environ, name)
    request_timeout()
    queue_timeout()
    _max_body(os.environ)
    status.configured()
    green.is_set(os.environ)
    check_green(cfg)


def check_green(cfg: Any) -> None:
    """Refuse greenlets where there can be none, if anything has asked for them so far.

    Raises:
        RuntimeError: one line that names what has asked, and what is accepted.
    """
    what = green.wanted()
    if what is None:
        return
    try:
        green.require(what)
    except ImportError as error:
        raise RuntimeError(str(error)) from error
    if cfg.threads > 1:
        raise RuntimeError(
            f"threads = {cfg.threads}: {what} needs greenlets, which all run on the loop's own "
            "thread. Accepted: 1."
        )


def warnings(cfg: Any) -> Iterator[str]:
    """Say what works, but not as well as it could."""
    if cfg.reuse_port:
        yield (
            "reuse_port: each worker listens on a socket of its own, so connections that wait on "
            "a worker that leaves are reset. Reloads lose no request without it."
        )
    for setting in ("forwarder_headers", "secure_scheme_headers"):
        for name in getattr(cfg, setting):
            if not _matches(name):
                yield (
                    f"{setting}: {name!r} never matches, because names are compared in upper case. "
                    f"Write {name.upper()!r}."
                )
    needed = cfg.worker_connections + SPARE_DESCRIPTORS
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < needed:
        yield (
            f"worker_connections = {cfg.worker_connections}: the hard limit of open files is "
            f"{hard}. Raise it (LimitNOFILE, ulimit -Hn) to {needed} or more."
        )


def raise_descriptor_limit(cfg: Any) -> None:
    """Make room for ``worker_connections``, as far as the hard limit allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = cfg.worker_connections + SPARE_DESCRIPTORS
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def request_timeout() -> float | None:
    """Seconds that a request may be with the application; ``None`` is for ever."""
    return _seconds(os.environ, REQUEST_TIMEOUT) if REQUEST_TIMEOUT in os.environ else None


def queue_timeout() -> float | None:
    """Seconds that a request may wait for the application; ``None`` is for ever."""
    text = os.environ.get(QUEUE_TIMEOUT, "0")
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise RuntimeError(
            f"{QUEUE_TIMEOUT} = {text!r}: not a time. Accepted: seconds, or 0 for no bound."
        )
    return value or None


def file_wrapper() -> type:
    """The class at ``environ["wsgi.file_wrapper"]``."""
    return FileWrapper  # type: ignore[no-any-return]


def options(cfg: Any, max_requests: int, **others: Any) -> _core.Options:
    """Freeze the settings for the loop; ``max_requests`` has its jitter already.

    others: what is said in place of gunicorn's settings, or has none there.
    """
    known = partial(
        _core.Options,
        limit_request_line=_request_line(cfg.limit_request_line),
        limit_request_fields=_bounded(cfg.limit_request_fields, MAX_HEADERS),
        limit_request_field_size=cfg.limit_request_field_size or DEFAULT_MAX_HEADERFIELD_SIZE,
        max_body=_max_body(os.environ),
        header_map=cfg.header_map,
        forwarder_headers=[name for name in cfg.forwarder_headers if _matches(name)],
        secure_scheme_headers=[(n, v) for n, v in cfg.secure_scheme_headers.items() if _matches(n)],
        forwarded_allow_ips=_peers(cfg.forwarded_allow_ips, cfg.forwarded_allow_networks()),
        proxy_protocol=cfg.proxy_protocol,
        proxy_allow_ips=_peers(cfg.proxy_allow_ips, cfg.proxy_allow_networks()),
        permit_unconventional_http_method=cfg.permit_unconventional_http_method,
        permit_unconventional_http_version=cfg.permit_unconventional_http_version,
        permit_obsolete_folding=cfg.permit_obsolete_folding,
        strip_header_spaces=cfg.strip_header_spaces,
        casefold_http_method=cfg.casefold_http_method,
        body_memory=BODY_MEMORY,
        body_folder=cfg.tmp_upload_dir,
        head_timeout=_seconds(os.environ, "MEINHELD_HEAD_TIMEOUT"),
        body_timeout=_seconds(os.environ, "MEINHELD_BODY_TIMEOUT"),
        send_timeout=_seconds(os.environ, "MEINHELD_SEND_TIMEOUT"),
        keepalive=cfg.keepalive,
        graceful_timeout=cfg.graceful_timeout,
        shares_listeners=not cfg.reuse_port,
        worker_connections=cfg.worker_connections,
        queue_timeout=queue_timeout(),
        threads=cfg.threads,
        green=green.wanted() is not None,
        max_requests=None if max_requests == sys.maxsize else max_requests,
        sendfile=cfg.sendfile is not False,
        script_name=os.environ.get("SCRIPT_NAME", ""),
        http_10_only=False,
    )
    return known(**others)


def say_max_body(octets: int) -> None:
    """The application bounds request bodies itself, where the operator has not done so."""
    global _max_body_said
    _max_body_said = octets


def _matches(name: str) -> bool:
    """Whether gunicorn, which compares names in upper case, would ever find this one."""
    return name == name.upper()


def _peers(allowed: list[str], networks: Iterable[Any]) -> list[str]:
    return ["*"] if "*" in allowed else [str(network) for network in networks]


def _request_line(limit: int) -> int:
    return min(limit, MAX_REQUEST_LINE) if limit > 0 else UNLIMITED_REQUEST_LINE


def _bounded(value: int, most: int) -> int:
    return value if 0 < value <= most else most


def _seconds(environ: Mapping[str, str], name: str) -> float:
    text = environ.get(name)
    if text is None:
        return SECONDS[name]
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise RuntimeError(f"{name} = {text!r}: not a time. Accepted: seconds, more than 0.")
    return value


def _max_body(environ: Mapping[str, str]) -> int | None:
    text = environ.get(MAX_BODY)
    if text is None:
        return _max_body_said
    if not text.isascii() or not text.isdigit():
        raise RuntimeError(f"{MAX_BODY} = {text!r}: not a size. Accepted: octets, a whole number.")
    return int(text)
