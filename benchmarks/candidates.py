"""Who is measured, and the command line of each: its best settings, found by trying.

A command starts with a program of the environment that the candidate is installed in (or of cargo's
examples). Filled in are {port}, {module} and {callable} of the application, {app} (both as
`module:callable`), {connections} that the load opens, and {held}, what a server must be able to
hold.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PEERS = Path(sys.prefix)
PREDECESSOR = Path(f"{sys.prefix}-1.0.2")
"""meinheld 1.0.2 has an environment of its own, beside that of the others."""
EXAMPLES = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target")) / "release/examples"
LOGGED = ", access log"
ROOM = 200
"""Connections that a server can hold beyond those that are asked of it."""

GUNICORN = (
    "gunicorn --no-control-socket --log-level=error --bind=127.0.0.1:{port} --workers=1 "
    "--worker-connections={held} --backlog=4096 --keep-alive=600 --timeout=600 {app} "
)
GRANIAN = (
    "granian --interface=wsgi --host=127.0.0.1 --port={port} --workers=1 --blocking-threads=1 "
    "--http=1 --no-ws --no-access-log --log-level=error --backlog=4096 "
    "--backpressure={held} {app}"
)
EVENTLET = (
    'python -c "import eventlet.wsgi, {{module}}; '
    "listener = eventlet.listen(('127.0.0.1', {{port}}), backlog=4096); "
    "listener.setsockopt(6, 1, 1); eventlet.wsgi.server(listener, {{module}}.{{callable}}, "
    'log_output=False, max_size={{held}}{more})"'
)
UWSGI = "uwsgi --module={app} --disable-logging --listen=4096 --need-app --tcp-nodelay "


@dataclass(frozen=True)
class Candidate:
    name: str
    command: str
    distribution: str = ""
    """What is installed, as PyPI calls it; none for the ceilings."""
    programs: Path = PEERS / "bin"
    ceiling: bool = False
    """Not a server: a bound. It listens where it likes, and prints where."""
    ours: bool = False
    in_case: dict[str, str] = field(default_factory=dict, hash=False)
    """The command that is best in one case, where it is not `command`."""

    @property
    def peer(self) -> bool:
        return not self.ceiling and not self.ours

    def shown(self, case: str) -> str:
        """The command as a person would type it."""
        return self.in_case.get(case, self.command)

    def arguments(self, case: str, app: str, port: int, connections: int) -> list[str]:
        module, _, name = app.partition(":")
        words = self.shown(case).format(
            app=app,
            module=module,
            callable=name,
            port=port,
            connections=connections,
            held=max(1024, connections) + ROOM,
        )
        program, *rest = shlex.split(words)
        return [str(self.programs / program), *rest]

    def also(self, name: str, settings: str) -> Candidate:
        """The same with more settings everywhere, under another name."""
        return replace(self, name=name, command=f"{self.command} {settings}")


BARE = Candidate("bare loop", "bare_loop", programs=EXAMPLES, ceiling=True)
CONSTANT = Candidate("constant", "constant", programs=EXAMPLES, ceiling=True)
MEINHELD = Candidate(
    "meinheld",
    GUNICORN + "--worker-class=egg:meinheld#gunicorn_worker",
    distribution="meinheld",
    ours=True,
)
THREADED = MEINHELD.also("meinheld --threads 4", "--threads=4")
SYNC = Candidate(
    "gunicorn sync",
    GUNICORN + "--worker-class=sync --http-parser=fast",
    distribution="gunicorn",
)
GTHREAD = Candidate(
    "gunicorn gthread",
    GUNICORN + "--worker-class=gthread --threads=4 --http-parser=fast",
    distribution="gunicorn",
)
CANDIDATES = [
    BARE,
    CONSTANT,
    MEINHELD,
    THREADED,
    Candidate(
        "meinheld 1.0.2",
        GUNICORN + "--worker-class=egg:meinheld#gunicorn_worker",
        distribution="meinheld 1.0.2",
        programs=PREDECESSOR / "bin",
    ),
    # 6, 1: TCP_NODELAY, which what a listener accepts inherits.
    Candidate(
        "bjoern",
        'python -c "import bjoern, {module}; bjoern.listen('
        "{module}.{callable}, '127.0.0.1', {port}, listen_backlog=4096).setsockopt(6, 1, 1); "
        'bjoern.run()"',
        distribution="bjoern",
    ),
    Candidate(
        "fastwsgi",
        'python -c "import fastwsgi, {module}; fastwsgi.server.backlog = 4096; '
        "fastwsgi.server.tcp_nodelay = 1; "
        "fastwsgi.run({module}.{callable}, '127.0.0.1', {port})\"",
        distribution="fastwsgi",
    ),
    Candidate(
        "granian",
        GRANIAN,
        distribution="granian",
        in_case={"pipelined": f"{GRANIAN} --http1-pipeline-flush"},
    ),
    SYNC,
    GTHREAD,
    Candidate(
        "gunicorn gevent",
        GUNICORN + "--worker-class=gevent --http-parser=fast",
        distribution="gevent",
    ),
    # gunicorn 27 has no eventlet worker any more.
    Candidate(
        "eventlet",
        EVENTLET.format(more=""),
        distribution="eventlet",
        in_case={"blocks": EVENTLET.format(more=", minimum_chunk_size=1")},
    ),
    Candidate(
        "waitress",
        "waitress-serve --listen=127.0.0.1:{port} --threads=1 --connection-limit={held} "
        "--backlog=4096 --asyncore-use-poll {app}",
        distribution="waitress",
    ),
    # A process or thread of uWSGI's serves one connection until it ends: keep-alive needs a thread
    # for each. Its HTTP router in front of fewer costs four times as much, but only that
    # one sends answers of unknown length over connections that persist. With keep-alive it does not
    # close a connection whose client asks for that; without, it closes each, and needs one thread,
    # but has to be told to say so.
    Candidate(
        "uWSGI",
        UWSGI + "--http11-socket=127.0.0.1:{port} --threads={connections}",
        distribution="uWSGI",
        in_case={
            "blocks": UWSGI + "--http=127.0.0.1:{port} --http-keepalive --http-auto-chunked",
            "close": UWSGI + '--http-socket=127.0.0.1:{port} --add-header="Connection: close"',
        },
    ),
]


def with_and_without_access_log() -> list[Candidate]:
    """gunicorn's default format, written to where it costs nothing more."""
    found = []
    for candidate in (MEINHELD, GTHREAD):
        found += [
            candidate,
            candidate.also(f"{candidate.name}{LOGGED}", "--access-logfile=/dev/null"),
        ]
    return found
