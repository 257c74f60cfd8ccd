"""A line of the access log is, record for record, what gunicorn's own ``Logger.access`` gives for
the same request, answer, environ and time.

In this process, where both get the same objects, so that times are compared, too.
"""

from __future__ import annotations

import logging
from functools import wraps
from typing import Any

import pytest
from access_lines import DEFAULT, ONE_LETTER, Records, Ways, both_ways, facts, message, shown
from gunicorn.config import Config
from gunicorn.glogging import Logger, SafeAtoms
from gunicorn.instrument.statsd import Statsd

from meinheld_worker.access_line import AccessLine, is_replaceable, keys_of

FORMATS = [
    DEFAULT,
    " ".join(f"{letter}=%({letter})s" for letter in ONE_LETTER),
    "%({x-h}i)s %({X-H}i)s %({HOST}i)s %({x-none}i)s",
    "%({content-TYPE}o)s %({X-Out}o)s %({connection}o)s %({x-none}o)s",
    "%({raw_uri}e)s %({RAW_URI}e)s %({app.own}e)s %({x-none}e)s %({a}i}e)s",
    "%({x-h}x)s %({x-h)s %(x-h}i)s %(hh)s %()s %({}i)s",
    "%(s)-8s|%(b)8s|%(B)08d|%(D)x|%(L).3s|%(r)r|100%%",
    "no atom at all",
    "%(h)",
    "%(h)s %s",
    "%(s)d",
    "%(B)c",
]
EXCHANGES: dict[str, dict[str, Any]] = {
    "plain": {},
    "referer and agent": {"environ": {"HTTP_REFERER": "http://a/?q", "HTTP_USER_AGENT": "b"}},
    "quotes": {
        "environ": {"HTTP_USER_AGENT": 'a"b\\"c', "RAW_URI": '/"', "PATH_INFO": '/"'},
        "fields": [("X-H", '"')],
        "headers": [("X-Out", 'say "so"')],
    },
    "control characters": {"environ": {"HTTP_USER_AGENT": "a\tb\x1b[0m"}},
    "Latin-1": {"environ": {"HTTP_USER_AGENT": "caf\xe9", "PATH_INFO": "/caf\xc3\xa9"}},
    "user": {"environ": {"HTTP_AUTHORIZATION": "Basic dXNlcjpwYXNzd29yZA=="}},
    "user with a quote": {"environ": {"HTTP_AUTHORIZATION": "basic InU6cA=="}},
    "user without a name": {"environ": {"HTTP_AUTHORIZATION": "Basic OnA="}},
    "broken user": {"environ": {"HTTP_AUTHORIZATION": "Basic ====%"}},
    "other authentication": {"environ": {"HTTP_AUTHORIZATION": "Bearer abc"}},
    "empty authentication": {"environ": {"HTTP_AUTHORIZATION": ""}},
    "repeated": {
        "fields": [("X-H", "1"), ("X-H", "2")],
        "headers": [("X-Out", "a"), ("x-out", "b")],
    },
    "hop by hop": {"headers": [("Connection", "close"), ("Content-Type", "text/plain")]},
    "keys that differ in case": {"environ": {"raw_uri": "small", "App.Own": "large"}},
    "HEAD of HTTP/1.0": {"environ": {"REQUEST_METHOD": "HEAD", "SERVER_PROTOCOL": "HTTP/1.0"}},
    "status without a reason": {"status": "599"},
    "error": {"status": "500 Internal Server Error", "headers": [], "sent": 0},
    "unix socket": {"environ": {"REMOTE_ADDR": ""}},
    "nothing known": {
        "environ": {"REMOTE_ADDR": None, "QUERY_STRING": None, "HTTP_REFERER": None},
    },
    "at once": {"seconds": 0.0},
    "long": {"seconds": 61.9999996, "sent": 1 << 40},
    "longer than a day": {"seconds": 90061.000001},
}


@pytest.fixture
def both(monkeypatch: pytest.MonkeyPatch) -> Ways:
    return both_ways(monkeypatch)


@pytest.mark.parametrize("told", EXCHANGES.values(), ids=EXCHANGES.keys())
@pytest.mark.parametrize("template", FORMATS)
def test_the_record_is_gunicorns(both: Ways, template: str, told: dict[str, Any]) -> None:
    theirs, ours = both(template).uses(
        lambda record: (message(record), shown(record)), facts(**told)
    )
    assert len(theirs) == 1
    assert ours == theirs


@pytest.mark.parametrize("told", EXCHANGES.values(), ids=EXCHANGES.keys())
def test_its_args_are_gunicorns(both: Ways, told: dict[str, Any]) -> None:
    theirs, ours = both(DEFAULT).uses(lambda record: list(dict(record.args).items()), facts(**told))
    assert ours == theirs


