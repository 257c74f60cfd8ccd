"""Thousands of connections that do nothing, and a client that behaves."""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Iterator

from harness import Client, request

REQUEST = request("GET", "/")
ENDS_WITH = b"\r\n\r\nHello, world!\n"
PATIENCE = 5.0
"""Seconds for an answer; after them the client counts as shut out."""


class ShutOut(Exception):
    """A client got no answer."""


def ask(client: Client, count: int) -> None:
    """One request after another, each answered whole before the next is sent."""
    sock = client.socket
    for _ in range(count):
        sock.sendall(REQUEST)
        answer = b""
        while not answer.endswith(ENDS_WITH):
            block = sock.recv(4096)
            if not block:
                raise ShutOut("the connection was closed")
            answer += block


@contextlib.contextmanager
def crowd(port: int, count: int, half_sent: bool = False) -> Iterator[list[Client]]:
    """Connections that do nothing: half-sent requests, or idle ones whose only request has been
    answered. They end by a reset, so that no port is left waiting for the next round."""
    clients: list[Client] = []
    try:
        for _ in range(count):
            client = Client(("127.0.0.1", port), PATIENCE)
            clients.append(client)
            if half_sent:
                client.send(REQUEST[:-2])
            else:
                ask(client, 1)
        yield clients
    finally:
        for client in clients:
            client.reset()


def raise_descriptor_limit(needed: int) -> None:
    """Ours, and so that of the servers we start: each end of a connection is a descriptor."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        sys.exit(f"RLIMIT_NOFILE is {hard}: {needed} descriptors are needed")
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
