"""The atoms of an access line, each computed when it is read.

gunicorn's ``Logger.atoms`` makes all that there can be, every header field and all of ``environ``
among them, of which a format shows a few. Here each is made by itself, as gunicorn does.
"""

import os
import re
import threading
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from gunicorn.glogging import SafeAtoms

from meinheld_worker.access import Headers, end_to_end

if TYPE_CHECKING:
    from meinheld_worker._core import Fields

#: An atom that names a field of the request or the response, or a key of ``environ``.
NAMED = re.compile(r"\{(.*)\}([ioe])", re.DOTALL)
MISSING = "-"


class Log(Protocol):
    """What of an atom is the log's affair."""

    def now(self) -> str:
        """The date, as gunicorn writes it."""

    def user(self, environ: dict[str, Any]) -> str | None:
        """The name of a client that authenticates itself (Basic, RFC 7617)."""

    def all_atoms(self, answered: "Answered") -> dict[str, Any]:
        """All atoms, as gunicorn makes them."""


class Answered:
    """A request whose answer is over.

    ``fields`` are those of the request, ``given`` the headers that the application gave, ``sent``
    the octets of the body; ``seconds`` is the time from the request's hand-over to the end.
    """

    __slots__ = ("environ", "fields", "given", "log", "seconds", "sent", "status")

    def __init__(
        self,
        log: Log,
        fields: "Fields",
        environ: dict[str, Any],
        status: str,
        given: Headers,
        sent: int,
        seconds: float,
    ) -> None:
        self.log = log
        self.fields = fields
        self.environ = environ
        self.status = status
        self.given = given
        self.sent = sent
        self.seconds = seconds

    @property
    def headers(self) -> Headers:
        """The response's, as hooks and loggers know them."""
        return end_to_end(self.given)

    @property
    def duration(self) -> timedelta:
        """How long it took."""
        return timedelta(seconds=self.seconds)


Way = Callable[[Answered], Any]


def _request_line(answered: Answered) -> str:
    environ = answered.environ
    return f"{environ['REQUEST_METHOD']} {environ['RAW_URI']} {environ['SERVER_PROTOCOL']}"


def _user(answered: Answered) -> str:
    known = "HTTP_AUTHORIZATION" in answered.environ
    return (known and answered.log.user(answered.environ)) or MISSING


def _microseconds(answered: Answered) -> int:
    duration = answered.duration
    return duration.seconds * 1_000_000 + duration.microseconds


def _milliseconds(answered: Answered) -> int:
    return _microseconds(answered) // 1000


def _decimal_seconds(answered: Answered) -> str:
    duration = answered.duration
    return f"{duration.seconds}.{duration.microseconds:06}"


WAYS: dict[str, Way] = {
    "h": lambda answered: answered.environ.get("REMOTE_ADDR", MISSING),
    "l": lambda _: MISSING,
    "u": _user,
    "t": lambda answered: answered.log.now(),
    "r": _request_line,
    "s": lambda answered: answered.status.split(None, 1)[0],
    "m": lambda answered: answered.environ.get("REQUEST_METHOD"),
    "U": lambda answered: answered.environ.get("PATH_INFO"),
    "q": lambda answered: answered.environ.get("QUERY_STRING"),
    "H": lambda answered: answered.environ.get("SERVER_PROTOCOL"),
    "b": lambda answered: str(answered.sent),
    "B": lambda answered: answered.sent,
    "f": lambda answered: answered.environ.get("HTTP_REFERER", MISSING),
    "a": lambda answered: answered.environ.get("HTTP_USER_AGENT", MISSING),
    "T": lambda answered: answered.duration.seconds,
    "D": _microseconds,
    "M": _milliseconds,
    "L": _decimal_seconds,
    "p": lambda _: f"<{os.getpid()}>",
}


def way_to(key: str) -> Way:
    """How the atom of this name is made."""
    if way := WAYS.get(key):
        return way
    named = NAMED.fullmatch(key.lower())
    if not named:
        # One of another gunicorn's, if it is any.
        return lambda answered: answered.log.all_atoms(answered).get(key, MISSING)
    name, kind = named.groups()
    if kind == "i":
        return lambda answered: _last(answered.fields.pairs(), name)
    if kind == "o":
        return lambda answered: _last(answered.headers, name)
    return lambda answered: _last(answered.environ.items(), name)


def _last(pairs: Iterable[tuple[str, Any]], name: str) -> Any:
    found = MISSING
    for key, value in pairs:
        if key.lower() == name:
            found = value
    return found


def escaped(value: Any) -> Any:
    """As ``SafeAtoms`` does: what clients send must not end the quotation that it stands in."""
    return value.replace('"', '\\"') if isinstance(value, str) else value


class Atoms(dict[str, Any]):
    """The ``args`` of a record.

    It is made of the atoms that the format asks for, and computes others for whoever reads them.
    Any other use makes it what gunicorn would have given: a ``SafeAtoms`` of them all.
    """

    #: Until it has become gunicorn's.
    answered: Answered

    def __missing__(self, key: str) -> Any:
        answered = vars(self).get("answered")
        return escaped(way_to(key)(answered)) if answered else self[key]

    def __bool__(self) -> bool:
        return True


_completing = threading.RLock()


def complete(atoms: dict[str, Any]) -> None:
    """Make `Atoms` gunicorn's, if they are not yet."""
    with _completing:
        answered: Answered | None = vars(atoms).get("answered")
        if not answered:
            return
        every = answered.log.all_atoms(answered)
        # Another second may have begun.
        every["t"] = atoms["t"]
        # In gunicorn's order. A thread that reads meanwhile computes what it does not find.
        dict.clear(atoms)
        dict.update(atoms, SafeAtoms(every))
        atoms.__class__ = SafeAtoms
        vars(atoms).clear()


def _after_completion(name: str) -> Callable[..., Any]:
    method = getattr(SafeAtoms, name)

    def completed(self: Atoms, *args: Any, **kwargs: Any) -> Any:
        complete(self)
        return method(self, *args, **kwargs)

    completed.__name__ = name
    return completed


# What one can do with a dict, but for reading one item.
for _name in (
    *("__contains__", "__delitem__", "__eq__", "__ior__", "__iter__", "__len__", "__ne__"),
    *("__or__", "__reduce_ex__", "__repr__", "__reversed__", "__ror__", "__setitem__"),
    *("clear", "copy", "get", "items", "keys", "pop", "popitem", "setdefault", "update", "values"),
):
    setattr(Atoms, _name, _after_completion(_name))
