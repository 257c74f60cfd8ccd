"""The loggers of :mod:`meinheld.server`, under their historical names."""

import fcntl
import logging
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar


class SafeAtoms(dict[str, str]):
    """What a line of the access log is made of: a quote cannot end a field, and ``%(name)s`` of
    what there is not is ``-``. Names of header fields, ``%({name})i``, are in lower case."""

    def __init__(self, atoms: Mapping[str, str]) -> None:
        super().__init__({name: value.replace('"', '\\"') for name, value in atoms.items()})

    def __getitem__(self, name: str) -> str:
        return self.get(name.lower().replace("-", "_") if name.startswith("{") else name, "-")


def printable(text: str) -> str:
    """A text of a client's, where what a terminal could take for a command is escaped: 0x9b is
    ``\\x9b`` (ECMA-48, C1)."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )


def atoms_of(environ: Mapping[str, Any]) -> SafeAtoms:
    """The atoms of an ``environ`` that has STATUS_CODE, SEND_BYTES (octets), REQUEST_TIME
    (milliseconds) and LOCAL_TIME."""

    def text(key: str) -> str:
        return str(environ.get(key, "-"))

    taken = int(environ.get("REQUEST_TIME", 0))
    target = environ.get("RAW_URI") or text("PATH_INFO")
    atoms = {
        "h": text("REMOTE_ADDR"),
        "t": text("LOCAL_TIME"),
        "r": f"{text('REQUEST_METHOD')} {target} {text('SERVER_PROTOCOL')}",
        "s": text("STATUS_CODE"),
        "b": text("SEND_BYTES"),
        "f": text("HTTP_REFERER"),
        "a": text("HTTP_USER_AGENT"),
        "T": str(taken // 1000),
        "D": str(taken * 1000),
        "p": f"<{os.getpid()}>",
    }
    for key, value in environ.items():
        if key.startswith("HTTP_"):
            atoms[f"{{{key[5:].lower()}}}i"] = str(value)
    return SafeAtoms({name: printable(value) for name, value in atoms.items()})


class Logger:
    """Writes to the loggers ``meinheld.error`` and ``meinheld.access``, which write to standard
    error. ``cfg`` is not looked at."""

    LOG_LEVELS: ClassVar[dict[str, int]] = {
        "critical": logging.CRITICAL,
        "error": logging.ERROR,
        "warning": logging.WARNING,
        "info": logging.INFO,
        "debug": logging.DEBUG,
    }
    error_fmt = "%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
    datefmt = "%Y-%m-%d %H:%M:%S"
    access_log_format = '%(h)s %(l)s %(u)s [%(t)s] "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'
    access_fmt = "%(message)s"

    def __init__(self, cfg: Any = None) -> None:
        self.error_log = logging.getLogger("meinheld.error")
        self.access_log = logging.getLogger("meinheld.access")
        self.error_handlers: list[logging.Handler] = []
        self.access_handlers: list[logging.Handler] = []
        self.setup(cfg)

    def setup(self, cfg: Any) -> None:
        """Give both loggers a level and a handler."""
        self.error_log.setLevel(logging.WARNING)
        self.access_log.setLevel(logging.INFO)
        self._set_handler(self.error_log, logging.Formatter(self.error_fmt, self.datefmt))
        self._set_handler(self.access_log, logging.Formatter(self.access_fmt))

    def critical(self, msg: str, *args: Any, **kwargs: Any) -> None:
        self.error_log.critical(msg, *args, **kwargs)

    def error(self, exc: Any, *args: Any, **kwargs: Any) -> None:
        """Log an exception, as ``sys.exc_info()`` gives it, or a message and its arguments."""
        if isinstance(exc, type) and issubclass(exc, BaseException):
            self.error_log.error("%s", "".join(traceback.format_exception(exc, *args)))
        else:
            self.error_log.error(exc, *args, **kwargs)

    def warning(self, msg: str, *args: Any, **kwargs: Any) -> None:
        self.error_log.warning(msg, *args, **kwargs)

    def info(self, msg: str, *args: Any, **kwargs: Any) -> None:
        self.error_log.info(msg, *args, **kwargs)

    def debug(self, msg: str, *args: Any, **kwargs: Any) -> None:
        self.error_log.debug(msg, *args, **kwargs)

    def exception(self, msg: str, *args: Any, **kwargs: Any) -> None:
        self.error_log.exception(msg, *args, **kwargs)

    def log(self, lvl: int | str, msg: str, *args: Any, **kwargs: Any) -> None:
        """Log at a level, or at one of the names in ``LOG_LEVELS``."""
        if isinstance(lvl, str):
            lvl = self.LOG_LEVELS.get(lvl.lower(), logging.INFO)
        self.error_log.log(lvl, msg, *args, **kwargs)

    def access(self, environ: Mapping[str, Any]) -> None:
        """Write a line for a request that is over; see `atoms_of` for ``environ``."""
        try:
            self.access_log.info("%s", self.access_log_format % atoms_of(environ))
        except Exception:
            self.error(*sys.exc_info())

    def reopen_files(self) -> None:
        """Open the files of both loggers anew, which have been renamed."""
        for handler in self._files():
            handler.acquire()
            try:
                if handler.stream:
                    handler.stream.close()
                    handler.stream = handler._open()
            finally:
                handler.release()

    def close_on_exec(self) -> None:
        """Keep the files of both loggers from programs that this process executes."""
        for handler in self._files():
            if handler.stream:
                descriptor = handler.stream.fileno()
                flags = fcntl.fcntl(descriptor, fcntl.F_GETFD)
                fcntl.fcntl(descriptor, fcntl.F_SETFD, flags | fcntl.FD_CLOEXEC)

    def _files(self) -> Iterator[logging.FileHandler]:
        for log in (self.error_log, self.access_log):
            yield from (one for one in log.handlers if isinstance(one, logging.FileHandler))

    def _get_handler(self, log: logging.Logger) -> logging.Handler | None:
        return next((one for one in log.handlers if getattr(one, "_meinheld", False)), None)

    def _set_handler(self, log: logging.Logger, fmt: logging.Formatter) -> None:
        handler = self._get_handler(log)
        if handler:
            log.removeHandler(handler)
        handler = logging.StreamHandler()
        handler._meinheld = True  # type: ignore[attr-defined]
        handler.setFormatter(fmt)
        log.addHandler(handler)


logger = Logger()
