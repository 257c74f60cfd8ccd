"""TLS on the loop, both ends of it in one worker: whichever kept the loop would wait for ever."""

import ssl
from pathlib import Path

CERTIFICATE = Path(__file__).resolve().parent.parent / "tls" / "localhost.pem"


def client_context() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(CERTIFICATE))


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


EARLIER = client_context(), server_context()
"""Made before the patch."""

from meinheld import patch  # noqa: E402

patch.patch_all()

import contextlib  # noqa: E402
import errno  # noqa: E402
import socket  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402

from apps.behaviours import Behaviours, raises, together  # noqa: E402
from apps.socket_pairs import BIG, receive_all  # noqa: E402

behaviour = Behaviours()
app = behaviour.serve


@contextlib.contextmanager
def connection(
    timeout: float | None = None,
    earlier: bool = False,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> Iterator[tuple[ssl.SSLSocket, ssl.SSLSocket]]:
    """A client's and a server's end, both of which have shaken hands."""
    for_client, for_server = EARLIER if earlier else (client_context(), server_context())
    for_client.maximum_version = version
    one, other = socket.socketpair()
    one.settimeout(timeout)
    other.settimeout(timeout)
    client, server = together(
        lambda: for_client.wrap_socket(one, server_hostname="localhost"),
        lambda: for_server.wrap_socket(other, server_side=True),
    )
    with client, server:
        yield client, server


@behaviour
def both_ends_shake_hands() -> None:
    for timeout in (None, 30.0):
        for earlier in (False, True):
            with connection(timeout, earlier) as (client, server):
                assert client.gettimeout() == server.gettimeout() == timeout
                assert client.version() == server.version() == "TLSv1.3"


@behaviour.with_and_without_timeout
def reading_and_writing_wait(timeout: float | None) -> None:
    with connection(timeout) as (client, server):
        buffer = bytearray(2)
        ways: list[tuple[Callable[[], object], object]] = [
            (lambda: client.recv(9), b"hi"),
            (lambda: client.read(9), b"hi"),
            (lambda: client.recv_into(buffer), 2),
        ]
        for receive, received in ways:
            assert together(receive, lambda: server.send(b"hi")) == [received, 2]
            assert together(receive, lambda: server.write(b"hi")) == [received, 2]
        results = together(lambda: client.sendall(BIG), lambda: receive_all(server, len(BIG)))
        assert results == [None, len(BIG)]


@behaviour.with_and_without_timeout
def who_never_has_to_wait_lets_others_run(timeout: float | None) -> None:
    with connection(timeout) as (client, server):
        over: list[bool] = []

        def talk() -> None:
            while not over:
                client.sendall(b"x")
                server.recv(1)

        together(talk, lambda: over.append(True))


def close_the_layer(version: ssl.TLSVersion) -> None:
    with connection(version=version) as (client, server):
        one, other = together(client.unwrap, server.unwrap)
        with one, other:
            assert together(lambda: one.recv(1), lambda: other.send(b"x")) == [b"x", 1]


@behaviour
def both_ends_close_the_layer() -> None:
    close_the_layer(ssl.TLSVersion.TLSv1_2)
    close_the_layer(ssl.TLSVersion.TLSv1_3)


@behaviour
def a_timeout_is_the_standard_error() -> None:
    with connection() as (client, _):
        client.settimeout(0.01)
        error = raises(TimeoutError, lambda: client.recv(1))
        assert str(error) == "The read operation timed out"
        error = raises(TimeoutError, lambda: client.sendall(BIG))
        assert str(error) == "The write operation timed out"
    one, other = socket.socketpair()
    with one, other:
        one.settimeout(0.01)
        error = raises(
            TimeoutError, lambda: client_context().wrap_socket(one, server_hostname="localhost")
        )
        assert "handshake operation timed out" in str(error)


@behaviour
def without_blocking_it_asks_to_wait() -> None:
    with connection() as (client, _):
        client.setblocking(False)
        raises(ssl.SSLWantReadError, lambda: client.recv(1))
        assert client.gettimeout() == 0.0


@behaviour
def a_certificate_is_verified() -> None:
    one, other = socket.socketpair()
    error, _ = together(
        lambda: ssl.create_default_context().wrap_socket(one, server_hostname="localhost"),
        lambda: server_context().wrap_socket(other, server_side=True),
    )
    assert type(error) is ssl.SSLCertVerificationError
    other.close()


@behaviour
def the_end_is_read() -> None:
    with connection() as (client, server):
        assert together(lambda: client.recv(1), server.close) == [b"", None]


@behaviour
def what_is_closed_ends_the_wait_for_it() -> None:
    with connection() as (client, _):
        error, _ = together(lambda: client.recv(1), client.close)
        assert type(error) is OSError and error.errno == errno.EBADF


@behaviour
def a_listener_of_tls_accepts() -> None:
    context = server_context()
    with context.wrap_socket(socket.create_server(("127.0.0.1", 0)), server_side=True) as listener:
        address = listener.getsockname()

        def connect() -> ssl.SSLSocket:
            plain = socket.create_connection(address)
            return client_context().wrap_socket(plain, server_hostname="localhost")

        (server, _), client = together(listener.accept, connect)
        with server, client:
            assert together(lambda: server.recv(1), lambda: client.send(b"x")) == [b"x", 1]


@behaviour
def one_reads_while_another_writes() -> None:
    with connection() as (client, server):

        def write() -> None:
            client.sendall(BIG)

        def echo() -> None:
            received = 0
            while received < len(BIG):
                data = server.recv(65536)
                received += len(data)
                server.sendall(data)
                time.sleep(0)

        results = together(lambda: receive_all(client, len(BIG)), write, echo)
        assert results == [len(BIG), None, None]
