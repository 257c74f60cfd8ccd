"""`python -m meinheld app:app`, for development."""

from __future__ import annotations

import io
import os
import pty
import re
import signal

import pytest
from harness import eventually
from procfs import children
from standalone import HELLO, Standalone

from meinheld import develop

pytestmark = pytest.mark.own_threads

LISTENS = r"^Listening at http://127\.0\.0\.1:(\d+) \(pid (\d+)\); Ctrl-C ends it$"


def start(
    *args: str, app: str = HELLO, ready: bool = True, stderr: int | None = None
) -> Standalone:
    return Standalone.start(
        None,
        "app:app",
        "--bind=127.0.0.1:0",
        *args,
        module="meinheld",
        files={"app.py": app},
        ready=ready,
        stderr=stderr,
    )


def test_it_says_where_it_listens_and_serves() -> None:
    with start() as server:
        said = server.wait_for_log(LISTENS)
        assert said.group(1) == str(server.port)
        assert said.group(2) == str(server.process.pid)
        assert server.get("/").body == b"Hello world!"


def test_it_says_what_it_has_served_without_colours_where_nobody_looks() -> None:
    with start() as server:
        server.get("/a?b")
        server.wait_for_log(r"^\d\d:\d\d:\d\d 200 GET /a\?b 12 octets, \d+ ms$")
        assert "\x1b" not in server.stderr_text()


@pytest.mark.parametrize("refused", [False, True])
def test_on_a_terminal_it_says_so_in_colours_unless_they_are_refused(
    refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    if refused:
        monkeypatch.setenv("NO_COLOR", "1")
    ours, theirs = pty.openpty()
    with start(stderr=theirs) as server:
        os.close(theirs)
        server.get("/")
        said = b""
        while b" octets" not in said:
            said += os.read(ours, 4096)
    os.close(ours)
    assert (b"\x1b[32m200\x1b[0m GET /" in said) is not refused
    assert (b"\x1b" in said) is not refused


def test_it_listens_at_several_addresses() -> None:
    with start("--bind=unix:sock") as server:
        server.wait_for_log(r"^Listening at http://127\.0\.0\.1:\d+, unix:sock \(pid")
        server.addresses = [str(server.directory / "sock")]
        assert server.get("/").status == 200
        assert server.stop() == 0
        assert not (server.directory / "sock").exists()


def test_threads_call_the_application() -> None:
    app = HELLO.replace('b"Hello world!"', '__import__("threading").current_thread().name.encode()')
    with start("--threads=3", app=app) as server:
        assert re.fullmatch(rb"meinheld-[123]", server.get("/").body)


def test_debug_shows_tracebacks_to_the_client() -> None:
    app = 'def app(environ, start_response):\n    raise LookupError("lost")\n'
    with start("--debug", app=app) as server:
        assert "LookupError: lost" in server.get("/").text


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("args", [(), ("--reload",)])
def test_a_signal_ends_it_without_a_word(number: signal.Signals, args: tuple[str, ...]) -> None:
    with start(*args) as server:
        assert server.get("/").status == 200
        server.signal(number)
        assert server.wait() == 0
        assert "Traceback" not in server.stderr_text()


def test_ctrl_c_that_a_terminal_sends_to_parent_and_child_ends_both() -> None:
    with start("--reload") as server:
        assert server.get("/").status == 200
        os.killpg(server.process.pid, signal.SIGINT)
        assert server.wait() == 0
        assert "Told twice" not in server.stderr_text()


def test_with_reload_a_changed_application_is_loaded_again_and_nobody_is_refused() -> None:
    with start("--reload") as server:
        assert server.get("/").body == b"Hello world!"
        path = server.directory / "app.py"

        def serves_the_new_one() -> bool:
            # Its time must be another one, also where a second is the smallest difference.
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime + 10))
            return server.get("/").body == b"Hello again!"

        path.write_text(HELLO.replace("world", "again"))
        eventually(serves_the_new_one, "the new application is served")
        server.wait_for_log(r"app\.py has changed: starting again$")


@pytest.mark.parametrize(
    ("app", "error"),
    [
        ("def app(:\n", "^SyntaxError"),
        ("import sys\nsys.exit('no config')\n", "^SystemExit: no config$"),
    ],
    ids=["it is wrong", "it leaves"],
)
def test_with_reload_an_application_that_cannot_be_loaded_is_waited_for(
    app: str, error: str
) -> None:
    with start("--reload", app=app) as server:
        server.wait_for_log(error)
        server.wait_for_log("^The application could not be loaded: waiting for a change$")
        path = server.directory / "app.py"
        path.write_text(HELLO)

        def has_changed() -> bool:
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime + 10))
            return "has changed" in server.stderr_text()

        eventually(has_changed, "the change is seen")
        assert server.get("/").status == 200


def test_with_reload_a_file_that_is_saved_while_it_is_loaded_is_loaded_again() -> None:
    app = """
import apps.notes, os, time
apps.notes.note("is loaded")
while not os.path.exists("go"):
    time.sleep(0.01)
"""
    with start("--reload", app=app + HELLO) as server:
        server.wait_for_note("is loaded")
        path = server.directory / "app.py"
        path.write_text(HELLO.replace("world", "again"))
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime + 10))
        (server.directory / "go").touch()
        assert server.get("/").body == b"Hello again!"


