"""gunicorn's ``Logger.access`` and this worker's lines, called with the same objects."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.glogging import Logger

from meinheld_worker.access_line import AccessLine
from meinheld_worker.atoms import Answered

DEFAULT = Config().access_log_format
ONE_LETTER = "hlutrmUqHsbBfaTDMLp"
ENVIRON = {
    "REQUEST_METHOD": "GET",
    "RAW_URI": "/a%20b?c=d",
    "PATH_INFO": "/a b",
    "QUERY_STRING": "c=d",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REMOTE_ADDR": "127.0.0.1",
    "HTTP_HOST": "test",
    "HTTP_X_H": "1,2",
    "wsgi.version": (1, 0),
    "app.own": 7,
    "a}i": "braces",
}


class Fields:
    """Those of a request, as `_core.Fields`."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._pairs = pairs

    def pairs(self) -> list[tuple[str, str]]:
        return list(self._pairs)


Facts = tuple[Any, dict[str, Any], str, list[tuple[str, str]], int, float]


def facts(
    environ: dict[str, Any] | None = None,
    fields: list[tuple[str, str]] | None = None,
    headers: list[tuple[str, str]] | None = None,
    status: str = "200 OK",
    sent: int = 5,
    seconds: float = 1.234567,
) -> Facts:
    """What the native loop tells of a request: an environ with these keys, too."""
    default = [("HOST", "test"), ("X-H", "1,2")] if fields is None else fields
    given = [("Content-Type", "text/plain"), ("X-Out", "1")] if headers is None else headers
    return Fields(default), ENVIRON | (environ or {}), status, given, sent, seconds


class Records(logging.Handler):
    """Keeps what something makes of each record."""

    def __init__(self, use: Callable[[Any], object]) -> None:
        super().__init__()
        self.found: list[Any] = []
        self._use = use

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self._use(record))


class BothWays:
    """One of gunicorn's loggers, and what handles its records."""

    def __init__(self, template: str, monkeypatch: pytest.MonkeyPatch) -> None:
        cfg = Config()
        cfg.set("accesslog", "-")
        cfg.set("access_log_format", template)
        self.log = Logger(cfg)
        monkeypatch.setattr(self.log.access_log, "handlers", [])
        monkeypatch.setattr(logging, "raiseExceptions", False)
        self.line = AccessLine(self.log)

    def handle(self, handler: logging.Handler) -> None:
        """Gives it the records from now on, and nobody else."""
        self.log.access_log.handlers[:] = [handler]

    def gunicorn_writes(self, told: Facts) -> None:
        answered = Answered(self.line, *told)
        self.log.access(answered, answered.fields.pairs(), answered.environ, answered.duration)

    def we_write(self, told: Facts) -> None:
        self.line.write(*told)

    def uses(self, use: Callable[[Any], object], told: Facts) -> list[list[Any]]:
        """What it gives for gunicorn's record, and for ours."""
        found = []
        for write in (self.gunicorn_writes, self.we_write):
            handler = Records(use)
            self.handle(handler)
            write(told)
            found.append(handler.found)
        return found


def message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:
        return repr(error)


def shown(record: logging.LogRecord) -> dict[str, Any]:
    """All of a record but the time at which it was made, and its args."""
    attributes = {name: value for name, value in vars(record).items() if name != "args"}
    for name in ("created", "msecs", "relativeCreated"):
        del attributes[name]
    return attributes


def both_ways(monkeypatch: pytest.MonkeyPatch) -> Ways:
    """Makes them for a format, in a second that does not end."""
    monkeypatch.setattr("time.strftime", lambda _format: "[21/Nov/2026:12:00:00 +0000]")
    return lambda template: BothWays(template, monkeypatch)


Ways = Callable[[str], BothWays]
