"""The endpoint that tells how the fleet is: where it listens, and a worker's part of it."""

import ipaddress
import os
import socket
from typing import Any

from gunicorn.sock import UnixSocket

from meinheld_worker import _core
from meinheld_worker.listeners import answers, is_tcp, name_of

STATUS = "MEINHELD_STATUS"
ACCEPTED = "Accepted: unix:/path, or a loopback address as 127.0.0.1:9000 or [::1]:9000"

#: The path of a unix socket, or host and port.
Address = str | tuple[str, int]


def parse(text: str) -> Address:
    """Read an address of the endpoint.

    Raises:
        ValueError: one line that says why it is not accepted.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/"):
            raise ValueError(f"not an absolute path. {ACCEPTED}.")
        return path
    host, _, port = text.rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"not an address. {ACCEPTED}.")
    host = "127.0.0.1" if host == "localhost" else host.removeprefix("[").removesuffix("]")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f"not an address. {ACCEPTED}.") from None
    if not address.is_loopback:
        raise ValueError(f"not an address of this machine alone. {ACCEPTED}.")
    return host, int(port)


def configured() -> Address | None:
    """Where the endpoint is to be, if there is to be one.

    Raises:
        RuntimeError: one line that names the setting, its value and what is accepted.
    """
    text = os.environ.get(STATUS)
    if text is None:
        return None
    try:
        return parse(text)
    except ValueError as error:
        raise RuntimeError(f"{STATUS} = {text!r}: {error}") from None


def listen(address: Address, cfg: Any, log: Any) -> Any:
    """Open the socket, which workers inherit. One at the same address, of the arbiter that this one
    replaces (USR2), goes on listening beside it, or on a unix socket without a name; an address of
    anybody else's is refused.

    Raises:
        RuntimeError: one line that says why there is none.
    """
    # As gunicorn itself knows it.
    replaces_another = "GUNICORN_PID" in os.environ
    try:
        # Of port 0 each gets another.
        if address in cfg.address and address[1:] != (0,):
            raise ValueError("the site itself is to listen there")
        if isinstance(address, str):
            if not replaces_another and answers(address):
                raise ValueError("another process listens there")
            # Removes a stale one; its mode and owner are those of gunicorn's own.
            listener = UnixSocket(address, cfg, log).sock
        else:
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
            listener = socket.socket(family)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, replaces_another)
            listener.bind(address)
            listener.listen()
            # For the arbiter that replaces this one, and no other.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.setblocking(False)
    except (OSError, ValueError) as error:
        setting = os.environ.get(STATUS)
        raise RuntimeError(f"{STATUS} = {setting!r}: {error}. {ACCEPTED}.") from None
    # Not for what gunicorn or the application executes.
    listener.set_inheritable(False)
    log.info("Status at: %s", _shown(listener))
    return listener


def _shown(listener: Any) -> str:
    name = name_of(listener)
    return f"http://{name}" if is_tcp(listener) else f"unix:{name}"


def serve(listener: Any, seat: _core.Seat, cfg: Any, log: Any) -> _core.Status | None:
    """Answer for the fleet in this worker, too."""
    try:
        return _core.Status(seat, listener.fileno(), timeout=cfg.timeout or None)
    except OSError as error:
        log.warning("This worker does not answer at %s: %s", _shown(listener), error)
        return None


def watch(status: _core.Status, listeners: list[Any], log: Any) -> None:
    """Show the backlog of each TCP listener; of others the kernel does not tell."""
    try:
        status.watch([(name_of(one), one.fileno()) for one in listeners if is_tcp(one)])
    except OSError as error:
        log.warning("Without a backlog at %s: %s", STATUS, error)
