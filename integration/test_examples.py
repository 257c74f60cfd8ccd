"""examples/ is what users copy: each file is used here as its comments say."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import OURS, PATIENCE, Client, Server, eventually
from nginx import Nginx
from support import EXAMPLES, IMPORTABLE, form, gunicorn, multipart, program
from websocket import WebSocket, create_connection

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(not OURS, reason="the examples name this worker"),
]


@pytest.fixture(scope="module")
def copied() -> Iterator[Path]:
    """A copy: nothing that the examples write may land in the source tree."""
    with tempfile.TemporaryDirectory() as directory:
        shutil.copytree(EXAMPLES, directory, dirs_exist_ok=True)
        yield Path(directory)


@contextlib.contextmanager
def example(directory: Path, app: str, *args: str) -> Iterator[Server]:
    with gunicorn(app, "--chdir", str(directory), *args) as server:
        yield server


def test_the_flask_example_works(copied: Path) -> None:
    with example(copied, "flask_app:app") as server, server.client() as client:
        page = client.request()
        assert "visit number 1 " in page.text
        cookie = (page.header("Set-Cookie") or "").partition(";")[0]
        assert "visit number 2 " in client.request(headers={"Cookie": cookie}).text
        assert client.request("POST", "/hello", *form(name="Ada")).text == "Hello, Ada!\n"
        assert json.loads(client.request(target="/environ").body)["REQUEST_METHOD"] == "GET"
        assert client.request(target="/stream?pause=0").text.count("line ") == 5
        assert client.request(target="/download").body == (EXAMPLES / "flask_app.py").read_bytes()
        upload = multipart({}, {"file": ("a.txt", b"12345")})
        assert client.request("POST", "/upload", *upload).text == "a.txt: 5 bytes\n"
        assert client.request(target="/broken").status == 500
        assert client.request().status == 200


def test_the_django_example_works(copied: Path) -> None:
    with example(copied, "django_app:application") as server, server.client() as client:
        headers = {"Host": "localhost"}
        assert "Django" in client.request(headers=headers).text
        assert client.request(target="/numbers", headers=headers).text.split() == list("0123456789")
        headers["X-Forwarded-Proto"] = "https"
        assert json.loads(client.request(target="/where", headers=headers).body) == {
            "url": "https://localhost/where",
            "secure": True,
        }


def test_the_chat_example_works(copied: Path) -> None:
    def opened() -> contextlib.closing[WebSocket]:
        return contextlib.closing(create_connection(f"ws://127.0.0.1:{server.port}/chat"))

    with example(copied, "chat_app:app", "--threads", "64") as server, opened() as ada:
        assert "/chat" in server.get().text
        assert ada.recv() == "1 here"
        with opened() as bob:
            assert bob.recv() == ada.recv() == "2 here"
            bob.send("hello")
            assert ada.recv() == bob.recv() == "hello"
        assert ada.recv() == "1 here"


def test_the_configuration_file_of_the_examples_works(copied: Path) -> None:
    conf = (EXAMPLES / "gunicorn.conf.py").read_text()
    with gunicorn(
        "flask_app:app",
        *("--chdir", str(copied), "--access-logfile", "-"),
        config=conf,
        env={"PORT": "0", "WEB_CONCURRENCY": "3"},
    ) as server:
        server.wait_for_log("Booting worker", 3)
        assert server.get().status == 200
        eventually(lambda: '"GET / HTTP/1.1" 200' in server.stdout_text(), "an access record")


def test_the_procfile_runs_under_honcho(copied: Path) -> None:
    honcho = Path(sys.executable).with_name("honcho")
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("MEINHELD_", "GUNICORN_"))
    }
    environment |= {
        "PATH": os.pathsep.join([str(honcho.parent), environment["PATH"]]),
        "PYTHONPATH": IMPORTABLE,
        "PYTHONUNBUFFERED": "1",
        # Not honcho's 5000: gunicorn picks a free port and says which.
        "PORT": "0",
        "GUNICORN_CMD_ARGS": "--no-control-socket",
    }
    output = copied / "honcho.log"
    with (
        open(output, "wb") as log,
        subprocess.Popen(
            [honcho, "start", "--no-colour"],
            cwd=copied,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        try:
            listening = eventually(
                lambda: re.findall(r"Listening at: http://127.0.0.1:(\d+)", output.read_text()),
                "gunicorn listens",
            )
            with Client(("127.0.0.1", int(listening[0]))) as client:
                assert "It works" in client.request().text
            # What a platform sends; honcho passes it on, gunicorn drains and exits.
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)
            said = output.read_text()
            assert "Handling signal: term" in said
            assert "Shutting down: Master" in said
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("host", ["tcp.example.org", "unix.example.org"])
def test_the_nginx_configuration_works(copied: Path, host: str) -> None:
    text = (EXAMPLES / "nginx.conf").read_text()
    binds = ["127.0.0.1:0", "unix:{dir}/socket"]
    with gunicorn("flask_app:app", "--chdir", str(copied), binds=binds) as server:

        def body(port: int) -> str:
            # Only addresses differ from what users copy.
            return (
                text.replace("127.0.0.1:8080", f"127.0.0.1:{port}")
                .replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
                .replace("unix:/run/meinheld.sock", f"unix:{server.addresses[1]}")
            )

        name = "proxy_to_gunicorn.conf"
        with Nginx(body, {name: (EXAMPLES / name).read_text()}) as nginx, nginx.client() as client:
            headers = {"Host": host}
            assert "It works" in client.request(headers=headers).text
            seen = json.loads(client.request(target="/environ", headers=headers).body)
            assert seen["HTTP_HOST"] == host
            assert seen["HTTP_X_FORWARDED_FOR"] == "127.0.0.1"
            more, content = multipart({}, {"file": ("a.bin", b"x" * 3_000_000)})
            answer = client.request("POST", "/upload", {**headers, **more}, content)
            assert answer.text == "a.bin: 3000000 bytes\n"


def test_the_systemd_units_start_what_the_procfile_starts() -> None:
    service = (EXAMPLES / "meinheld.service").read_text()
    unit = (EXAMPLES / "meinheld.socket").read_text()
    command = re.search(r"^ExecStart=\S*/gunicorn (.*)$", service, re.MULTILINE)
    assert command and "--worker-class=egg:meinheld#gunicorn_worker" in command.group(1)
    assert "--bind" not in command.group(1)
    # The socket's path is the one that nginx.conf names.
    path = re.search(r"^ListenStream=(.*)$", unit, re.MULTILINE)
    assert path and f"server unix:{path.group(1)};" in (EXAMPLES / "nginx.conf").read_text()


def test_systemd_accepts_the_units(copied: Path) -> None:
    analyze = program("systemd-analyze")
    # It insists on programs that exist.
    unit = copied / "meinheld.service"
    unit.write_text(unit.read_text().replace("/srv/app/.venv/bin/gunicorn", sys.executable))
    done = subprocess.run(
        [analyze, "verify", "--man=no", copied / "meinheld.socket", unit],
        capture_output=True,
        text=True,
        timeout=60,
    )
    complaints = [line for line in done.stderr.splitlines() if "meinheld" in line]
    assert not complaints
