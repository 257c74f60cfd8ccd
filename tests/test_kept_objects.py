"""What an application keeps of a request stays that request's, whatever comes after it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from harness import OURS, Server, eventually, request

APP = """
import gc
import weakref

kept = {}
known = weakref.WeakKeyDictionary()


def parts(environ, start_response, write):
    return {
        "environ": environ,
        "input": environ["wsgi.input"],
        "read": environ["wsgi.input"].read,
        "start_response": start_response,
        "owner": getattr(start_response, "__self__", start_response),
        "write": write,
        "early_hints": environ.get("wsgi.early_hints"),
        "socket": environ.get("gunicorn.socket"),
        "disconnected": environ.get("meinheld.disconnected"),
    }


def app(environ, start_response):
    what = environ["QUERY_STRING"]
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    mine = parts(environ, start_response, write)
    if environ["PATH_INFO"] == "/weak":
        return [weakly(mine[what])]
    if environ["PATH_INFO"] == "/templates":
        remembered = [d for d in gc.get_objects() if type(d) is dict and "HTTP_X_SECRET" in d]
        return [b"%d" % sum(d is not environ for d in remembered)]
    if environ["PATH_INFO"] == "/keep":
        kept[what] = mine[what]
        return [b"kept"]
    if environ["PATH_INFO"] == "/is":
        return [b"the same" if mine[what] is kept[what] else b"another"]
    if environ["PATH_INFO"] == "/late":
        return [late(what).encode()]
    return [environ["wsgi.input"].read()]


def weakly(thing):
    try:
        seen = known.get(thing)
        known[thing] = "seen"
    except TypeError:
        return b"never seen"
    return (seen or "never seen").encode()


def late(what):
    thing = kept[what]
    try:
        if what in ("environ", "input"):
            given = thing["wsgi.input"] if what == "environ" else thing
            return given.read().decode() or "nothing"
        if what == "read":
            return thing().decode() or "nothing"
        if what == "write":
            thing(b"out of turn")
        if what == "start_response":
            thing("200 OK", [])
        if what == "owner":
            getattr(thing, "start_response", thing)("200 OK", [])
        if what == "early_hints":
            thing([("Link", "out of turn")])
        if what == "socket":
            thing.getpeername()
        if what == "disconnected":
            return str(thing())
    except Exception as error:
        return type(error).__name__
    return "nothing"
"""
PARTS = {
    "environ": b"of the first",
    "input": b"of the first",
    "read": b"of the first",
    "start_response": b"AssertionError",
    "owner": b"AssertionError",
    "write": b"ConnectionResetError",
    "early_hints": b"nothing",
    "socket": b"OSError",
    "disconnected": b"True",
}
"""What a request can be kept by, and what comes of using that when the request is over."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start(APP, "--keep-alive", "30") as server:
        yield server


@pytest.mark.skipif(not OURS, reason="others have other objects")
@pytest.mark.parametrize("what", PARTS)
def test_a_later_request_does_not_get_it(server: Server, what: str) -> None:
    with server.client() as client:
        for path, answer in ("keep", b"kept"), ("is", b"another"), ("is", b"another"):
            client.send(request("POST", f"/{path}?{what}", body=b"of the first"))
            assert client.response().body == answer


@pytest.mark.skipif(not OURS, reason="others have other objects")
@pytest.mark.parametrize("what", PARTS)
def test_using_it_late_concerns_no_later_request(server: Server, what: str) -> None:
    with server.client() as client:
        client.send(request("POST", f"/keep?{what}", body=b"of the first"))
        assert client.response().body == b"kept"
        client.send(request("POST", "/", body=b"of the second"))
        assert client.response().body == b"of the second"
        client.send(request("POST", f"/late?{what}", body=b"of the third"))
        assert client.response().body == PARTS[what]
        client.send(request("POST", "/", body=b"of the fourth"))
        assert client.response().body == b"of the fourth"
        assert client.rest() == b""


@pytest.mark.skipif(not OURS, reason="others have other objects")
@pytest.mark.parametrize("what", PARTS)
def test_no_request_is_taken_for_an_earlier_one(server: Server, what: str) -> None:
    """Not even by who holds no reference that counts."""
    with server.client() as client:
        for _ in range(5):
            client.send(request("GET", f"/weak?{what}"))
            assert client.response().body == b"never seen"


@pytest.mark.skipif(not OURS, reason="it is about our own memory")
def test_what_a_connection_has_said_is_forgotten_when_it_is_idle(server: Server) -> None:
    with server.client() as talker, server.client() as observer:
        for _ in range(4):
            talker.send(request("GET", "/?read", {"X-Secret": "of the idle"}))
            assert talker.response().status == 200

        def remembered() -> int:
            observer.send(request("GET", "/templates?read"))
            return int(observer.response().body)

        assert remembered() > 0
        eventually(lambda: remembered() == 0, "the fields are forgotten")
