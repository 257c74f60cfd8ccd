"""What the server says, said to the loggers that its user has given it."""

import inspect
import logging
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from meinheld import mlogging

#: Writes what of the access log is about one request: ``environ``, status code, octets of the body
#: and the time it took.
Access = Callable[[dict[str, Any], int, int, timedelta], None]


def takes(function: Any, count: int, *names: str) -> bool:
    """Whether it can be called with so many arguments, and those of these names."""
    try:
        inspect.signature(function).bind(*[None] * count, **dict.fromkeys(names))
    except TypeError:
        return False
    except ValueError:
        # Of native code nothing is known.
        return True
    return True


def _is_historical(errors: Any) -> bool:
    """Whether its ``error`` is for the type, value and traceback of an exception."""
    if callable(getattr(errors, "exception", None)):
        return not takes(errors.error, 1)
    return takes(errors.error, 3) or not takes(errors.error, 1)


def _call(say: Any, message: str, values: tuple[Any, ...], **named: Any) -> None:
    """Log a message by a method that may know nothing of values."""
    if values and not takes(say, 1 + len(values), *named):
        message, values = message % values, ()
    say(message, *values, **named)


def _plain() -> logging.Logger:
    """Who is listened to where there is no error log: nobody else's handlers, standard error."""
    # As the root logger has it: nobody has asked for a line about each request.
    log = logging.Logger("meinheld.stderr", logging.WARNING)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(mlogging.Logger.error_fmt, mlogging.Logger.datefmt))
    log.addHandler(handler)
    return log


class Log:
    """The log of a server, as :class:`meinheld_worker.face.Face` knows it.

    errors: an object with the methods of ``logging.Logger``, as far as it has them, or with the
    historical ``error(type, value, traceback)``; ``None`` is standard error. access: ``None``
    where no request is logged.
    """

    def __init__(self, errors: Any, access: Access | None) -> None:
        self._errors = _plain() if errors is None else errors
        self._is_historical = _is_historical(self._errors)
        given = getattr(self._errors, "error_log", self._errors)
        #: For its level, and its handlers' descriptors.
        self.error_log = given if isinstance(given, logging.Logger) else _plain()
        self._write_access = access
        self.access = self._access if access else None

    def critical(self, message: str, *values: Any) -> None:
        self._say("critical", message, values)

    def error(self, message: str, *values: Any, exc_info: Any = None) -> None:
        if exc_info:
            self.exception(message, *values, exc_info=exc_info)
        elif self._is_historical:
            self._raise(RuntimeError(message % values if values else message))
        else:
            _call(self._errors.error, message, values)

    def warning(self, message: str, *values: Any) -> None:
        self._say("warning", message, values)

    def info(self, message: str, *values: Any) -> None:
        if hasattr(self._errors, "info"):
            _call(self._errors.info, message, values)

    def debug(self, message: str, *values: Any) -> None:
        if hasattr(self._errors, "debug"):
            _call(self._errors.debug, message, values)

    def exception(self, message: str, *values: Any, exc_info: Any = True) -> None:
        """Log an exception: one that is given, or the one that is being handled."""
        error = exc_info if isinstance(exc_info, BaseException) else sys.exc_info()[1]
        if error is None:
            self.error(message, *values)
        elif self._is_historical:
            self._raise(error)
        elif not callable(exception := getattr(self._errors, "exception", None)):
            shown = "".join(traceback.format_exception(error))
            self.error(f"{message}\n%s", *values, shown)
        elif takes(exception, 1, "exc_info"):
            _call(exception, message, values, exc_info=error)
        else:
            try:
                # It finds the exception in sys.exc_info().
                raise error
            except BaseException:
                _call(exception, message, values)

    def _say(self, level: str, message: str, values: tuple[Any, ...]) -> None:
        say = getattr(self._errors, level, None)
        if say is None:
            self.error(message, *values)
        else:
            _call(say, message, values)

    def _raise(self, error: BaseException) -> None:
        self._errors.error(type(error), error, error.__traceback__)

    def _access(
        self, response: Any, request: Any, environ: dict[str, Any], duration: timedelta
    ) -> None:
        if self._write_access:
            self._write_access(environ, response.status_code, response.sent, duration)


def access_of(logger: Any) -> Access:
    """How an access logger is written to: by ``access(environ)``, or, with the line, ``info``.

    Raises:
        TypeError: it has neither; one line.
    """
    given = getattr(logger, "access", None)
    if callable(given) and takes(given, 1):
        return lambda *facts: given(_told(*facts))
    info = info_of(logger)
    template = mlogging.Logger.access_log_format
    return lambda *facts: info("%s", template % mlogging.atoms_of(_told(*facts)))


def info_of(logger: Any) -> Any:
    """What writes a line into an access log.

    Raises:
        TypeError: nothing does; one line.
    """
    info = getattr(getattr(logger, "access_log", logger), "info", None)
    if not callable(info):
        raise TypeError(
            f"access logger = {logger!r}: nothing can be logged with it. "
            "Accepted: an object with access(environ) or info(message), or None."
        )
    return info


def _told(environ: dict[str, Any], status: int, sent: int, duration: timedelta) -> dict[str, Any]:
    return environ | {
        "STATUS_CODE": status,
        "SEND_BYTES": sent,
        "REQUEST_TIME": duration // timedelta(milliseconds=1),
        "LOCAL_TIME": time.strftime("%d/%b/%Y:%H:%M:%S %z"),
    }


class EventletLine:
    """Writes a line as eventlet's server does, to ``info``.

    Raises:
        ValueError: a template that does not work; one line.
    """

    TEMPLATE = (
        '%(client_ip)s - - [%(date_time)s] "%(request_line)s" '
        "%(status_code)s %(body_length)s %(wall_seconds).6f"
    )

    def __init__(self, info: Any, template: str | None, shows_forwarded: bool) -> None:
        self._info = info
        self._template = self.TEMPLATE if template is None else template
        self._shows_forwarded = shows_forwarded
        facts = self._facts({}, 200, 0, timedelta())
        try:
            self._template % facts
        except (ArithmeticError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"log_format = {template!r}: {error!r}. Accepted: %(name)s of {', '.join(facts)}."
            ) from None

    def __call__(
        self, environ: dict[str, Any], status: int, sent: int, duration: timedelta
    ) -> None:
        self._info("%s", self._template % self._facts(environ, status, sent, duration))

    def _facts(
        self, environ: Mapping[str, Any], status: int, sent: int, duration: timedelta
    ) -> dict[str, Any]:
        client = str(environ.get("REMOTE_ADDR", "-"))
        if self._shows_forwarded and (forwarded := environ.get("HTTP_X_FORWARDED_FOR")):
            client = f"{str(forwarded).replace(' ', '')},{client}"
        keys = ("REQUEST_METHOD", "RAW_URI", "SERVER_PROTOCOL")
        request = " ".join(str(environ.get(key, "-")) for key in keys)
        return {
            "client_ip": mlogging.printable(client),
            "client_port": environ.get("REMOTE_PORT", "-"),
            "date_time": time.strftime("%d/%b/%Y %H:%M:%S"),
            "request_line": mlogging.printable(request),
            "status_code": status,
            "body_length": sent,
            "wall_seconds": duration.total_seconds(),
        }