def test_only_what_is_asked_for_is_computed(both: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    way = both(DEFAULT)
    computed: list[object] = []
    monkeypatch.setattr(way.line, "all_atoms", computed.append)
    way.handle(handler := Records(logging.Formatter().format))
    way.we_write(facts())
    assert handler.found
    assert computed == []


def test_a_handler_that_fails_is_told_of_as_by_gunicorn(both: Ways) -> None:
    def failing(_record: object) -> None:
        raise ValueError("in a handler")

    way = both(DEFAULT)
    errors: list[str] = []
    way.log.error = errors.append
    way.uses(failing, facts())
    theirs, ours = ([text.splitlines()[n] for n in (0, -1)] for text in errors)
    assert ours == theirs
    assert ours[1] == "ValueError: in a handler"


@pytest.mark.parametrize("missing", ["REQUEST_METHOD", "RAW_URI", "SERVER_PROTOCOL"])
def test_an_environ_without_its_request_raises_as_in_gunicorn(both: Ways, missing: str) -> None:
    way, told = both(DEFAULT), facts()
    del told[1][missing]
    for write in (way.gunicorn_writes, way.we_write):
        with pytest.raises(KeyError, match=missing):
            write(told)


def test_nothing_is_computed_where_nobody_listens(both: Ways) -> None:
    way = both(DEFAULT)
    way.handle(handler := Records(message))
    way.log.access_log.setLevel(logging.WARNING)
    way.we_write(facts())
    assert handler.found == []


def test_records_are_made_by_whoever_makes_them(
    both: Ways, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Own(logging.LogRecord):
        pass

    monkeypatch.setattr(logging, "_logRecordFactory", Own)
    theirs, ours = both(DEFAULT).uses(type, facts())
    assert ours == theirs == [Own]


def test_an_access_log_with_an_info_of_its_own_is_called(
    both: Ways, monkeypatch: pytest.MonkeyPatch
) -> None:
    way = both("%(s)s")
    said: list[str] = []
    monkeypatch.setattr(way.log.access_log, "info", lambda text, args: said.append(text % args))
    AccessLine(way.log).write(*facts())
    assert said == ["200"]


def test_the_date_is_formatted_once_a_second(both: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    way, dates = both("%(t)s"), iter("abc")
    monkeypatch.setattr("time.strftime", lambda _format: next(dates))
    way.handle(handler := Records(message))
    for now in (100.0, 100.999, 101.0, 101.5, 99.0):
        monkeypatch.setattr("time.time", lambda now=now: now)
        way.we_write(facts())
    assert handler.found == list("aabbc")


@pytest.mark.parametrize(
    ("template", "keys"),
    [
        ("%(h)s %(h)s %%(no)s %({a(b)c}i)s", ["h", "{a(b)c}i"]),
        ("%(s)d %(B)c %(D)x %(L)f %(r)a", ["s", "B", "D", "L", "r"]),
        ("%(h)s %(unfinished", ["h"]),
        ("%s", []),
        ("", []),
    ],
)
def test_the_keys_of_a_format(template: str, keys: list[str]) -> None:
    assert keys_of(template) == keys


# Whose log it is


class OnlySetUp(Logger):
    """What of gunicorn's is most often changed: nothing that makes a line."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.access_log.addFilter(lambda record: True)


class Access(Logger):
    def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
        super().access(resp, req, environ, request_time)


class OwnAtoms(Logger):
    def atoms(self, resp: Any, req: Any, environ: Any, request_time: Any) -> Any:
        return super().atoms(resp, req, environ, request_time)


class Now(Logger):
    def now(self) -> str:
        return "now"


class User(Logger):
    def _get_user(self, environ: Any) -> str:
        return "somebody"


class Wrapper(Logger):
    class atoms_wrapper_class(SafeAtoms):
        pass


class Enabled(Logger):
    @property
    def access_log_enabled(self) -> bool:
        return True


def logger_of(kind: type[Logger]) -> Any:
    return kind(Config())


@pytest.mark.parametrize("kind", [Logger, OnlySetUp])
def test_a_logger_that_makes_lines_as_gunicorn_does_is_replaced(kind: type[Logger]) -> None:
    assert is_replaceable(logger_of(kind))


@pytest.mark.parametrize("kind", [Access, OwnAtoms, Now, User, Wrapper, Enabled, Statsd])
def test_a_logger_with_a_part_of_its_own_is_not(kind: type[Logger]) -> None:
    assert not is_replaceable(logger_of(kind))


@pytest.mark.parametrize("name", ["access", "atoms", "now", "_get_user"])
def test_a_logger_that_was_patched_is_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    original = getattr(Logger, name)

    @wraps(original)
    def wrapper(*args: Any) -> Any:
        return original(*args)

    log = logger_of(Logger)
    monkeypatch.setattr(log, name, wrapper, raising=False)
    assert not is_replaceable(log)
    monkeypatch.undo()
    assert is_replaceable(log)
    monkeypatch.setattr(Logger, name, wrapper)
    assert not is_replaceable(log)


def test_patched_atoms_are_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SafeAtoms, "__getitem__", lambda self, key: "-")
    assert not is_replaceable(logger_of(Logger))


def test_an_object_that_only_looks_like_a_logger_is_not_replaced() -> None:
    assert not is_replaceable(object())
