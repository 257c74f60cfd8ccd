"""Who is not read because the channel to the threads is full is not late: it has its whole time
when it is its turn."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from harness import OURS, Server, request
from thread_pool import CHANNEL, HOLD_ROUTE, UNIX, Gate, holding, unread, wait_until_read

THREADS = 2
ROOM = THREADS * CHANNEL
PATIENCE = 1
APP = (
    """
from apps.notes import note
from apps.routes import Routes, text

app = Routes()
"""
    + HOLD_ROUTE
)
pytestmark = [
    pytest.mark.own_threads,
    pytest.mark.skipif(not OURS, reason="it is about the channel between loop and threads"),
]


@pytest.mark.parametrize("keep_alive", [0, 2])
@pytest.mark.parametrize("begun", [b"", b"GET /hold/n"], ids=["nothing", "a part of its head"])
def test_a_client_that_is_held_back_past_its_deadline_is_served(
    keep_alive: int, begun: bytes
) -> None:
    settings = ("--threads", str(THREADS), "--keep-alive", str(keep_alive))
    patience = {"MEINHELD_HEAD_TIMEOUT": str(PATIENCE)}
    with (
        Server.start(APP, *settings, binds=UNIX, env=patience) as server,
        holding(server, THREADS) as gate,
        ExitStack() as stack,
    ):
        held = stack.enter_context(server.client())
        held.send(begun)
        fillers = [stack.enter_context(server.client()) for _ in range(ROOM + 1)]
        for number, client in enumerate(fillers):
            client.send(request("GET", f"/hold/none/{number}"))
        # The last of them found the channel full. They came behind the one that is held, so that
        # has been accepted.
        wait_until_read(*fillers, held)
        held.send(request("GET", "/hold/none/held").removeprefix(begun))
        waiting = held.socket.gettimeout()
        held.socket.settimeout(2.5 * PATIENCE)
        with pytest.raises(TimeoutError):
            held.receive()
        assert unread([held])
        held.socket.settimeout(waiting)
        Gate(server, "none").open()
        gate.open()
        for client in fillers:
            assert client.response().status == 200
        assert held.response().text == "held none/held"
