"""``python -m meinheld top``: the workers of a running fleet, in a terminal."""

import argparse
import http.client
import os
import socket
import sys
import time
from collections.abc import Sequence

from meinheld import figures
from meinheld_worker.status import STATUS, Address, parse

#: Seconds that the endpoint has for an answer.
PATIENCE = 5.0


class _Connection(http.client.HTTPConnection):
    """HTTP over whatever the endpoint listens on."""

    def __init__(self, address: Address) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._address = address

    def connect(self) -> None:
        if isinstance(self._address, str):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(self.timeout)
            self.sock.connect(self._address)
        else:
            self.sock = socket.create_connection(self._address, self.timeout)


def look(address: Address) -> figures.Fleet:
    """Ask for the figures once.

    Raises:
        OSError: nobody answers, or not with figures.
    """
    connection = _Connection(address)
    try:
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        text = response.read().decode("utf-8", "replace")
    except http.client.HTTPException as error:
        raise OSError(f"no answer in HTTP: {error!r}") from None
    finally:
        connection.close()
    if response.status != 200:
        raise OSError(f"answered {response.status} {response.reason}")
    return figures.read(text, time.monotonic())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = _parser().parse_args(arguments)
    if options.bind is None:
        print(f"Say --bind ADDRESS, or set {STATUS}.", file=sys.stderr)
        return 2
    try:
        from rich.console import Console

        from meinheld import screen
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "rich":
            raise
        print("python -m meinheld top needs rich: pip install 'meinheld[top]'", file=sys.stderr)
        return 2
    try:
        address = parse(options.bind)
        before = look(address)
    except (OSError, ValueError) as error:
        print(f"{options.bind}: {error}", file=sys.stderr)
        return 1
    try:
        if options.once:
            time.sleep(options.interval)
            change = figures.Change(before, look(address))
            Console().print(screen.picture(change, options.bind))
        else:
            _watch(address, before, options)
    except KeyboardInterrupt:
        pass
    except OSError as error:
        print(f"{options.bind}: {error}", file=sys.stderr)
        return 1
    return 0


def _watch(address: Address, before: figures.Fleet, options: argparse.Namespace) -> None:
    from rich.live import Live

    from meinheld import screen

    first = screen.picture(figures.Change(before, before), options.bind)
    with Live(first, screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(options.interval)
            try:
                now = look(address)
            except OSError as error:
                live.update(screen.failure(f"{options.bind}: {error}"), refresh=True)
            else:
                live.update(screen.picture(figures.Change(before, now), options.bind), refresh=True)
                before = now


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m meinheld", description="meinheld's commands")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    top = commands.add_parser("top", help="show the workers of a running server")
    top.add_argument(
        "--bind",
        metavar="ADDRESS",
        default=os.environ.get(STATUS),
        help=f"unix:/path or HOST:PORT, as the server's {STATUS} (default: that variable)",
    )
    top.add_argument(
        "--interval",
        type=_seconds,
        default=1.0,
        metavar="SECONDS",
        help="from picture to picture (%(default)s)",
    )
    top.add_argument("--once", action="store_true", help="print one picture, and end")
    return parser


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError("seconds, more than 0")
    return value
