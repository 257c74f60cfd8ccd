"""Several small applications behind one server: a function is served under its own name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Routes:
    def __init__(self) -> None:
        self.applications: dict[str, Application] = {}

    def route(self, application: Application) -> Application:
        """Serves `application` at `/its_name` and below."""
        self.applications[application.__name__] = application
        return application

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        name = environ["PATH_INFO"].split("/")[1]
        return self.applications[name](environ, start_response)


def text(start_response: Any, body: str, status: str = "200 OK") -> list[bytes]:
    """A complete plain answer."""
    data = body.encode()
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(data)))])
    return [data]
