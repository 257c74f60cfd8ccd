"""Settings that gunicorn reads by itself from the directory it is started in.

Every name here is gunicorn's own; the worker adds none.
"""

import os

# The one line that changes the server.
worker_class = "egg:meinheld#gunicorn_worker"

# Procfile platforms say where to listen in $PORT.
bind = f"127.0.0.1:{os.environ.get('PORT', '8000')}"

# One worker a core is a good start: each runs one application call at a time, so
# an application that waits on databases or other services wants more of them.
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))

# Longer than the proxy in front keeps an idle connection (nginx: 60 s). A shorter
# one closes connections just as the proxy sends on them: the classic stray 502.
keepalive = 75

# An application that blocks longer than this is killed, and replaced.
timeout = 30

# How long a worker that was told to leave may finish what it has in hand.
graceful_timeout = 30

# Heartbeats are written here once a second: a RAM disk keeps them off slow disks.
if os.path.isdir("/dev/shm"):
    worker_tmp_dir = "/dev/shm"

# "-" is standard output, which honcho, systemd and containers all collect.
accesslog = "-"
