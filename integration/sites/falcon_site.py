"""Falcon: routes, a form, a file, a stream, an upload, an error handler."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Any

import falcon
from apps.notes import note


class Index:
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.text = "Falcon"
        resp.content_type = falcon.MEDIA_TEXT


class Form:
    def on_post(self, req: falcon.Request, resp: falcon.Response, user: str) -> None:
        resp.media = {"name": req.get_media()["name"], "user": user}


class Stream:
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        def blocks() -> Iterator[bytes]:
            try:
                for number in range(100):
                    yield b"%d\n" % number
            finally:
                note("closed")

        resp.stream = blocks()
        resp.content_type = falcon.MEDIA_TEXT


class File:
    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        # Falcon passes a stream with `read` through wsgi.file_wrapper.
        file = open("file.bin", "rb")  # noqa: SIM115 (the server closes it)
        resp.set_stream(file, os.path.getsize("file.bin"))
        resp.content_type = "application/octet-stream"


class Upload:
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        for part in req.get_media():
            content = part.stream.read()
            resp.media = {"name": part.filename, "sha256": hashlib.sha256(content).hexdigest()}


class Away:
    def on_get(self, _req: falcon.Request, _resp: falcon.Response) -> None:
        raise falcon.HTTPFound("/")


class Broken:
    def on_get(self, _req: falcon.Request, _resp: falcon.Response) -> None:
        raise LookupError("asked for")


def lookup_error(_req: Any, resp: falcon.Response, error: Exception, _params: Any) -> None:
    resp.status = falcon.HTTP_422
    resp.text = f"handled: {error}"


app = falcon.App()
app.add_route("/", Index())
app.add_route("/form/{user}", Form())
app.add_route("/stream", Stream())
app.add_route("/file", File())
app.add_route("/upload", Upload())
app.add_route("/redirect", Away())
app.add_route("/broken", Broken())
app.add_error_handler(LookupError, lookup_error)
