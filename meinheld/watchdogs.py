"""Signs of life for a parent that looks at a file, as gunicorn's arbiter does."""

import os
from collections.abc import Callable


def fast_watchdog(fd: int, ppid: int, orphaned: Callable[[], object]) -> Callable[[], None]:
    """What is to be called once a second: it changes the mode of the file, and calls ``orphaned``
    when the parent is another. The descriptor may be closed meanwhile.

    Raises:
        ValueError: there is no such descriptor; one line.
    """
    file = _file(fd)
    if file is None:
        raise ValueError(f"fd = {fd}: not open. Accepted: the descriptor of a file.")
    mode = 0

    def watchdog() -> None:
        nonlocal mode
        if os.getppid() != ppid:
            orphaned()
        if _file(fd) == file:
            mode ^= 1
            os.fchmod(fd, mode)

    return watchdog


def _file(fd: int) -> tuple[int, int] | None:
    """Which file it is: a number may become another's."""
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino
