"""``wsgi.errors``: one stream for the worker's life."""

import io
from typing import Any

from gunicorn.http.wsgi import WSGIErrorsWrapper


class ErrorStream(io.RawIOBase):
    """Writes to gunicorn's error log.

    gunicorn makes its own stream anew for each request, because a log file that was reopened on
    USR1 is another object then. This one looks the handlers up when something is written, which
    most requests never do.
    """

    def __init__(self, cfg: Any) -> None:
        self._cfg = cfg

    def write(self, data: Any) -> None:
        """Write a ``str``, as PEP 3333 has it."""
        WSGIErrorsWrapper(self._cfg).write(data)

    def writable(self) -> bool:
        return True
