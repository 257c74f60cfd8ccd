"""Django with PostgreSQL under application threads.

Django has a connection for each thread, and gives it back (`CONN_MAX_AGE`) on `request_finished`,
which the response's `close()` sends. So a request that changed its thread between its call and its
`close()`, or whose `close()` never came, would leave a connection behind, which PostgreSQL tells.
"""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from harness import Client, Server, eventually, request
from load import Load
from postgresql import PostgreSQL
from support import gunicorn, replaced

pytestmark = [pytest.mark.own_threads, pytest.mark.timeout(120)]

THREADS = 8
KEPT = 600
"""A CONN_MAX_AGE in seconds that no test outlasts."""
CLOSED = 0
"""The CONN_MAX_AGE with which a connection ends with its request: Django's default."""
LOCK = 1
ENDLESS = 10_000_000
"""Lines that no client here reads to their end."""


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    with PostgreSQL() as running:
        yield running


@pytest.fixture
def database(postgresql: PostgreSQL) -> PostgreSQL:
    """The server with an empty table."""
    with postgresql.connect() as connection:
        connection.execute("DROP TABLE IF EXISTS entry")
        connection.execute("CREATE TABLE entry (id bigserial PRIMARY KEY, text text NOT NULL)")
    return postgresql


def start(database: PostgreSQL, max_age: int, *args: str) -> Server:
    return gunicorn(
        "sites.postgresql_site:application",
        *("--threads", str(THREADS), "--keep-alive", "60", *args),
        env={"SITE_DATABASE": str(database.directory), "SITE_MAX_AGE": str(max_age)},
    )


def start_patched(database: PostgreSQL) -> Server:
    """One thread; PostgreSQL's client waits by `select.poll`, which gives the loop up."""
    return gunicorn(
        "sites.patched_site:application",
        *("--threads", "1", "--keep-alive", "60"),
        env={
            "SITE_DATABASE": str(database.directory),
            "SITE_MAX_AGE": str(CLOSED),
            "PSYCOPG_WAIT_FUNC": "wait_poll",
        },
    )


def connections(database: PostgreSQL, worker: int) -> set[int]:
    """The server's processes behind a worker's connections."""
    return {backend.pid for backend in database.backends(f"site {worker}")}


def waiting(database: PostgreSQL, worker: int) -> int:
    """How many queries of a worker wait for a lock."""
    return sum(backend.waits_for_lock for backend in database.backends(f"site {worker}"))


@contextlib.contextmanager
def clients(server: Server, count: int) -> Iterator[list[Client]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(server.client()) for _ in range(count)]


def answer(client: Client) -> dict[str, Any]:
    response = client.response()
    assert response.status == 200, response
    found: dict[str, Any] = json.loads(response.body)
    return found


def everyone(database: PostgreSQL, server: Server, asking: list[Client]) -> dict[int, int]:
    """Each thread and its connection: all of them wait in a query at once, then answer."""
    worker = server.worker_pid()
    with database.locked(LOCK):
        for client in asking:
            client.send(request(target=f"/wait/{LOCK}"))
        eventually(lambda: waiting(database, worker) == THREADS, f"{THREADS} queries wait")
        # Whoever else asked has no thread yet, and so no connection.
        assert len(connections(database, worker)) == THREADS
    return {seen["thread"]: seen["backend"] for seen in map(answer, asking)}


def begin_stream(client: Client) -> int:
    """Reads an endless response up to its first lines; returns its connection's process."""
    client.send(request(target=f"/rows/{ENDLESS}"))
    client.read_until(b"\r\n\r\n")
    first = client.read_until(b"\n") + client.read_until(b"\n")
    client.read_until(b"." * 1000)
    return int(first.split()[1])


# Kept connections


def test_each_thread_keeps_one_connection_and_no_more_are_opened(database: PostgreSQL) -> None:
    with start(database, KEPT) as server, clients(server, 3 * THREADS) as asking:
        kept = everyone(database, server, asking)
        assert len(kept) == len(set(kept.values())) == THREADS
        for _ in range(20):
            for client in asking:
                client.send(request())
            for seen in map(answer, asking):
                assert kept[seen["thread"]] == seen["backend"]
        assert everyone(database, server, asking) == kept
        assert connections(database, server.worker_pid()) == set(kept.values())


def test_a_kept_connection_outlives_an_error_and_a_client_that_vanished(
    database: PostgreSQL,
) -> None:
    with start(database, KEPT) as server, clients(server, THREADS) as asking:
        kept = everyone(database, server, asking)
        for _ in range(THREADS):
            assert server.get("/broken").status == 500
            with server.client(receive_buffer=4096) as vanishing:
                assert begin_stream(vanishing) in kept.values()
                vanishing.reset()
        backends = f"site {server.worker_pid()}"
        eventually(
            lambda: not any(backend.in_transaction for backend in database.backends(backends)),
            "no transaction is left open",
        )
        server.wait_for_note("request_finished", 3 * THREADS)
        assert everyone(database, server, asking) == kept


# Connections of one request


@pytest.mark.parametrize(("target", "status"), [("/", 200), ("/broken", 500), ("/rows/500", 200)])
def test_a_connection_of_one_request_is_closed_with_it(
    database: PostgreSQL, target: str, status: int
) -> None:
    with start(database, CLOSED) as server, clients(server, 4 * THREADS) as asking:
        worker = server.worker_pid()
        for client in asking:
            client.send(request(target=target))
        assert {client.response().status for client in asking} == {status}
        # The connections to the clients are alive, and their threads, too.
        eventually(lambda: not connections(database, worker), "all connections are closed")
        assert server.notes().count("request_finished") == len(asking)


