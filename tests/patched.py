"""Servers of the applications `apps/patched_*.py`, whose requests are asked whether the patched
library behaves."""

from __future__ import annotations

import re

from harness import TESTS, Server


def behaviours(app: str) -> list[str]:
    """The names of what it serves; read, because importing it would patch the tests."""
    source = (TESTS / "apps" / f"{app}.py").read_text()
    return re.findall(r"^@behaviour(?:\.\w+)?\ndef (\w+)", source, re.MULTILINE)


def serving(app: str) -> Server:
    return Server.start(f"apps.{app}:app", "--threads", "1")


def assert_behaves(server: Server, behaviour: str) -> None:
    response = server.get(f"/{behaviour}")
    assert response.status == 200, response.text
