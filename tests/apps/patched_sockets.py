"""Sockets, names and `select` on the loop. Whatever kept the loop from running the other greenlet
would never end."""

import socket

EARLIER = socket.socketpair()
"""Made before the patch."""
from socket import socket as HeldClass  # noqa: E402

from meinheld import patch  # noqa: E402

patch.patch_all()

import contextlib  # noqa: E402
import errno  # noqa: E402
import fcntl  # noqa: E402
import os  # noqa: E402
import resource  # noqa: E402
import select  # noqa: E402
import selectors  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from functools import partial  # noqa: E402
from typing import Any, TypeVar  # noqa: E402

from apps.behaviours import Behaviours, together  # noqa: E402
from apps.notes import note  # noqa: E402

from meinheld import green_dns, green_waits, msocket  # noqa: E402

Error = TypeVar("Error", bound=Exception)
behaviour = Behaviours()
app = behaviour.serve

BIG = bytes(range(256)) * 20_000
"""More than any socket's buffers."""


@contextlib.contextmanager
def pair(timeout: float | None = None) -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        one.settimeout(timeout)
        other.settimeout(timeout)
        yield one, other


def raises(kind: type[Error], function: Callable[[], object]) -> Error:
    try:
        function()
    except kind as error:
        assert type(error) is kind, repr(error)
        return error
    raise AssertionError(f"{kind} was not raised")


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


def fill(one: socket.socket) -> int:
    """Send until there is no room; returns how many octets that took."""
    timeout = one.gettimeout()
    one.settimeout(0)
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            count += one.send(b"x" * 65536)
    with contextlib.suppress(BlockingIOError):
        while True:
            count += one.send(b"x")
    one.settimeout(timeout)
    return count


def receive_all(one: socket.socket, count: int) -> int:
    received = 0
    while received < count:
        received += len(one.recv(count - received))
    return received


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
def datagrams_go_to_names() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as one, socket.socket(type=socket.SOCK_DGRAM) as two:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
        for send in (
            lambda: two.sendto(b"x", ("localhost", port)),
            lambda: two.sendto(b"x", 0, ("localhost", port)),
            lambda: two.sendmsg([b"x"], [], 0, ("localhost", port)),
        ):
            (data, _), sent = together(lambda: one.recvfrom(9), send)
            assert (data, sent) == (b"x", 1)


@contextlib.contextmanager
def instead_of(name: str, function: Callable[..., Any]) -> Iterator[Any]:
    original = getattr(green_dns, name)
    setattr(green_dns, name, function)
    try:
        yield original
    finally:
        setattr(green_dns, name, original)


@behaviour
def names_are_looked_up_in_another_thread() -> None:
    asked, answered = threading.Event(), threading.Event()

    def look_up(*arguments: Any) -> Any:
        asked.set()
        assert answered.wait(30)
        assert threading.current_thread() is not threading.main_thread()
        return original(*arguments)

    def answer() -> None:
        asked.wait()
        answered.set()

    with (
        instead_of("_getaddrinfo", look_up) as original,
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket() as one,
    ):
        address = ("localhost", listener.getsockname()[1])
        assert together(lambda: one.connect(address), answer) == [None, None]
        asked.clear()
        answered.clear()
        found, _ = together(lambda: socket.getaddrinfo("localhost", 80), answer)
        assert found


@behaviour
def many_lookups_take_few_threads() -> None:
    threads = set()
    original = green_dns._gethostbyname

    def look_up(name: str) -> str:
        threads.add(threading.get_ident())
        return original(name)

    with instead_of("_gethostbyname", look_up):
        look: Callable[[], str] = lambda: socket.gethostbyname("localhost")  # noqa: E731
        assert together(*[look] * 100) == ["127.0.0.1"] * 100
    assert 1 <= len(threads) <= green_dns.THREADS


@behaviour
def a_numeric_host_is_not_looked_up() -> None:
    def look_up(*arguments: Any) -> Any:
        assert threading.current_thread() is threading.main_thread()
        return original(*arguments)

    with instead_of("_getaddrinfo", look_up) as original:
        for host in ("127.0.0.1", "::1", "fe80::1%lo", b"127.0.0.1", "", None):
            with contextlib.suppress(socket.gaierror):
                assert socket.getaddrinfo(host, 80)


@behaviour
def an_unknown_name_is_the_standard_error() -> None:
    error = raises(socket.gaierror, lambda: socket.getaddrinfo("localhost", "no-such-service"))
    assert error.errno == socket.EAI_SERVICE
    assert socket.gethostbyaddr("127.0.0.1")[2] == ["127.0.0.1"]
    assert socket.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST)[0] == "127.0.0.1"


