"""Who runs on the loop: locals, idents, threads, imports, loops of asyncio and forks."""

import concurrent.futures

OLD_POOL = concurrent.futures.ThreadPoolExecutor(2)
"""Made before the patch."""

from meinheld import patch  # noqa: E402

patch.patch_all()

import asyncio  # noqa: E402
import contextlib  # noqa: E402
import gc  # noqa: E402
import importlib  # noqa: E402
import os  # noqa: E402
import queue  # noqa: E402
import socket  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402
import weakref  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from functools import partial  # noqa: E402
from typing import Any  # noqa: E402

from apps.behaviours import Behaviours, together  # noqa: E402
from apps.real_threads import LONG, in_thread, threads_switch_often  # noqa: E402
from greenlet import greenlet  # noqa: E402

behaviour = Behaviours()
app = behaviour.serve


@behaviour
def each_greenlet_has_a_local_of_its_own() -> None:
    class Local(threading.local):
        made = 0

        def __init__(self, start: int) -> None:
            type(self).made += 1
            self.value = start

        @property
        def double(self) -> int:
            return int(self.value * 2)

    local = Local(1)

    def change(value: int) -> tuple[int, int, dict[str, Any]]:
        assert local.value == 1
        local.value = value
        time.sleep(0)
        return local.value, local.double, dict(local.__dict__)

    assert together(lambda: change(2), lambda: change(3)) == [
        (2, 4, {"value": 2}),
        (3, 6, {"value": 3}),
    ]
    seen: list[int] = []
    in_thread(lambda: seen.append(local.value)).join()
    assert (local.value, seen, Local.made) == (1, [1], 4)
    del local.value
    assert not hasattr(local, "value")
    try:
        threading.local(1)  # type: ignore[call-arg]
    except TypeError:
        return
    raise AssertionError("arguments for nobody")


@behaviour
def what_a_local_holds_ends_with_it() -> None:
    class Held:
        pass

    local = threading.local()

    local.held = Held()
    held = weakref.ref(local.held)
    assert held() is not None
    local = threading.local()
    gc.collect()
    assert held() is None


@behaviour
def what_a_local_holds_ends_with_the_task() -> None:
    class Held:
        pass

    local = threading.local()

    def task() -> tuple[weakref.ref[Held], int]:
        assert not vars(local), "left by the task before"
        local.held = Held()
        return weakref.ref(local.held), threading.get_ident()

    # A greenlet whose task is done gets the next.
    (one, ident), (other, another) = together(task)[0], together(task)[0]
    time.sleep(0)
    assert (one(), other()) == (None, None)
    assert ident != another


@behaviour
def each_greenlet_has_an_ident_and_all_the_thread() -> None:
    def ident() -> int:
        time.sleep(0)
        return threading.get_ident()

    one, other = together(ident, ident)
    assert len({one, other, threading.get_ident()}) == 3
    assert together(threading.current_thread) == [threading.main_thread()]
    seen: list[object] = []
    thread = in_thread(lambda: seen.extend([threading.get_ident(), threading.current_thread()]))
    thread.join()
    assert seen == [thread.ident, thread]
    assert not any(isinstance(one, threading._DummyThread) for one in threading.enumerate())


@behaviour
def a_thread_is_joined_without_keeping_the_loop() -> None:
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    thread.join(0.001)
    assert thread.is_alive()
    assert together(thread.join, lambda: thread.join(LONG), end.set) == [None] * 3
    assert not thread.is_alive()
    thread.join()


@behaviour
def pools_of_threads_work_for_greenlets() -> None:
    def work(number: int) -> int:
        time.sleep(0.001)
        return number * number

    def ask() -> list[int]:
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            return list(pool.map(work, range(20)))

    def ask_the_old_one() -> list[int]:
        return [OLD_POOL.submit(work, number).result(LONG) for number in range(20)]

    with threads_switch_often():
        results = together(*[ask] * 5, *[ask_the_old_one] * 5)
    assert results == [[number * number for number in range(20)]] * 10


