"""Applications behind `WebSocketMiddleware`, whose settings are JSON in `TEST_WEBSOCKETS`."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

from apps.notes import note
from apps.routes import Routes, text

from meinheld.middleware import WebSocketMiddleware
from meinheld_worker import hub

routes = Routes()
app = WebSocketMiddleware(routes, **json.loads(os.environ.get("TEST_WEBSOCKETS", "{}")))
kept: list[Any] = []


def pause_until(name: str) -> None:
    """Gives up the loop until the test has made the file."""
    running = hub.current()
    assert running is not None
    while not os.path.exists(name):
        running.sleep(0.005)


@routes.route
def plain(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    return text(start_response, f"websocket: {environ.get('wsgi.websocket')}, pid: {os.getpid()}")


@routes.route
def echo(environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
    ws = environ["wsgi.websocket"]
    note("open")
    try:
        while (message := ws.wait()) is not None:
            ws.send(message)
        note("closed")
    finally:
        note("over")
    return []


@routes.route
def attributes(environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
    ws = environ["wsgi.websocket"]
    same = ws.environ is environ
    ws.send(json.dumps([ws.path, ws.origin, ws.protocol, ws.version, ws.websocket_closed, same]))
    return []


@routes.route
def busy(environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
    """Does not look at its WebSocket until the file `look` is there."""
    note("busy")
    pause_until("look")
    ws = environ["wsgi.websocket"]
    while (message := ws.wait()) is not None:
        note(f"{type(message).__name__} {len(message)}")
    note("closed")
    return []


@routes.route
def looks_away(_environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
    """Takes no message at all, until the file `look` is there."""
    note("busy")
    pause_until("look")
    return []


@routes.route
def closing(environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
    """Closes with the code and the reason of its first message, then tells what still works."""
    ws = environ["wsgi.websocket"]
    code, _, reason = ws.wait().partition(" ")
    try:
        ws.close(int(code), reason)
    except ValueError as error:
        ws.send(str(error))
        return []
    try:
        ws.send("more")
    except BrokenPipeError as error:
        note(str(error))
    ws.close(1001, "again")
    note(f"wait: {ws.wait()}, {ws.websocket_closed}")
    return []


@routes.route
def refused(environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
    """Sends what is no message."""
    ws = environ["wsgi.websocket"]
    for wrong in (7, None, ["a"], "\ud800"):
        try:
            ws.send(wrong)
        except (TypeError, ValueError) as error:
            ws.send(type(error).__name__)
    for right in (bytearray(b"array"), memoryview(b"view")):
        ws.send(right)
    return []


@routes.route
def status(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    return text(start_response, "for nobody", environ["QUERY_STRING"].replace("+", " "))


@routes.route
def broken(environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
    environ["wsgi.websocket"].wait()
    raise RuntimeError("asked for")


@routes.route
def lacks_a_file(environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
    environ["wsgi.websocket"].wait()
    raise FileNotFoundError("no such thing")


@routes.route
def lets_the_loss_of_its_peer_out(environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
    ws = environ["wsgi.websocket"]
    while ws.wait() is not None:
        pass
    note("knows")
    ws.send("to nobody")
    return []


@routes.route
def generator(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    write = start_response("200 OK", [])
    try:
        environ["wsgi.websocket"].send("from a generator")
        write(b"for nobody")
        while True:
            yield b"for nobody"
            environ["wsgi.websocket"].wait()
    finally:
        note("generator closed")


@routes.route
def keeps(environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
    kept.append(environ["wsgi.websocket"])
    return []


@routes.route
def uses_what_it_kept(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    ws = kept.pop()
    try:
        ws.send("stray")
        raised = "nothing"
    except OSError as error:
        raised = type(error).__name__
    ws.close()
    return text(start_response, f"{raised} {ws.wait()} {ws.fileno()} {ws.websocket_closed}")


@routes.route
def suspends(environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
    """Waits for a request to `/resumes`, and says what it brought."""
    kept.append(environ["meinheld.continuation"])
    note("suspended")
    environ["wsgi.websocket"].send(environ["meinheld.continuation"].suspend(30))
    return []


@routes.route
def resumes(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    kept.pop().resume("resumed")
    return text(start_response, "done")


room: set[Any] = set()


@routes.route
def chat(environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
    """As the README of 1.0.2 does it."""
    ws = environ["wsgi.websocket"]
    room.add(ws)
    note("joined")
    try:
        while (message := ws.wait()) is not None:
            for other in list(room):
                other.send(message)
    finally:
        room.remove(ws)
        note("left")
    return [b""]


@routes.route
def broadcast(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Sends so many octets to all of them, from a request of its own."""
    message = bytes(int(environ["QUERY_STRING"]))
    reached = 0
    for ws in list(room):
        try:
            ws.send(message)
            reached += 1
        except BrokenPipeError:
            pass
    return text(start_response, str(reached))


