"""`make autobahn`: the Autobahn fuzzing client against examples/websocket_echo.py.

It is Python 2, and is installed for one of that version into a folder of its own. Cases 12 and 13
are about permessage-deflate (RFC 7692), which is not offered.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

from harness import clean_environment
from support import EXAMPLES, gunicorn

SUITE = "autobahntestsuite==25.10.1"
#: RFC 6455 leaves it open when the connection is failed: at once (OK), or a little later.
GOOD = {"OK", "NON-STRICT", "INFORMATIONAL"}
#: Minutes for a run.
LIMIT = 8
RUN = """
import site, sys
site.addsitedir(sys.argv.pop(1))
from autobahntestsuite.wstest import run
run()
"""


def find_python() -> str:
    """An interpreter of Python 2.7.

    Raises:
        SystemExit: there is none.
    """
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for candidate in (
        os.environ.get("AUTOBAHN_PYTHON", ""),
        *map(str, sorted(root.glob("versions/2.7.*/bin/python"))),
        "python2.7",
    ):
        try:
            subprocess.run([candidate, "-m", "pip", "--version"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return candidate
    sys.exit("no Python 2.7 with pip: say where one is in AUTOBAHN_PYTHON")


def install(python: str, folder: Path) -> None:
    """Puts the suite into `folder`, once."""
    stamp = folder / SUITE
    if stamp.exists():
        return
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, "--target", str(folder), SUITE], check=True)
    stamp.touch()


def fuzz(python: str, folder: Path, port: int, cases: list[str]) -> dict[str, dict[str, str]]:
    """What became of each case."""
    spec = {
        "outdir": str(folder / "reports"),
        "servers": [{"agent": "meinheld", "url": f"ws://127.0.0.1:{port}/"}],
        "cases": cases,
        "exclude-cases": ["12.*", "13.*"],
        "exclude-agent-cases": {},
    }
    path = folder / "spec.json"
    path.write_text(json.dumps(spec))
    environment = clean_environment()
    # Ours is of another Python.
    environment.pop("PYTHONPATH", None)
    command = [python, "-c", RUN, str(folder), "--mode=fuzzingclient", f"--spec={path}"]
    with open(folder / "wstest.log", "wb") as log:
        subprocess.run(
            command,
            check=True,
            stdout=log,
            stderr=log,
            env=environment,
            timeout=LIMIT * 60,
        )
    index = json.loads((folder / "reports" / "index.json").read_text())
    results: dict[str, dict[str, str]] = index["meinheld"]
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the suite is installed, and reports")
    parser.add_argument("cases", nargs="*", default=["*"], help="as 9.* (default: all)")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    python = find_python()
    install(python, folder)
    with gunicorn("websocket_echo:app", "--chdir", str(EXAMPLES)) as server:
        results = fuzz(python, folder, server.port, arguments.cases)
    failed = False
    for case, result in results.items():
        verdicts = (result["behavior"], result["behaviorClose"])
        if set(verdicts) != {"OK"}:
            print(f"{case}: {verdicts[0]}, closed: {verdicts[1]}")
        failed |= not set(verdicts) <= GOOD
    counts = Counter(result["behavior"] for result in results.values())
    print(f"{len(results)} cases: {dict(counts)}; {folder / 'reports' / 'index.html'}")
    if failed or not results:
        sys.exit("some cases have failed")


if __name__ == "__main__":
    main()
