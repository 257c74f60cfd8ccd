"""Makes the environments that the benchmark runs in.

    python benchmarks/install.py .venv-bench

The peers of requirements-peers.txt go into the environment that is named, meinheld 1.0.2 into one
of its own beside it, `.venv-bench-1.0.2`: it has the same name as what is measured. What does not
build is left out, and `absent.json` says why. wrk and libev (for bjoern) come from Debian.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from machine import without_paths

REQUIREMENTS = Path(__file__).resolve().parent / "requirements-peers.txt"
ABSENT = "absent.json"
PREDECESSOR = "meinheld==1.0.2"
OTHERS = [
    "bjoern",
    "eventlet",
    "fastwsgi",
    "gevent",
    "granian",
    "gunicorn_h1c",
    "uWSGI",
    "waitress",
]
"""What meinheld 1.0.2 does without. Not greenlet: it asks for one below 0.5, which does not compile
since CPython 3.11 has moved the fields of a thread's exceptions. With today's, whose C interface is
still the same, it builds and runs."""


def install_programs() -> None:
    wanted = []
    if not shutil.which("wrk"):
        wanted.append("wrk")
    if not Path("/usr/include/ev.h").exists():
        wanted.append("libev-dev")
    if not wanted:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        print(f"missing, and not ours to install: {' '.join(wanted)} (Debian's names)")
        return
    subprocess.run(["apt-get", "update", "-qq"], check=True)
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *wanted]
    subprocess.run(command, check=True, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})


def pins() -> dict[str, str]:
    """The lines of requirements-peers.txt, by the name of the distribution."""
    lines = [line.partition("#")[0].strip() for line in REQUIREMENTS.read_text().splitlines()]
    return {line.partition("==")[0]: line for line in lines if line}


def pip(directory: Path, *arguments: str) -> str | None:
    """Installs; why that failed, or None. All is pinned, and so nothing is resolved."""
    command = [str(directory / "bin" / "python"), "-m", "pip", "install", "--no-deps"]
    command += ["--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else f"does not build: {reason(done.stderr)}"


def reason(log: str) -> str:
    """The line of a compiler's or pip's that says most, without the paths of this machine."""
    found = re.findall(r"(?:fatal )?error: .*", log) + re.findall(r"\w+Error: .*", log)
    errors = [line for line in found if "subprocess-exited" not in line]
    said = errors[0] if errors else (log.strip() or "no word").splitlines()[-1]
    return without_paths(said)[:200]


def install_peers(directory: Path) -> dict[str, str]:
    venv.create(directory, clear=True, with_pip=True)
    if pip(directory, "--requirement", str(REQUIREMENTS)) is None:
        return {}
    absent = {}
    for name, line in pins().items():
        if failure := pip(directory, line):
            absent[name] = failure
    return absent


def install_predecessor(directory: Path) -> str | None:
    venv.create(directory, clear=True, with_pip=True)
    needed = [line for name, line in pins().items() if name not in OTHERS]
    failure = pip(directory, *needed)
    return failure or pip(directory, "--no-build-isolation", "--use-pep517", PREDECESSOR)


def main() -> None:
    directory = Path(sys.argv[1])
    install_programs()
    absent = install_peers(directory)
    if failure := install_predecessor(Path(f"{directory}-1.0.2")):
        absent["meinheld 1.0.2"] = failure
    (directory / ABSENT).write_text(json.dumps(absent, indent=1) + "\n")
    for name, failure in absent.items():
        print(f"{name} {failure}")


if __name__ == "__main__":
    main()
