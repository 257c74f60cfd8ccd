"""What every test shares: servers' logs beside a failure, none left behind, no skips in CI."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Generator, Iterator

import pytest
from harness import GREEN, THREADED, THREADS, WORKER, Server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for server in Server.running:
            # A log that was just renamed, or removed with its server, must not hide the failure.
            with contextlib.suppress(FileNotFoundError):
                log = server.stderr_text()[-6000:]
                report.sections.append((f"gunicorn {server.process.pid}", log))
    if report.skipped and os.environ.get("MEINHELD_NO_SKIP") and not hasattr(report, "wasxfail"):
        # CI installs everything: a test that cannot run there is a fault of CI's.
        report.outcome = "failed"
        report.longrepr = f"skipped, where nothing may skip: {report.longrepr}"
    return report


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With MEINHELD_TEST_THREADS, leaves out what the run without it tries: skipping would be a
    failure."""
    if not (THREADED or GREEN):
        return
    others = ["own_threads", "not_green" if GREEN else "inline_only"]
    left_out = [item for item in items if any(map(item.get_closest_marker, others))]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def pytest_report_header() -> str:
    way = "greenlets" if GREEN else f"threads: {THREADS}"
    return f"gunicorn worker: {WORKER}, {way}"


@pytest.fixture(scope="session", autouse=True)
def no_server_is_left_behind() -> Iterator[None]:
    yield
    left = list(Server.running)
    for server in left:
        server.kill()
    assert not left, f"servers that no test stopped: {[server.process.args for server in left]}"


@pytest.fixture
def tag(request: pytest.FixtureRequest) -> str:
    """A name for the test's notes and files that no other test of its server has."""
    return re.sub(r"[^0-9A-Za-z]+", "-", request.node.name)