@routes.route
def blocks(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Holds the whole loop up for so many seconds, once the file `look` is there."""
    note("blocks")
    while not os.path.exists("look"):
        time.sleep(0.005)
    time.sleep(float(_environ["QUERY_STRING"]))
    return text(start_response, "done")


@routes.route
def figures(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    return text(start_response, f"{len(room)} {len(os.listdir('/proc/self/fd'))}")


@routes.route
def pushed(environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
    """Four threads send a hundred messages each, while the request waits for its own."""
    ws = environ["wsgi.websocket"]

    def push(number: int) -> None:
        for count in range(100):
            ws.send(f"{number} {count}")

    threads = [threading.Thread(target=push, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    note(f"wait: {ws.wait()}")
    for thread in threads:
        thread.join()
    return []


@routes.route
def closed_by(environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
    """Another greenlet, or another thread, closes it while the request waits."""
    ws = environ["wsgi.websocket"]

    def close() -> None:
        ws.close(4000, environ["QUERY_STRING"])

    if environ["QUERY_STRING"] == "thread":
        threading.Thread(target=close).start()
    else:
        running = hub.current()
        assert running is not None
        running.spawn(close)
    note(f"wait: {ws.wait()}")
    return []


@routes.route
def closed_with_unread(environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
    """A thread closes it while messages come, after the first."""
    ws = environ["wsgi.websocket"]
    # Threads change places as often as they can.
    sys.setswitchinterval(1e-6)
    ws.wait()
    thread = threading.Thread(target=ws.close)
    thread.start()
    while ws.wait() is not None:
        pass
    thread.join()
    note("closed")
    return []


@routes.route
def closed_while_it_sends(environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
    """Another greenlet, or another thread, closes it while the request waits for its peer."""
    ws = environ["wsgi.websocket"]
    threads = environ["QUERY_STRING"] == "thread"

    def close() -> None:
        pause_until("look")
        if threads:
            thread = threading.Thread(target=ws.close)
            thread.start()
            thread.join()
        else:
            ws.close()

    running = hub.current()
    assert running is not None
    running.spawn(close)
    note("sending")
    ws.send(bytes(64 << 20))
    note("no longer")
    return []


@routes.route
def digests(environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
    """Takes longer for a message than its peer."""
    ws = environ["wsgi.websocket"]
    note("digests")
    while ws.wait() is not None:
        hashlib.sha256(bytes(100_000))
    return []


@routes.route
def pours(environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
    """Sends until nobody takes it."""
    ws = environ["wsgi.websocket"]
    note("pours")
    with contextlib.suppress(BrokenPipeError):
        while True:
            ws.send("drop")
    return []


@routes.route
def says_goodbye(environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
    """Sends when it is ended, and is not done then."""
    ws = environ["wsgi.websocket"]
    note("waits")
    try:
        ws.wait()
    finally:
        ws.send("good")
        ws.send("bye")
        note("said")
    return []


@routes.route
def sends_in_a_coroutine(environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
    """Says whether another greenlet ran before it was over."""
    ws = environ["wsgi.websocket"]
    running = hub.current()
    assert running is not None
    ran: list[bool] = []
    running.spawn(ran.append, True)

    async def speak() -> bool:
        time.sleep(2 * hub.AT_ONCE)
        ws.send("first")
        return bool(ran)

    ws.send(str(asyncio.run(speak())))
    return []


@routes.route
def echoes_in_a_coroutine(environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
    """Waits where the loop of asyncio runs."""
    ws = environ["wsgi.websocket"]

    async def echo() -> None:
        while (message := ws.wait()) is not None:
            await asyncio.sleep(0)
            ws.send(message)

    asyncio.run(echo())
    return []


@routes.route
def forks(environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
    """The child comes back out of it, one way or another."""
    ws = environ["wsgi.websocket"]
    child = os.fork()
    if not child:
        if environ["QUERY_STRING"] == "exits":
            sys.exit(7)
        if environ["QUERY_STRING"] == "fails":
            raise ValueError("the child's")
        return []
    _, status = os.waitpid(child, 0)
    ws.send(str(os.waitstatus_to_exitcode(status)))
    ws.send(ws.wait())
    return []


@routes.route
def takes_all_descriptors(environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
    """Has every descriptor until the file `look` is there; echoes meanwhile, and afterwards."""
    ws = environ["wsgi.websocket"]
    note("takes all")
    held: list[int] = []
    with contextlib.suppress(OSError):
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))

    def give_back() -> None:
        pause_until("look")
        for descriptor in held:
            os.close(descriptor)

    running = hub.current()
    assert running is not None
    running.spawn(give_back)
    while (message := ws.wait()) is not None:
        ws.send(message)
    return []


@routes.route
def waits_elsewhere(environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
    """A thread may send, but only a greenlet can wait."""
    ws = environ["wsgi.websocket"]

    def wait() -> None:
        try:
            ws.wait()
        except RuntimeError:
            ws.send("refused")

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join()
    return []


@routes.route
def large(environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
    """Sends more than any buffer holds, from its own greenlet."""
    ws = environ["wsgi.websocket"]
    for _ in range(64):
        ws.send(bytes(1 << 20))
    note("sent")
    return []


@routes.route
def largest(environ: dict[str, Any], _start_response: Any) -> Iterable[bytes]:
    """Sends one message of so many octets, then another, from its own greenlet."""
    ws = environ["wsgi.websocket"]
    note("sending")
    ws.send(bytes(int(environ["QUERY_STRING"])))
    ws.send("done")
    return []
