"""The servers' logs beside a failure, and proof that no server outlives the session."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest
from harness import Server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for server in Server.running:
            report.sections.append((f"gunicorn {server.process.pid}", server.stderr_text()[-6000:]))
    return report


@pytest.fixture(scope="session", autouse=True)
def no_server_is_left_behind() -> Iterator[None]:
    yield
    left = list(Server.running)
    for server in left:
        server.kill()
    assert not left, f"servers that no test stopped: {[server.process.args for server in left]}"
