"""Bottle: routes, a form, a file, a stream, an upload, an error page."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Any

import bottle
from apps.notes import note

app = bottle.Bottle()


@app.get("/")
def index() -> str:
    return "Bottle"


@app.post("/form/<user>")
def form(user: str) -> dict[str, str]:
    return {"name": bottle.request.forms.getunicode("name"), "user": user}


@app.get("/stream")
def stream() -> Iterator[str]:
    try:
        for number in range(100):
            yield f"{number}\n"
    finally:
        note("closed")


@app.get("/file")
def file() -> Any:
    return bottle.static_file("file.bin", root=os.getcwd(), mimetype="application/octet-stream")


@app.post("/upload")
def upload() -> dict[str, str]:
    uploaded = bottle.request.files["file"]
    content = uploaded.file.read()
    return {"name": uploaded.raw_filename, "sha256": hashlib.sha256(content).hexdigest()}


@app.get("/redirect")
def away() -> None:
    bottle.redirect("/")


@app.get("/broken")
def broken() -> None:
    raise LookupError("asked for")


@app.error(500)
def sorry(error: Any) -> str:
    bottle.response.status = 422
    return f"handled: {error.exception}"
