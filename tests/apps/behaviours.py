"""What patched libraries do on the loop: `/name` runs a function, and answers what went wrong."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from apps.routes import text

from meinheld_worker.hub import current
from meinheld_worker.waiting import Waiter

Behaviour = Callable[[], object]
Error = TypeVar("Error", bound=Exception)


class Behaviours:
    """An application of functions without arguments, each served at `/its_name`: 200 when it
    returns, 500 with the traceback when it raises."""

    def __init__(self) -> None:
        self.functions: dict[str, Behaviour] = {}

    def __call__(self, function: Behaviour) -> Behaviour:
        self.functions[function.__name__] = function
        return function

    def with_and_without_timeout(self, function: Callable[[float | None], object]) -> None:
        """The same for one that is run twice: sockets with a timeout take other ways."""

        def run() -> None:
            function(None)
            function(30.0)

        self.functions[function.__name__] = run

    def serve(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        try:
            self.functions[environ["PATH_INFO"][1:]]()
        except Exception:
            return text(start_response, traceback.format_exc(), "500 Failed")
        return text(start_response, "as it should be")


def together(*functions: Behaviour) -> list[Any]:
    """Runs each in a greenlet of its own, one after the other until it waits; returns what each
    has returned, or raised."""
    hub = current()
    assert hub is not None
    end = Waiter(hub)
    results: list[Any] = [None] * len(functions)
    left = len(functions)

    def run(position: int, function: Behaviour) -> None:
        nonlocal left
        try:
            results[position] = function()
        except Exception as error:
            results[position] = error
        left -= 1
        if not left:
            end.wake()

    for position, function in enumerate(functions):
        hub.spawn(run, position, function)
    end.wait()
    return results


def raises(kind: type[Error], function: Callable[[], object]) -> Error:
    """Sees that it raises an error of exactly this class; returns that."""
    try:
        function()
    except kind as error:
        assert type(error) is kind, repr(error)
        return error
    raise AssertionError(f"{kind} was not raised")
