"""Sockets on the loop. Whatever kept the loop from running the other greenlet would never end."""

import socket

EARLIER = socket.socketpair()
"""Made before the patch."""
from socket import socket as HeldClass  # noqa: E402

from meinheld import patch  # noqa: E402

patch.patch_all()

import contextlib  # noqa: E402
import errno  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from functools import partial  # noqa: E402

from apps.behaviours import Behaviours, raises, together  # noqa: E402
from apps.socket_pairs import BIG, fill, pair, receive_all  # noqa: E402

from meinheld import msocket  # noqa: E402

behaviour = Behaviours()
app = behaviour.serve


@behaviour.with_and_without_timeout
def every_way_to_receive_waits(timeout: float | None) -> None:
    with pair(timeout) as (one, other):
        buffer = bytearray(2)
        ways: list[tuple[Callable[[], object], object]] = [
            (lambda: one.recv(9), b"hi"),
            (lambda: one.recvfrom(9)[0], b"hi"),
            (lambda: one.recvmsg(9)[0], b"hi"),
            (lambda: one.recv_into(buffer), 2),
            (lambda: one.recvfrom_into(buffer)[0], 2),
            (lambda: one.recvmsg_into([buffer])[0], 2),
        ]
        for receive, received in ways:
            assert together(receive, lambda: other.send(b"hi")) == [received, 2]
        assert buffer == b"hi"


@behaviour.with_and_without_timeout
def every_way_to_send_waits(timeout: float | None) -> None:
    with pair(timeout) as (one, other):
        ways: list[Callable[[], object]] = [
            lambda: one.send(b"x"),
            lambda: one.sendmsg([b"x"]),
            lambda: one.sendall(b"x"),
        ]
        for send in ways:
            count = fill(one) + 1
            assert together(send, partial(receive_all, other, count))[1] == count


@behaviour.with_and_without_timeout
def sendall_sends_more_than_there_is_room_for(timeout: float | None) -> None:
    with pair(timeout) as (one, other):
        received = bytearray()

        def receive() -> None:
            while len(received) < len(BIG):
                received.extend(other.recv(65536))

        assert together(lambda: one.sendall(BIG), receive) == [None, None]
        assert received == BIG


@behaviour
def sendfile_waits() -> None:
    with pair() as (one, other), tempfile.TemporaryFile() as file:
        file.write(BIG)
        file.seek(0)
        results = together(lambda: one.sendfile(file), lambda: receive_all(other, len(BIG)))
        assert results == [len(BIG), len(BIG)]


@behaviour
def a_file_of_a_socket_waits() -> None:
    with pair() as (one, other), one.makefile("rb") as file, other.makefile("wb") as out:

        def write() -> None:
            for line in (b"one\n", b"two\n"):
                out.write(line)
                out.flush()
                time.sleep(0)

        assert together(lambda: [file.readline(), file.readline()], write)[0] == [
            b"one\n",
            b"two\n",
        ]


@behaviour.with_and_without_timeout
def accept_and_connect_wait(timeout: float | None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(timeout)
        address = listener.getsockname()
        (one, peer), other = together(
            listener.accept, lambda: socket.create_connection(address, timeout)
        )
        with one, other:
            assert peer == other.getsockname()
            assert one.gettimeout() is None
            assert other.gettimeout() == timeout
            assert together(lambda: one.recv(1), lambda: other.send(b"x")) == [b"x", 1]


@behaviour.with_and_without_timeout
def a_refused_connection_is_the_standard_error(timeout: float | None) -> None:
    with socket.socket() as unused, socket.socket() as one, socket.socket() as other:
        unused.bind(("127.0.0.1", 0))
        address = unused.getsockname()
        one.settimeout(timeout)
        other.settimeout(timeout)
        error = raises(ConnectionRefusedError, lambda: one.connect(address))
        assert str(error) == "[Errno 111] Connection refused"
        assert other.connect_ex(address) == errno.ECONNREFUSED


@behaviour
def a_full_backlog_of_a_unix_socket_is_waited_for() -> None:
    path = tempfile.mktemp(prefix="meinheld-test-")
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as connected:
        listener.bind(path)
        listener.listen(0)
        count = 0
        while True:
            one = connected.enter_context(socket.socket(socket.AF_UNIX))
            one.settimeout(0)
            if one.connect_ex(path):
                break
            count += 1
        last = connected.enter_context(socket.socket(socket.AF_UNIX))

        def accept() -> int:
            return len([connected.enter_context(listener.accept()[0]) for _ in range(count + 1)])

        assert together(lambda: last.connect(path), accept) == [None, count + 1]
    os.unlink(path)


@behaviour
def a_timeout_is_the_standard_error() -> None:
    with pair(0.01) as (one, _), socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.01)
        fill(one)
        for wait in (
            lambda: one.recv(1),
            lambda: one.recv_into(bytearray(1)),
            lambda: one.recvmsg(1),
            lambda: one.send(b"x"),
            lambda: one.sendall(b"x"),
            listener.accept,
        ):
            error = raises(TimeoutError, wait)
            assert isinstance(error, socket.timeout)
            assert str(error) == "timed out" and error.errno is None


