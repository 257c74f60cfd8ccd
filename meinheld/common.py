"""The historical place of the continuation's names."""

from meinheld.continuation import CLIENT_KEY, CONTINUATION_KEY, Continuation

__all__ = ["CLIENT_KEY", "CONTINUATION_KEY", "Continuation"]
