"""Requests sent ahead of their answers: all served, in order, at any depth (RFC 9112 section
9.3.2)."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from harness import Client, Server, chunked, request

DEPTH = 500


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start("apps.echo:app", "--keep-alive", "30") as server:
        yield server


def mixed(number: int) -> tuple[bytes, bytes, str]:
    """The request of that number, its answer's body, its method: plain, with a length, chunked and
    HEAD by turns."""
    target, body = f"/{number}", b"body %d\r\n" % number * (number % 7)
    if number % 4 == 1:
        return (
            request("POST", target, body=body) if body else request("GET", target),
            (b"POST" if body else b"GET") + b" /%d\n" % number + body,
            "POST",
        )
    if number % 4 == 2:
        return (
            request("PUT", target, {"Transfer-Encoding": "chunked"}, chunked(b"a", body or b"b")),
            b"PUT /%d\na" % number + (body or b"b"),
            "PUT",
        )
    if number % 4 == 3:
        return request("HEAD", target), b"", "HEAD"
    return request("GET", target), b"GET /%d\n" % number, "GET"


def assert_answers(client: Client, numbers: range) -> None:
    for number in numbers:
        _, body, method = mixed(number)
        assert client.response(method).body == body, f"answer {number}"


def test_five_hundred_requests_in_one_write_are_answered_in_order(server: Server) -> None:
    with server.client() as client:
        client.send(b"".join(mixed(number)[0] for number in range(DEPTH)))
        assert_answers(client, range(DEPTH))
        assert client.rest() == b""


@pytest.mark.parametrize("size", [1, 7, 61, 1000])
def test_where_the_stream_is_cut_does_not_matter(server: Server, size: int) -> None:
    stream = b"".join(mixed(number)[0] for number in range(40))
    with server.client() as client:
        for start in range(0, len(stream), size):
            client.send(stream[start : start + size])
        assert_answers(client, range(40))
        assert client.rest() == b""


def test_far_more_requests_than_the_buffers_hold_are_all_answered(server: Server) -> None:
    count = 20_000
    with server.client() as client:
        sender = threading.Thread(
            target=client.send,
            args=(b"".join(request("GET", f"/{number}") for number in range(count)),),
        )
        sender.start()
        for number in range(count):
            assert client.response().body == b"GET /%d\n" % number
        sender.join()


def test_the_last_request_may_arrive_in_part(server: Server) -> None:
    last = request("POST", "/last", body=b"0123456789")
    with server.client() as client:
        client.send(request("GET", "/first") + last[:-4])
        assert client.response().body == b"GET /first\n"
        client.send(last[-4:])
        assert client.response().body == b"POST /last\n0123456789"


def test_a_body_that_the_application_leaves_unread_is_not_taken_for_a_request() -> None:
    ignoring = """
def app(environ, start_response):
    path = environ["PATH_INFO"].encode()
    start_response("200 OK", [("Content-Length", str(len(path)))])
    return [path]
"""
    smuggled = request("GET", "/smuggled")
    with Server.start(ignoring, "--keep-alive", "30") as server, server.client() as client:
        client.send(
            request("POST", "/one", body=smuggled)
            + request("POST", "/two", {"Transfer-Encoding": "chunked"}, chunked(smuggled))
        )
        client.send(request("GET", "/three"))
        assert [client.response().body for _ in range(3)] == [b"/one", b"/two", b"/three"]
        assert client.rest() == b""


def test_a_client_that_never_reads_its_answers_is_not_read_without_bound() -> None:
    generous = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "65536")])
    return [bytes(65536)]
"""
    with (
        Server.start(generous, "--keep-alive", "30") as server,
        server.client(timeout=2) as client,
        pytest.raises(TimeoutError),
    ):
        client.send(request() * 500_000)
