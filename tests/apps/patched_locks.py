"""Locks and queues on the loop, among greenlets and between them and threads."""

import queue
import threading

OLD_LOCK = threading.Lock()
OLD_RLOCK = threading.RLock()
OLD_CONDITION = threading.Condition()
OLD_EVENT = threading.Event()
OLD_QUEUE: "queue.Queue[int]" = queue.Queue(1)
"""Made before the patch."""

from meinheld import patch  # noqa: E402

patch.patch_all()

import time  # noqa: E402
from collections.abc import Callable  # noqa: E402
from functools import partial  # noqa: E402
from typing import Any  # noqa: E402

from apps.behaviours import Behaviours, together  # noqa: E402
from apps.real_threads import LONG, in_thread, threads_switch_often  # noqa: E402

behaviour = Behaviours()
app = behaviour.serve


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
