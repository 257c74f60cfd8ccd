"""Which modules hold a function or class of the standard library that ``patch_all`` replaces.

Such a module would go on blocking the loop or, with locals and idents, mix one request's state with
another's. What the patch changes in place, ``socket.socket``, ``ssl.SSLContext``,
``threading.Condition`` or ``queue.Queue``, may be held by anybody.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator
from types import ModuleType

#: The originals, by the module that everybody gets them from.
SOCKETS: dict[str, tuple[str, ...]] = {
    "socket": (
        "getaddrinfo",
        "gethostbyname",
        "gethostbyname_ex",
        "gethostbyaddr",
        "getnameinfo",
    ),
}
OTHERS: dict[str, tuple[str, ...]] = {
    "time": ("sleep",),
    "select": ("select", "poll"),
    "threading": ("Lock", "local", "get_ident", "current_thread"),
    "queue": ("SimpleQueue",),
}
#: Modules that may hold them: gunicorn's run in the hub's own greenlet, which always blocks, and
#: greenlet's and ours are what the replacements are made of.
_TRUSTED = {"gunicorn", "greenlet", "meinheld", "meinheld_worker"} | sys.stdlib_module_names


def holders(names: dict[str, tuple[str, ...]]) -> Iterator[str]:
    """Where originals are held, as ``module.name (standard name)``."""
    originals = {
        id(getattr(module, name)): f"{module.__name__}.{name}" for module, name in _originals(names)
    }
    with_locals = "threading" in names
    for module_name, module in sorted(sys.modules.items()):
        if module_name.partition(".")[0] in _TRUSTED or not isinstance(module, ModuleType):
            continue
        for name, value in tuple(vars(module).items()):
            standard = originals.get(id(value))
            if standard is None and with_locals and _is_local(value):
                standard = "threading.local"
            if standard is not None:
                yield f"{module_name}.{name} ({standard})"


def _originals(names: dict[str, tuple[str, ...]]) -> Iterator[tuple[ModuleType, str]]:
    for module_name, members in names.items():
        for member in members:
            yield importlib.import_module(module_name), member


def _is_local(value: object) -> bool:
    # isinstance() would ask the value, which may be lazy, for its class.
    kind = value if issubclass(type(value), type) else type(value)
    return issubclass(kind, threading.local)  # type: ignore[arg-type]
