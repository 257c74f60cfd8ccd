"""The application raises wherever the server calls into it, beyond the callable itself and its
generator (test_application_errors.py): a 500 while no head has left, an aborted connection
afterwards, `close()` exactly once, and the worker lives."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from harness import Server, Truncated, request
from wellness import assert_serves, unharmed

ERRORS = [
    "ValueError",
    "Outermost",
    "SystemExit",
    "KeyboardInterrupt",
    "GeneratorExit",
    "MemoryError",
    "AttributeError",
    "OSError",
    "RecursionError",
]
REFUSED = {
    "in_iter": 1,
    "in_first_next": 1,
    "in_next_and_close": 1,
    "in_iter_and_close": 1,
    "in_str_of_a_header": 0,
    "in_str_of_a_status": 0,
    "in_iterating_headers": 0,
    "in_unpacking_a_header": 0,
    "in_the_size_of_a_read": 0,
    "in_the_iterable_of_early_hints": 0,
    "in_str_of_what_wsgi_errors_is_given": 0,
    "in_the_lines_for_wsgi_errors": 0,
    "after_the_environ_was_emptied": 0,
    "in_len_of_what_write_is_given": 0,
    "in_first_read": 1,
}
"""No head has left: a 500. The number is how often `close()` is called."""
ABORTED = {
    "in_second_next": 1,
    "in_second_next_of_some_length": 1,
    "in_second_next_and_close": 1,
    "in_exc_info_behind_the_head": 0,
    "in_write_behind_a_block": 0,
    "in_second_read": 1,
}
"""The head has left: the client must not take what it has for all."""
COMPLETE = {
    "in_close": 1,
    "in_close_of_chunks": 1,
    "in_looking_up_close": 1,
    "in_len": 1,
    "in_del": 1,
    "in_del_of_a_block": 1,
    "in_del_of_the_environ": 1,
    "in_a_header_that_is_a_str": 1,
    "in_close_of_a_file": 1,
    "in_close_of_a_sent_file": 1,
}
"""What fails has nothing to do with the answer, or comes after it."""
EITHER = {
    "in_finally": 1,
    "in_exc_info_before_the_head": 1,
    "behind_the_promised_length": 1,
    "in_next_of_no_content": 1,
    "in_fileno": 1,
    "in_file_of_a_sent_file": 1,
    "in_fileno_of_a_sent_file": 1,
    "in_tell_of_a_sent_file": 1,
}
"""Whether that is looked at is the server's affair; an answer is complete or a 500 or broken."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server.start("apps.raising:app", "--keep-alive", "60") as server:
        yield server


@pytest.fixture(autouse=True)
def worker_lives_on(server: Server) -> Iterator[None]:
    pid = server.worker_pid()
    yield
    assert_serves(server)
    assert server.worker_pid() == pid


def assert_closes(server: Server, before: int, times: int) -> None:
    if times:
        server.wait_for_note("closed", before + times)
    assert_serves(server)
    assert server.notes().count("closed") == before + times


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("place", REFUSED)
def test_while_no_head_has_left_it_is_a_500(server: Server, place: str, error: str) -> None:
    before, said = server.notes().count("closed"), server.stderr_text().count("Traceback")
    with server.client() as client:
        response = client.request("GET", f"/{place}?{error}")
        assert response.status == 500
        assert response.header("Connection") == "close"
        assert b"secret" not in response.body
        assert client.is_closed_by_peer()
    server.wait_for_log("Traceback", said + 1)
    assert_closes(server, before, REFUSED[place])


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("place", ABORTED)
def test_once_the_head_has_left_the_connection_is_aborted(
    server: Server, place: str, error: str
) -> None:
    before, said = server.notes().count("closed"), server.stderr_text().count("Traceback")
    with server.client() as client:
        client.send(request("GET", f"/{place}?{error}") + request("GET", "/well"))
        with pytest.raises((Truncated, ConnectionError)):
            client.response()
    server.wait_for_log("Traceback", said + 1)
    assert_closes(server, before, ABORTED[place])


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("place", COMPLETE)
def test_beside_the_answer_it_changes_nothing_for_the_client(
    server: Server, place: str, error: str
) -> None:
    before = server.notes().count("closed")
    with server.client() as client:
        response = client.request("GET", f"/{place}?{error}")
        assert (response.status, response.body) == (200, b"blocks")
        assert client.request("GET", "/well").status == 200
    assert_closes(server, before, COMPLETE[place])


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("place", EITHER)
def test_elsewhere_the_answer_is_whole_or_visibly_not(
    server: Server, place: str, error: str
) -> None:
    before = server.notes().count("closed")
    with server.client() as client:
        try:
            response = client.request("GET", f"/{place}?{error}")
        except (Truncated, ConnectionError):
            pass
        else:
            assert response.status == 500 or response.body in (b"blocks", b"")
            assert response.status != 200 or response.body == b"blocks"
    assert_closes(server, before, EITHER[place])


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("place", [*REFUSED, *ABORTED, *COMPLETE, *EITHER])
def test_so_it_is_for_http_1_0(server: Server, place: str, method: str) -> None:
    before = server.notes().count("closed")
    with server.client() as client:
        client.send(request(method, f"/{place}?ValueError", version="HTTP/1.0"))
        if place in ABORTED and method == "GET":
            with pytest.raises((Truncated, ConnectionError)):
                client.response(method)
        elif place in REFUSED:
            # Nobody who speaks HTTP/1.0 gets early hints: that iterable is not looked at.
            hints = place == "in_the_iterable_of_early_hints"
            assert client.response(method).status == (200 if hints else 500)
        elif place in COMPLETE:
            response = client.response(method)
            assert response.status == 200
            assert response.body == (b"blocks" if method == "GET" else b"")
    assert_closes(server, before, {**REFUSED, **ABORTED, **COMPLETE, **EITHER}[place])


@pytest.mark.parametrize("place", [*REFUSED, *ABORTED, *COMPLETE])
def test_so_it_is_for_head(server: Server, place: str) -> None:
    before = server.notes().count("closed")
    with server.client() as client:
        client.send(request("HEAD", f"/{place}?ValueError"))
        if place in ABORTED:
            # The head is all of this answer; what failed behind it still ends the connection.
            with contextlib.suppress(Truncated, ConnectionError):
                assert client.response("HEAD").status in (200, 500)
                assert client.is_closed_by_peer()
        else:
            assert client.response("HEAD").status == (500 if place in REFUSED else 200)
    assert_closes(server, before, {**REFUSED, **ABORTED, **COMPLETE}[place])


def test_none_of_all_this_keeps_a_descriptor(server: Server) -> None:
    with unharmed(server, tracebacks=None):
        for place in (*REFUSED, *ABORTED, *COMPLETE, *EITHER):
            with server.client() as client, contextlib.suppress(ConnectionError):
                client.send(request("GET", f"/{place}?ValueError", {"Connection": "close"}))
                client.read_until_closed()
