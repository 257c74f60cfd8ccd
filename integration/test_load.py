"""The load's own test: against servers that go wrong in one way each, it says so.

A load that overlooked a lost request would make every other test of it worthless.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator

import pytest
from harness import eventually
from load import Load, Report

Answer = Callable[[socket.socket, bytes], None]


def right(target: bytes, body: bytes = b"") -> bytes:
    """The whole right answer to a target of the load, as sites.load_site gives it."""
    matched = re.search(rb"token=([^&]+)&times=(\d+)", target)
    assert matched
    content = (matched[1] + b" " + body + b"\n") * int(matched[2])
    return b"HTTP/1.1 200 OK\r\nX-Worker: 1\r\nContent-Length: %d\r\n\r\n%b" % (
        len(content),
        content,
    )


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def well(peer: socket.socket, request: bytes) -> None:
    peer.sendall(right(request))


def without_an_answer(peer: socket.socket, request: bytes) -> None:
    peer.shutdown(socket.SHUT_RDWR)


def with_a_reset(peer: socket.socket, request: bytes) -> None:
    reset(peer)


def with_half_a_body(peer: socket.socket, request: bytes) -> None:
    peer.sendall(right(request)[:-1])
    peer.shutdown(socket.SHUT_RDWR)


def with_somebody_elses_body(peer: socket.socket, request: bytes) -> None:
    peer.sendall(right(request).replace(b"client", b"cliemt"))


def with_503(peer: socket.socket, request: bytes) -> None:
    peer.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")


def with_stray_bytes(peer: socket.socket, request: bytes) -> None:
    peer.sendall(right(request) + b"HTTP/1.1 408 Request Timeout\r\n\r\n")


def then_resets_the_idle_connection(peer: socket.socket, request: bytes) -> None:
    # In the order on the wire: the whole answer, then an RST.
    peer.sendall(right(request))
    peer.recv(1, socket.MSG_PEEK) if b"close" in request else reset(peer)


def then_closes_the_idle_connection(peer: socket.socket, request: bytes) -> None:
    peer.sendall(right(request))
    peer.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def server(answer: Answer) -> Iterator[tuple[str, int]]:
    """Answers bodiless requests with `answer`, and ends a connection that asked for that."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve(peer: socket.socket) -> None:
            with peer, contextlib.suppress(OSError):
                while request := peer.recv(65536):
                    answer(peer, request)
                    if b"Connection: close" in request:
                        return

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = listener.accept()
                    threading.Thread(target=serve, args=(peer,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listener.getsockname()[:2]
        finally:
            listener.shutdown(socket.SHUT_RDWR)


def outcome(answer: Answer, keep_alive: int, short: int, pause: float = 0.005) -> Report:
    with server(answer) as address, Load(address, keep_alive, short, pause, bodies=False) as load:
        eventually(
            lambda: len((report := load.report()).failures) >= 5 or report.requests >= 50,
            "an outcome",
        )
    return load.report()


@pytest.mark.parametrize(("keep_alive", "short"), [(2, 0), (0, 2)], ids=["keep-alive", "short"])
def test_a_server_that_answers_well_has_no_failures(keep_alive: int, short: int) -> None:
    report = outcome(well, keep_alive, short)
    report.raise_for_failures()
    assert report.requests >= 50
    assert report.connections == (2 if keep_alive else report.requests)


def test_a_connection_that_is_closed_while_idle_is_no_failure() -> None:
    # A close that crosses the next request on its way is a failure, and rightly, so the clients
    # leave time for it: then most closes find the connection idle.
    report = outcome(then_closes_the_idle_connection, 2, 0, pause=0.1)
    assert report.reconnected >= 10


@pytest.mark.parametrize(("keep_alive", "short"), [(2, 0), (0, 2)], ids=["keep-alive", "short"])
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (without_an_answer, "got no whole answer"),
        (with_a_reset, "got no whole answer|could not be sent"),
        (with_half_a_body, "got no whole answer"),
        (with_somebody_elses_body, "are not the"),
        (with_503, "got 503"),
        (with_stray_bytes, "bytes that nobody asked for|bytes after the response"),
    ],
)
def test_a_server_that_answers_wrongly_has_failures(
    answer: Answer, said: str, keep_alive: int, short: int
) -> None:
    report = outcome(answer, keep_alive, short)
    assert len(report.failures) >= 5
    assert all(re.search(said, failure.what) for failure in report.failures), report.failures
    with pytest.raises(AssertionError, match="requests failed"):
        report.raise_for_failures()


def test_a_reset_of_an_idle_connection_is_a_failure() -> None:
    report = outcome(then_resets_the_idle_connection, 2, 0)
    assert len(report.failures) >= 5


def test_a_refused_connection_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()[:2]
    with Load(address, 1, 1) as load:
        eventually(lambda: len(load.report().failures) >= 5, "failures")
    assert "cannot connect" in load.report().failures[0].what
