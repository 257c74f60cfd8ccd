"""``threading.local`` of which each task on the loop has its own attributes."""

from __future__ import annotations

from _thread import _local as _thread_local
from typing import Any
from weakref import WeakKeyDictionary

from meinheld.green_identity import Identity, identity


class _Store:
    """The attributes of one local: by task on the loop, by thread everywhere else."""

    __slots__ = ("arguments", "keywords", "tasks", "threads")

    def __init__(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        self.arguments = arguments
        self.keywords = keywords
        self.tasks: WeakKeyDictionary[Identity, dict[str, Any]] = WeakKeyDictionary()
        self.threads = _thread_local()

    def find(self) -> dict[str, Any] | None:
        task = identity()
        if task is None:
            attributes: dict[str, Any] | None = getattr(self.threads, "attributes", None)
            return attributes
        return self.tasks.get(task)

    def make(self) -> dict[str, Any]:
        attributes: dict[str, Any] = {}
        task = identity()
        if task is None:
            self.threads.attributes = attributes
        else:
            self.tasks[task] = attributes
        return attributes

    def drop(self) -> None:
        task = identity()
        if task is None:
            del self.threads.attributes
        else:
            del self.tasks[task]


def _attributes(self: local) -> dict[str, Any]:
    store: _Store = object.__getattribute__(self, "_local__store")
    attributes = store.find()
    if attributes is None:
        attributes = store.make()
        # As the standard one does, for each thread.
        try:
            type(self).__init__(self, *store.arguments, **store.keywords)
        except BaseException:
            store.drop()
            raise
    return attributes


def _is_data_descriptor(kind: type, name: str) -> bool:
    for base in kind.__mro__:
        if name in vars(base):
            return hasattr(type(vars(base)[name]), "__set__")
    return False


def _refuse_dict(self: local, name: str) -> None:
    if name == "__dict__":
        kind = type(self).__name__
        raise AttributeError(f"{kind!r} object attribute '__dict__' is read-only")


class local:
    """As ``threading.local``."""

    __slots__ = ("__weakref__", "_local__store")

    def __new__(cls, /, *args: Any, **kwargs: Any) -> local:
        if (args or kwargs) and cls.__init__ is object.__init__:
            raise TypeError("Initialization arguments are not supported")
        self = object.__new__(cls)
        store = _Store(args, kwargs)
        object.__setattr__(self, "_local__store", store)
        # Python calls __init__ for the first thread.
        store.make()
        return self

    def __getattribute__(self, name: str) -> Any:
        attributes = _attributes(self)
        if name == "__dict__":
            return attributes
        try:
            return attributes[name]
        except KeyError:
            return object.__getattribute__(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        _refuse_dict(self, name)
        attributes = _attributes(self)
        if _is_data_descriptor(type(self), name):
            object.__setattr__(self, name, value)
        else:
            attributes[name] = value

    def __delattr__(self, name: str) -> None:
        _refuse_dict(self, name)
        attributes = _attributes(self)
        if _is_data_descriptor(type(self), name):
            object.__delattr__(self, name)
            return
        try:
            del attributes[name]
        except KeyError:
            raise AttributeError(name) from None
