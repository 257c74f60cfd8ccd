"""Marks where an application begins and where it ends by system calls that nobody else makes: a
trace is cut there (turns.py)."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from typing import Any

from apps import measured
from apps.routes import Application

begins, ends = os.getuid, os.getgid


def marked(application: Application) -> Application:
    @functools.wraps(application)
    def between_marks(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        begins()
        try:
            return application(environ, start_response)
        finally:
            ends()

    return between_marks


app = marked(measured.app)
