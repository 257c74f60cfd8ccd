"""A client that goes on taking octets is not cut off because the kernel tells of it late:
`MEINHELD_SEND_TIMEOUT` is for one that takes hardly any."""

from __future__ import annotations

import time

from harness import Server, request

SIZE = 4 << 20
APP = f"""
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "{SIZE}")])
    return [bytes({SIZE})]
"""
TIMEOUT = 1.0
OCTETS = 2048
"""Taken at a time, 50 times a second: 100 KiB/s."""


def test_a_reader_that_goes_on_taking_octets_is_not_cut_off() -> None:
    """The kernel offers room to the worker only when a third of a large send buffer is free, so
    that room cannot be what tells the client's progress."""
    with (
        Server.start(APP, env={"MEINHELD_SEND_TIMEOUT": str(TIMEOUT)}) as server,
        server.client(receive_buffer=4096) as client,
    ):
        client.send(request("GET", "/", {"Connection": "close"}))
        taken = 0
        slow_until = time.monotonic() + 3 * TIMEOUT
        while time.monotonic() < slow_until:
            taken += len(client.read_exactly(OCTETS))
            # The client's own pace, not a synchronisation.
            time.sleep(0.02)
        rest = client.read_until_closed()
        assert taken + len(rest) > SIZE
