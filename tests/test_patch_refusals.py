"""`patch_all()` refuses what it cannot make right, and changes nothing where no loop runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from harness import PATIENCE, Server, clean_environment

pytestmark = pytest.mark.own_threads


def python(directory: Path, program: str, **modules: str) -> subprocess.CompletedProcess[str]:
    for name, text in modules.items():
        (directory / f"{name}.py").write_text(text)
    (directory / "program.py").write_text(program)
    return subprocess.run(
        [sys.executable, "program.py"],
        cwd=directory,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE * 2,
    )


@pytest.mark.parametrize(
    ("held", "named"),
    [
        ("from time import sleep", "held.sleep (time.sleep)"),
        ("from time import sleep as pause", "held.pause (time.sleep)"),
        ("from threading import Lock", "held.Lock (threading.Lock)"),
        ("from threading import local", "held.local (threading.local)"),
        ("import threading\nstate = threading.local()", "held.state (threading.local)"),
        ("import threading\nclass State(threading.local): ...", "held.State (threading.local)"),
        ("from threading import get_ident", "held.get_ident (threading.get_ident)"),
        ("from queue import SimpleQueue", "held.SimpleQueue (queue.SimpleQueue)"),
        ("from select import select", "held.select (select.select)"),
        ("from select import poll", "held.poll (select.poll)"),
        ("from socket import getaddrinfo", "held.getaddrinfo (socket.getaddrinfo)"),
    ],
)
def test_a_module_that_holds_an_original_is_named(tmp_path: Path, held: str, named: str) -> None:
    program = "import held\nfrom meinheld import patch\npatch.patch_all()\n"
    ended = python(tmp_path, program, held=held)
    assert ended.returncode == 1
    *_, error = ended.stderr.splitlines()
    assert error.startswith("RuntimeError: meinheld.patch.patch_all() comes too late: ")
    assert named in error and "Call it before" in error


def test_what_is_refused_is_not_patched_in_part(tmp_path: Path) -> None:
    program = """
import socket, time
import held
from meinheld import patch
before = socket.socket.recv, socket.getaddrinfo, time.sleep
for patch_it in (patch.patch_all, patch.patch_socket):
    try:
        patch_it()
    except RuntimeError:
        continue
    raise AssertionError(patch_it)
assert before == (socket.socket.recv, socket.getaddrinfo, time.sleep)
"""
    ended = python(tmp_path, program, held="from socket import getaddrinfo")
    assert ended.returncode == 0, ended.stderr


def test_what_is_patched_in_place_may_be_held(tmp_path: Path) -> None:
    held = """
import ssl
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from selectors import DefaultSelector, PollSelector
from socket import create_connection, socket, socketpair
from ssl import SSLContext, SSLSocket, create_default_context
from threading import Condition, Event, RLock, Semaphore, Thread
context = ssl.create_default_context()
class Lazy:
    @property
    def __class__(self):
        raise RuntimeError("not yet")
lazy = Lazy()
"""
    program = "import held\nfrom meinheld import patch\npatch.patch_all()\npatch.patch_all()\n"
    ended = python(tmp_path, program, held=held)
    assert ended.returncode == 0, ended.stderr


def test_sockets_alone_can_be_patched(tmp_path: Path) -> None:
    program = """
import select, socket, threading, time
before = socket.socket.recv
others = time.sleep, select.select, threading.Lock
from meinheld import patch
patch.patch_socket()
assert socket.patched and socket.socket.recv is not before
assert others == (time.sleep, select.select, threading.Lock)
patch.patch_all(socket=False)
assert threading.Lock is not others[2]
"""
    ended = python(tmp_path, program, held="from time import sleep")
    assert ended.returncode == 0, ended.stderr


def test_importing_it_imports_no_server(tmp_path: Path) -> None:
    program = """
