"""Answers with the environment it was given: for each key the type's name and the value's repr."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any

from apps.routes import text

OBJECTS = (
    "wsgi.input",
    "wsgi.errors",
    "wsgi.early_hints",
    "wsgi.file_wrapper",
    "gunicorn.socket",
    "meinheld.disconnected",
)
"""Their repr holds an address: the type says all."""


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    shown = {
        key: [type(value).__name__, "" if key in OBJECTS else repr(value)]
        for key, value in environ.items()
    }
    shown["body"] = ["bytes", repr(environ["wsgi.input"].read())]
    shown["os.environ"] = ["str", repr(os.environ.get("SCRIPT_NAME"))]
    return text(start_response, json.dumps(shown))
