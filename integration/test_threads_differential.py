"""The corpus of the differential test, sent to two servers of ours: with `--threads 1` and with
`--threads 4` a client gets the same octets, but for the value of Date.

The application reads every body. What differs by nature where it does not is in
tests/test_threads_same_bytes.py.
"""

from __future__ import annotations

import pytest
from differential.settings import GROUPS, Group
from harness import OURS, Server
from same_bytes import Case, hear

pytestmark = [
    pytest.mark.own_threads,
    pytest.mark.skipif(not OURS, reason="it is about our two ways of calling an application"),
]
TOLD = 12
"""Cases that a failure shows in full."""
APP = """
import json

PLAIN = (str, bool, int, tuple, type(None))
OWN = ("SERVER_NAME", "SERVER_PORT", "REMOTE_PORT", "wsgi.multithread")


def app(environ, start_response):
    body = environ["wsgi.input"].read()
    if environ["RAW_URI"] == "/tail":
        body = b"this is the tail"
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]
    seen = {
        key: value if isinstance(value, PLAIN) else "object"
        for key, value in environ.items()
        if key not in OWN
    }
    answer = json.dumps({"environ": seen, "body": body.hex()}).encode()
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]
"""
"""Tells all that it was told, but what is each server's own."""


def start(group: Group, threads: int) -> Server:
    return Server.start(
        APP,
        "--threads",
        str(threads),
        config={"keepalive": 30, **group.settings},
        env=group.environment,
        binds=(group.bind,),
    )


@pytest.mark.parametrize("name", [group.name for group in GROUPS])
def test_both_ways_say_the_same(name: str) -> None:
    group = next(group for group in GROUPS if group.name == name)
    different, ends = [], set()
    with start(group, 1) as inline, start(group, 4) as threaded:
        for sent in group.cases():
            # Half-closed behind the tail, so that one that is incomplete comes to its end.
            case = Case(sent.family, sent.octets, cut=True)
            one, other = hear(inline, case), hear(threaded, case)
            ends.add(one.octets[9:12])
            if one != other:
                different.append(f"{case}\n inline: {one}\n threads: {other}\n")
    # Two servers that refuse everything would be equal too.
    assert b"200" in ends
    assert not different, f"{len(different)} cases differ\n\n" + "\n".join(different[:TOLD])
