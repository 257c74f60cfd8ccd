"""Sends every message back, text as text and binary as binary (`pip install 'meinheld[green]'`):

    gunicorn --worker-class=egg:meinheld#gunicorn_worker websocket_echo:app

`make autobahn` tries every corner of RFC 6455 on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from meinheld.middleware import WebSocketMiddleware


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    ws = environ.get("wsgi.websocket")
    if ws is None:
        start_response("426 Upgrade Required", [("Upgrade", "websocket")])
        return [b"This is a WebSocket.\n"]
    while (message := ws.wait()) is not None:
        ws.send(message)
    return []


app = WebSocketMiddleware(application, max_message_size=16 << 20)
