"""What a listening socket means to the requests that come through it."""

import os
import socket
from typing import Any

from gunicorn.http.wsgi import base_environ

from meinheld_worker import green
from meinheld_worker.errors import ErrorStream

#: Descriptor, the part of ``environ`` that all its requests share, and the path of a unix socket.
Listener = tuple[int, dict[str, Any], str | None]


def is_tcp(listener: Any) -> bool:
    """Whether it is no unix socket."""
    return listener.family in (socket.AF_INET, socket.AF_INET6)


def name_of(listener: Any) -> str:
    """Its address, as clients write it."""
    name = listener.getsockname()
    if not is_tcp(listener):
        return os.fsdecode(name)
    host = f"[{name[0]}]" if listener.family == socket.AF_INET6 else name[0]
    return f"{host}:{name[1]}"


def answers(path: str) -> bool:
    """Whether a process listens at the path of a unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        # Where its queue is full, connect would wait for its server.
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return True


def describe(listener: Any, cfg: Any) -> Listener:
    """Describe one of gunicorn's sockets to the loop.

    SERVER_NAME and SERVER_PORT are those of the socket; for a unix socket they come from each
    request's Host, which the path returned here tells the loop to do.
    """
    environ = base_environ(cfg)
    environ["wsgi.errors"] = ErrorStream(cfg)
    environ["wsgi.multithread"] = cfg.threads > 1 or green.wanted() is not None
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        path = name.decode("latin-1") if isinstance(name, bytes) else name
        return listener.fileno(), environ, path
    environ["SERVER_NAME"] = name[0]
    environ["SERVER_PORT"] = str(name[1])
    return listener.fileno(), environ, None
