"""A chat over WebSockets, with Flask-Sock (`pip install flask-sock`):

    gunicorn --worker-class=egg:meinheld#gunicorn_worker --threads=64 chat_app:app

An open socket holds its thread until it closes, so `threads` says how many may chat
at once, ordinary requests beside them. All are in one process: with more than one
worker, messages have to pass through something shared, such as Redis.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Any

from flask import Flask
from flask_sock import Sock
from simple_websocket import ConnectionClosed

app = Flask(__name__)
# Finds out about clients that vanished without a word, and keeps proxies from
# closing quiet connections.
app.config["SOCK_SERVER_OPTIONS"] = {"ping_interval": 25}
sock = Sock(app)

here: set[Any] = set()
lock = threading.Lock()

PAGE = """<!doctype html>
<meta charset="utf-8">
<title>chat</title>
<form><input autofocus placeholder="say something"></form>
<pre></pre>
<script>
  const socket = new WebSocket(location.href.replace(/^http/, "ws").replace(/[/]?$/, "/chat"))
  const [form, line, log] = ["form", "input", "pre"].map((name) => document.querySelector(name))
  socket.onmessage = (message) => log.prepend(message.data + "\\n")
  socket.onclose = () => log.prepend("disconnected\\n")
  form.onsubmit = (event) => {
    event.preventDefault()
    socket.send(line.value)
    form.reset()
  }
</script>
"""


@app.get("/")
def index() -> str:
    return PAGE


@sock.route("/chat")
def chat(ws: Any) -> None:
    with lock:
        here.add(ws)
    try:
        tell(f"{len(here)} here")
        while True:
            tell(ws.receive())
    finally:
        with lock:
            here.discard(ws)
        tell(f"{len(here)} here")


def tell(message: str) -> None:
    with lock:
        # One message at a time, so that all see the same order.
        for ws in here:
            # Who is gone is noticed by the thread that receives from it.
            with contextlib.suppress(ConnectionClosed, OSError):
                ws.send(message)
