"""gunicorn's access log, at the price of what its format asks for."""

import contextlib
import logging
import sys
import time
import traceback
from collections.abc import Iterable
from types import FunctionType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from gunicorn.glogging import Logger, SafeAtoms

from meinheld_worker.access import Headers
from meinheld_worker.atoms import Answered, Atoms, Way, complete, way_to

if TYPE_CHECKING:
    from meinheld_worker._core import Fields

#: What of ``Logger`` is done here instead, so that it has to be gunicorn's.
REPLACED = ("access", "access_log_enabled", "atoms", "now", "_get_user")
#: What of Python's a record is made without, where it is Python's.
PASSED_BY = ("info", "_log", "findCaller")


def is_replaceable(log: Any) -> bool:
    """Whether `AccessLine` may write instead of ``log.access``: whether all that would make a line
    is gunicorn's own, neither overridden nor patched."""
    return (
        isinstance(log, Logger)
        and log.atoms_wrapper_class is SafeAtoms
        and _is_original(SafeAtoms, ("__init__", "__getitem__"), Logger.setup)
        and _is_original(type(log), REPLACED, Logger.setup)
        and vars(log).keys().isdisjoint(REPLACED)
    )


def _is_original(kind: type, names: Iterable[str], neighbour: Any) -> bool:
    """Whether these methods are from the file that ``neighbour`` is in. A wrapper may take over
    the name and the module of what it wraps, but not its code."""
    home = getattr(neighbour, "__code__", None)
    methods = [getattr(kind, name, None) for name in names]
    functions = [method.fget if isinstance(method, property) else method for method in methods]
    return all(
        type(function) is FunctionType
        and home is not None
        and function.__code__.co_filename == home.co_filename
        for function in functions
    )


def keys_of(template: str) -> list[str]:
    """The keys that ``template % mapping`` looks up."""

    class Asked(dict[str, int]):
        def __missing__(self, key: str) -> int:
            self[key] = 0
            return 0

    asked = Asked()
    # One that does not work will not work for any record, and whoever formats that says so.
    with contextlib.suppress(ArithmeticError, TypeError, ValueError):
        template % asked
    return list(asked)


def _writing_line() -> tuple[str, int]:
    """The file and the line of gunicorn's that its records are from."""
    code = Logger.access.__code__
    found = [(code.co_filename, code.co_firstlineno)]

    def info(*_: object) -> None:
        frame = sys._getframe(1)
        found.append((frame.f_code.co_filename, frame.f_lineno))

    log = SimpleNamespace(
        access_log_enabled=True,
        access_log=SimpleNamespace(info=info),
        atoms=lambda *_: {},
        atoms_wrapper_class=dict,
        cfg=SimpleNamespace(access_log_format=""),
    )
    # Another gunicorn may ask for more.
    with contextlib.suppress(Exception):
        Logger.access(log, None, None, None, None)
    return found[-1]


class AccessLine:
    """Writes a line for each request as ``log`` would, whose `is_replaceable`."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._access_log = log.access_log
        self._format: str = log.cfg.access_log_format
        self._wanted: list[tuple[str, Way]] = [(key, way_to(key)) for key in keys_of(self._format)]
        self._date = (0, "")
        self._makes_records = (
            isinstance(self._access_log, logging.Logger)
            and _is_original(type(self._access_log), PASSED_BY, logging.Logger.setLevel)
            and vars(self._access_log).keys().isdisjoint(PASSED_BY)
        )
        self._from = _writing_line()

    def write(
        self,
        fields: "Fields",
        environ: dict[str, Any],
        status: str,
        headers: Headers,
        sent: int,
        seconds: float,
    ) -> None:
        """Write one, where anybody listens. The arguments are those of `Answered`."""
        if not self._access_log.isEnabledFor(logging.INFO):
            return
        answered = Answered(self, fields, environ, status, headers, sent, seconds)
        # `escaped`, without the call.
        atoms = Atoms(
            {
                key: value.replace('"', '\\"') if isinstance(value := way(answered), str) else value
                for key, way in self._wanted
            }
        )
        atoms.answered = answered
        try:
            self._record(atoms)
        except Exception:
            self._log.error(traceback.format_exc())
        if sys.getrefcount(atoms) > ALONE:
            # A handler has kept them, and the application may go on changing its environ.
            complete(atoms)

    def _record(self, atoms: Atoms) -> None:
        log = self._access_log
        if not self._makes_records:
            log.info(self._format, atoms)
            return
        # As `info` does, which looks at the stack for who calls it.
        path, number = self._from
        log.handle(
            log.makeRecord(
                log.name, logging.INFO, path, number, self._format, (atoms,), None, "access"
            )
        )

    def now(self) -> str:
        """The date, formatted once a second."""
        second = int(time.time())
        known = self._date
        if known[0] != second:
            known = self._date = (second, self._log.now())
        return known[1]

    def user(self, environ: dict[str, Any]) -> str | None:
        """The name of a client that authenticates itself (Basic, RFC 7617)."""
        user: str | None = self._log._get_user(environ)
        return user

    def all_atoms(self, answered: Answered) -> dict[str, Any]:
        """All atoms, as gunicorn makes them."""
        atoms: dict[str, Any] = self._log.atoms(
            answered, answered.fields.pairs(), answered.environ, answered.duration
        )
        return atoms


def _references_to_a_local() -> int:
    local = object()
    return sys.getrefcount(local)


#: What `sys.getrefcount` says of an object that nothing but one local name refers to.
ALONE = _references_to_a_local()
