"""Performs the calls on `wsgi.input` that the header X-Calls lists as JSON, and answers with what
each returned."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from apps.routes import text


def perform(stream: Any, name: str, arguments: list[Any]) -> Any:
    if name == "iterate":
        return [line.decode("latin-1") for line in stream]
    if name == "next":
        return next(stream, b"stop").decode("latin-1")
    result = getattr(stream, name)(*arguments)
    if isinstance(result, list):
        return [line.decode("latin-1") for line in result]
    assert type(result) is bytes, f"{name} returned {type(result)}"
    return result.decode("latin-1")


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    stream = environ["wsgi.input"]
    results = []
    for name, *arguments in json.loads(environ["HTTP_X_CALLS"]):
        try:
            results.append(perform(stream, name, arguments))
        except Exception as error:
            results.append({"raised": type(error).__name__})
    return text(start_response, json.dumps(results))
