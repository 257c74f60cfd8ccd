"""An nginx of the test's own: its own prefix, its own ports, gone with the `with` block."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from harness import PATIENCE, Address, Client, eventually
from support import program

CONFIG = """
daemon off;
{user}
worker_processes 1;
pid {prefix}/pid;
error_log stderr info;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {prefix}/body;
    proxy_temp_path {prefix}/proxy;
    fastcgi_temp_path {prefix}/fastcgi;
    uwsgi_temp_path {prefix}/uwsgi;
    scgi_temp_path {prefix}/scgi;
    client_max_body_size 64m;
    {body}
}}
"""


class Nginx:
    """nginx with `body` inside `http {}`; `{port}` in it is the port where it listens.

    body: a function of the port (nginx cannot bind port 0 and say which it got, so the test binds
    it, and hands the socket over as nginx hands it to itself on an upgrade: free of races).
    files: what lies beside its configuration, for `include`.
    """

    def __init__(self, body: Callable[[int], str], files: dict[str, str] | None = None) -> None:
        binary = program("nginx")
        self.prefix = Path(tempfile.mkdtemp(prefix="meinheld-nginx-"))
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._listener.setblocking(False)
        self.address: Address = self._listener.getsockname()[:2]
        self.port = self._listener.getsockname()[1]
        for name, text in (files or {}).items():
            (self.prefix / name).write_text(text)
        user = "user root;" if os.geteuid() == 0 else ""
        config = self.prefix / "nginx.conf"
        config.write_text(CONFIG.format(prefix=self.prefix, user=user, body=body(self.port)))
        with open(self.prefix / "log", "wb") as log:
            self.process = subprocess.Popen(
                [binary, "-p", str(self.prefix), "-c", str(config), "-e", "stderr"],
                env={**os.environ, "NGINX": f"{self._listener.fileno()};"},
                pass_fds=[self._listener.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            eventually(self._serves, "nginx starts")
        except BaseException:
            self.stop()
            raise

    def _serves(self) -> bool:
        assert self.process.poll() is None, f"nginx does not start:\n{self.log()}"
        return "start worker process " in self.log()

    def log(self) -> str:
        return (self.prefix / "log").read_text(errors="backslashreplace")

    def client(self) -> Client:
        return Client(self.address)

    def __enter__(self) -> Nginx:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._listener.close()
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(PATIENCE)
        finally:
            shutil.rmtree(self.prefix, ignore_errors=True)
