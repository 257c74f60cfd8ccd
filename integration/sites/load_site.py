"""What the load of integration/load.py asks: every answer can be checked to the last byte."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """/<way>?token=..&times=..: the token, or the request's body, that many times.

    way: `whole` (with a Content-Length), `blocks` (a generator) or `slow` (whole, after 10 ms).
    """
    query = parse_qs(environ["QUERY_STRING"])
    token = query["token"][0].encode()
    times = int(query["times"][0])
    line = token + b" " + environ["wsgi.input"].read() + b"\n"
    headers = [("Content-Type", "text/plain"), ("X-Worker", str(os.getpid()))]
    way = environ["PATH_INFO"]
    if way == "/blocks":
        start_response("200 OK", headers)
        return (line for _ in range(times))
    if way == "/slow":
        time.sleep(0.01)
    start_response("200 OK", [*headers, ("Content-Length", str(len(line) * times))])
    return [line * times]
