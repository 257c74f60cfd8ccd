"""A chat by long polling: a request for what was not said yet waits until somebody says it.

    pip install 'meinheld[green]'
    gunicorn --worker-class=egg:meinheld#gunicorn_worker --worker-connections=10000 long_poll:app

or, without gunicorn, `python long_poll.py`. Each waiting request is a greenlet, not a thread: a
worker holds thousands. All are in one process: with more than one worker, what is said has to pass
through something shared, such as Redis.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from meinheld.middleware import CONTINUATION_KEY, Continuation, ContinuationMiddleware

#: Seconds that a request waits before it is answered with nothing, so that no proxy gives up.
PATIENCE = 25
#: Octets of one line.
LONGEST = 1000

PAGE = b"""<!doctype html>
<meta charset="utf-8">
<title>chat</title>
<form><input autofocus placeholder="say something"></form>
<pre></pre>
<script>
  const [form, line, log] = ["form", "input", "pre"].map((name) => document.querySelector(name))
  form.onsubmit = (event) => {
    event.preventDefault()
    fetch("say", { method: "POST", body: line.value })
    form.reset()
  }
  async function listen(after) {
    for (;;) {
      try {
        const said = await (await fetch("messages?after=" + after)).json()
        log.prepend(...said.map((text) => text + "\\n").reverse())
        after += said.length
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 1000))
      }
    }
  }
  listen(0)
</script>
"""

messages: list[str] = []
waiting: set[Continuation] = set()


def chat(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    route = environ["REQUEST_METHOD"], environ["PATH_INFO"]
    if route == ("GET", "/"):
        return answer(start_response, PAGE, "text/html; charset=utf-8")
    if route == ("GET", "/messages"):
        after = int(parse_qs(environ["QUERY_STRING"]).get("after", ["0"])[0])
        if after >= len(messages):
            wait(environ[CONTINUATION_KEY])
        said = json.dumps(messages[after:]).encode()
        return answer(start_response, said, "application/json")
    if route == ("POST", "/say"):
        messages.append(environ["wsgi.input"].read(LONGEST).decode(errors="replace"))
        for continuation in waiting:
            # It may just have run out of patience.
            with contextlib.suppress(OSError):
                continuation.resume()
        waiting.clear()
        return answer(start_response, b"", "text/plain")
    return answer(start_response, b"not here\n", "text/plain", "404 Not Found")


def wait(continuation: Continuation) -> None:
    """Give the loop up until something was said."""
    waiting.add(continuation)
    try:
        continuation.suspend(PATIENCE)
    except TimeoutError:
        pass
    finally:
        waiting.discard(continuation)


def answer(
    start_response: Callable[..., Any], body: bytes, kind: str, status: str = "200 OK"
) -> list[bytes]:
    start_response(status, [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]


app = ContinuationMiddleware(chat)

if __name__ == "__main__":
    from meinheld import server

    server.listen(("127.0.0.1", 8000))
    server.run(app)
