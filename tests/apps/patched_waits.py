"""`select`, `poll` and `sleep` on the loop."""

from meinheld import patch

patch.patch_all()

import errno  # noqa: E402
import fcntl  # noqa: E402
import resource  # noqa: E402
import select  # noqa: E402
import selectors  # noqa: E402
import socket  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from functools import partial  # noqa: E402
from typing import Any  # noqa: E402

from apps.behaviours import Behaviours, raises, together  # noqa: E402
from apps.socket_pairs import fill, pair  # noqa: E402

from meinheld import green_waits  # noqa: E402

behaviour = Behaviours()
app = behaviour.serve


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
