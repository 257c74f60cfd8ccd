"""Which way an application is called: in greenlets, or as everybody who does not ask for them."""

import os
from collections.abc import Callable, Mapping
from typing import Any

#: Asks for greenlets where the application does not do so itself.
GREEN = "MEINHELD_GREEN"

_wanted_by: str | None = None
_chosen: bool | None = None
_at_start: list[Callable[[Any], object]] = []


def want(what: str) -> None:
    """Choose greenlets, before the loop starts. ``what`` needs them, and is named in errors.

    Raises:
        ImportError: there is no greenlet.
        RuntimeError: a loop runs already, without them.
    """
    global _wanted_by
    if _chosen is False:
        raise RuntimeError(
            f"{what} needs greenlets, and the server has started without: use it before that, when "
            f"the application is loaded, or set {GREEN}=1"
        )
    require(what)
    _wanted_by = _wanted_by or what


def require(what: str) -> None:
    """See that there is greenlet.

    Raises:
        ImportError: there is not.
    """
    try:
        import greenlet  # noqa: F401
    except ImportError as error:
        raise ImportError(f"{what} needs greenlet: pip install 'meinheld[green]'") from error


def wanted() -> str | None:
    """What has asked for greenlets first, if anything has."""
    return _wanted_by or (GREEN if is_set(os.environ) else None)


def is_set(environ: Mapping[str, str]) -> bool:
    """Whether the environment asks for greenlets.

    Raises:
        RuntimeError: it says something else than yes or no.
    """
    value = environ.get(GREEN, "0")
    if value not in ("0", "1"):
        raise RuntimeError(f"{GREEN} = {value!r}: not a choice. Accepted: 1, or 0.")
    return value == "1"


def choose() -> bool:
    """The loop starts: return whether with greenlets. Nothing can ask for them any more."""
    global _chosen
    _chosen = wanted() is not None
    return _chosen


def at_start(function: Callable[[Any], object]) -> None:
    """Have a function called with the hub, when its loop starts."""
    _at_start.append(function)


def take_at_start() -> list[Callable[[Any], object]]:
    """What is to be called now: for the hub."""
    taken = _at_start[:]
    _at_start.clear()
    return taken


def release() -> None:
    """The loop has ended: another one may start."""
    global _chosen
    _chosen = None
