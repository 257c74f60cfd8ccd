"""What is in greenlets of examples/: the long-poll chat and the clock with 1,000 clients each, and
the echo."""

from __future__ import annotations

import contextlib
import json
import resource
from collections.abc import Callable, Iterator

import pytest
from harness import OURS, Client, Server, request
from standalone import Standalone
from support import EXAMPLES, gunicorn
from websocket_peer import Peer

CLIENTS = 1000

pytestmark = [
    pytest.mark.own_threads,
    pytest.mark.skipif(not OURS, reason="the examples name this worker"),
]


@pytest.fixture(autouse=True)
def enough_descriptors() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4 * CLIENTS, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(params=["gunicorn", "standalone"])
def example(request: pytest.FixtureRequest) -> Callable[[str], Server]:
    """Starts an application of examples/ in greenlets, the one way and the other."""

    def start(app: str) -> Server:
        if request.param == "standalone":
            env = {"MEINHELD_GREEN": "1", "PYTHONPATH": str(EXAMPLES)}
            return Standalone.start(None, app, "--bind", "127.0.0.1:0", module="meinheld", env=env)
        settings = ["--chdir", str(EXAMPLES), "--worker-connections", str(CLIENTS + 10)]
        return gunicorn(app, *settings, env={"MEINHELD_GREEN": "1"})

    return start


@contextlib.contextmanager
def clients(server: Server, target: str) -> Iterator[list[Client]]:
    """So many who have asked for the same."""
    with contextlib.ExitStack() as stack:
        everybody = [stack.enter_context(server.client()) for _ in range(CLIENTS)]
        for client in everybody:
            client.send(request("GET", target))
        yield everybody


def test_what_one_says_a_thousand_hear(example: Callable[[str], Server]) -> None:
    with example("long_poll:app") as server, clients(server, "/messages?after=0") as everybody:
        # Whose request has not been read yet is answered at once, with the same.
        assert server.get("/").status == 200
        with server.client() as speaker:
            assert speaker.request("POST", "/say", {"Content-Length": "5"}, b"hello").status == 200
        heard = [json.loads(client.response().body) for client in everybody]
        assert heard == [["hello"]] * CLIENTS


def test_a_thousand_see_the_clock_tick(example: Callable[[str], Server]) -> None:
    with example("sse_clock:app") as server, clients(server, "/events") as everybody:
        for client in everybody:
            for _ in ("at once", "after a second"):
                client.read_until(b"data: ")


def test_the_echo_sends_every_message_back(example: Callable[[str], Server]) -> None:
    with example("websocket_echo:app") as server:
        with Peer.open(server, "/") as peer:
            for message in ("text", b"binary"):
                peer.say(message)
                assert peer.hear() == message
            peer.leave()
        assert server.get("/").status == 426
