"""The headline: reloads, upgrades and more under load, and not one failed request."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from harness import Server, children, eventually
from load import Load
from support import gone, gunicorn, master_of, reload_under, replaced, upgraded, workers_of

pytestmark = pytest.mark.timeout(400)

SITE = "sites.load_site:app"


def start(workers: int, *args: str) -> Server:
    # The clients' pauses are far shorter than this keepalive: no idle connection times out.
    return gunicorn(
        SITE, "--workers", str(workers), "--keep-alive", "15", "--graceful-timeout", "30", *args
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_twenty_hups_under_load_lose_no_request(workers: int) -> None:
    with (
        start(workers) as server,
        Load(server.address) as load,
        # Connections that idle for longer than a leaving worker waits for their next request.
        Load(server.address, keep_alive=8, short=0, pause=3) as seldom,
    ):
        for number in range(20):
            reload_under(load, server, workers, 1000, f"HUP {number}")
        load.stop()
        seldom.stop()
        for report in (load.report(), seldom.report()):
            print(f"{report.requests} requests on {report.connections} connections")
            report.raise_for_failures()
        report = load.report()
        assert len(report.workers) == 21 * workers
        # It was a test of kept connections, and of retiring them: not every answer closed its own.
        assert 20 <= report.reconnected < report.requests / 10


def test_hups_faster_than_the_workers_start_lose_no_request() -> None:
    with start(2) as server, Load(server.address) as load:
        first = set(workers_of(server, 2))
        load.wait_for_requests(100)
        for number in range(10):
            load.mark(f"HUP {number}")
            server.signal(signal.SIGHUP)
            load.wait_for_requests(5)
            # Two that come before the arbiter looks are one to it.
            server.wait_for_log("Handling signal: hup", count=number + 1, within=60)
        last = set(replaced(server, sorted(first), 2))
        load.wait_for_workers(last)
        load.stop()
        load.report().raise_for_failures()


def test_hup_with_an_application_that_takes_a_while_to_load_loses_no_request() -> None:
    slow_to_load = "import time\nfrom sites.load_site import app\ntime.sleep(1)\n"
    with (
        gunicorn(slow_to_load, "--keep-alive", "15") as server,
        Load(server.address) as load,
    ):
        for number in range(3):
            before = workers_of(server, 1)
            load.wait_for_workers(set(before))
            load.mark(f"HUP {number}")
            server.signal(signal.SIGHUP)
            after = replaced(server, before)
            load.wait_for_workers(set(after))
        load.stop()
        load.report().raise_for_failures()


def test_hup_over_a_unix_socket_loses_no_request() -> None:
    with (
        gunicorn(SITE, "--keep-alive", "15", binds=["unix:{dir}/socket"]) as server,
        Load(server.address) as load,
    ):
        for number in range(5):
            before = workers_of(server, 1)
            load.wait_for_requests(100)
            load.mark(f"HUP {number}")
            server.signal(signal.SIGHUP)
            load.wait_for_workers(set(replaced(server, before)))
        load.stop()
        load.report().raise_for_failures()


def test_adding_and_removing_workers_under_load_loses_no_request() -> None:
    with start(1) as server, Load(server.address) as load:
        for number in range(5):
            load.wait_for_requests(100)
            load.mark(f"TTIN {number}")
            server.signal(signal.SIGTTIN)
            both = workers_of(server, 2)
            load.wait_for_workers(set(both))
            load.mark(f"TTOU {number}")
            server.signal(signal.SIGTTOU)
            # The oldest goes.
            assert workers_of(server, 1) == both[1:]
        load.stop()
        load.report().raise_for_failures()


def test_an_upgrade_by_usr2_under_load_loses_no_request() -> None:
    with start(2) as server, Load(server.address) as load:
        load.wait_for_requests(200)
        load.mark("USR2")
        with master_of(server, upgraded(server)) as arbiter:
            workers = eventually(
                lambda: pids if len(pids := children(arbiter)) == 2 else [], "2 new workers"
            )
            load.wait_for_workers(set(workers))
            load.mark("TERM to the old arbiter")
            server.signal(signal.SIGTERM)
            assert server.wait(40) == 0
            load.mark("the old arbiter is gone")
            load.wait_for_requests(200)
            load.stop()
            load.report().raise_for_failures()


def test_an_upgrade_that_is_taken_back_under_load_loses_no_request() -> None:
    with start(2) as server, Load(server.address) as load:
        before = set(workers_of(server, 2))
        load.wait_for_requests(200)
        load.mark("USR2")
        with master_of(server, upgraded(server)) as arbiter:
            load.wait_for_workers(set(children(arbiter)))
            load.mark("TERM to the new arbiter")
            os.kill(arbiter, signal.SIGTERM)
            eventually(lambda: gone(arbiter), "the new arbiter goes", within=40)
        load.wait_for_requests(200)
        load.stop()
        load.report().raise_for_failures()
        assert set(server.worker_pids()) == before


def test_a_daemon_that_is_upgraded_with_winch_loses_no_request() -> None:
    # As gunicorn's documentation has it: USR2, WINCH to the old arbiter once the new one serves,
    # then TERM. gunicorn obeys WINCH only as a daemon, so this one leaves the harness's hands.
    with gunicorn(
        SITE,
        "--daemon",
        "--pid",
        "{dir}/pid",
        "--error-logfile",
        "{dir}/stderr",
        "--keep-alive",
        "15",
        binds=["unix:{dir}/socket"],
        ready=False,
    ) as server:
        pid_file = server.directory / "pid"
        second_pid_file = server.directory / "pid.2"
        eventually(lambda: pid_file.exists() and pid_file.read_text().strip(), "the daemon's pid")
        old = int(pid_file.read_text())
        with master_of(server, old):
            (worker,) = eventually(lambda: children(old), "the daemon has a worker")
            with Load(str(server.directory / "socket")) as load:
                load.wait_for_workers({worker})
                load.mark("USR2")
                os.kill(old, signal.SIGUSR2)
                eventually(
                    lambda: second_pid_file.exists() and second_pid_file.read_text().strip(),
                    "the new arbiter's pid",
                )
                new = int(second_pid_file.read_text())
                with master_of(server, new):
                    load.wait_for_workers(set(eventually(lambda: children(new), "its worker")))
                    load.mark("WINCH to the old arbiter")
                    os.kill(old, signal.SIGWINCH)
                    eventually(lambda: children(old) == [new], "the old worker goes", within=40)
                    load.wait_for_requests(100)
                    load.mark("TERM to the old arbiter")
                    os.kill(old, signal.SIGTERM)
                    eventually(lambda: gone(old), "the old arbiter goes", within=40)
                    eventually(
                        lambda: pid_file.exists() and int(pid_file.read_text()) == new,
                        "the new arbiter takes over the pid file",
                    )
                    load.wait_for_requests(100)
                    load.stop()
                    load.report().raise_for_failures()


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_that_restart_after_max_requests_lose_no_request(workers: int) -> None:
    with (
        start(workers, "--max-requests", "100", "--max-requests-jitter", "50") as server,
        Load(server.address) as load,
    ):
        eventually(
            lambda: len(load.report().workers) >= 10 or load.report().failures,
            "ten generations of workers",
            within=90,
        )
        load.stop()
        load.report().raise_for_failures()


def test_log_rotation_under_load_loses_no_request_and_no_log_line() -> None:
    with gunicorn(
        SITE,
        "--access-logfile",
        "{dir}/access.log",
        "--access-logformat",
        "%(q)s",
        "--keep-alive",
        "15",
    ) as server:
        access = server.directory / "access.log"
        rotated: list[Path] = []
        with Load(server.address) as load:
            for number in range(5):
                load.wait_for_requests(100)
                load.mark(f"rotation {number}")
                rotated.append(access.rename(server.directory / f"access.log.{number}"))
                server.signal(signal.SIGUSR1)
                eventually(lambda: access.exists() and access.stat().st_size, "the log is reopened")
            load.wait_for_requests(100)
        load.report().raise_for_failures()
        assert server.stop() == 0
        lines = [line for path in (*rotated, access) for line in path.read_text().splitlines()]
        assert len(lines) == len(set(lines)) == load.report().requests
