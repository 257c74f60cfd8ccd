"""Names of hosts on the loop: looking them up keeps nobody waiting."""

from meinheld import patch

patch.patch_all()

import contextlib  # noqa: E402
import socket  # noqa: E402
import threading  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from typing import Any  # noqa: E402

from apps.behaviours import Behaviours, raises, together  # noqa: E402

from meinheld import green_dns  # noqa: E402

behaviour = Behaviours()
app = behaviour.serve


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