@contextlib.contextmanager
def module(text: str) -> Iterator[str]:
    """The name of a new module."""
    with tempfile.TemporaryDirectory() as directory:
        name = f"imported_{os.path.basename(directory)}"
        with open(os.path.join(directory, f"{name}.py"), "w") as file:
            file.write(text)
        sys.path.insert(0, directory)
        importlib.invalidate_caches()
        try:
            yield name
        finally:
            sys.path.remove(directory)
            del sys.modules[name]


@behaviour
def a_module_is_imported_whole() -> None:
    with module("import time\ntime.sleep(0.001)\nVALUE = 7\n") as name:

        def use() -> int:
            return int(importlib.import_module(name).VALUE)

        assert together(use, use) == [7, 7]


@behaviour
def what_is_imported_gets_the_lock_of_another_greenlet() -> None:
    text = "import threading\nwith threading.held_by_a_test:\n    pass\n"
    for lock in (threading.Lock(), threading.RLock()):
        threading.held_by_a_test = lock  # type: ignore[attr-defined]

        def hold(lock: Any = lock) -> None:
            with lock:
                time.sleep(0)

        with module(text) as name:
            together(hold, partial(importlib.import_module, name))
            assert name in sys.modules
    del threading.held_by_a_test  # type: ignore[attr-defined]


@behaviour
def a_loop_of_asyncio_runs_whole() -> None:
    async def main() -> int:
        await asyncio.sleep(0.001)
        time.sleep(0.001)
        threading.Thread(target=lambda: None).start()
        return await asyncio.to_thread(lambda: 7)

    assert together(lambda: asyncio.run(main()), lambda: asyncio.run(main())) == [7, 7]


@behaviour
def a_coroutine_waits_for_what_another_greenlet_ends() -> None:
    lock: Any = threading.Lock()
    end, items = threading.Event(), queue.SimpleQueue[int]()

    def hold() -> None:
        with lock:
            # Both coroutines come to the lock meanwhile, each in a loop of its own.
            time.sleep(0.001)
        time.sleep(0.001)
        items.put(3)
        items.put(3)
        time.sleep(0.001)
        end.set()

    async def main() -> int:
        loop = asyncio.get_running_loop()
        with lock:
            await asyncio.sleep(0)
        item = items.get()
        in_thread(end.wait).join(LONG)
        assert end.is_set() and asyncio.get_running_loop() is loop
        return item

    assert together(hold, lambda: asyncio.run(main()), lambda: asyncio.run(main())) == [None, 3, 3]
    assert sys.get_asyncgen_hooks() == (None, None)


@behaviour
def a_recursive_lock_keeps_a_coroutine_of_another_greenlet_out() -> None:
    lock, order = threading.RLock(), list[str]()

    def hold() -> None:
        with lock:
            time.sleep(0.001)
            order.append("held")

    async def main() -> None:
        with lock:
            # As SQLAlchemy does for what is no coroutine.
            greenlet(once_more).switch()

    def once_more() -> None:
        with lock:
            order.append("taken")

    assert together(hold, lambda: asyncio.run(main())) == [None, None]
    assert order == ["held", "taken"] and lock.acquire(blocking=False)


@behaviour
def a_forked_child_blocks_as_ever() -> None:
    lock, end = threading.RLock(), threading.Event()
    local = threading.local()

    def wait() -> None:
        with lock:
            end.wait()

    def fork() -> int:
        local.value = 7
        with lock:
            pid = os.fork()
            if pid:
                end.set()
                return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        status = 1
        try:
            status = child()
        finally:
            os._exit(status)

    def child() -> int:
        assert threading.current_thread() is threading.main_thread()
        assert threading.get_ident() == threading.main_thread().ident
        assert local.value == 7
        time.sleep(0.001)
        with lock:
            one, other = socket.socketpair()
            thread = in_thread(lambda: other.send(b"x"))
            assert one.recv(1) == b"x"
            thread.join()
        assert socket.gethostbyname("localhost") == "127.0.0.1"
        return 0

    end.clear()
    # The second waits in line for the lock while the first forks.
    assert together(fork, wait) == [0, None]
