"""A clock by server-sent events: each page that is open gets the time once a second.

    pip install 'meinheld[green]'
    MEINHELD_GREEN=1 gunicorn --worker-class=egg:meinheld#gunicorn_worker \\
        --worker-connections=10000 sse_clock:app

or, without gunicorn, `MEINHELD_GREEN=1 python sse_clock.py`. Each open page is a greenlet, not a
thread: a worker holds thousands.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from meinheld import server

PAGE = b"""<!doctype html>
<meta charset="utf-8">
<title>clock</title>
<h1>...</h1>
<script>
  const show = (event) => { document.querySelector("h1").textContent = event.data }
  new EventSource("events").onmessage = show
</script>
"""


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    if environ["PATH_INFO"] == "/events":
        start_response("200 OK", [("Content-Type", "text/event-stream")])
        return ticks()
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8")])
    return [PAGE]


def ticks() -> Iterator[bytes]:
    while True:
        yield f"data: {time.strftime('%H:%M:%S')}\n\n".encode()
        server.sleep(1)


if __name__ == "__main__":
    server.listen(("127.0.0.1", 8000))
    server.run(app)
