"""What `WebSocketMiddleware` is given, and where it can be used."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from harness import OURS, Server, eventually, open_files, request, settled
from websocket_peer import HANDSHAKE, Peer

pytestmark = [
    pytest.mark.own_threads,
    pytest.mark.skipif(not OURS, reason="it needs this worker"),
]

WRONG = {
    "protocols": ("chat", "protocols = 'chat': not strings. Accepted: a list of strings."),
    "protocols that are none": (3, "protocols = 3: not strings. Accepted: a list of strings."),
    "origins": ([1], "origins = [1]: not strings. Accepted: a list of strings."),
    "max_message_size": (0, "max_message_size = 0: out of range. Accepted: 1 or more."),
    "max_pending": (1.5, "max_pending = 1.5: not a number. Accepted: 1 or more."),
    "ping_interval": (0, "ping_interval = 0: out of range. Accepted: seconds, more than 0."),
    "ping_timeout": (None, "ping_timeout = None: not a time. Accepted: seconds, more than 0."),
    "close_timeout": ("1", "close_timeout = '1': not a time. Accepted: seconds, more than 0."),
}


@pytest.mark.parametrize(("name", "case"), WRONG.items(), ids=WRONG.keys())
def test_an_argument_that_means_nothing_is_refused(name: str, case: tuple[Any, str]) -> None:
    from meinheld.middleware import WebSocketMiddleware

    value, message = case
    with pytest.raises((TypeError, ValueError)) as raised:
        WebSocketMiddleware(lambda environ, start_response: [], **{name.split()[0]: value})
    assert str(raised.value) == message


@pytest.mark.parametrize("origin", ["*", "example.org", "https://example.org/", "https://"])
def test_an_origin_that_no_browser_would_send_is_refused(origin: str) -> None:
    from meinheld.middleware import WebSocketMiddleware

    with pytest.raises(ValueError) as raised:
        WebSocketMiddleware(lambda environ, start_response: [], origins=["null", origin])
    assert str(raised.value).startswith(f"origins: {origin!r} never matches. Accepted: as in 'http")


def test_without_greenlet_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from meinheld.middleware import WebSocketMiddleware

    monkeypatch.setitem(sys.modules, "greenlet", None)
    with pytest.raises(ImportError) as raised:
        WebSocketMiddleware(lambda environ, start_response: [])
    assert str(raised.value) == (
        "WebSocketMiddleware needs greenlet: pip install 'meinheld[green]'"
    )


HANDLER = """
from meinheld.websocket import WebSocketWSGI


def handler(ws):
    ws.send(ws.path)


app = WebSocketWSGI(handler, ping_interval=None)
"""


def test_websocket_wsgi_calls_a_handler_and_refuses_the_rest() -> None:
    with Server.start(HANDLER) as server:
        with Peer.open(server, "/path") as peer:
            assert peer.hear() == "/path"
        assert server.get().status == 400


FOR_EACH_REQUEST = """
from meinheld.websocket import WebSocketWSGI

def handler(ws):
    while (message := ws.wait()) is not None:
        ws.send(message)

WebSocketWSGI(handler)

def app(environ, start_response):
    return WebSocketWSGI(handler)(environ, start_response)
"""


def test_an_application_may_make_one_for_each_request() -> None:
    with Server.start(FOR_EACH_REQUEST) as server:

        def talk() -> None:
            with Peer.open(server) as peer:
                peer.say("again")
                assert peer.hear() == "again"
                peer.leave()

        talk()
        pid = server.worker_pid()
        before = settled(lambda: len(open_files(pid)))
        for _ in range(10):
            talk()
        eventually(lambda: len(open_files(pid)) == before, "no descriptor is left behind")


def test_gunicorns_own_workers_answer_500_and_say_why() -> None:
    settings = json.dumps({})
    with (
        Server.start(
            "apps.websockets:app", worker="sync", env={"TEST_WEBSOCKETS": settings}
        ) as server,
        server.client() as client,
    ):
        client.send(request(target="/echo", headers=HANDSHAKE))
        assert client.response().status == 500
        server.wait_for_log("RuntimeError: WebSocketMiddleware needs the meinheld worker")
        assert server.get("/plain").status == 200
