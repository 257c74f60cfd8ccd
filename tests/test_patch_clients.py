"""The clients of upstreams wait for them all at once, in one worker that is patched."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator

import pytest
from harness import Client, Server, request
from upstreams import (
    CERTIFICATE,
    HttpsUpstream,
    HttpUpstream,
    MysqlUpstream,
    RedisUpstream,
    Upstream,
)

pytestmark = pytest.mark.own_threads

APP = "apps.patched_clients:app"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory(prefix="meinheld-test-") as directory:
        env = {"CERTIFICATE": str(CERTIFICATE), "TEST_DIRECTORY": directory}
        with Server.start(APP, "--threads", "1", env=env) as server:
            yield server


def ask_at_once(server: Server, target: str, times: int) -> set[tuple[int, str]]:
    """The answers to so many requests, on connections of their own."""
    with contextlib.ExitStack() as stack:
        clients: list[Client] = [stack.enter_context(server.client()) for _ in range(times)]
        for client in clients:
            client.send(request("GET", target))
        responses = [client.response() for client in clients]
    return {(response.status, response.text) for response in responses}


@pytest.mark.parametrize(
    ("library", "kind", "answer"),
    [
        ("requests", HttpUpstream, "200 /asked"),
        ("requests_tls", HttpsUpstream, "200 /asked"),
        ("redis", RedisUpstream, "its own key"),
        ("pymysql", MysqlUpstream, "((1,),)"),
    ],
)
def test_requests_wait_for_their_upstream_at_once(
    server: Server, library: str, kind: type[Upstream], answer: str
) -> None:
    with kind.serving(gathers=5) as upstream:
        answers = ask_at_once(server, f"/{library}/{upstream.port}", 10)
    assert answers == {(200, answer)}
    assert upstream.most_open >= 5


def test_requests_wait_for_the_connections_of_a_pool(server: Server) -> None:
    assert ask_at_once(server, "/sqlalchemy/0", 20) == {(200, "one session")}


def test_two_hundred_clients_take_the_time_of_one(server: Server) -> None:
    with HttpUpstream.serving(gathers=200) as upstream:
        answers = ask_at_once(server, f"/chain/{upstream.port}", 200)
    assert answers == {(200, "/0 /1 /2")}
    assert upstream.most_open == 200


def test_without_the_patch_they_take_turns() -> None:
    with (
        HttpUpstream.serving() as upstream,
        Server.start(APP, "--threads", "1", env={"PATCHED": "0"}) as server,
    ):
        answers = ask_at_once(server, f"/chain/{upstream.port}", 20)
    assert answers == {(200, "/0 /1 /2")}
    assert upstream.most_open == 1
