"""``python -m meinheld app:app``: an application on a developer's machine."""

import argparse
import importlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.machinery import PathFinder, SourceFileLoader
from types import FrameType
from typing import Any, TextIO

import gunicorn.util
from gunicorn.reloader import reloader_engines
from gunicorn.util import import_app, parse_address

from meinheld import server
from meinheld.mlogging import printable
from meinheld_worker import claim, config
from meinheld_worker.listeners import is_tcp, name_of

#: How a process ends that is to be started again.
CHANGED = 75
#: Seconds from look to look at whether there is still a parent, or a module that was missing.
LOOK = 1.0
#: Numbers of colours (ECMA-48, SGR) by the first digit of a status.
COLOURS = {"2": 32, "3": 36, "4": 33, "5": 31}


class Screen:
    """Where a developer looks; coloured if it is a terminal and nobody objects (no-color.org)."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._has_colours = stream.isatty() and not os.environ.get("NO_COLOR")

    def paint(self, text: str, colour: int) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._has_colours else text

    def say(self, text: str) -> None:
        # In one piece: other threads, and the process after this one, write here as well.
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def access(self, environ: Mapping[str, Any]) -> None:
        """A line for a request that is over, as ``server.set_access_logger`` has it called."""
        status = str(environ["STATUS_CODE"])
        request = f"{environ.get('REQUEST_METHOD', '-')} {environ.get('RAW_URI', '-')}"
        self.say(
            f"{time.strftime('%H:%M:%S')} {self.paint(status, COLOURS.get(status[0], 0))} "
            f"{printable(request)} "
            f"{environ['SEND_BYTES']} octets, {environ['REQUEST_TIME']} ms"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        return _listen_and_serve(options)
    finally:
        for listener in server.listeners():
            listener.close()


def _listen_and_serve(options: argparse.Namespace) -> int:
    screen = Screen(sys.stderr)
    try:
        listeners = [_listen(bind) for bind in options.bind or ["127.0.0.1:8000"]]
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        print(f"--bind: {error}", file=sys.stderr)
        return 1
    where = ", ".join(
        screen.paint(f"http://{name_of(one)}" if is_tcp(one) else f"unix:{name_of(one)}", 1)
        for one in listeners
    )
    screen.say(f"Listening at {where} (pid {os.getpid()}); Ctrl-C ends it")
    if options.reload:
        return _serve_again_and_again(options, screen)
    return _serve(options, screen, None)


def _listen(bind: str) -> Any:
    address = parse_address(bind)
    if isinstance(address, int):
        server.listen(socket_fd=address)
    else:
        server.listen(address)
    return server.listeners()[-1]


class Reloader:
    """Stops the server when a file of the application's changes."""

    def __init__(self, screen: Screen) -> None:
        self.changed = threading.Event()
        self._screen = screen
        self._parent = os.getppid()
        self._begun = time.time()
        self._thread = reloader_engines["auto"](callback=self._change)

    def start(self, loaded: Mapping[str, float]) -> None:
        """loaded: of files that have been loaded, when they were last written (s, st_mtime)."""
        self._thread.start()
        for path, written in loaded.items():
            # It knows them as it finds them now.
            with suppress(OSError):
                if os.stat(path).st_mtime != written:
                    self._change(path)

    def watch(self, path: str) -> None:
        """Look at a file that is no module's yet."""
        self._thread.add_extra_file(path)

    def is_orphaned(self) -> bool:
        """Whether nobody would start this process again."""
        return os.getppid() != self._parent

    def is_new(self, path: str) -> bool:
        """Whether a file, or a directory, may have changed since this process began."""
        try:
            return os.stat(path).st_ctime > self._begun - LOOK
        except OSError:
            return False

    def is_over(self) -> bool:
        """Whether this process has served for long enough."""
        return self.changed.is_set() or self.is_orphaned()

    def _change(self, path: str) -> None:
        if not self.changed.is_set():
            # Whoever waits for this ends the process, and this thread with it.
            self._screen.say(f"{path} has changed: starting again")
            self.changed.set()
            server.stop()


@contextmanager
def _written(of: dict[str, float]) -> Iterator[None]:
    """Note when the source files were last written that are loaded meanwhile. The loader looks at
    that right before it reads them."""
    stats = SourceFileLoader.path_stats

    def path_stats(self: SourceFileLoader, path: str) -> Mapping[str, Any]:
        found = stats(self, path)
        of[path] = found["mtime"]
        return found

    SourceFileLoader.path_stats = path_stats  # type: ignore[method-assign]
    try:
        yield
    finally:
        SourceFileLoader.path_stats = stats  # type: ignore[method-assign]


