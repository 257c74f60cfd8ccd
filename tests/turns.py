"""What a worker does between its calls of the application, system call by system call.

    with Server.start("apps.marked:app") as server, warmed(server, HELLO) as client:
        with traced(server.worker_pid()) as trace:
            ask(client, HELLO, 3)
        assert turns(trace) == [("send", "wait", "receive")] * 2

What the application does itself is not counted, and a trace begins and ends at a known place.
"""

from __future__ import annotations

import re

from apps.marked import begins, ends
from syscalls import Trace

BEGINS, ENDS = begins.__name__, ends.__name__
KINDS = {
    "accept4": "accept",
    "epoll_pwait": "wait",
    "epoll_wait": "wait",
    "recvfrom": "receive",
    "recvmsg": "receive",
    "sendmsg": "send",
    "sendto": "send",
    "writev": "send",
}
"""The same for the kernel; `read` and `write` are not those of a socket here."""
BEAT = ["read", "utimensat", "getppid"]
"""Once a second or so: were there signals, the heart beats, and does the arbiter live?"""
_TIMED_OUT = re.compile(r"\d+ +epoll_p?wait\(\d+, \[\], \d+, [^0]")
"""A wait until the next beat, in which nothing came. One that does not wait is not among them."""


def kinds(trace: Trace) -> list[str]:
    """All calls in order, by their kind, and the marks."""
    return [kind for _, kind in _calls(trace)]


def _calls(trace: Trace) -> list[tuple[str, str]]:
    """The same, each with its thread."""
    lines = (line.split() for line in trace.calls(r"\w+") if not _TIMED_OUT.match(line))
    names = ((thread, call.partition("(")[0]) for thread, call, *_ in lines)
    return [(thread, KINDS.get(name, name)) for thread, name in names]


def without_beats(calls: list[str]) -> list[str]:
    found: list[str] = []
    for call in calls:
        found.append(call)
        if found[-len(BEAT) :] == BEAT:
            del found[-len(BEAT) :]
    return found


def turns(trace: Trace) -> list[tuple[str, ...]]:
    """The loop's own calls from each end of the application to its next beginning, but for those
    of the heartbeat. Not for threads, whose turns overlap."""
    found: list[tuple[str, ...]] = []
    turn: list[str] | None = None
    calls = _calls(trace)
    loop = next((thread for thread, kind in calls if kind == BEGINS), None)
    for kind in without_beats([kind for thread, kind in calls if thread == loop]):
        if kind == ENDS:
            turn = []
        elif kind == BEGINS and turn is not None:
            found.append(tuple(turn))
            turn = None
        elif turn is not None:
            turn.append(kind)
    return found
