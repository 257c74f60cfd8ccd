"""A PostgreSQL of the test's own: a unix socket in a directory of its own, no port, gone with the
`with` block."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from harness import PATIENCE, eventually
from support import program

USER = "site"
"""The only role, and its own database's owner."""


@dataclass(frozen=True)
class Backend:
    """A connection, as PostgreSQL sees it."""

    pid: int
    in_transaction: bool
    waits_for_lock: bool


class PostgreSQL:
    """The newest PostgreSQL that Debian's packages left on this machine, or the one on PATH."""

    def __init__(self) -> None:
        initdb, postgres = (program(name, *_directories()) for name in ("initdb", "postgres"))
        self.directory = Path(tempfile.mkdtemp(prefix="meinheld-postgresql-"))
        self._data = self.directory / "data"
        self._user = _unprivileged()
        try:
            if self._user:
                shutil.chown(self.directory, self._user, pwd.getpwnam(self._user).pw_gid)
            self._initdb(initdb, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
            with open(self.directory / "log", "wb") as log:
                self.process = subprocess.Popen(
                    [postgres, *self._settings()],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    **self._as_user(),
                )
        except BaseException:
            shutil.rmtree(self.directory, ignore_errors=True)
            raise
        try:
            eventually(self._serves, "PostgreSQL starts", within=60)
        except BaseException:
            self.stop()
            raise

    def _settings(self) -> list[str]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.directory),
            "fsync": "off",
            "max_connections": "60",
            # A backend whose client is gone shows it even while it waits for a lock.
            "client_connection_check_interval": "100ms",
        }
        return ["-D", str(self._data), *(f"--{name}={value}" for name, value in settings.items())]

    def _as_user(self) -> dict[str, Any]:
        # PostgreSQL refuses to run as root; its directory is readable for no one else.
        user: dict[str, Any] = {"cwd": self.directory, "umask": 0o077}
        if self._user:
            user |= {"user": self._user, "group": pwd.getpwnam(self._user).pw_gid}
            user["extra_groups"] = []
        return user

    def _initdb(self, initdb: str, *args: str) -> None:
        done = subprocess.run(
            [initdb, "-D", str(self._data), *args],
            capture_output=True,
            text=True,
            timeout=120,
            **self._as_user(),
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def _serves(self) -> bool:
        assert self.process.poll() is None, f"PostgreSQL does not start:\n{self.log()}"
        return "database system is ready to accept connections" in self.log()

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="backslashreplace")

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        """A connection of the test's, which `backends` does not show."""
        return psycopg.connect(
            host=str(self.directory), user=USER, dbname="postgres", autocommit=True
        )

    def backends(self, application: str) -> list[Backend]:
        """The connections that are open under that `application_name`, oldest first."""
        with self.connect() as connection:
            rows = connection.execute(
                "SELECT pid, xact_start IS NOT NULL AND state <> 'active',"
                " coalesce(wait_event_type = 'Lock', false)"
                " FROM pg_stat_activity WHERE application_name = %s ORDER BY backend_start, pid",
                [application],
            )
            return [Backend(*row) for row in rows]

    @contextlib.contextmanager
    def locked(self, lock: int) -> Iterator[None]:
        """Who asks for the (shared) advisory lock of that number waits until the block ends.

        The slow query of these tests: it lasts until the test says so, and no clock is asked.
        """
        with self.connect() as connection:
            connection.execute("SELECT pg_advisory_lock(%s)", [lock])
            yield

    def __enter__(self) -> PostgreSQL:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        # Its "fast" shutdown: sessions are ended.
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            # "Immediate": it ends its backends itself, which a SIGKILL would leave behind.
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(PATIENCE)
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)


def _directories() -> list[str]:
    """Where Debian has the programs of each version, which are not on PATH; newest first."""

    def version(path: Path) -> int:
        return int(re.sub(r"\D", "", path.parent.name) or 0)

    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=version, reverse=True)
    return [str(path) for path in found]


def _unprivileged() -> str | None:
    """Who runs it: we ourselves, but for root, who asks the package's user."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        pytest.skip("there is no user postgres to run PostgreSQL")
