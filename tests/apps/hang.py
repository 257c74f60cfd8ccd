"""An extension module that waits, and does not release the GIL."""

from __future__ import annotations

import ctypes
import os
from typing import Any

from apps.notes import note


def holds_the_gil(environ: dict[str, Any], start_response: Any) -> None:
    reader, _ = os.pipe()
    note("hangs")
    ctypes.PyDLL(None).read(reader, ctypes.create_string_buffer(1), 1)
