"""The historical names of meinheld, over the core in :mod:`meinheld_worker`."""

import importlib
from typing import Any

__version__ = "2.0.0.dev0"
#: As in 1.x, for `from meinheld import *`. Each is imported when it is asked for.
__all__ = [
    "cancel_wait",
    "get_backlog",
    "get_client_body_buffer_size",
    "get_ident",
    "get_keepalive",
    "get_max_content_length",
    "get_picoev_max_fd",
    "listen",
    "mlogging",
    "run",
    "schedule_call",
    "server",
    "set_access_logger",
    "set_backlog",
    "set_client_body_buffer_size",
    "set_error_logger",
    "set_fastwatchdog",
    "set_keepalive",
    "set_listen_socket",
    "set_max_content_length",
    "set_picoev_max_fd",
    "set_watchdog",
    "shutdown",
    "sleep",
    "spawn",
    "stop",
    "timeout",
    "trampoline",
]


def __getattr__(name: str) -> Any:
    """Names of :mod:`meinheld.server` are found here, too, once they are asked for: gunicorn's
    workers need none of them, and ``from meinheld import patch`` asks for its name here first."""
    if name not in __all__:
        raise AttributeError(f"module 'meinheld' has no attribute {name!r}")
    if name in ("mlogging", "server"):
        return importlib.import_module(f"meinheld.{name}")
    return getattr(importlib.import_module("meinheld.server"), name)
