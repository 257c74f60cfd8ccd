"""Serving, from the loop's first turn to the last word about its end."""

from collections.abc import Callable, Sequence
from typing import Any

from meinheld_worker import _core, config, green, status, watchdog
from meinheld_worker.driver import Driver, driver_of
from meinheld_worker.face import Face
from meinheld_worker.host import Host
from meinheld_worker.listeners import Listener
from meinheld_worker.threads import Threads


def serve(
    host: Host,
    application: Callable[..., Any],
    face: Face,
    *,
    listeners: Sequence[Listener],
    options: _core.Options,
    ready: Callable[[], bool],
) -> None:
    """Serve until told to leave, then until what was begun is answered.

    ready: called when the loop can be told to leave; whether it may accept.
    """
    driver = driver_of(application)
    try:
        host.loop = _core.Loop(
            application,
            driver.face(face),
            seat=host.seat,
            listeners=listeners,
            signals=host.PIPE[0],
            file_wrapper=config.file_wrapper(),
            options=options,
            counts=host.status is not None,
        )
        _take_turns(host, host.loop, driver, ready)
    finally:
        green.release()


def _take_turns(host: Host, loop: _core.Loop, driver: Driver, ready: Callable[[], bool]) -> None:
    if host.status:
        status.watch(host.status, host.sockets, host.log)
    threads = host.threads = Threads(loop, host.cfg.threads)
    threads.start()
    watchdog.watch(loop, host.cfg.timeout, config.request_timeout(), host.log)
    if not ready():
        # Told to leave meanwhile: it serves nobody but those whom no other would.
        loop.leave()
    try:
        driver.run(loop)
    finally:
        if not threads.join():
            for line in loop.in_flight():
                host.log.warning("Left behind, still with the application: %s", line)
            if loop.calls_back:
                host.log.warning("Left behind, still in a callback of meinheld.disconnected")
        if loop.shed or loop.gone:
            host.log.debug(
                "Requests that did not get to the application: %d had waited for too long, "
                "the clients of %d had gone",
                loop.shed,
                loop.gone,
            )
    if late := loop.late_arrivals:
        host.log.warning("Requests lost on connections closed while leaving: %d", late)
