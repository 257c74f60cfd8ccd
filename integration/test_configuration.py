"""The ways to name the worker, and gunicorn's ways to be told things."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from harness import OURS, WORKER, Server, request
from support import ADDED_BY_HOOKS, gunicorn, replaced

pytestmark = pytest.mark.timeout(120)

NAMES = [
    "egg:meinheld#gunicorn_worker",
    "meinheld.gmeinheld.MeinheldWorker",
    "meinheld_worker.MeinheldWorker",
]
WHO = """
def app(environ, start_response):
    import json, os
    body = json.dumps({"pid": os.getpid(), "colour": os.environ.get("COLOUR")}).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


def told(server: Server) -> dict[str, object]:
    answer: dict[str, object] = json.loads(server.get().body)
    return answer


@pytest.mark.skipif(not OURS, reason="gunicorn's own workers have one name each")
@pytest.mark.parametrize("name", NAMES)
def test_every_name_of_the_worker_is_the_same_worker(name: str) -> None:
    with gunicorn(WHO, worker=name) as server:
        assert server.get().header("Server") == "meinheld"
        server.wait_for_log("Using worker: ")


def test_the_worker_class_may_stand_in_the_configuration_file() -> None:
    # Gunicorn by itself: the harness would name the worker on the command line.
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "app.py").write_text(WHO)
        (directory / "gunicorn.conf.py").write_text(
            f"import os\nworker_class = {WORKER!r}\nwsgi_app = 'app:app'\nbind = 'unix:socket'\n"
            "control_socket_disable = True\nraw_env = ['COLOUR=green']\nworkers = 1\n"
            "def when_ready(server):\n    os.write(1, b'ready\\n')\n"
        )
        environment = {
            key: value for key, value in os.environ.items() if not key.startswith("MEINHELD_")
        }
        gunicorn_script = Path(sys.executable).with_name("gunicorn")
        with subprocess.Popen(
            [gunicorn_script], cwd=directory, env=environment, stdout=subprocess.PIPE
        ) as process:
            try:
                assert process.stdout
                assert process.stdout.readline() == b"ready\n"
                with socket.socket(socket.AF_UNIX) as client:
                    client.settimeout(15)
                    client.connect(str(directory / "socket"))
                    client.sendall(request(headers={"Connection": "close"}))
                    answer = b""
                    while block := client.recv(65536):
                        answer += block
                assert b'"colour": "green"' in answer
            finally:
                process.terminate()
                assert process.wait(15) == 0


def test_raw_env_reaches_the_application() -> None:
    with gunicorn(WHO, "--env", "COLOUR=blue") as server:
        assert told(server)["colour"] == "blue"


def test_settings_may_come_from_gunicorn_cmd_args() -> None:
    arguments = {"GUNICORN_CMD_ARGS": "--env COLOUR=red --workers 2"}
    with gunicorn(WHO, env=arguments) as server:
        assert told(server)["colour"] == "red"
        server.wait_for_log("Booting worker", 2)


def test_a_preloaded_application_is_loaded_once_by_the_arbiter() -> None:
    noted = "import os\nfrom apps.notes import note\nnote(f'loaded by {os.getpid()}')\n"
    with gunicorn(noted + WHO, "--preload", "--workers", "2") as server:
        pids = {told(server)["pid"] for _ in range(10)}
        assert pids <= set(server.worker_pids())
        assert server.notes() == [f"loaded by {server.process.pid}"]


def test_a_preloaded_application_survives_reloads() -> None:
    with gunicorn(WHO, "--preload") as server:
        for _ in range(3):
            before = server.worker_pids()
            server.signal(signal.SIGHUP)
            (worker,) = replaced(server, before)
            assert told(server)["pid"] == worker


@pytest.mark.parametrize("option", ["--check-config", "--print-config"])
def test_the_configuration_can_be_checked(option: str) -> None:
    with gunicorn(WHO, option, "--workers", "3", ready=False) as server:
        assert server.wait() == 0
        if option == "--print-config":
            assert "workers" in server.stdout_text()
            assert "worker_class" in server.stdout_text()


def test_check_config_fails_for_an_application_that_does_not_load() -> None:
    with gunicorn("import no_such_module\napp = None\n", "--check-config", ready=False) as server:
        assert server.wait() == 1
        assert "no_such_module" in server.stderr_text()


@pytest.mark.skipif(not OURS, reason="what this worker does not serve yet, others do")
def test_a_reload_to_a_setting_that_is_not_served_does_not_halt_the_site() -> None:
    # On HUP gunicorn does not call check_config: the new worker refuses by itself.
    with gunicorn(WHO) as server:
        settings = server.directory / "gunicorn.conf.py"
        settings.write_text("protocol = 'uwsgi'\n")
        server.signal(signal.SIGHUP)
        server.wait_for_log(r"Worker refuses to boot: protocol = 'uwsgi': .* Accepted: 'http'\.$")
        settings.write_text("protocol = 'http'\n")
        server.signal(signal.SIGHUP)
        assert told(server)["pid"] in server.worker_pids()


@pytest.mark.skipif(not OURS, reason="gunicorn's own worker would have to change with it")
def test_a_reload_may_change_the_number_of_threads() -> None:
    shown = (
        "def app(environ, start_response):\n"
        "    start_response('200 OK', [])\n"
        "    return [b'%d' % environ['wsgi.multithread']]\n"
    )
    with gunicorn(shown, config="threads = 1\n") as server:
        for threads, multithread in ((4, b"1"), (1, b"0")):
            before = server.worker_pids()
            (server.directory / "gunicorn.conf.py").write_text(f"threads = {threads}\n")
            server.signal(signal.SIGHUP)
            replaced(server, before)
            assert server.get().body == multithread


def test_several_addresses_are_served_at_once() -> None:
    binds = ["127.0.0.1:0", "[::1]:0", "unix:{dir}/socket"]
    with gunicorn(WHO, "--workers", "2", config=ADDED_BY_HOOKS, binds=binds) as server:
        # gunicorn's own race: a worker that is stopped before it has its handlers misses it.
        server.wait_for_note("init", 2)
        assert len(server.addresses) == 3
        for address in server.addresses:
            server.addresses[0] = address
            assert server.get().status == 200


def test_a_socket_of_systemds_is_served_and_left_open() -> None:
    # LISTEN_FDS and LISTEN_PID, as systemd sets them.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()[:2]
        for _ in range(2):
            # It waits in systemd's socket before there is a server, and is answered by the next.
            with socket.create_connection(address, timeout=15) as early:
                early.sendall(request(headers={"Connection": "close"}))
                with gunicorn(WHO, binds=(), listen_fd=listener.fileno()) as server:
                    assert server.addresses == [address]
                    assert early.recv(65536).startswith(b"HTTP/1.1 200 ")
                    assert server.stop() == 0


def test_a_socket_of_systemds_outlives_reloads() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        gunicorn(WHO, binds=(), listen_fd=listener.fileno()) as server,
    ):
        before = server.worker_pids()
        server.signal(signal.SIGHUP)
        (worker,) = replaced(server, before)
        assert told(server)["pid"] == worker