def test_without_reload_an_application_ends_the_command_when_it_is_loaded() -> None:
    with start(app="import sys\nsys.exit(7)\n", ready=False) as server:
        assert server.wait() == 7


@pytest.mark.parametrize("name", ["missing", "package.missing"])
def test_with_reload_a_module_that_is_missing_is_waited_for(name: str) -> None:
    with start("--reload", app=f"import {name}\n{HELLO}") as server:
        server.wait_for_log("^The application could not be loaded: waiting for a change$")
        path = server.directory / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.touch()
        assert server.get("/").status == 200


def test_what_a_client_sends_is_no_command_to_the_terminal() -> None:
    with start() as server, server.client() as client:
        client.send(b"GET /\x9b31m\x85\xe9 HTTP/1.1\r\nHost: a\r\n\r\n")
        client.response()
        server.wait_for_log(r"GET /\\x9b31m\\x85é 12 octets")


@pytest.mark.parametrize(
    ("args", "app"),
    [((), "raise LookupError"), (("--bind=203.0.113.1:80",), HELLO), (("--threads=2",), "1/0")],
)
def test_what_ends_before_it_serves_removes_its_unix_socket(
    args: tuple[str, ...], app: str
) -> None:
    with start("--bind=unix:sock", *args, app=app, ready=False) as server:
        assert server.wait() == 1
        assert not (server.directory / "sock").exists()


def test_with_reload_the_child_ends_with_its_parent() -> None:
    with start("--reload") as server:
        assert server.get("/").status == 200
        (child,) = children(server.process.pid)
        server.process.kill()
        server.process.wait()
        eventually(lambda: not os.path.exists(f"/proc/{child}"), "the child has ended")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--bind=127.0.0.1:port"], "--bind: 'port' is not a valid port number."),
        (["--bind=203.0.113.1:80"], "--bind: [Errno 99] cannot listen at ('203.0.113.1', 80)"),
        (["--bind=fd://0"], "--bind: 0 is not a socket"),
        (["--threads=0"], "argument --threads: 0: nobody would serve; 1 or more"),
        (["--threads=2000000000"], "argument --threads: 2000000000: so many cannot be had; up to"),
        (["--threads=four"], "argument --threads: four: not a number; 1 or more"),
        (["--keep-alive=long"], "argument --keep-alive: long: not a time; seconds, 0 or more"),
        (["--keep-alive=-1"], "argument --keep-alive: -1: not a time; seconds, 0 or more"),
    ],
)
def test_a_wrong_argument_is_refused_in_a_line(args: list[str], said: str) -> None:
    with start(*args, ready=False) as server:
        assert server.wait() != 0
        assert said in server.stderr_text().splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere:app", "nowhere:app: No module named 'nowhere'"),
        ("app:wsgi", "app:wsgi: Failed to find attribute 'wsgi' in 'app'."),
        ("app.py", "app.py: Failed to find application, did you mean 'app:application'?"),
        ("./app:app", "argument MODULE:APP: './app:app': not a module's name, as in package"),
        (":app", "argument MODULE:APP: ':app': not a module's name, as in package.module:app"),
    ],
)
def test_an_application_that_is_not_there_is_an_error_of_a_line(name: str, said: str) -> None:
    with Standalone.start(
        None,
        name,
        "--bind=127.0.0.1:0",
        module="meinheld",
        files={"app.py": HELLO},
        ready=False,
    ) as server:
        assert server.wait() != 0
        assert said in server.stderr_text().splitlines()[-1]
        assert "Traceback" not in server.stderr_text()


@pytest.mark.parametrize("app", ["1 / 0\n", "def app(:\n"])
def test_the_traceback_of_an_application_begins_where_its_own_code_does(app: str) -> None:
    with start(app=app, ready=False) as server:
        assert server.wait() == 1
        files = re.findall(r'File "(.*?)"', server.stderr_text())
        assert files == [str(server.directory / "app.py")]


def test_ctrl_c_while_the_application_is_loaded_ends_it_without_a_word() -> None:
    app = "import apps.notes, time\napps.notes.note('is loaded')\ntime.sleep(60)\n"
    with start(app=app, ready=False) as server:
        server.wait_for_note("is loaded")
        server.signal(signal.SIGINT)
        assert server.wait() == 0
        assert "Traceback" not in server.stderr_text()


def test_an_application_that_runs_a_server_itself_is_told_to_leave_that() -> None:
    app = f"{HELLO}\nfrom meinheld import server\nserver.listen(('127.0.0.1', 0))\n"
    with start(app=app, ready=False) as server:
        assert server.wait() == 1
        assert server.stderr_text().splitlines()[-1] == (
            "RuntimeError: listen: python -m meinheld serves here already; "
            'say listen and run below if __name__ == "__main__"'
        )


def test_a_change_is_said_before_it_ends_the_process() -> None:
    screen = io.StringIO()
    reloader = develop.Reloader(develop.Screen(screen))
    said_when_set: list[str] = []
    reloader.changed.set = lambda: said_when_set.append(screen.getvalue())  # type: ignore[method-assign]
    reloader.start({__file__: 0.0})
    assert said_when_set == [f"{__file__} has changed: starting again\n"]


def test_the_command_that_looks_at_a_fleet_is_there_too() -> None:
    with Standalone.start(None, "top", "--once", module="meinheld", ready=False) as server:
        assert server.wait() == 2
        assert "Say --bind ADDRESS, or set MEINHELD_STATUS." in server.stderr_text()
