"""`python -m meinheld top`."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence

import pytest
from harness import OURS, Server, clean_environment, eventually
from scrape import Endpoint, unix_endpoint

from meinheld.figures import Change, read
from meinheld.screen import duration

WITHOUT_RICH = """
import sys
sys.modules["rich"] = None
from meinheld.top import main
sys.exit(main(["top", "--bind", "127.0.0.1:1"]))
"""
TEXT = """
# TYPE meinheld_requests_total counter
meinheld_requests_total{{code="2xx"}} {requests}
meinheld_requests_total{{code="5xx"}} 3
meinheld_worker_started_total 5
meinheld_accept_backlog{{listener="[::1]:80"}} 2
meinheld_worker_state{{worker="7",state="booting"}} 0
meinheld_worker_state{{worker="7",state="ready"}} 1
meinheld_worker_age_seconds{{worker="7"}} 61.5
meinheld_worker_requests_total{{worker="7",code="2xx"}} {requests}
meinheld_worker_busy_seconds_total{{worker="7"}} {busy}
meinheld_requests_in_flight{{worker="7"}} 1
meinheld_connections{{worker="7",state="active"}} 2
meinheld_connections{{worker="7",state="idle"}} 9
meinheld_unheard_of{{worker="7"}} 1
"""

pytestmark = [
    pytest.mark.skipif(not OURS, reason="gunicorn's own workers have no such endpoint"),
    # Whatever thread calls the application.
    pytest.mark.own_threads,
]


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with unix_endpoint() as found:
        yield found


def run(
    *arguments: str,
    env: Mapping[str, str] | None = None,
    command: Sequence[str] = ("-m", "meinheld", "top"),
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command, *arguments],
        cwd="/",
        env={**clean_environment(), "COLUMNS": "120", **(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_one_picture_has_a_line_for_each_worker(endpoint: Endpoint) -> None:
    with Server.start(env=endpoint.env) as server:
        eventually(lambda: endpoint.get("/readyz").status == 200, "the worker is ready")
        shown = run("--once", "--interval", "0.05", env=endpoint.env)
        assert (shown.returncode, shown.stderr) == (0, "")
        assert f"meinheld at {endpoint.setting}: 1 of 1 workers accept, 1 started" in shown.stdout
        assert re.search(rf"^ *{server.worker_pid()} +ready .* MiB$", shown.stdout, re.MULTILINE)


def test_an_address_where_nobody_is_is_said_in_one_line(endpoint: Endpoint) -> None:
    shown = run("--once", "--bind", endpoint.setting)
    assert shown.returncode == 1
    assert re.fullmatch(rf"{endpoint.setting}: .*No such file or directory\n", shown.stderr)


def test_an_address_that_is_none_is_said_in_one_line() -> None:
    shown = run("--once", "--bind", "nowhere")
    assert (shown.returncode, shown.stderr.count("\n")) == (1, 1)
    assert "Accepted: unix:/path" in shown.stderr


def test_without_an_address_the_setting_is_named() -> None:
    shown = run("--once")
    assert shown.returncode == 2
    assert shown.stderr == "Say --bind ADDRESS, or set MEINHELD_STATUS.\n"


def test_without_rich_the_extra_is_named() -> None:
    shown = run(command=("-c", WITHOUT_RICH))
    assert shown.returncode == 2
    assert shown.stderr == "python -m meinheld top needs rich: pip install 'meinheld[top]'\n"


def test_what_grows_is_shown_by_the_second() -> None:
    before = read(TEXT.format(requests=100, busy=1.0), at=10.0)
    now = read(TEXT.format(requests=150, busy=2.5), at=12.0)
    change = Change(before, now)
    assert (change.rate(), change.rate("5")) == (25, 0)
    assert (change.worker_rate(7), change.busy(7)) == (25, 0.75)


def test_a_worker_is_read_whole() -> None:
    fleet = read(TEXT.format(requests=100, busy=1.0), at=10.0)
    worker = fleet.workers[7]
    assert (worker.state, worker.age, worker.in_flight) == ("ready", 61.5, 1)
    assert (worker.active, worker.idle, worker.memory) == (2, 9, None)
    assert (fleet.total, fleet.started, fleet.backlog) == (103, 5, {"[::1]:80": 2})


def test_a_worker_that_is_new_began_with_nothing() -> None:
    now = read(TEXT.format(requests=100, busy=1.0), at=10.0)
    assert Change(read("", at=9.0), now).worker_rate(7) == 100


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.9, "0s"), (61, "1m 1s"), (3600, "1h 0m"), (90061, "1d 1h")],
)
def test_an_age_has_its_two_greatest_units(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown
