"""What do ten thousand idle keep-alive connections cost?

Each has had one answer. Resident memory of all the server's processes and the processor time that
they use in a second are taken before the connections come and when they have become quiet.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from accounting import Replaced, Usage, resident_kib
from candidates import GTHREAD, MEINHELD, THREADED, Candidate
from cases import Case
from crowd import ShutOut, ask, crowd
from load import Wrk
from servers import Broken, Running, started
from waiting import settled

CASE = Case("idle", "10,000 idle keep-alive connections", connections=10_000)
NAMES = [MEINHELD.name, THREADED.name, "bjoern", "fastwsgi", "granian", GTHREAD.name]
"""Who is asked: whoever keeps connections without a thread for each."""
WINDOW = 2.0
"""Seconds for which the processor time of an idle server is taken."""
WARM_UP_CONNECTIONS = 64
STEADY_KIB = 64
"""Memory that may come and go in a server that is quiet."""


@dataclass
class Idle:
    """What the connections add."""

    name: str
    command: str
    memory: float = 0.0
    """MiB of resident memory."""
    cpu: float = 0.0
    """The share of a core that they keep busy."""
    cpu_without: float = 0.0
    """The share that the server uses without them."""
    broken: str | None = None


def measure(candidates: list[Candidate], wrk: Wrk, absent: dict[str, str]) -> list[Idle]:
    found = []
    for candidate in candidates:
        idle = Idle(
            candidate.name, candidate.shown(CASE.name), broken=absent.get(candidate.distribution)
        )
        found.append(idle)
        if idle.broken is None:
            with started([candidate], CASE) as servers:
                server = servers[candidate.name]
                try:
                    if isinstance(server, Broken):
                        raise server
                    fill(idle, server, wrk)
                except (Broken, Replaced, ShutOut, OSError, AssertionError) as error:
                    idle.broken = f"{error}"
    return found


def fill(idle: Idle, server: Running, wrk: Wrk) -> None:
    wrk.run(server.port, WARM_UP_CONNECTIONS, 1.0)
    memory, idle.cpu_without = quiet_memory(server), used(server)
    with crowd(server.port, CASE.connections) as clients:
        idle.memory = (quiet_memory(server) - memory) / 1024
        idle.cpu = used(server) - idle.cpu_without
        # They are all still served.
        for client in clients[:: len(clients) // 100]:
            ask(client, 1)


def quiet_memory(server: Running) -> int:
    """KiB, once they no longer change."""
    return STEADY_KIB * settled(lambda: resident_kib(server.pid) // STEADY_KIB, during=1.5)


def used(server: Running) -> float:
    before, since = Usage.of(server.pid), time.monotonic()
    time.sleep(WINDOW)
    spent = Usage.of(server.pid).since(before)
    return spent.total / (time.monotonic() - since)
