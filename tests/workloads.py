"""Requests whose cost is counted, for `apps.measured`."""

from __future__ import annotations

from harness import Client, Server, request

HELLO = request("GET", "/")
BROWSER = request(
    "GET",
    "/",
    {
        "Host": "www.example.com",
        "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
        "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "Accept-Language": "en-US,en;q=0.5",
        "Accept-Encoding": "gzip, deflate, br, zstd",
        "Connection": "keep-alive",
        "Cookie": "sessionid=5e2f8a91c0d34b6f; theme=dark",
        "Upgrade-Insecure-Requests": "1",
        "Sec-Fetch-Dest": "document",
        "Sec-Fetch-Mode": "navigate",
        "Sec-Fetch-Site": "none",
    },
)
"""A browser's eleven header lines."""
LARGE = 100 * 1024
"""Octets of a larger body."""
POST = request("POST", "/post", body=bytes(1024))
LARGE_POST = request("POST", "/post", body=bytes(LARGE))
MEMORY = request("GET", "/memory")
FILE = request("GET", "/file")
WARM_UP = 50
"""Requests after which a worker and its connection have what they keep."""


def ask(client: Client, what: bytes, count: int = 1) -> None:
    """One request after another on one connection, each answered whole before the next is sent."""
    for _ in range(count):
        client.send(what)
        assert client.response().status == 200


def warmed(server: Server, what: bytes) -> Client:
    """A connection that has asked for this before."""
    client = server.client()
    ask(client, what, WARM_UP)
    return client
