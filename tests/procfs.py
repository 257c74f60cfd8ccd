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
