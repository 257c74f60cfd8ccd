"""Locks, queues, locals and threads on the loop, among greenlets and between them and threads."""

import concurrent.futures
import queue
import threading

OLD_LOCK = threading.Lock()
OLD_RLOCK = threading.RLock()
OLD_CONDITION = threading.Condition()
OLD_EVENT = threading.Event()
OLD_QUEUE: "queue.Queue[int]" = queue.Queue(1)
OLD_POOL = concurrent.futures.ThreadPoolExecutor(2)
"""Made before the patch."""

from meinheld import patch  # noqa: E402

patch.patch_all()

import asyncio  # noqa: E402
import contextlib  # noqa: E402
import gc  # noqa: E402
import importlib  # noqa: E402
import os  # noqa: E402
import socket  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
import weakref  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402
from functools import partial  # noqa: E402
from typing import Any  # noqa: E402

from apps.behaviours import Behaviours, together  # noqa: E402
from greenlet import greenlet  # noqa: E402

behaviour = Behaviours()
app = behaviour.serve

LONG = 30
"""Seconds that no wait takes when all is well."""


def in_thread(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


@contextlib.contextmanager
def threads_switch_often() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


@behaviour
def a_greenlet_waits_for_the_lock_of_another() -> None:
    for lock in (threading.Lock(), threading.RLock()):
        order: list[str] = []

        def hold(lock: Any = lock, order: list[str] = order) -> None:
            with lock:
                order.append("one has it")
                time.sleep(0.005)
                order.append("one frees it")

        def take(lock: Any = lock, order: list[str] = order) -> None:
            assert not lock.acquire(False)
            assert not lock.acquire(timeout=0.001)
            with lock:
                order.append("another has it")

        assert together(hold, take, take) == [None] * 3
        assert order == ["one has it", "one frees it", "another has it", "another has it"]


@behaviour
def who_waits_longest_gets_the_lock() -> None:
    lock = threading.Lock()
    order: list[int] = []

    def take(number: int) -> None:
        for _ in range(3):
            with lock:
                order.append(number)
                time.sleep(0)

    together(lambda: take(1), lambda: take(2), lambda: take(3))
    assert order == [1, 2, 3] * 3


@behaviour
def a_lock_refuses_what_the_standard_one_does() -> None:
    lock = threading.Lock()
    wrongs: list[tuple[Callable[[], object], type[Exception]]] = [
        (lambda: lock.acquire(False, 1), ValueError),
        (lambda: lock.acquire(True, -2), ValueError),
        (lambda: lock.acquire(True, 1e300), OverflowError),
        (lock.release, RuntimeError),
        (threading.RLock().release, RuntimeError),
    ]
    for wrong, kind in wrongs:
        try:
            wrong()
        except kind:
            continue
        raise AssertionError(kind)
    assert not lock.locked() and lock.acquire(timeout=0) and lock.locked()
    assert not lock.acquire(timeout=0)


@behaviour
def a_thread_frees_what_a_greenlet_waits_for() -> None:
    lock = threading.Lock()
    lock.acquire()
    together(lambda: lock.acquire(timeout=LONG), lambda: in_thread(lock.release))
    assert lock.locked()


@behaviour
def a_greenlet_frees_what_a_thread_waits_for() -> None:
    lock, waits, got = threading.Lock(), threading.Event(), threading.Event()
    lock.acquire()

    def thread() -> None:
        waits.set()
        with lock:
            got.set()

    in_thread(thread)
    assert waits.wait(LONG)
    lock.release()
    assert got.wait(LONG)


@behaviour
def no_wake_up_is_lost() -> None:
    lock, count = threading.Lock(), 0

    def add() -> None:
        nonlocal count
        for turn in range(200):
            with lock:
                seen = count
                if turn % 50 == 0:
                    time.sleep(0)
                count = seen + 1

    def impatient() -> None:
        for _ in range(50):
            if lock.acquire(timeout=1e-5):
                lock.release()

    with threads_switch_often():
        threads = [in_thread(add) for _ in range(3)]
        assert together(*[add] * 10, *[impatient] * 3) == [None] * 13
        for thread in threads:
            thread.join(LONG)
            assert not thread.is_alive()
    assert count == 13 * 200
    assert not lock.locked()


@behaviour
def a_recursive_lock_belongs_to_one_greenlet() -> None:
    lock = threading.RLock()

    def hold() -> None:
        with lock, lock:
            time.sleep(0.001)
            assert lock._is_owned()  # type: ignore[attr-defined]

    def other() -> None:
        assert not lock.acquire(False)
        assert not lock._is_owned()  # type: ignore[attr-defined]
        try:
            lock.release()
        except RuntimeError:
            return
        raise AssertionError("released what is another's")

    assert together(hold, other, hold) == [None] * 3


@behaviour
def conditions_wake_greenlets_and_threads() -> None:
    for condition in (threading.Condition(), threading.Condition(threading.Lock()), OLD_CONDITION):
        woken: list[bool] = []

        def wait(condition: Any = condition, woken: list[bool] = woken) -> None:
            with condition:
                woken.append(condition.wait(LONG))

        def wake(condition: Any = condition) -> None:
            with condition:
                condition.notify()

        assert together(wait, wake) == [None, None]
        together(wait, partial(in_thread, wake))
        assert woken == [True, True]
        with condition:
            assert not condition.wait(0.001)


@behaviour
def a_timeout_may_be_as_long_as_the_standard_one() -> None:
    event, lock = threading.Event(), threading.Lock()
    with lock:
        assert together(
            lambda: event.wait(threading.TIMEOUT_MAX),
            lambda: lock.acquire(timeout=threading.TIMEOUT_MAX),
            event.set,
            lock.release,
        ) == [True, True, None, None]


@behaviour
def events_and_semaphores_wait() -> None:
    for event in (threading.Event(), OLD_EVENT):
        wait = partial(event.wait, LONG)
        assert together(wait, event.set) == [True, None]
        event.clear()
        assert together(wait, partial(in_thread, event.set))[0]
        event.clear()
        assert not event.wait(0.001)
    semaphore = threading.Semaphore(0)
    assert together(lambda: semaphore.acquire(timeout=LONG), semaphore.release) == [True, None]
    barrier = threading.Barrier(3)
    assert sorted(together(*[lambda: barrier.wait(LONG)] * 3)) == [0, 1, 2]


@behaviour
def queues_wait() -> None:
    queues: list[Any] = [queue.Queue(1), OLD_QUEUE, queue.LifoQueue(1), queue.SimpleQueue()]
    for items in queues:
        get: Callable[[], int] = partial(items.get, timeout=LONG)
        assert together(get, partial(items.put, 7)) == [7, None]
        got, _ = together(items.get, partial(in_thread, partial(items.put, 8)))
        assert got == 8
        try:
            items.get(timeout=0.001)
        except queue.Empty:
            continue
        raise AssertionError("there was nothing in it")
    full: queue.Queue[int] = queue.Queue(1)
    full.put(1)
    assert together(lambda: full.put(2, timeout=LONG), full.get) == [None, 1]


@behaviour
def a_simple_queue_serves_greenlets_and_threads() -> None:
    items: queue.SimpleQueue[int] = queue.SimpleQueue()
    taken: list[int] = []

    def take() -> None:
        for _ in range(100):
            taken.append(items.get(timeout=LONG))

    def put() -> None:
        for number in range(100):
            items.put(number)
            if number % 10 == 0:
                time.sleep(0)

    with threads_switch_often():
        threads = [in_thread(take), in_thread(put), in_thread(put)]
        assert together(take, take, put, take, put) == [None] * 5
        for thread in threads:
            thread.join(LONG)
    assert sorted(taken) == sorted(list(range(100)) * 4)
    assert items.empty()


@behaviour
def locks_that_are_older_than_the_patch_work() -> None:
    with OLD_LOCK, OLD_RLOCK:
        taken: list[bool] = []
        in_thread(lambda: taken.append(OLD_LOCK.acquire(False) or OLD_RLOCK.acquire(False))).join()
        assert taken == [False]
    assert not OLD_LOCK.locked()


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