@behaviour
def select_and_poll_wait_for_one_of_many() -> None:
    with pair() as (one, other), pair() as (two, _), pair() as (full, _):
        fill(full)

        def by_poll() -> list[tuple[int, int]]:
            poll = select.poll()
            poll.register(one, select.POLLIN)
            poll.register(two.fileno(), select.POLLIN | select.POLLPRI)
            poll.register(full, select.POLLIN)
            poll.modify(full, select.POLLOUT)
            poll.register(other)
            poll.unregister(other)
            return poll.poll()

        def by_poll_with_time() -> list[tuple[int, int]]:
            poll = select.poll()
            poll.register(one, select.POLLIN)
            return poll.poll(30_000)

        def by_selector() -> list[int]:
            with selectors.PollSelector() as selector:
                selector.register(one, selectors.EVENT_READ)
                selector.register(full, selectors.EVENT_WRITE)
                return [key.fd for key, _ in selector.select()]

        waits: list[tuple[Callable[[], object], object]] = [
            (lambda: select.select([one, two], [full], [one]), ([one], [], [])),
            (lambda: select.select([one.fileno()], [], [], 30), ([one.fileno()], [], [])),
            (by_poll, [(one.fileno(), select.POLLIN)]),
            (by_poll_with_time, [(one.fileno(), select.POLLIN)]),
            (by_selector, [one.fileno()]),
        ]
        for wait, ready in waits:
            assert together(wait, lambda: other.send(b"x")) == [ready, 1]
            assert one.recv(1) == b"x"


@behaviour
def select_and_poll_time_out() -> None:
    with pair() as (one, _), pair() as (two, _):
        poll = select.poll()
        poll.register(one, select.POLLIN)
        assert poll.poll(1) == []
        poll.register(two, select.POLLIN)
        assert poll.poll(1) == [] and poll.poll(0) == []
        assert select.select([one], [], [], 0.001) == ([], [], [])
        assert select.select([one, two], [], [], 0.001) == ([], [], [])
        assert select.select([one], [], [], 0) == ([], [], [])
        assert select.select([], [], [], 0.001) == ([], [], [])
    assert raises(ValueError, lambda: select.select([one], [], [], 1))


@behaviour
def select_takes_descriptors_beyond_the_systems_bound() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    with pair() as (one, other):
        number = fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 1024)
        with socket.socket(fileno=number) as high:
            assert select.select([high], [high], [], 0) == ([], [high], [])
            wait = partial(select.select, [high, one], [], [number])
            assert together(wait, lambda: other.send(b"x")) == [([high, one], [], []), 1]
            other.close()
            assert select.select([], [number], [high], 30) == ([], [number], [])
        error = raises(OSError, lambda: select.select([number], [], [], 0))
        assert error.errno == errno.EBADF
    assert raises(ValueError, lambda: select.select([number, -1], [], [], 0))


@behaviour
def select_looks_once_at_what_has_only_hung_up() -> None:
    original, looks = green_waits._original_select, 0

    def look(*arguments: Any) -> Any:
        nonlocal looks
        looks += 1
        return original(*arguments)

    green_waits._original_select = look
    try:
        with pair() as (one, gone), pair() as (two, other), tempfile.TemporaryFile() as file:
            gone.close()
            assert select.select([], [], [one], 0.1) == ([], [], [])
            exceptional: list[Any] = [one, file]
            wait = partial(select.select, [two], [], exceptional)
            assert together(wait, lambda: other.send(b"x")) == [([two], [], []), 1]
    finally:
        green_waits._original_select = original
    # One that spins looks some thousand times.
    assert looks < 20


@behaviour
def sleep_lets_others_run() -> None:
    order: list[str] = []

    def sleeper() -> None:
        order.append("sleeps")
        time.sleep(0.001)
        order.append("wakes")

    together(sleeper, lambda: order.append("other"))
    assert order == ["sleeps", "other", "wakes"]
    raises(ValueError, lambda: time.sleep(-1))
    raises(ValueError, lambda: time.sleep(float("nan")))
    raises(OverflowError, lambda: time.sleep(float("inf")))
    raises(TypeError, lambda: time.sleep("1"))  # type: ignore[arg-type]


@behaviour
def the_end_of_the_server_ends_the_wait() -> None:
    with pair() as (one, _):
        try:
            note("waits")
            one.recv(1)
        finally:
            note("ended")


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
