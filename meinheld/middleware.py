"""What 1.x kept in one place: the middlewares of meinheld."""

from meinheld.continuation import (
    CLIENT_KEY,
    CONTINUATION_KEY,
    Continuation,
    ContinuationMiddleware,
    SpawnMiddleware,
)
from meinheld.websocket import WebSocketMiddleware

__all__ = [
    "CLIENT_KEY",
    "CONTINUATION_KEY",
    "Continuation",
    "ContinuationMiddleware",
    "SpawnMiddleware",
    "WebSocketMiddleware",
]
