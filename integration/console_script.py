"""Runs gunicorn by its console script, as users do: a `prefix` for `harness.Server.start`.

The harness says `python -m gunicorn ...`; on USR2 gunicorn executes its own sys.argv again,
and started with -m that is `python .../gunicorn/__main__.py`, which puts the inside of the
gunicorn package on sys.path (gunicorn/http hides the standard http). Its console script has
no such trouble.

With TEST_LISTEN_FD it also hands over a listening socket the way systemd does: as descriptor
3, with LISTEN_PID saying whom it is for.
"""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    _, python, dash_m, gunicorn, *arguments = sys.argv
    assert (dash_m, gunicorn) == ("-m", "gunicorn"), sys.argv
    listening = os.environ.pop("TEST_LISTEN_FD", None)
    if listening is not None:
        os.dup2(int(listening), 3, inheritable=True)
        os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
    script = str(Path(python).with_name("gunicorn"))
    os.execv(script, [script, *arguments])
