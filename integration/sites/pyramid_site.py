"""Pyramid: routes, a form, a file, a stream, an upload, exception views."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Any

from apps.notes import note
from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPFound
from pyramid.response import FileResponse, Response


def index(_request: Any) -> Any:
    return Response("Pyramid")


def form(request: Any) -> Any:
    return {"name": request.POST["name"], "user": request.matchdict["user"]}


def stream(_request: Any) -> Any:
    def blocks() -> Iterator[bytes]:
        try:
            for number in range(100):
                yield b"%d\n" % number
        finally:
            note("closed")

    return Response(app_iter=blocks(), content_type="text/plain")


def file(request: Any) -> Any:
    return FileResponse(
        os.path.abspath("file.bin"), request, content_type="application/octet-stream"
    )


def upload(request: Any) -> Any:
    uploaded = request.POST["file"]
    content = uploaded.file.read()
    return {"name": uploaded.filename, "sha256": hashlib.sha256(content).hexdigest()}


def away(request: Any) -> Any:
    return HTTPFound(request.route_url("index"))


def broken(_request: Any) -> Any:
    raise LookupError("asked for")


def lookup_error(error: LookupError, _request: Any) -> Any:
    return Response(f"handled: {error}", status=422)


def make() -> Any:
    config = Configurator()
    for name, pattern, view, renderer in [
        ("index", "/", index, None),
        ("form", "/form/{user}", form, "json"),
        ("stream", "/stream", stream, None),
        ("file", "/file", file, None),
        ("upload", "/upload", upload, "json"),
        ("redirect", "/redirect", away, None),
        ("broken", "/broken", broken, None),
    ]:
        config.add_route(name, pattern)
        config.add_view(view, route_name=name, renderer=renderer)
    config.add_exception_view(lookup_error, context=LookupError)
    return config.make_wsgi_app()


app = make()
