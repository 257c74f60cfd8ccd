"""A real gunicorn, a raw client, and waits that are always bounded.

`Server` is `python -m gunicorn` in a process group and a directory of its own, on port 0.
`Client` is a socket that sends bytes exactly as given and reads one response exactly as framed.
`eventually` polls a condition until it holds or its deadline passes; nothing sleeps in order to
synchronise.

    with Server.start("apps.echo:app", "--keep-alive", "5") as server, server.client() as client:
        client.send(b"GET / HTTP/1.1\\r\nHost: test\\r\\n\\r\\n")
        assert client.response().status == 200

The worker class is `MEINHELD_TEST_WORKER` (default `egg:meinheld#gunicorn_worker`), so that the
suite runs on gunicorn's own workers too. Applications may import `apps.notes` to leave a trace
that `Server.notes()` reads back.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import ClassVar, TypeAlias, TypeVar

WORKER = os.environ.get("MEINHELD_TEST_WORKER", "egg:meinheld#gunicorn_worker")
OURS = "meinheld" in WORKER
TESTS = Path(__file__).resolve().parent
PATIENCE = 15.0
"""Seconds that any wait may take before the test fails; a correct server needs a small part of
it."""

Address: TypeAlias = "tuple[str, int] | str"
"""`(host, port)` of TCP, or the path of a unix socket (a leading NUL for the abstract
namespace)."""
T = TypeVar("T")

_FOREIGN_SETTINGS = (
    "GUNICORN_",
    "MEINHELD_",
    "LISTEN_",
    "SCRIPT_NAME",
    "NOTIFY_SOCKET",
    "WEB_CONCURRENCY",
    "PORT",
    "FORWARDED_ALLOW_IPS",
)


def eventually(condition: Callable[[], T], what: str, within: float = PATIENCE) -> T:
    """The first truthy value of `condition`; fails with `what` after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what} (last value: {value!r})")
        time.sleep(0.005)


def settled(sample: Callable[[], T], during: float = 0.5, within: float = PATIENCE) -> T:
    """The value of `sample` once it has stayed the same for `during` seconds."""
    deadline = time.monotonic() + within
    value, since = sample(), time.monotonic()
    while time.monotonic() - since < during:
        assert time.monotonic() < deadline, f"still changing after {within:g} s: {value!r}"
        time.sleep(0.02)
        if (now := sample()) != value:
            value, since = now, time.monotonic()
    return value


class Truncated(Exception):
    """The peer closed in the middle of a response; `partial` is what came of its body or head."""

    def __init__(self, partial: bytes) -> None:
        super().__init__(f"closed after {len(partial)} bytes: {partial[:200]!r}")
        self.partial = partial


@dataclass
class Response:
    """One response as it was on the wire: header names keep their case, the body is unframed."""

    version: str
    status: int
    reason: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    framing: str = "none"
    """What ended the body: `none` (there cannot be one), `length`, `chunked` or `close`."""

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        values = self.all(name)
        assert len(values) <= 1, f"{name} occurs {len(values)} times: {values}"
        return values[0] if values else None

    @property
    def text(self) -> str:
        return self.body.decode()


