"""A chat over WebSockets, each of them a greenlet (`pip install 'meinheld[green]'`):

    gunicorn --worker-class=egg:meinheld#gunicorn_worker chat:app

An open socket holds no thread: one worker has thousands. All are in one process: with more than
one worker, messages have to pass through something shared, such as Redis. ../chat_app.py does the
same with Flask-Sock and a thread for each socket.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from meinheld.middleware import WebSocketMiddleware
from meinheld.websocket import WebSocket

PAGE = Path(__file__).with_name("index.html").read_bytes()
# What newcomers are shown.
latest: deque[str] = deque(maxlen=50)
people: set[WebSocket] = set()


def tell_all(**event: object) -> None:
    message = json.dumps(event)
    if "text" in event:
        latest.append(message)
    for other in list(people):
        # Who is slow is not waited for, and who has left meanwhile is nobody to tell.
        with contextlib.suppress(BrokenPipeError):
            other.send(message)


def chat(ws: WebSocket) -> None:
    for earlier in list(latest):
        ws.send(earlier)
    people.add(ws)
    tell_all(here=len(people))
    try:
        while (message := ws.wait()) is not None:
            said = json.loads(message)
            # The number tells a page that reconnects what it has shown already.
            tell_all(
                number=time.time_ns() // 1000,
                name=str(said["name"])[:20],
                text=str(said["text"])[:1000],
            )
    finally:
        people.remove(ws)
        tell_all(here=len(people))


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    if ws := environ.get("wsgi.websocket"):
        chat(ws)
        return []
    if environ["PATH_INFO"] != "/":
        start_response("404 Not Found", [("Content-Length", "0")])
        return []
    headers = [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(PAGE)))]
    start_response("200 OK", headers)
    return [PAGE]


# Messages are short; origins=["https://chat.example.org"] keeps other sites' pages out.
app = WebSocketMiddleware(application, max_message_size=8192)
