"""What an application sees behind nginx, and bodies of any size both ways."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path == "/file":
        file = open("file.bin", "rb")  # noqa: SIM115 (the server closes it)
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return environ["wsgi.file_wrapper"](file)  # type: ignore[no-any-return]
    if path == "/blocks":
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return blocks()
    if path in ("/upload", "/buffered"):
        digest, size = hashlib.sha256(), 0
        while block := environ["wsgi.input"].read(65536):
            digest.update(block)
            size += len(block)
        answer: dict[str, Any] = {"size": size, "sha256": digest.hexdigest()}
        answer["chunked"] = "HTTP_TRANSFER_ENCODING" in environ
    else:
        # The peer is nginx. Who asked nginx is in X-Forwarded-For, for applications to trust.
        names = ("REMOTE_ADDR", "SERVER_NAME", "SERVER_PORT", "SERVER_PROTOCOL", "wsgi.url_scheme")
        answer = {name: environ[name] for name in names}
        answer |= {name: value for name, value in environ.items() if name.startswith("HTTP_")}
        # Which connection of nginx's this came over.
        answer["REMOTE_PORT"] = environ.get("REMOTE_PORT")
    body = json.dumps(answer).encode()
    start_response(
        "200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    )
    return [body]


def blocks() -> Iterator[bytes]:
    for number in range(2000):
        yield number.to_bytes(4, "big") * 1024
