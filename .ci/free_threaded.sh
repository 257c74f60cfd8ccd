#!/usr/bin/env bash
# What holds on free-threaded Python (3.14t, PEP 779); run from a clone.
#
# Everywhere: the module compiles for its ABI, without a warning. That needs no such interpreter.
# Where there is one (FREE_THREADED_PYTHON, or the newest that is found): the wheel for it, and
# tests/ both ways, with a worker that has not switched the GIL on again.
set -euo pipefail
cd "$(dirname "$0")/.."
unset MEINHELD_NO_SKIP GUNICORN_CMD_ARGS PYTHONPATH PYTHON_GIL PYO3_CONFIG_FILE

CARGO=${CARGO:-cargo}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# is_free_threaded PYTHON: whether it runs, is of 3.14 or later (as PyO3 asks), and has no GIL.
is_free_threaded() {
    "$1" -c '
import sys, sysconfig
sys.exit(not (sys.version_info >= (3, 14) and sysconfig.get_config_var("Py_GIL_DISABLED")))
' 2>/dev/null
}

find_python() {
    local root candidate
    if [ -n "${FREE_THREADED_PYTHON:-}" ]; then
        is_free_threaded "$FREE_THREADED_PYTHON" && echo "$FREE_THREADED_PYTHON" && return
        echo "FREE_THREADED_PYTHON is not a free-threaded Python of 3.14 or later" >&2
        return 2
    fi
    root=${PYENV_ROOT:-}
    if [ -z "$root" ] && command -v pyenv >/dev/null; then root=$(pyenv root); fi
    for candidate in python3.15t python3.14t "${root:-/nonexistent}"/versions/3.1[45]*t/bin/python; do
        if is_free_threaded "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

cat >"$scratch/cp314t" <<'CONFIG'
implementation=CPython
version=3.14
target_abi=CPython-free_threaded-3.14
shared=true
pointer_width=64
build_flags=Py_GIL_DISABLED
CONFIG
PYO3_CONFIG_FILE=$scratch/cp314t $CARGO clippy --package meinheld-wsgi --locked \
    --target-dir target/free-threaded -- --deny warnings
echo 'the module compiles for cp314t'

found=0
python=$(find_python) || found=$?
if [ "$found" -eq 1 ]; then
    echo 'NOT TRIED on free-threaded Python: no such interpreter here (set FREE_THREADED_PYTHON)'
    exit 0
fi
[ "$found" -eq 0 ]

"$python" -VV
"$python" -m venv "$scratch/venv"
grep -E '^(maturin|pytest|django|flask)' requirements-dev.txt >"$scratch/requirements"
"$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --requirement "$scratch/requirements"
"$scratch/venv/bin/maturin" build --release --locked --interpreter "$scratch/venv/bin/python" \
    --out "$scratch/wheels"
"$scratch/venv/bin/python" -m pip install --quiet --disable-pip-version-check "$scratch"/wheels/*.whl
for threads in 1 8; do
    echo "tests/ with --threads $threads, without the GIL"
    MEINHELD_TEST_THREADS=$threads "$scratch/venv/bin/pytest" tests -q
done
