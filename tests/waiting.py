"""Waits that poll a condition, and are always bounded."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 15.0
"""Seconds that any wait may take before the test fails; a correct server needs a small part."""
T = TypeVar("T")


def eventually(condition: Callable[[], T], what: str, within: float = PATIENCE) -> T:
    """The first truthy value of `condition`; fails with `what` after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within:g} s: {what} (last value: {value!r})")
        time.sleep(0.005)


def settled(sample: Callable[[], T], during: float = 0.5, within: float = PATIENCE) -> T:
    """The value of `sample` once it has stayed the same for `during` seconds."""
    deadline = time.monotonic() + within
    value, since = sample(), time.monotonic()
    while time.monotonic() - since < during:
        assert time.monotonic() < deadline, f"still changing after {within:g} s: {value!r}"
        time.sleep(0.02)
        if (now := sample()) != value:
            value, since = now, time.monotonic()
    return value
