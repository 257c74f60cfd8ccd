"""How evenly do four workers share 64 keep-alive connections?

    .venv-bench/bin/python benchmarks/balance.py

The connections come all at once, or one after the other, each with a request, whose answer says who
serves it. Printed are the connections of each worker and the ratio of the most to the least.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from harness import Client, Server, request
from waiting import eventually

APP = """
import os


def app(environ, start_response):
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
WORKERS = {
    "meinheld": "egg:meinheld#gunicorn_worker",
    "gthread": "gthread",
    "gevent": "gevent",
}
COUNT = 4
CONNECTIONS = 64


def shares(server: Server, at_once: bool) -> list[int]:
    """The connections of each worker, the most first."""
    counts = Counter(dict.fromkeys(server.worker_pids(), 0))
    with contextlib.ExitStack() as stack:
        clients: list[Client] = []
        for _ in range(CONNECTIONS):
            client = stack.enter_context(server.client())
            clients.append(client)
            client.send(request())
            if not at_once:
                counts[int(client.response().text)] += 1
        if at_once:
            counts.update(int(client.response().text) for client in clients)
    return sorted(counts.values(), reverse=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", nargs="+", choices=WORKERS, default=list(WORKERS))
    options = parser.parse_args()
    for name in options.workers:
        settings = [f"--workers={COUNT}", "--keep-alive=60"]
        settings += ["--threads=32"] if name == "gthread" else []
        print("gunicorn --worker-class", WORKERS[name], *settings)
        for at_once, how in ((True, "all at once"), (False, "one after the other")):
            for _ in range(options.rounds):
                with Server.start(APP, *settings, worker=WORKERS[name]) as server:
                    eventually(lambda: len(server.worker_pids()) == COUNT, "all workers")
                    found = shares(server, at_once)
                    ratio = found[0] / found[-1] if found[-1] else float("inf")
                    print(f"  {how:20} {found}  {ratio:.2f}", flush=True)
                    # gthread does not always heed a signal in time.
                    server.kill()


if __name__ == "__main__":
    main()
