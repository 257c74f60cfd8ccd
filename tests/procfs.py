"""What /proc knows about a process."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path


def children(pid: int) -> list[int]:
    """The living children of `pid`, oldest first."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat(int(entry.name))
            if fields and int(fields[1]) == pid and fields[0] not in "ZX":
                found.append((int(fields[19]), int(entry.name)))
    return [child for _, child in sorted(found)]


def _stat(process: int | str) -> list[str]:
    """The fields of /proc/<process>/stat after the command's name, state first; empty when there is
    no such process."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def cpu_seconds(pid: int) -> float:
    """User and system time that the process has used."""
    return sum(cpu_ticks(pid)) / os.sysconf("SC_CLK_TCK")


def loop_seconds(pid: int) -> float:
    """What a worker's loop has used of them: its main thread, without the application's others."""
    return sum(cpu_ticks(f"{pid}/task/{pid}")) / os.sysconf("SC_CLK_TCK")


def cpu_ticks(process: int | str) -> tuple[int, int]:
    """User and system time that the process has used, in ticks."""
    fields = _stat(process)
    if not fields:
        raise ProcessLookupError(f"no process {process}")
    return int(fields[11]), int(fields[12])


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


def open_sockets(pid: int) -> int:
    """How many of the process's descriptors are sockets."""
    return sum(name.startswith("socket:") for name in open_files(pid))


def accepted_socket(peer: tuple[str, int]) -> str:
    """What `open_files` shows, of who accepted it, for the IPv4 connection with `peer`."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if int(fields[2].partition(":")[2], 16) == peer[1] and fields[9] != "0":
            return f"socket:[{fields[9]}]"
    raise AssertionError(f"nobody has a connection with {peer}")


def beats(pid: int) -> tuple[int, ...]:
    """When the worker's heart last beat: another value after each beat. gunicorn's arbiter looks
    at the same file."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            if "wgunicorn" in os.readlink(entry):
                found.append(os.stat(entry).st_mtime_ns)
    assert found, "the heartbeat's file was not found"
    return tuple(found)


def threads_named(pid: int, name: str) -> list[str]:
    """The threads of the process that have this name for the system, as folders of /proc."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [str(task) for task in tasks if thread_status(str(task), "Name") == name]


def thread_status(thread: str, field: str) -> str:
    """What the kernel says of a thread; nothing once it has ended."""
    try:
        status = Path(thread, "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    match = re.search(rf"^{field}:\s+(.*)$", status, re.MULTILINE)
    return match.group(1) if match else ""


def all_asleep(pid: int) -> bool:
    """Whether there was a moment at which every thread of the process slept. A thread that waits
    for the GIL sleeps, too, but then another one has it and runs."""
    before = _sleepers(pid)
    return bool(before) and before == _sleepers(pid)


def _sleepers(pid: int) -> dict[str, list[str]]:
    """How often each thread has been switched away from; nothing unless all of them sleep."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            status = (task / "status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return {}
        if not re.search(r"^State:\s+S", status, re.MULTILINE):
            return {}
        found[task.name] = re.findall(r"ctxt_switches:\s+(\d+)", status)
    return found
