"""Flask-Sock: WebSockets over the socket that the worker lends in `gunicorn.socket`.

`SITE_PING` is the interval of its pings in seconds; without it there are none.
"""

from __future__ import annotations

import os
import threading
from typing import Any

from apps.notes import note
from flask import Flask, jsonify, request
from flask_sock import Sock

app = Flask(__name__)
if "SITE_PING" in os.environ:
    app.config["SOCK_SERVER_OPTIONS"] = {"ping_interval": float(os.environ["SITE_PING"])}
sock = Sock(app)


@app.get("/")
def index() -> Any:
    return jsonify(worker=os.getpid(), thread=threading.current_thread().name)


@app.before_request
def begun() -> None:
    if request.path != "/":
        note("begun")


@app.teardown_request
def over(_error: BaseException | None) -> None:
    if request.path != "/":
        note("over")


@sock.route("/echo")
def echo(ws: Any) -> None:
    """Sends each message back, until one end closes."""
    note("opened")
    try:
        while True:
            ws.send(ws.receive())
    finally:
        note(f"closed {int(ws.close_reason)} {ws.close_message or ''}".strip())


@sock.route("/farewell")
def farewell(ws: Any) -> None:
    """Closes as the first message says: `<code> <reason>`, or just returns."""
    code, _, reason = ws.receive().partition(" ")
    if code:
        ws.close(int(code), reason)


@sock.route("/broken")
def broken(ws: Any) -> None:
    ws.receive()
    raise RuntimeError("asked for")


@sock.route("/talk")
def talk(ws: Any) -> None:
    """Sends without being asked, for as long as someone takes it."""
    note("talking")
    while True:
        ws.send(b"." * 65_536)
