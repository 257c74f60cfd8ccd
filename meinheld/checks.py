"""Numbers that users give, and what they are told of one that is not accepted."""

from typing import Any


def count(name: str, value: Any, *, least: int = 1) -> int:
    """See that a value is a whole number.

    Raises:
        TypeError, ValueError: it is not, or too small; one line.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} = {value!r}: not a number. Accepted: {least} or more.")
    if not least <= value < 2**63:
        raise ValueError(f"{name} = {value!r}: out of range. Accepted: {least} or more.")
    return value


def seconds(name: str, value: Any, *, may_be_zero: bool) -> float:
    """See that a value is a time.

    Raises:
        TypeError, ValueError: it is not; one line.
    """
    accepted = "seconds, 0 or more" if may_be_zero else "seconds, more than 0"
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{name} = {value!r}: not a time. Accepted: {accepted}.")
    if not (0 <= value < 1e9) or not (value or may_be_zero):
        raise ValueError(f"{name} = {value!r}: out of range. Accepted: {accepted}.")
    return float(value)
