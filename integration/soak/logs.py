"""What an error log must not say."""

from __future__ import annotations

import re
from collections.abc import Iterator

BEGINS = re.compile(r"^(\[\d{4}-\d\d-\d\d |--- Logging error ---)")
BAD = re.compile(
    # A TERM that comes while the interpreter is being torn down finds no handler any more: gunicorn
    # sends it again and again, and all is done by then.
    r"panicked|WORKER TIMEOUT|was sent SIG(?!TERM)|\[CRITICAL\]|exited with code",
    re.IGNORECASE,
)
PURPOSE = "OnPurpose"
"""What the application raises where it is told to."""
LATE = re.compile(r"Requests lost on connections closed while leaving: (\d+)")


def records(text: str) -> Iterator[list[str]]:
    """The lines of each record, tracebacks with the line that they belong to."""
    record: list[str] = []
    for line in text.splitlines():
        if BEGINS.match(line) and record:
            yield record
            record = []
        record.append(line)
    if record:
        yield record


def is_bad(record: list[str]) -> bool:
    if any(BAD.search(line) for line in record):
        return True
    raised = [line for line in record if line and not line[0].isspace()]
    return "Traceback (most recent call last):" in record and PURPOSE not in raised[-1]


def is_interrupted_by_usr1(record: list[str]) -> bool:
    """gunicorn reopens its logs inside the signal handler, also when that interrupts the writing of
    a line, which is lost then: so it is with gunicorn's own workers."""
    text = "\n".join(record)
    return "in reopen_files" in text and "reentrant call" in text