def test_clients_that_vanish_in_the_middle_end_their_own_connections_only(
    database: PostgreSQL,
) -> None:
    with start(database, CLOSED) as server, contextlib.ExitStack() as stack:
        worker = server.worker_pid()
        readers = [stack.enter_context(server.client(receive_buffer=4096)) for _ in range(THREADS)]
        backends = [begin_stream(reader) for reader in readers]
        assert connections(database, worker) == set(backends)
        half = THREADS // 2
        for reader in readers[:half]:
            reader.reset()
        eventually(
            lambda: connections(database, worker) == set(backends[half:]),
            "the connections of those who vanished are closed",
        )
        assert server.notes().count("request_finished") == half
        for reader in readers[half:]:
            assert len(reader.read_exactly(1_000_000)) == 1_000_000
        # The threads that they gave back serve on.
        with clients(server, half) as asking:
            for client in asking:
                assert client.request().status == 200
        for reader in readers[half:]:
            reader.reset()
        eventually(lambda: not connections(database, worker), "all connections are closed")


# Threads that wait, and threads that do not


def test_slow_queries_hold_their_own_threads_only(database: PostgreSQL) -> None:
    with start(database, KEPT) as server, clients(server, THREADS - 1) as slow:
        worker = server.worker_pid()
        with database.locked(LOCK):
            for client in slow:
                client.send(request(target=f"/wait/{LOCK}"))
            eventually(lambda: waiting(database, worker) == THREADS - 1, "all but one wait")
            with server.client() as quick:
                seen = []
                for _ in range(20):
                    quick.send(request())
                    seen.append(answer(quick))
            assert len({answered["thread"] for answered in seen}) == 1
            assert all(client.is_quiet() for client in slow)
        threads = {answer(client)["thread"] for client in slow}
        assert len(threads) == THREADS - 1 and seen[0]["thread"] not in threads


@pytest.mark.parametrize("patched", [False, True], ids=["threads", "greenlets"])
def test_transactions_of_different_threads_do_not_mix(database: PostgreSQL, patched: bool) -> None:
    texts = [f"text{number}" for number in range(THREADS)]
    failing = texts[1::2]
    started = start_patched(database) if patched else start(database, KEPT)
    with started as server, clients(server, THREADS) as asking:
        worker = server.worker_pid()
        with database.locked(LOCK):
            for text, client in zip(texts, asking, strict=True):
                fate = "fail" if text in failing else "commit"
                client.send(request(target=f"/enter/{text}/{fate}/{LOCK}"))
            eventually(lambda: waiting(database, worker) == THREADS, "all are in the middle")
        for text, client in zip(texts, asking, strict=True):
            if text in failing:
                assert client.response().status == 500
                continue
            seen = answer(client)
            # Nothing was committed yet when it looked.
            assert seen["seen"] == [text]
            assert seen["one transaction"]
        with database.connect() as connection:
            entered = connection.execute("SELECT text FROM entry ORDER BY id").fetchall()
        committed = [text for text in texts if text not in failing]
        assert sorted(text for (text,) in entered) == sorted(committed * 2)


def test_greenlets_wait_for_the_database_at_once(database: PostgreSQL) -> None:
    with start_patched(database) as server, clients(server, 20) as asking:
        worker = server.worker_pid()
        with database.locked(LOCK):
            for client in asking:
                client.send(request(target=f"/wait/{LOCK}"))
            eventually(lambda: waiting(database, worker) == 20, "all of them wait")
        seen = [answer(client) for client in asking]
        assert len({one["thread"] for one in seen}) == len({one["backend"] for one in seen}) == 20
        eventually(lambda: not connections(database, worker), "all connections are closed")


# Leaving


def test_term_answers_what_waits_in_a_query_and_leaves_no_connection(database: PostgreSQL) -> None:
    with start(database, KEPT) as server, clients(server, 2 * THREADS) as asking:
        worker = server.worker_pid()
        assert len(everyone(database, server, asking)) == THREADS
        with database.locked(LOCK):
            # Half of them wait in the database, the other half for a thread.
            for client in asking:
                client.send(request(target=f"/wait/{LOCK}"))
            eventually(lambda: waiting(database, worker) == THREADS, f"{THREADS} queries wait")
            server.signal(signal.SIGTERM)
            server.wait_for_log("Handling signal: term")
        for client in asking:
            assert client.response().status == 200
        assert server.wait() == 0
        eventually(lambda: not connections(database, worker), "no connection is left")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("max_age", [KEPT, CLOSED], ids=["kept", "closed"])
def test_hup_under_load_leaks_no_connection(database: PostgreSQL, max_age: int) -> None:
    with start(database, max_age) as server:
        workers = [server.worker_pid()]
        with Load(server.address, keep_alive=THREADS, short=THREADS) as load:
            for number in range(5):
                load.wait_for_requests(200)
                if max_age == KEPT:
                    assert 0 < len(connections(database, workers[-1])) <= THREADS
                load.mark(f"HUP {number}")
                server.signal(signal.SIGHUP)
                workers += replaced(server, workers[-1:])
                load.wait_for_workers({workers[-1]})
                for gone in workers[:-1]:
                    eventually(
                        lambda gone=gone: not connections(database, gone),  # type: ignore[misc]
                        f"the connections of worker {gone} are closed",
                    )
        load.report().raise_for_failures()
        last = f"site {workers[-1]}"
        if max_age == KEPT:
            assert 0 < len(database.backends(last)) <= THREADS
        else:
            eventually(lambda: not database.backends(last), "all connections are closed")
        assert not any(backend.in_transaction for backend in database.backends(last))
        assert server.stop() == 0
        eventually(lambda: not database.backends(last), "no connection is left")