class Client:
    """A connection that says exactly what it is told, and reads no byte beyond the response it was
    asked for."""

    def __init__(
        self, address: Address, timeout: float = PATIENCE, receive_buffer: int | None = None
    ) -> None:
        family = (
            socket.AF_UNIX
            if isinstance(address, str)
            else socket.AF_INET6
            if ":" in address[0]
            else socket.AF_INET
        )
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(address)
        except BaseException:
            self.socket.close()
            raise
        self.buffer = b""
        """Bytes received and not yet part of a response."""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send_bytewise(self, data: bytes) -> None:
        """One segment a byte, as far as the kernel lets us."""
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for position in range(len(data)):
            self.socket.sendall(data[position : position + 1])

    def request(
        self,
        method: str = "GET",
        target: str = "/",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Response:
        """Sends one HTTP/1.1 request and reads its response."""
        self.send(request(method, target, headers, body))
        return self.response(method)

    def response(self, method: str = "GET") -> Response:
        """The next response, 1xx included. `method` is the request's: HEAD has no body. Raises
        Truncated, OSError, TimeoutError."""
        head = self.read_until(b"\r\n\r\n")
        status_line, *lines = head[:-4].decode("latin-1").split("\r\n")
        version, status, reason = ([*status_line.split(" ", 2), ""])[:3]
        assert re.fullmatch(r"HTTP/1\.[01]", version) and re.fullmatch(r"\d{3}", status), (
            f"not a status line: {status_line!r}"
        )
        response = Response(version, int(status), reason)
        for line in lines:
            name, colon, value = line.partition(":")
            assert colon and re.fullmatch(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", name), (
                f"not a field line: {line!r}"
            )
            response.headers.append((name, value.strip(" \t")))
        response.framing, response.body = self._body(response, method)
        return response

    def _body(self, response: Response, method: str) -> tuple[str, bytes]:
        coding, length = response.header("Transfer-Encoding"), response.header("Content-Length")
        if method == "HEAD" or response.status < 200 or response.status in (204, 304):
            return "none", b""
        if coding is not None:
            assert coding == "chunked" and length is None
            return "chunked", b"".join(self.chunks())
        if length is not None:
            return "length", self.read_exactly(int(length))
        return "close", self.read_until_closed()

    def chunks(self) -> Iterator[bytes]:
        """The chunks of a chunked body from here to its end."""
        while True:
            size_line = self.read_until(b"\r\n")
            assert re.fullmatch(rb"[0-9A-Fa-f]+\r\n", size_line), f"not a chunk size: {size_line!r}"
            chunk = self.read_exactly(int(size_line, 16))
            assert self.read_exactly(2) == b"\r\n"
            if not chunk:
                return
            yield chunk

    def receive(self, limit: int = 65536) -> bytes:
        """Whatever comes next, b'' at the end of the stream."""
        if self.buffer:
            data, self.buffer = self.buffer[:limit], self.buffer[limit:]
            return data
        return self.socket.recv(limit)

    def read_until(self, mark: bytes) -> bytes:
        data = bytearray(self.buffer)
        self.buffer = b""
        searched = 0
        while (end := data.find(mark, searched)) < 0:
            searched = max(0, len(data) - len(mark) + 1)
            block = self.socket.recv(65536)
            if not block:
                raise Truncated(bytes(data))
            data += block
        end += len(mark)
        self.buffer = bytes(data[end:])
        return bytes(data[:end])

    def read_exactly(self, count: int) -> bytes:
        blocks = [self.buffer[:count]]
        self.buffer = self.buffer[count:]
        missing = count - len(blocks[0])
        while missing:
            block = self.socket.recv(min(missing, 1 << 18))
            if not block:
                raise Truncated(b"".join(blocks))
            blocks.append(block)
            missing -= len(block)
        return b"".join(blocks)

    def read_until_closed(self) -> bytes:
        """Everything up to an orderly end of the stream; a reset raises ConnectionResetError."""
        blocks = [self.buffer]
        self.buffer = b""
        while block := self.socket.recv(1 << 18):
            blocks.append(block)
        return b"".join(blocks)

    def is_closed_by_peer(self) -> bool:
        """Waits for the end of the connection, orderly or by reset; fails when a byte comes
        instead."""
        try:
            data = self.receive()
        except ConnectionError:
            return True
        assert data == b"", f"expected the end of the connection, not {data[:200]!r}"
        return True

    def is_quiet(self) -> bool:
        """Whether nothing at all (no byte, no end) has arrived so far."""
        return not self.buffer and not select.select([self.socket], [], [], 0)[0]

    def rest(self) -> bytes:
        """Half-closes, then returns everything that was still to come: b'' after the last
        answer."""
        self.half_close()
        return self.read_until_closed()

    def half_close(self) -> None:
        """Says that nothing more will be sent, and goes on listening."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Ends the connection with an RST instead of a FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        self.socket.close()


def request(
    method: str = "GET",
    target: str = "/",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    version: str = "HTTP/1.1",
) -> bytes:
    """The bytes of one request; Host and, with a body, Content-Length are added where absent."""
    fields = dict(headers or {})
    names = {name.lower() for name in fields}
    if "host" not in names and version == "HTTP/1.1":
        fields = {"Host": "test", **fields}
    if body and not names & {"content-length", "transfer-encoding"}:
        fields["Content-Length"] = str(len(body))
    head = f"{method} {target} {version}\r\n" + "".join(
        f"{name}: {value}\r\n" for name, value in fields.items()
    )
    return head.encode("latin-1") + b"\r\n" + body


def chunked(*chunks: bytes, trailer: bytes = b"") -> bytes:
    """A complete chunked body."""
    return (
        b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
        + b"0\r\n"
        + trailer
        + b"\r\n"
    )


class Server:
    """A gunicorn master with its workers; leave the `with` block and its whole process group is
    gone."""

    running: ClassVar[list[Server]] = []

    def __init__(self, process: subprocess.Popen[bytes], directory: Path) -> None:
        self.process = process
        self.directory = directory
        self.addresses: list[Address] = []

    @classmethod
    def start(
        cls,
        app: str = "apps.echo:app",
        *args: str,
        config: str | Mapping[str, object] = "",
        env: Mapping[str, str] | None = None,
        binds: Sequence[str] = ("127.0.0.1:0",),
        worker: str = WORKER,
        ready: bool = True,
        max_files: int | None = None,
        pass_fds: Iterable[int] = (),
        prefix: Sequence[str] = (),
        umask: int = -1,
        files: Mapping[str, str] | None = None,
    ) -> Server:
        """Starts gunicorn and, with `ready`, returns once it listens and has a worker.

        app: `module:callable` (tests/ is importable), or the source of a module that defines `app`.
        config: the text of a `gunicorn.conf.py`, or its settings. `{dir}` in `binds` and `args`
        is the server's directory. max_files: the soft and hard RLIMIT_NOFILE of the master.
        prefix: a command that runs it, as `strace`.
        """
        directory = Path(tempfile.mkdtemp(prefix="meinheld-test-"))
        if "\n" in app:
            (directory / "app.py").write_text(app)
            app = "app:app"
        if not isinstance(config, str):
            config = "".join(f"{name} = {value!r}\n" for name, value in config.items())
        (directory / "gunicorn.conf.py").write_text(config)
        for name, text in (files or {}).items():
            (directory / name).write_text(text)
        command = [
            *prefix,
            sys.executable,
            "-m",
            "gunicorn",
            "--no-control-socket",
            "--worker-class",
            worker,
        ]
        for bind in binds:
            command += ["--bind", bind.format(dir=directory)]
        command += [*(arg.format(dir=directory) if "{dir}" in arg else arg for arg in args), app]
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(_FOREIGN_SETTINGS)
        }
        environment |= {
            "PYTHONPATH": str(TESTS),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TEST_NOTES": str(directory / "notes"),
            **(env or {}),
        }

        def limit_files() -> None:
            if max_files is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (max_files, max_files))

        with open(directory / "stdout", "wb") as out, open(directory / "stderr", "wb") as err:
            process = subprocess.Popen(
                command,
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                pass_fds=tuple(pass_fds),
                umask=umask,
                preexec_fn=limit_files if max_files is not None else None,
            )
        server = cls(process, directory)
        cls.running.append(server)
        if ready:
            try:
                server.wait_until_listening()
            except BaseException:
                server.kill()
                raise
        return server

    def wait_until_listening(self) -> None:
        listening = self.wait_for_log(r"Listening at: (.*) \(\d+\)$")
        self.addresses = [_address(text) for text in listening.group(1).split(",") if text]
        self.wait_for_log(r"Booting worker")

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _value: object, _traceback: TracebackType | None
    ) -> None:
        if self not in Server.running:
            return
        stopped = self.quit()
        assert stopped or kind is not None, f"gunicorn did not stop on SIGQUIT\n{self._last_words}"

    # Where it is, and who it is

    @property
    def address(self) -> Address:
        """The first listener's."""
        return self.addresses[0]

    @property
    def port(self) -> int:
        address = self.address
        assert not isinstance(address, str), f"no port: {address!r}"
        return address[1]

    def client(self, timeout: float = PATIENCE, receive_buffer: int | None = None) -> Client:
        return Client(self.address, timeout, receive_buffer)

    def get(self, target: str = "/", headers: Mapping[str, str] | None = None) -> Response:
        """One GET on a connection of its own."""
        with self.client() as client:
            return client.request("GET", target, headers)

    def worker_pids(self) -> list[int]:
        """The master's children, oldest first."""
        return children(self.process.pid)

    def worker_pid(self) -> int:
        """The only worker's, waited for if it is not forked yet."""
        pids = eventually(self.worker_pids, "gunicorn has a worker")
        assert len(pids) == 1, f"expected one worker, not {pids}"
        return pids[0]

    # What it said

    def stderr_text(self) -> str:
        """The error log so far."""
        return (self.directory / "stderr").read_text(errors="backslashreplace")

    def stdout_text(self) -> str:
        """What was printed so far: the access log with `--access-logfile -`."""
        return (self.directory / "stdout").read_text(errors="backslashreplace")

    def notes(self) -> list[str]:
        """The lines that the application left with `apps.notes.note`."""
        path = self.directory / "notes"
        return path.read_text().splitlines() if path.exists() else []

    def wait_for_note(self, note: str, count: int = 1) -> None:
        eventually(
            lambda: self.notes().count(note) >= count,
            f"the application notes {note!r} {count} time(s) ({self.notes()[-20:]})",
        )

    def wait_for_log(self, pattern: str, count: int = 1, within: float = PATIENCE) -> re.Match[str]:
        """The `count`-th match of `pattern` (multi-line) in the error log; fails at once when
        gunicorn has exited without it."""
        compiled = re.compile(pattern, re.MULTILINE)

        def matches() -> list[re.Match[str]]:
            exited = self.process.poll() is not None
            found = list(compiled.finditer(self.stderr_text()))
            assert len(found) >= count or not exited, (
                f"gunicorn exited, and had not said {pattern!r}:\n{self.stderr_text()}"
            )
            return found if len(found) >= count else []

        try:
            return eventually(matches, f"{pattern!r} {count} time(s) in the error log", within)[
                count - 1
            ]
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.stderr_text()}") from None

    # How it ends

    def signal(self, number: signal.Signals, pid: int | None = None) -> None:
        """Signals the master, or `pid` (a worker of ours)."""
        os.kill(self.process.pid if pid is None else pid, number)

    def wait(self, within: float = PATIENCE) -> int:
        """The master's exit status, once it has exited by itself."""
        return self.process.wait(within)

    def stop(self, within: float = PATIENCE) -> int:
        """SIGTERM, the graceful way; returns the exit status. The logs stay readable until the
        `with` block ends."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.wait(within)

    def quit(self) -> bool:
        """SIGQUIT, the quick way, then everything is removed. False when gunicorn had to be
        killed."""
        in_time = True
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                in_time = False
        self._last_words = self.stderr_text()[-4000:]
        self.kill()
        return in_time

    _last_words = ""

    def kill(self) -> None:
        """SIGKILL to what is left of the process group, and the directory is removed."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)
        shutil.rmtree(self.directory, ignore_errors=True)
        if self in Server.running:
            Server.running.remove(self)


def _address(text: str) -> Address:
    if text.startswith("unix:"):
        return text.removeprefix("unix:")
    host, _, port = text.removeprefix("http://").removeprefix("https://").rpartition(":")
    return host.strip("[]"), int(port)


# What /proc knows


def children(pid: int) -> list[int]:
    """The living children of `pid`, oldest first."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat(int(entry.name))
            if fields and int(fields[1]) == pid and fields[0] not in "ZX":
                found.append((int(fields[19]), int(entry.name)))
    return [child for _, child in sorted(found)]


def _stat(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat after the command's name, state first; empty when there is no
    such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def cpu_seconds(pid: int) -> float:
    """User and system time that the process has used."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_kib(pid: int, name: str = "VmRSS") -> int:
    """`VmRSS` (resident now) or `VmHWM` (its peak), in KiB."""
    match = re.search(
        rf"^{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE
    )
    assert match, f"no {name} in /proc/{pid}/status"
    return int(match.group(1))


def forget_peak_memory(pid: int) -> None:
    """Starts `VmHWM` anew from what is resident now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def open_files(pid: int) -> list[str]:
    """What the process's descriptors point at, as in `/tmp/upload (deleted)` or `socket:[123]`."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(entry))
    return found
