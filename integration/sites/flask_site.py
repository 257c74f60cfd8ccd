"""What a Flask application does in real life, one view for each."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator

from apps.notes import note
from flask import (
    Flask,
    Response,
    abort,
    g,
    jsonify,
    redirect,
    request,
    send_file,
    session,
    stream_with_context,
    url_for,
)
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

app = Flask(__name__)
app.secret_key = "for tests"
app.config["MAX_CONTENT_LENGTH"] = 8 * 1024 * 1024


@app.before_request
def remember_the_path() -> None:
    g.path = request.path


@app.teardown_request
def say_which_request_ended(_error: BaseException | None) -> None:
    if request.path.startswith("/stream"):
        note(f"teardown {request.full_path}")


@app.get("/")
def index() -> str:
    return "Flask"


@app.post("/form")
def form() -> Response:
    return jsonify(request.form)


@app.post("/json")
def json() -> Response:
    return jsonify({"got": request.get_json()})


@app.get("/count")
def count() -> str:
    session["count"] = session.get("count", 0) + 1
    return str(session["count"])


@app.get("/redirect")
def away() -> AnyResponse:
    return redirect(url_for("index", _external=True))


@app.get("/teapot")
def teapot() -> Response:
    abort(418)


@app.get("/broken")
def broken() -> Response:
    raise ValueError("asked for")


@app.errorhandler(ValueError)
def value_error(error: ValueError) -> tuple[str, int]:
    return f"handled: {error}", 422


@app.errorhandler(418)
def short_and_stout(_error: HTTPException) -> tuple[str, int]:
    return "short and stout", 418


@app.get("/unhandled")
def unhandled() -> Response:
    raise KeyError("nobody handles this")


@app.get("/stream")
def stream() -> Response:
    def blocks() -> Iterator[str]:
        try:
            for number in range(int(request.args["blocks"])):
                # Both belong to this request, however many stream at the same time.
                yield f"{number} {request.args['name']} {g.path}\n".ljust(64, ".")
        finally:
            note(f"closed {request.args['name']}")

    return Response(stream_with_context(blocks()), mimetype="text/plain")


@app.get("/file")
def file() -> Response:
    return send_file(os.path.abspath("file.bin"), mimetype="application/octet-stream")


@app.post("/upload")
def upload() -> Response:
    uploaded = request.files["file"]
    content = uploaded.stream.read()
    return jsonify(
        {
            "name": uploaded.filename,
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "comment": request.form.get("comment"),
        }
    )


@app.post("/raw")
def raw() -> Response:
    digest = hashlib.sha256()
    size = 0
    while block := request.stream.read(10_000):
        digest.update(block)
        size += len(block)
    return jsonify({"size": size, "sha256": digest.hexdigest()})


@app.get("/where")
def where() -> Response:
    return jsonify(
        {
            "url": request.url,
            "scheme": request.scheme,
            "root": request.root_path,
            "remote": request.remote_addr,
        }
    )
