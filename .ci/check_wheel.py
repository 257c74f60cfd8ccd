"""Fail unless the wheel named on the command line holds what its users need."""

from __future__ import annotations

import sys
import zipfile

NEEDED = [
    "meinheld/__init__.py",
    "meinheld/gmeinheld.py",
    "meinheld/py.typed",
    "meinheld_worker/__init__.py",
    "meinheld_worker/_core.pyi",
    "meinheld_worker/py.typed",
    "meinheld_worker/worker.py",
]
ENTRY_POINT = "gunicorn_worker"


def main(path: str) -> int:
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        missing = [name for name in NEEDED if name not in names]
        if not any(n.startswith("meinheld_worker/_core.") and n.endswith(".so") for n in names):
            missing.append("meinheld_worker/_core*.so")
        entry_points = [n for n in names if n.endswith(".dist-info/entry_points.txt")]
        if not any(ENTRY_POINT in wheel.read(name).decode() for name in entry_points):
            missing.append(f"entry point {ENTRY_POINT}")
        # Only the two packages may land in a user's site-packages.
        tops = {name.split("/")[0] for name in names}
        strays = sorted(
            top
            for top in tops
            if top not in {"meinheld", "meinheld_worker"}
            and not top.endswith((".dist-info", ".libs", ".data"))
        )
    for name in missing:
        print(f"{path}: lacks {name}")
    for top in strays:
        print(f"{path}: holds {top}, which is no package of ours")
    if missing or strays:
        return 1
    print(f"{path}: both packages, stubs and entry point are there")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