@behaviour
def without_blocking_nothing_waits() -> None:
    with pair(0.0) as (one, _), socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        fill(one)
        for attempt in (
            lambda: one.recv(1),
            lambda: one.recvfrom(1),
            lambda: one.sendall(b"x"),
            lambda: one.sendmsg([b"x"]),
            listener.accept,
        ):
            assert raises(BlockingIOError, attempt).errno == errno.EAGAIN
        with socket.socket() as other:
            other.setblocking(False)
            assert other.connect_ex(listener.getsockname()) == errno.EINPROGRESS
    with pair() as (one, _):
        raises(BlockingIOError, lambda: one.recv(1, socket.MSG_DONTWAIT))
        assert one.gettimeout() is None


@behaviour.with_and_without_timeout
def nothing_is_received_at_once(timeout: float | None) -> None:
    with pair(timeout) as (one, _):
        assert one.recv(0) == b""
        assert one.recv_into(bytearray()) == 0
        raises(ValueError, lambda: one.recv(-1))
        raises(ValueError, lambda: one.recv_into(bytearray(1), -1))


@behaviour
def waitall_waits_for_all() -> None:
    with pair() as (one, other):

        def send() -> None:
            for octet in (b"a", b"b", b"c"):
                other.send(octet)
                time.sleep(0)

        assert together(lambda: one.recv(3, socket.MSG_WAITALL), send)[0] == b"abc"
        assert together(lambda: one.recv(9, socket.MSG_WAITALL), lambda: other.close())[0] == b""


@behaviour.with_and_without_timeout
def what_is_closed_ends_the_wait_for_it(timeout: float | None) -> None:
    with pair(timeout) as (one, _):
        error, _ = together(lambda: one.recv(1), one.close)
        assert type(error) is OSError and error.errno == errno.EBADF
        assert raises(OSError, lambda: one.recv(1)).errno == errno.EBADF


@behaviour
def another_thread_may_close_what_is_waited_for() -> None:
    with pair() as (one, _):
        error, _ = together(lambda: one.recv(1), lambda: threading.Thread(target=one.close).start())
        assert type(error) is OSError and error.errno == errno.EBADF


@behaviour.with_and_without_timeout
def several_greenlets_wait_for_one_socket(timeout: float | None) -> None:
    with pair(timeout) as (one, other):

        def receive() -> bytes:
            return one.recv(1)

        def send() -> None:
            for octet in (b"a", b"b", b"c"):
                other.send(octet)
                time.sleep(0)

        assert sorted(together(receive, receive, receive, send)[:3]) == [b"a", b"b", b"c"]


@behaviour.with_and_without_timeout
def who_never_has_to_wait_lets_others_run(timeout: float | None) -> None:
    with pair(timeout) as (one, other):
        over: list[bool] = []

        def talk() -> None:
            while not over:
                one.sendall(b"x")
                other.recv(1)

        together(talk, lambda: over.append(True))


@behaviour
def what_is_older_than_the_patch_waits() -> None:
    one, other = EARLIER
    assert together(lambda: one.recv(1), lambda: other.send(b"x")) == [b"x", 1]
    assert HeldClass is socket.socket and isinstance(one, socket.socket)


@behaviour
def threads_block_as_ever() -> None:
    with pair() as (one, other):
        received: list[bytes] = []
        thread = threading.Thread(target=lambda: received.append(one.recv(1)))
        thread.start()
        other.send(b"x")
        thread.join()
        assert received == [b"x"]


@behaviour
def a_thread_and_a_greenlet_accept_from_one_listener() -> None:
    stop = threading.Event()
    errors: list[Exception] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            try:
                while not stop.is_set():
                    listener.accept()[0].close()
            except Exception as error:
                errors.append(error)

        def connect() -> None:
            for _ in range(100):
                with socket.create_connection(listener.getsockname(), 30) as one:
                    assert one.recv(1) == b""
            stop.set()
            # One for each that still waits.
            for _ in range(2):
                socket.create_connection(listener.getsockname(), 30).close()

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            thread = threading.Thread(target=accept)
            thread.start()
            assert together(accept, connect) == [None, None]
            thread.join()
        finally:
            sys.setswitchinterval(interval)
        assert errors == []
        assert listener.gettimeout() is None and os.get_blocking(listener.fileno())


@behaviour
def a_thread_that_meets_an_accept_of_a_greenlet_waits() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        # What a greenlet does for one call.
        os.set_blocking(listener.fileno(), False)
        accepted: list[socket.socket] = []
        thread = threading.Thread(target=lambda: accepted.append(listener.accept()[0]))
        thread.start()
        with socket.create_connection(listener.getsockname(), 30) as one:
            thread.join()
            assert [other.getpeername() for other in accepted] == [one.getsockname()]
        accepted[0].close()


@behaviour
def msocket_has_sockets_of_its_own() -> None:
    one, other = msocket.socketpair()
    with one, other, msocket.fromfd(one.fileno(), one.family, one.type) as again:
        assert type(one) is type(again) is msocket.socket
        assert together(lambda: again.recv(1), lambda: other.send(b"x")) == [b"x", 1]
        assert together(lambda: msocket.wait_read(one.fileno(), 30), lambda: other.send(b"x")) == [
            None,
            1,
        ]
        msocket.wait_write(one.fileno())
        assert one.recv(1) == b"x"
        raises(TimeoutError, lambda: msocket.wait_read(one.fileno(), 0.01))
    with msocket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        accepted, client = together(
            listener.accept, lambda: socket.create_connection(listener.getsockname())
        )
        with accepted[0], client:
            assert type(accepted[0]) is msocket.socket
            assert accepted[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
