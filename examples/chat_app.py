"""A chat over WebSockets, with Flask-Sock (`pip install flask-sock`):

    gunicorn --worker-class=egg:meinheld#gunicorn_worker --threads=64 chat_app:app

An open socket holds its thread until it closes, so `threads` says how many may chat
at once, ordinary requests beside them. All are in one process: with more than one
worker, messages have to pass through something shared, such as Redis.
"""

from __future__ import annotations

import contextlib
import queue
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

lock = threading.Lock()
mailboxes: set[queue.Queue[str | None]] = set()

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
    # Whoever does not read must not hold the others up: only a thread of its own
    # waits for it, and what it falls behind by more than that many messages it misses.
    mailbox: queue.Queue[str | None] = queue.Queue(100)
    threading.Thread(target=deliver, args=(mailbox, ws), daemon=True).start()
    enter_or_leave(mailboxes.add, mailbox)
    try:
        while True:
            tell(ws.receive())
    finally:
        enter_or_leave(mailboxes.discard, mailbox)
        # A full one ends with the connection.
        put(mailbox, None)


def deliver(mailbox: queue.Queue[str | None], ws: Any) -> None:
    with contextlib.suppress(ConnectionClosed, OSError):
        while (message := mailbox.get()) is not None:
            ws.send(message)


def enter_or_leave(change: Any, mailbox: queue.Queue[str | None]) -> None:
    with lock:
        change(mailbox)
        here = len(mailboxes)
    tell(f"{here} here")


def tell(message: str) -> None:
    with lock:
        # One message at a time, so that all see the same order.
        for mailbox in mailboxes:
            put(mailbox, message)


def put(mailbox: queue.Queue[str | None], message: str | None) -> None:
    with contextlib.suppress(queue.Full):
        mailbox.put_nowait(message)