import sys
from meinheld import middleware, patch
assert not {"meinheld.mlogging", "meinheld.server"} & sys.modules.keys()
"""
    ended = python(tmp_path, program)
    assert ended.returncode == 0, ended.stderr


def test_what_is_patched_already_is_not_looked_for(tmp_path: Path) -> None:
    program = """
from meinheld import patch
patch.patch_socket()
import held
patch.patch_all()
"""
    ended = python(tmp_path, program, held="from socket import getaddrinfo")
    assert ended.returncode == 0, ended.stderr


def test_without_greenlet_the_error_says_what_to_install(tmp_path: Path) -> None:
    for use in ("from meinheld import patch; patch.patch_all()", "from meinheld import msocket"):
        program = f"import sys\nsys.modules['greenlet'] = None\n{use}\n"
        ended = python(tmp_path, program)
        assert ended.returncode == 1
        assert "pip install 'meinheld[green]'" in ended.stderr.splitlines()[-1]


def test_the_library_is_what_it_was_where_no_loop_runs(tmp_path: Path) -> None:
    program = """
from meinheld import patch
patch.patch_all()
import asyncio, concurrent.futures, logging, queue, select, socket, subprocess, threading, time

one, other = socket.socketpair()
threading.Timer(0.001, other.send, [b"x"]).start()
assert one.recv(1) == b"x"
one.settimeout(0.001)
try:
    one.recv(1)
except TimeoutError as error:
    assert str(error) == "timed out"
assert select.select([one], [], [], 0.001) == ([], [], [])
threading.Timer(0.001, other.send, [b"x"]).start()
assert select.select([one], [], [], 30) == ([one], [], [])
assert subprocess.run(["cat"], input=b"x", capture_output=True).stdout == b"x"

lock, items, local = threading.Lock(), queue.SimpleQueue(), threading.local()
with lock:
    assert not lock.acquire(timeout=0.001)
    threading.Timer(0.001, lock.release).start()
    assert lock.acquire(timeout=30)
threading.Timer(0.001, items.put, [7]).start()
assert items.get(timeout=30) == 7
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    assert list(pool.map(lambda number: number * 2, range(50))) == list(range(0, 100, 2))
    assert len(set(pool.map(lambda _: threading.get_ident(), range(4)))) >= 1
assert threading.get_ident() == threading.main_thread().ident
local.value = 1
thread = threading.Thread(target=lambda: items.put(hasattr(local, "value")))
thread.start()
thread.join()
assert items.get() is False
asyncio.run(asyncio.sleep(0.001))
time.sleep(0.001)
logging.warning("logged")
"""
    ended = python(tmp_path, program)
    assert ended.returncode == 0, ended.stderr
    assert "logged" in ended.stderr


def test_the_worker_does_not_boot_when_an_original_is_held() -> None:
    app = "import held\nfrom meinheld import patch\npatch.patch_all()\n"
    with Server.start(
        app, "--threads", "1", files={"held.py": "from time import sleep\n"}, ready=False
    ) as server:
        server.wait_for_log(r"comes too late: held\.sleep \(time\.sleep\) would go on blocking")
        assert server.wait() != 0


@pytest.mark.parametrize("where", ["app", "preloaded", "gunicorn.conf.py"])
def test_gunicorn_works_when_patched_in(where: str) -> None:
    patch = "from meinheld import patch\npatch.patch_all()\n"
    app = """
import logging, os, signal, threading, time
def app(environ, start_response):
    time.sleep(0.001)
    logging.getLogger("gunicorn.error").warning("in %s", threading.current_thread().name)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"""
    with Server.start(
        app if where == "gunicorn.conf.py" else patch + app,
        *("--threads", "1", "--access-logfile", "-"),
        *(["--preload"] if where == "preloaded" else []),
        config=patch if where == "gunicorn.conf.py" else "",
    ) as server:
        assert server.get().text == "ok"
        server.wait_for_log("in MainThread")
        assert server.stop() == 0
        assert '"GET / HTTP/1.1" 200 2' in server.stdout_text()
        assert "Traceback" not in server.stderr_text()