def _serve(options: argparse.Namespace, screen: Screen, reloader: Reloader | None) -> int:
    # Where the application is, as `python -m` has it; an installed script has not.
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    loaded: dict[str, float] = {}
    try:
        with _written(loaded), claim.held("python -m meinheld"):
            app = import_app(options.app)
    except KeyboardInterrupt:
        return 0
    except (Exception, SystemExit) as error:
        if reloader is not None:
            return _await_repair(options.app, error, screen, reloader, loaded)
        if isinstance(error, SystemExit):
            raise
        screen.say(_shown(options.app, error))
        return 1
    server.set_keepalive(options.keep_alive)
    server.set_access_logger(screen)
    if reloader is not None:
        reloader.start(loaded)
        server.set_watchdog(lambda: server.stop() if reloader.is_over() else None)
        if reloader.changed.is_set():
            return CHANGED
    try:
        server.run(app, silent=True, threads=options.threads, debug=options.debug)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    return CHANGED if reloader is not None and reloader.changed.is_set() else 0


def _shown(app: str, error: BaseException) -> str:
    """Why an application could not be loaded: from where its own code begins."""
    own = error.__traceback__
    while own and own.tb_frame.f_code.co_filename.startswith(_LOADERS):
        own = own.tb_next
    if own:
        return "".join(traceback.format_exception(error.with_traceback(own))).rstrip()
    if isinstance(error, (SyntaxError, SystemExit)):
        return "".join(traceback.format_exception_only(error)).rstrip()
    return f"{app}: {error}"


#: Where code is that loads an application.
_LOADERS = ("<frozen importlib", __file__, str(importlib.__file__), str(gunicorn.util.__file__))


def _await_repair(
    app: str,
    error: BaseException,
    screen: Screen,
    reloader: Reloader,
    loaded: Mapping[str, float],
) -> int:
    """Wait until the application that could not be loaded has been changed."""
    watched = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    screen.say(_shown(app, error))
    screen.say("The application could not be loaded: waiting for a change")
    for file in watched:
        reloader.watch(file)
    if isinstance(error, SyntaxError) and error.filename:
        reloader.watch(error.filename)
    reloader.start(loaded)
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing and (path := _path_of(missing)) and not reloader.is_new(path):
        # It has been there, and something else is wrong.
        missing = None
    while not reloader.changed.wait(LOOK):
        if reloader.is_orphaned():
            return 1
        if missing and _path_of(missing):
            screen.say(f"There is a module {missing} now: starting again")
            break
    return CHANGED


def _path_of(module: str) -> str | None:
    """Where a module is that could be imported. Unlike ``importlib.util.find_spec``, this runs no
    package that it is in."""
    importlib.invalidate_caches()
    where: Sequence[str] | None = None
    path: str | None = None
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:count]), where)
        if spec is None:
            return None
        where = list(spec.submodule_search_locations or ())
        path = spec.origin or next(iter(where), None)
    return path


def _serve_again_and_again(options: argparse.Namespace, screen: Screen) -> int:
    """Serve in one child after the other. The listeners are this process's, so that no client is
    refused meanwhile."""
    child = 0
    told = False

    def tell(number: int, _: FrameType | None) -> None:
        nonlocal told
        told = True
        if child:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)

    handled = (signal.SIGINT, signal.SIGTERM)
    for number in handled:
        signal.signal(number, tell)
    while True:
        signal.pthread_sigmask(signal.SIG_BLOCK, handled)
        child = os.fork()
        if child == 0:
            # A terminal sends Ctrl-C to both: what comes of it comes from the parent.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, handled)
            return _serve(options, screen, Reloader(screen))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, handled)
        _, status = os.waitpid(child, 0)
        child = 0
        code = os.waitstatus_to_exitcode(status)
        if told or code != CHANGED:
            return 0 if told else abs(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m meinheld",
        description="Serve a WSGI application in this process, for development. "
        "`python -m meinheld top` shows the workers of a running gunicorn.",
    )
    parser.add_argument("app", type=_app, metavar="MODULE:APP", help="as gunicorn has it")
    parser.add_argument(
        "--bind",
        "-b",
        action="append",
        metavar="ADDRESS",
        help="HOST:PORT, unix:PATH or fd://NUMBER; may be repeated (default: 127.0.0.1:8000)",
    )
    parser.add_argument(
        "--threads",
        type=_threads,
        default=1,
        metavar="N",
        help="that call the application; 1 is the loop's own (default)",
    )
    parser.add_argument(
        "--reload", action="store_true", help="start again when a file of the application changes"
    )
    parser.add_argument(
        "--debug", action="store_true", default=None, help="show tracebacks to the client"
    )
    parser.add_argument(
        "--keep-alive",
        type=_seconds,
        default=2.0,
        metavar="SECONDS",
        help="that an idle connection is kept; 0 for never (%(default)s)",
    )
    return parser


def _app(text: str) -> str:
    module = text.partition(":")[0]
    if not module or module.startswith(".") or "/" in module or "\\" in module:
        raise argparse.ArgumentTypeError(f"{text!r}: not a module's name, as in package.module:app")
    return text


def _threads(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: not a number; 1 or more") from None
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: nobody would serve; 1 or more")
    if value > config.MOST_THREADS:
        raise argparse.ArgumentTypeError(
            f"{text}: so many cannot be had; up to {config.MOST_THREADS}"
        )
    return value


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1e9:
        raise argparse.ArgumentTypeError(f"{text}: not a time; seconds, 0 or more")
    return value
