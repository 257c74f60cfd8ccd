"""Requests and responses as gunicorn's hooks and loggers know them."""

import logging
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from gunicorn import SERVER
from gunicorn.config import PostRequest, PreRequest
from gunicorn.glogging import Logger
from gunicorn.util import is_hoppish

Headers = list[tuple[str, str]]


def end_to_end(headers: Iterable[tuple[str, str]]) -> Headers:
    """What gunicorn keeps of an application's headers: those that are not the connection's."""
    return [(name, value) for name, value in headers if not is_hoppish(name)]


class Request:
    """What hooks and loggers read of gunicorn's ``http.message.Request``.

    ``headers`` are pairs with upper-case names; ``version`` is a pair of integers; ``peer_addr``
    is what ``accept`` gave: a tuple, or a string for a unix socket; ``proxy_protocol_info`` is what
    the PROXY header of the connection said, or ``None``.
    """

    def __init__(
        self,
        method: str,
        uri: str,
        path: str,
        query: str,
        version: tuple[int, int],
        headers: Headers,
        scheme: str,
        peer_addr: tuple[str, int] | str,
        body: Any,
        proxy: dict[str, Any] | None,
    ) -> None:
        self.method = method
        self.uri = uri
        self.path = path
        self.query = query
        self.version = version
        self.headers = headers
        self.scheme = scheme
        self.peer_addr = self.remote_addr = peer_addr
        self.body = body
        self.proxy_protocol_info = proxy
        self.trailers: Headers = []

    @property
    def fragment(self) -> str:
        """What follows ``#`` in the request target, which clients should not send."""
        return self.uri.partition("#")[2]

    def environ(self) -> dict[str, Any]:
        """The keys that a log line needs, for a request that got no ``environ`` of its own."""
        peer = self.peer_addr
        address = peer if isinstance(peer, str) else peer[0]
        if self.proxy_protocol_info:
            address = self.proxy_protocol_info["client_addr"] or address
        return {
            "REQUEST_METHOD": self.method,
            "RAW_URI": self.uri,
            "PATH_INFO": self.path,
            "QUERY_STRING": self.query,
            "SERVER_PROTOCOL": "HTTP/{}.{}".format(*self.version),
            "REMOTE_ADDR": address,
        }


class Response:
    """What hooks and loggers read of gunicorn's ``http.wsgi.Response``.

    ``sent`` counts the octets of the body; ``duration`` is the time from the request's hand-over
    to the end of its answer.
    """

    version = SERVER

    def __init__(
        self,
        request: Request,
        status: str,
        headers: Iterable[tuple[str, str]],
        sent: int,
        headers_sent: bool,
        seconds: float,
    ) -> None:
        self.req = request
        self.status = status
        self.headers = end_to_end(headers)
        self.sent = sent
        self.headers_sent = headers_sent
        self.duration = timedelta(seconds=seconds)

    @property
    def status_code(self) -> int:
        """The number in the status line."""
        return int(self.status[:3])

    @property
    def response_length(self) -> int | None:
        """The declared Content-Length."""
        for name, value in self.headers:
            if name.lower() == "content-length":
                return int(value)
        return None

    @property
    def chunked(self) -> bool:
        """Whether the body went out in chunks."""
        bodyless = self.req.method == "HEAD" or self.status_code in (204, 304)
        return self.response_length is None and self.req.version > (1, 0) and not bodyless


def has_pre_request(cfg: Any, log: Any) -> bool:
    """Whether ``pre_request`` does anything: gunicorn's default only logs at debug level."""
    if cfg.pre_request is not PreRequest.default:
        return True
    return bool(log.error_log.isEnabledFor(logging.DEBUG)) if hasattr(log, "error_log") else True


def has_post_request(cfg: Any) -> bool:
    """Whether ``post_request`` is configured."""
    return cfg.post_request is not PostRequest.default


def is_logged(log: Any) -> bool:
    """Whether ``log.access`` does anything: a subclass may count even without an access log."""
    if getattr(log, "access", None) is None:
        return False
    plain = getattr(type(log), "access", None) is Logger.access
    return not plain or bool(log.access_log_enabled)
