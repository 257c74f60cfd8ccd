"""What the tests of `--threads` share: the pool from outside, and applications that a test holds.

with pool(APP, 2) as server, holding(server, 2) as gate:
    ...             # both threads are inside the application
    gate.open()     # and now they answer
"""

from __future__ import annotations

import contextlib
import fcntl
import re
import struct
import termios
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from harness import OURS, Client, Server, eventually, request, settled
from procfs import all_asleep

T = TypeVar("T")
SMALL = 4096
"""A receive buffer for clients that shall not take an answer unless they read it."""
KERNEL = 128 << 10
"""More than both ends' socket buffers hold with SMALL_BUFFERS and a client with SMALL."""
AHEAD = 256 << 10
"""How far a producer may be ahead of its client, beside what the kernel has."""
SMALL_BUFFERS = """
import socket


def when_ready(arbiter):
    # A connection inherits it. Left alone the kernel lets it grow to megabytes.
    for listener in arbiter.LISTENERS:
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
"""
CHANNEL = 32
"""Requests that wait in the worker, read and parsed, for each of its threads."""
HOLD_ROUTE = """
from apps.hold import wait_for_file


@app.route
def hold(environ, start_response):
    name = environ["PATH_INFO"].removeprefix("/hold/")
    note(f"holding {name}")
    wait_for_file(f"open-{name.partition('/')[0]}")
    return text(start_response, f"held {name}")
"""
TOGETHER_ROUTE = """
from apps.together import together

app.route(together)
"""
UNIX = ["unix:{dir}/socket"]
EXIT_HOOKS = """
import threading, time
from apps.notes import note


def post_worker_init(worker):
    def watch():
        while worker.alive:
            time.sleep(0.005)
        note(f"told to leave {worker.pid}")

    threading.Thread(target=watch, daemon=True).start()


def worker_exit(arbiter, worker):
    note("worker_exit")
    names = sorted(thread.name for thread in threading.enumerate())
    note("threads left: " + " ".join(name for name in names if name.startswith("meinheld-")))


def child_exit(arbiter, worker):
    note(f"child_exit {worker.pid}")
"""
"""A gunicorn.conf.py that tells when a worker (of which there is one) was told to leave, and how it
ended; see `ended_well`."""


def thread_names(pid: int) -> list[str]:
    """The names of the application threads, as the kernel (and so top and ps) knows them."""
    names = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            names.append((task / "comm").read_text().strip())
    return sorted(name for name in names if re.fullmatch(r"meinheld-\d+", name))


def produced(server: Server, name: str) -> int:
    """Blocks that `apps.streams` was asked for."""
    return server.notes().count(f"{name} block")


def stalled(server: Server, client: Client, way: str, name: str, size: int) -> int:
    """Asks `apps.streams` for an answer that is as good as endless, in blocks of that size, and
    does not read it; returns how many of them were made before the application had to wait."""
    client.send(request("GET", f"/{way}/{name}/100000/{size}"))
    eventually(lambda: produced(server, name), "the first block")
    return settled(lambda: produced(server, name))


def together(server: Server, count: int) -> list[str]:
    """The names of the threads that `count` requests of TOGETHER_ROUTE were called on. They wait
    for each other inside the application, so it takes that many threads."""

    def ask() -> str:
        response = server.get(f"/together/{count}")
        assert response.status == 200, f"{count} requests do not run at the same time"
        return response.text

    return sorted(side_by_side([ask] * count))


@contextlib.contextmanager
def threads_live_on(server: Server, count: int, tracebacks: int | None = 0) -> Iterator[None]:
    """Fails unless the worker and each of its `count` threads are free for other requests after
    the block. `tracebacks` of them may be logged meanwhile (None: any number). Needs
    TOGETHER_ROUTE."""
    pid, said = server.worker_pid(), len(server.stderr_text())
    names = together(server, count)
    yield
    assert together(server, count) == names
    assert server.worker_pid() == pid, "the worker was replaced"
    if OURS:
        assert thread_names(pid) == names == [f"meinheld-{n + 1}" for n in range(count)]
    log = server.stderr_text()[said:]
    assert tracebacks is None or log.count("Traceback") == tracebacks, log
    assert "panicked" not in log, log


def wait_until_asleep(server: Server) -> None:
    """Until no thread of the worker runs: those that have a request wait for something outside."""
    pid = server.worker_pid()
    eventually(lambda: all_asleep(pid), "no thread of the worker runs")


def unread(clients: Sequence[Client]) -> int:
    """How many of these clients have sent octets that the worker has not read yet. Only for UNIX:
    of TCP a client learns no more than that the worker's kernel has them."""
    return sum(
        struct.unpack("i", fcntl.ioctl(client.socket, termios.TIOCOUTQ, bytes(4))) != (0,)
        for client in clients
    )


def wait_until_read(*clients: Client) -> None:
    """Until the worker has read all that these clients have sent; see `unread`."""
    eventually(lambda: unread(clients) == 0, "the worker reads what was sent")


@contextlib.contextmanager
def holding(server: Server, count: int, name: str = "gate") -> Iterator[Gate]:
    """`count` requests of HOLD_ROUTE are inside the application while the block runs; at its end
    they have been answered."""
    gate = Gate(server, name)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in range(count)]
        for number, client in enumerate(clients):
            client.send(request("GET", f"/hold/{name}/{number}"))
            server.wait_for_note(f"holding {name}/{number}")
        try:
            yield gate
        finally:
            gate.open()
        for number, client in enumerate(clients):
            assert client.response().text == f"held {name}/{number}"


class Gate:
    """A file that requests wait for."""

    def __init__(self, server: Server, name: str = "gate") -> None:
        self.file = server.directory / f"open-{name}"

    def open(self) -> None:
        self.file.touch()


def side_by_side(calls: Sequence[Callable[[], T]]) -> list[T]:
    """What the calls return, each made on a thread of its own; the first error is raised."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run(call: Callable[[], T]) -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(call,), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
        assert not thread.is_alive(), "a client does not come to its end"
    if errors:
        raise errors[0]
    return results


def ended_well(server: Server, pid: int) -> None:
    """Waits until the worker is gone; fails unless it left by itself, with status 0 and through
    `worker_exit`. Needs EXIT_HOOKS."""
    server.wait_for_note(f"child_exit {pid}")
    log = server.stderr_text()
    # A second TERM of the arbiter's may still meet a process that has no handlers any more.
    ended = re.findall(r"was sent SIG(?!TERM)|exited with code|WORKER TIMEOUT|Fatal|panicked", log)
    assert not ended, log
    assert "worker_exit" in server.notes()


def no_thread_is_left(server: Server) -> None:
    """The threads had come to their end before the worker did. Needs EXIT_HOOKS."""
    if OURS:
        left = [note for note in server.notes() if note.startswith("threads left: ")]
        assert left and set(left) == {"threads left: "}
