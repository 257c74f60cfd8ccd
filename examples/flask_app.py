"""A Flask application behind gunicorn and meinheld: `make run` serves it.

    gunicorn --worker-class=egg:meinheld#gunicorn_worker flask_app:app

Nothing in this file knows about the server: that is what WSGI is for.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator

from flask import Flask, Response, jsonify, request, send_file, session, stream_with_context

app = Flask(__name__)

# Sessions are signed with this key. Every worker must have the same one, so in
# production it comes from the environment; a random key would log people out at
# each reload.
app.secret_key = os.environ.get("FLASK_SECRET_KEY", "only for trying things out")

# Flask refuses larger bodies with 413 before reading them.
app.config["MAX_CONTENT_LENGTH"] = 64 * 1024 * 1024

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>meinheld</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 40rem; margin: 3rem auto }
  form { margin: 1rem 0 }
</style>
<h1>It works</h1>
<p>Flask under gunicorn, served by the meinheld worker (process PID).
   This is visit number VISITS of yours.</p>
<ul>
  <li><a href="/environ">what the application is told</a></li>
  <li><a href="/stream">a page that arrives bit by bit</a></li>
  <li><a href="/download">a file</a></li>
  <li><a href="/broken">an error</a>: one traceback in the log, and the worker lives on</li>
</ul>
<form action="/hello" method="post">
  <label>Your name <input name="name"></label> <button>Say hello</button>
</form>
<form action="/upload" method="post" enctype="multipart/form-data">
  <label>A file <input type="file" name="file"></label> <button>Upload</button>
</form>
"""


@app.get("/")
def index() -> str:
    session["visits"] = session.get("visits", 0) + 1
    return PAGE.replace("PID", str(os.getpid())).replace("VISITS", str(session["visits"]))


@app.post("/hello")
def hello() -> Response:
    name = request.form.get("name", "") or "nobody"
    return Response(f"Hello, {name}!\n", mimetype="text/plain")


@app.get("/environ")
def environ() -> Response:
    return jsonify({key: str(value) for key, value in sorted(request.environ.items())})


@app.get("/stream")
def stream() -> Response:
    # stream_with_context keeps `request` usable while the body is being produced.
    # One inline worker (threads = 1) runs one such response at a time, so long
    # streams want more workers.
    def lines() -> Iterator[str]:
        for number in range(1, 6):
            yield f"line {number} for {request.remote_addr}\n"
            time.sleep(float(request.args.get("pause", "0.4")))

    return Response(stream_with_context(lines()), mimetype="text/plain")


@app.get("/download")
def download() -> Response:
    # A real file leaves by sendfile(2) through wsgi.file_wrapper.
    return send_file(__file__, mimetype="text/x-python", as_attachment=True)


@app.post("/upload")
def upload() -> Response:
    uploaded = request.files.get("file")
    if uploaded is None:
        return Response("no file came\n", status=400, mimetype="text/plain")
    size = uploaded.stream.seek(0, io.SEEK_END)
    return Response(f"{uploaded.filename}: {size} bytes\n", mimetype="text/plain")


@app.get("/broken")
def broken() -> Response:
    raise RuntimeError("this error was asked for")


@app.errorhandler(500)
def sorry(_error: Exception) -> tuple[str, int]:
    return "Sorry, that went wrong. The log knows why.\n", 500
