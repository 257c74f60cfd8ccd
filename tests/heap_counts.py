"""How often a worker calls the allocator, and how much it copies: counted inside the process.

    with Server.start(COUNTED, env=counting()) as server, warmed(server, HELLO) as client:
        assert cost(client, HELLO, 100).allocated <= 3 * 100

counting.c is compiled by the machine's `cc` and preloaded into gunicorn. Counted are calls that go
through the dynamic linker, of all threads: those of Python, of the native module and of libraries.

- Allocations: `malloc`, `calloc`, `realloc`, `free` and the aligned ones. Python gives its small
  objects (up to 512 octets) from arenas of its own, so that only larger ones are seen, unless
  `PYTHONMALLOC=malloc` has it ask for each. Its free lists are not seen in either case, and an
  allocator of the native module's own would not be.
- Copies: `memcpy` and `memmove` of 4,096 octets or more. Not seen are copies that a compiler has
  written out instead of calling one of these, those inside libc, and those of the kernel in a
  system call. What a `realloc` moves is counted apart: it may be remapped and not copied.
"""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import subprocess
import tempfile
from dataclasses import astuple, dataclass
from pathlib import Path

import pytest
from harness import TESTS, Client
from workloads import ask

COUNTED = """
import ctypes
import json
from apps.measured import app as measured
from apps.routes import text

counters = (ctypes.c_ulong * 5).in_dll(ctypes.CDLL(None), "counted")


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/counted":
        return text(start_response, json.dumps(list(counters)))
    if path == "/copy":
        bytearray(1 << 20)[:]
        return text(start_response, "copied")
    return measured(environ, start_response)
"""


@dataclass
class Counts:
    allocated: int
    """Blocks that were asked for."""
    reallocated: int
    """Calls that changed a block's size, or tried to."""
    freed: int
    """Blocks that were given back."""
    copied: int
    """Octets in copies of 4,096 octets or more."""
    moved: int
    """Octets, 4,096 or more at once, that are elsewhere since their block was reallocated."""

    def __sub__(self, other: Counts) -> Counts:
        return Counts(*(a - b for a, b in zip(astuple(self), astuple(other), strict=True)))


@functools.cache
def _library() -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler: the allocator's calls cannot be counted")
    directory = Path(tempfile.mkdtemp(prefix="meinheld-test-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    library = directory / "counting.so"
    source = TESTS / "counting.c"
    # Without -fno-builtin a copy may become a call of the very function that it is in.
    flags = ["-O2", "-fno-builtin", "-shared", "-fPIC"]
    subprocess.run([compiler, *flags, "-o", str(library), str(source), "-ldl"], check=True)
    return library


def counting(python_malloc: str = "default") -> dict[str, str]:
    """The environment of a server whose calls are counted."""
    return {"LD_PRELOAD": str(_library()), "PYTHONMALLOC": python_malloc}


def counts(client: Client) -> Counts:
    """All that the worker has counted since it began."""
    return Counts(*json.loads(client.request("GET", "/counted").body))


def cost(client: Client, what: bytes, count: int = 1) -> Counts:
    """What so many requests cost the worker, one after another."""
    first = counts(client)
    before = counts(client)
    ask(client, what, count)
    # Asking costs something, too.
    return counts(client) - before - (before - first)
