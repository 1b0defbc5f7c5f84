#!/usr/bin/env bash
# Set up everything and run the study: ./run_all.sh [PROFILE] [options] | test [pytest arguments] | lab | bench | compare A B | inpaint PHOTO ... See --help.
set -euo pipefail
for function in $(compgen -A function); do unset -f "$function" || true; done # a user's own cd, python, env
unset CDPATH
here=${BASH_SOURCE[0]}
while [ -L "$here" ]; do # called by a link
    target=$(readlink -- "$here")
    case $target in /*) here=$target ;; *) here=$(dirname -- "$here")/$target ;; esac
done
builtin pwd -P >/dev/null 2>&1 || { echo "run_all.sh: the current folder was deleted; cd to another one" >&2; exit 2; }
root=$(builtin cd -- "$(dirname -- "$here")" && pwd)

die() { echo "run_all.sh: $*" >&2; exit 2; }

case $root in *:*) die "$root: its name has a colon, which separates paths; move the repository elsewhere" ;; esac

# The one place where the environment of every process is made: what a user has set for programs of his own must neither change
# what is computed or shown here nor break it. What tells where packages come from (indexes, certificates, caches) is kept.
for name in $(compgen -e); do
    case $name in
        PYTHONDONTWRITEBYTECODE | PYTHONPYCACHEPREFIX | PYTHONUNBUFFERED | PYTHONPATH | JUPYTER_TOKEN | PIP_CONFIG_FILE | UV_CONFIG_FILE) ;;
        PIP_*INDEX* | PIP_FIND_LINKS | PIP_*CERT | PIP_PROXY | PIP_TRUSTED_HOST | PIP_*TIMEOUT | PIP_RETRIES | PIP_*CACHE* | PIP_KEYRING*) ;;
        UV_*INDEX* | UV_FIND_LINKS | UV_*TLS* | UV_*SSL* | UV_INSECURE_HOST | UV_*TIMEOUT | UV_*CACHE* | UV_KEYRING* | UV_OFFLINE | UV_LINK_MODE) ;;
        PYTHON* | PIP_* | UV_* | GIT_* | SNAKEMAKE_* | JUPYTER* | IPYTHON* | PAPERMILL* | MPL* | MATPLOTLIBRC | TQDM_* | BASH_ENV | ENV) unset "$name" ;;
    esac
done
others_path=${PYTHONPATH:-}
export PYTHONPATH=$root PYTHONUTF8=1     # our modules; files and terminal in UTF-8 whatever the locale
export PYDEVD_DISABLE_FILE_VALIDATION=1  # or every kernel prints a debugger's warning
export MATPLOTLIBRC=/dev/null            # nobody's style
# numpy under AVX-512 ends sines in another last bit, and small's drawn faces differ in two pixels. Set empty, it stays as it is.
export NPY_DISABLE_CPU_FEATURES="${NPY_DISABLE_CPU_FEATURES-X86_V4 AVX512_ICL AVX512_SPR}"
export JUPYTER_PREFER_ENV_PATH=1         # kernels and templates of this environment before the user's

find_python() {  # a Python that can make the environment
    local candidate
    for candidate in "${INPAINT_PYTHON:-python3}" python3.13 python3.12 python3.11 python; do
        if "$candidate" -P -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
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
    "$python" -P -m venv --clear "$root/.venv" # from scratch: what a killed installation left may look whole
    # uv itself comes from the lock, with its hashes
    awk '/^uv==/ {on = 1} on {print} on && !/\\$/ {exit}' "$root/requirements.lock" >"$root/.venv/uv.txt"
    "$root/.venv/bin/python" -P -m pip install -q --no-user --disable-pip-version-check --require-hashes -r "$root/.venv/uv.txt"
    (builtin cd -- "$root" && .venv/bin/uv pip install -q --python .venv/bin/python --compile-bytecode --require-hashes \
        -r requirements.lock) || die "the installation failed; with a network, the same command goes on from here"
    echo "$want" >"$stamp"
    { exec 9>&-; } 2>/dev/null || true
}

case "${1:-}" in # what the active environment must have
    bench) needed="torch numpy pandas PIL pydantic yaml safetensors filelock psutil tqdm" ;;
    test) needed="torch snakemake papermill pytest xdist" ;;
    *) needed="torch snakemake papermill" ;;
esac

lacks() { # what a python has not of it; all of it, where there is no such python
    "$1" -P -c 'import sys; from importlib.util import find_spec; print(*(n for n in sys.argv[1:] if not find_spec(n)))' $needed ||
        echo "$needed"
}

case "${1:-}" in -h | --help) exec "$(find_python)" -P -m workflow --help ;; esac

if [ "${INPAINT_ENV:-}" = current ] || { [ -n "${CONDA_PREFIX:-}" ] && [ -z "$(lacks "$CONDA_PREFIX/bin/python" 2>/dev/null)" ]; }; then
    export PYTHONPATH=$root${others_path:+:$others_path} # the active environment as it is
    for name in python python3; do # a system's python may be another than the python3 that has the packages
        python=$(command -v "$name") && missing=$(lacks "$python") && [ -z "$missing" ] && break
    done
    [ -n "${missing+known}" ] || die "INPAINT_ENV=current: there is no python on the PATH"
    [ -z "$missing" ] ||
        die "the active environment lacks ${missing// /, }: pip install -r requirements.lock, or unset INPAINT_ENV"
else
    export PYTHONNOUSERSITE=1
    install
    python=$root/.venv/bin/python
    export PATH="$root/.venv/bin:$PATH"
fi

case "${1:-}" in
    test) shift; builtin cd -- "$root"; exec "$python" -m pytest -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder "$@" ;;
    lab)
        shift
        case "$(id -u) $*" in "0 "*--allow-root*) ;; "0 "*) die "JupyterLab does not run as root unasked: be another user, or add --allow-root" ;; esac
        builtin cd -- "$root"
        exec "$python" -P -m workflow.lab "$@"
        ;;
    bench) shift; builtin cd -- "$root"; exec "$python" benchmarks/training.py "$@" ;;
    reliability) shift; builtin cd -- "$root"; exec "$python" benchmarks/reliability.py "$@" ;;
    compare) shift; exec "$python" -P -m inpaint_lib.results.compare "$@" ;;
    publish) shift; exec "$python" -P -m workflow.publish "$@" ;;
    verify) shift; exec "$python" -P -m workflow.verify "$@" ;;
    inpaint) shift; exec "$python" -P -m inpaint_lib.photos.inpaint "$@" ;;
    *) exec "$python" -P -m workflow "$@" ;;
esac
