#!/usr/bin/env bash
# Set up everything and run the study: ./run_all.sh [PROFILE] [options] | test [pytest arguments] | lab | bench | compare A B | inpaint PHOTO ... See --help.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
export PYDEVD_DISABLE_FILE_VALIDATION=1 # or every kernel prints a debugger's warning

die() { echo "run_all.sh: $*" >&2; exit 2; }

find_python() {  # a Python that can make the environment
    local candidate
    for candidate in "${INPAINT_PYTHON:-python3}" python3.13 python3.12 python3.11 python; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    die "Python 3.11 or newer is needed; install it, or name one: INPAINT_PYTHON=/path/to/python ./run_all.sh"
}

install() {  # make .venv from requirements.lock; the stamp is written last, so a broken installation is done again
    local stamp=$root/.venv/.installed want python
    want=$(cksum <"$root/requirements.lock")
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ]; then return; fi
    command -v flock >/dev/null && { exec 9>"$root/.venv.lock"; flock 9; }  # two first runs at once: one installs
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ]; then { exec 9>&-; } 2>/dev/null || true; return; fi
    echo "installing the environment into .venv (about 6 GB; a few minutes, once)"
    python=$(find_python)
    "$python" -m venv --clear "$root/.venv" # from scratch: what a killed installation left may look whole
    # uv itself comes from the lock, with its hashes
    awk '/^uv==/ {on = 1} on {print} on && !/\\$/ {exit}' "$root/requirements.lock" >"$root/.venv/uv.txt"
    "$root/.venv/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r "$root/.venv/uv.txt"
    "$root/.venv/bin/uv" pip install -q --python "$root/.venv/bin/python" --compile-bytecode --require-hashes \
        -r "$root/requirements.lock" || die "the installation failed; with a network, the same command goes on from here"
    echo "$want" >"$stamp"
    { exec 9>&-; } 2>/dev/null || true
}

has_packages() { "$1" -c 'from importlib.util import find_spec as f; raise SystemExit(not all(map(f, ("torch", "snakemake", "papermill"))))'; }

case "${1:-}" in -h | --help) exec "$(find_python)" -P -m workflow --help ;; esac

if [ "${INPAINT_ENV:-}" = current ] || { [ -n "${CONDA_PREFIX:-}" ] && has_packages "$CONDA_PREFIX/bin/python" 2>/dev/null; }; then
    python=$(command -v python || command -v python3) || die "INPAINT_ENV=current: there is no python on the PATH"
    has_packages "$python" ||
        die "the active environment lacks packages: pip install -r requirements.lock, or unset INPAINT_ENV"
else
    install
    python=$root/.venv/bin/python
    export PATH="$root/.venv/bin:$PATH"
fi

case "${1:-}" in
    test) shift; cd "$root"; exec "$python" -m pytest "$@" ;;
    lab) shift; cd "$root"; exec "$python" -m jupyterlab --ip=127.0.0.1 "$@" notebooks ;;
    bench) shift; cd "$root"; exec "$python" benchmarks/training.py "$@" ;;
    reliability) shift; cd "$root"; exec "$python" benchmarks/reliability.py "$@" ;;
    compare) shift; exec "$python" -P -m inpaint_lib.results.compare "$@" ;;
    inpaint) shift; exec "$python" -P -m inpaint_lib.photos.inpaint "$@" ;;
    *) exec "$python" -P -m workflow "$@" ;;
esac
