"""What a standalone server is told before it runs, checked, and handed on as the loop has it."""

import os
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gunicorn.config import Config

from meinheld.checks import count, seconds
from meinheld_worker import config
from meinheld_worker.standalone import Page

#: Seconds that an idle connection is kept where that is only said to be on.
KEPT = 60.0
#: What ``max_http_version`` may be.
VERSIONS = ("HTTP/1.0", "HTTP/1.1")


@dataclass
class Settings:
    """What the setters of :mod:`meinheld.server` set. Sizes are octets, times are seconds."""

    keepalive: float = 0
    max_content_length: int = 16 * 1024 * 1024
    client_body_buffer_size: int = 500 * 1024
    backlog: int = 4096
    connections: int = 4096


def refuse_pool(pool: Any) -> None:
    """eventlet's ``custom_pool`` has nothing to run here.

    Raises:
        ValueError: there is one.
    """
    if pool is not None:
        raise ValueError(
            f"custom_pool = {pool!r}: requests are not run by a pool of eventlet's here. "
            "Accepted: None; max_size bounds the connections, threads the requests at once."
        )


def gunicorn_settings(settings: Settings, threads: Any, max_size: Any) -> Config:
    """What the loop knows by gunicorn's names; all else is as gunicorn's defaults have it."""
    connections = settings.connections
    if max_size is not None:
        connections = count("max_size", max_size)
    cfg = Config()
    # No arbiter waits for a sign of life, and nobody is beside this process.
    cfg.set("timeout", 0)
    cfg.set("workers", 1)
    cfg.set("threads", count("threads", threads))
    cfg.set("worker_connections", connections)
    return cfg


def loop_settings(
    settings: Settings,
    *,
    keepalive: Any,
    socket_timeout: Any,
    url_length_limit: Any,
    max_http_version: Any,
) -> dict[str, Any]:
    """What the loop knows by other names than gunicorn's.

    Raises:
        TypeError, ValueError: what is not accepted; one line.
    """
    given: dict[str, Any] = {"body_memory": settings.client_body_buffer_size}
    # What the operator says holds.
    if config.MAX_BODY not in os.environ:
        given["max_body"] = settings.max_content_length
    patience = None
    if socket_timeout is not None:
        patience = seconds("socket_timeout", socket_timeout, may_be_zero=False)
        given |= dict.fromkeys(("head_timeout", "body_timeout", "send_timeout"), patience)
    if keepalive is True:
        given["keepalive"] = patience or KEPT
    elif keepalive is None or keepalive is False:
        given["keepalive"] = 0.0 if keepalive is False else settings.keepalive
    else:
        given["keepalive"] = seconds("keepalive", keepalive, may_be_zero=True)
    if url_length_limit is not None:
        given["limit_request_line"] = count("url_length_limit", url_length_limit)
    if max_http_version is not None:
        if max_http_version not in VERSIONS:
            raise ValueError(
                f"max_http_version = {max_http_version!r}: not a version. "
                f"Accepted: {' or '.join(map(repr, VERSIONS))}."
            )
        given["http_10_only"] = max_http_version == "HTTP/1.0"
    return given


def extra_environ(given: Any) -> dict[str, Any]:
    """What every request's ``environ`` has besides.

    Raises:
        TypeError: it is no mapping of names; one line.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise TypeError(f"environ = {given!r}: not a dict whose keys are str.")
    return dict(given)


def page_of(debug: Any) -> Page | None:
    """What the client is told of an exception: all, nothing, or the usual line.

    Raises:
        TypeError: neither yes nor no; one line.
    """
    if debug not in (None, True, False):
        raise TypeError(f"debug = {debug!r}: not a choice. Accepted: True, False, or None.")
    if debug is None:
        return None
    if not debug:
        return lambda error: ""
    return _traceback


def _traceback(error: BaseException) -> str:
    text = "".join(traceback.format_exception(error))
    # A lone surrogate could not be sent.
    return text.encode("utf-8", "backslashreplace").decode()
