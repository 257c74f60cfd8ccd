"""What an error log must not say."""

from __future__ import annotations

import re
from collections.abc import Iterator

BEGINS = re.compile(r"^(\[\d{4}-\d\d-\d\d |--- Logging error ---)")
BAD = re.compile(
    # TERM and USR1 find no handler where gunicorn is about to install them, and none any more while
    # the interpreter is being torn down; all is done by then.
    r"panicked|WORKER TIMEOUT|was sent SIG(?!TERM|USR1)|\[CRITICAL\]|exited with code",
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
