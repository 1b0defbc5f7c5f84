#!/usr/bin/env bash
# Install the environment and run a study or another command: ./run_all.sh --help lists them.
[ -n "${BASH_VERSION:-}" ] || exec bash "$0" "$@" # sh run_all.sh
line_end='
'; [ ${#line_end} = 1 ] || { echo "run_all.sh: its lines end as on Windows (CRLF): clone it with git, which keeps line ends" >&2; exit 2; } #
set -euo pipefail
for function in $(compgen -A function); do unset -f "$function" || true; done # a user's own cd, python, env
unset CDPATH
builtin pwd -P >/dev/null 2>&1 || { echo "run_all.sh: the current folder was deleted: cd to another one" >&2; exit 2; }
root=$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")") # it may be called by a link

die() { echo "run_all.sh: $*" >&2; exit 2; }

case $root in *:*) die "$root: its name has a colon, which separates paths: move the repository elsewhere" ;; esac

# The environment of every process is made here alone. These variables are kept: the user, the terminal, the network, GPUs,
# the cluster's job, caches and package sources. Any other could change what is computed or shown.
for name in $(compgen -e); do
    case $name in
        HOME | PATH | USER | LOGNAME | SHELL | TERM | LANG | LC_* | LOCPATH | TZ | TMPDIR | PWD | OLDPWD | SHLVL | _ | CI) ;;
        DISPLAY | WAYLAND_DISPLAY | XAUTHORITY | BROWSER | KRB5CCNAME | JUPYTER_TOKEN) ;;
        *_proxy | *_PROXY | SSL_CERT_* | REQUESTS_CA_BUNDLE | CURL_CA_BUNDLE) ;;
        CUDA_* | NVIDIA_* | LD_LIBRARY_PATH | SLURM_* | OMP_NUM_THREADS | OPENBLAS_* | XDG_CACHE_HOME | TORCH_HOME) ;;
        INPAINT_* | CONDA_PREFIX | PYTHONPATH | PYTHONDONTWRITEBYTECODE | PYTHONPYCACHEPREFIX | PYTHONUNBUFFERED) ;;
        PIP_CONFIG_FILE | PIP_*INDEX* | PIP_FIND_LINKS | PIP_*CERT | PIP_TRUSTED_HOST | PIP_*TIMEOUT | PIP_RETRIES) ;;
        PIP_*CACHE* | PIP_KEYRING* | UV_CONFIG_FILE | UV_*INDEX* | UV_FIND_LINKS | UV_*TLS* | UV_*SSL* | UV_INSECURE_HOST) ;;
        UV_*TIMEOUT | UV_*CACHE* | UV_KEYRING* | UV_OFFLINE | UV_LINK_MODE) ;;
        *) unset "$name" || true ;;
    esac
done 2>/dev/null
others_path=${PYTHONPATH:-}
: "${USER:=$(id -un 2>/dev/null || true)}" "${USER:=$(id -u)}" # in containers a user may have no name and no home
export USER LOGNAME=${LOGNAME:-$USER} HOME=${HOME:-~} PATH
export PYTHONPATH=$root PYTHONUTF8=1     # our modules; UTF-8 in files and terminal whatever the locale
export PYDEVD_DISABLE_FILE_VALIDATION=1  # without it every kernel prints a debugger's warning
export MATPLOTLIBRC=/dev/null            # figures do not depend on a user's style
export JUPYTER_PREFER_ENV_PATH=1         # kernels and templates of this environment before the user's

supported="Python 3.11, 3.12 or 3.13"

print_version() { # of a Python that can make the environment, as 3.11; nothing if it cannot
    "$1" -P -c 'import sys, ensurepip; assert (3, 11) <= sys.version_info < (3, 14); print("%d.%d" % sys.version_info[:2])' \
        2>/dev/null
}

find_python() { # INPAINT_PYTHON, or the first that is supported
    local candidate
    for candidate in ${INPAINT_PYTHON:+"$INPAINT_PYTHON"} python3.13 python3.12 python3.11 python3 python; do
        if print_version "$candidate" >/dev/null; then command -v "$candidate"; return; fi
        [ -z "${INPAINT_PYTHON:-}" ] || die "INPAINT_PYTHON=$INPAINT_PYTHON is not $supported with venv and pip: name another one"
    done
    die "no $supported with venv was found: install one, or name it: INPAINT_PYTHON=/path/to/python ./run_all.sh"
}

is_installed() { # whether the environment is complete, of this lock and of the Python that INPAINT_PYTHON names
    local has
    has=$(print_version "$venv/bin/python") && [ "$(cat "$venv/.installed" 2>/dev/null)" = "$lock $has" ] &&
        { [ -z "${INPAINT_PYTHON:-}" ] || [ "$(print_version "$INPAINT_PYTHON")" = "$has" ]; }
}

install() { # make the environment from requirements.lock; its stamp is empty until the end, so a broken one is repeated
    local lock python
    lock=$(cksum <"$root/requirements.lock")
    if is_installed; then return; fi
    python=$(find_python)
    [ "$venv" = "$root/.venv" ] || [ -e "$venv/.installed" ] || [ -z "$(ls -A -- "$venv" 2>/dev/null)" ] ||
        die "INPAINT_VENV: $venv is not an environment of run_all.sh and would be emptied: name a new folder"
    mkdir -p -- "$venv"
    command -v flock >/dev/null && { exec 9>"$venv.lock"; flock 9 || true; }  # two first runs at once: one installs
    if ! is_installed; then
        echo "installing the environment into $(basename -- "$venv") (about 6 GB; a few minutes, once)"
        : >"$venv/.installed" # from scratch: a killed installation may look complete
        find "$venv/" -mindepth 1 ! -name .installed -delete
        "$python" -P -m venv "$venv"
        # uv itself comes from the lock, with its hashes
        awk '/^uv==/ {on = 1} on {print} on && !/\\$/ {exit}' "$root/requirements.lock" >"$venv/uv.txt"
        "$venv/bin/python" -P -m pip install -q --no-user --disable-pip-version-check --require-hashes -r "$venv/uv.txt"
        "$venv/bin/uv" pip install -q --python "$venv/bin/python" --compile-bytecode --require-hashes \
            -r "$root/requirements.lock" || die "the installation failed: with internet access, the same command continues from here"
        for place in "$venv"/lib/python3*/site-packages; do echo "$root" >"$place/inpaint.pth"; done # for other tools' kernels
        echo "$lock $(print_version "$venv/bin/python")" >"$venv/.installed"
    fi
    { exec 9>&-; } 2>/dev/null || true
}

list_missing() { # the packages that a study needs and a Python does not have
    "$1" -P -c 'import sys; from importlib.util import find_spec
names = """anywidget filelock gdown ipykernel ipywidgets jinja2 jupyterlab matplotlib nbconvert nbformat numpy cv2
    pandas papermill PIL psutil pydantic pytorch_fid pytorch_msssim yaml safetensors skimage scipy snakemake
    snakemake_executor_plugin_slurm torch torchmetrics torchvision tqdm traitlets"""
print(*(name for name in names.split() if not find_spec(name)),
    *["Python-3.11-to-3.13"] * (not (3, 11) <= sys.version_info < (3, 14)))' 2>/dev/null || echo "everything"
}

check_limits() { # raise or refuse limits that would end a study halfway
    local space files
    space=$(ulimit -v) # KiB
    [ "$space" = unlimited ] || [ "$space" -ge 6000000 ] ||
        die "ulimit -v allows $((space / 1000)) MB of addresses, a study needs 6000 (more with a GPU): ulimit -v unlimited"
    files=$(ulimit -Sn)
    [ "$files" = unlimited ] || [ "$files" -ge 1024 ] || ulimit -Sn 1024 2>/dev/null || ulimit -Sn "$(ulimit -Hn)"
    files=$(ulimit -Sn)
    [ "$files" = unlimited ] || [ "$files" -ge 256 ] || die "ulimit -n allows $files open files, a study needs 256: ulimit -n 1024"
}

[ "${1:-}" = -h ] || [ "${1:-}" = --help ] || check_limits
if [ "${1:-}" = -h ] || [ "${1:-}" = --help ]; then # before anything is installed
    python=$(find_python)
elif [ "${INPAINT_ENV:-}" = current ] || { [ -n "${CONDA_PREFIX:-}" ] && [ -z "$(list_missing "$CONDA_PREFIX/bin/python")" ]; }; then
    export PYTHONPATH=$root${others_path:+:$others_path} # the active environment as it is
    for own in 1 ""; do # packages of the user's own folder only where the environment is not complete without them
        export PYTHONNOUSERSITE=$own
        for name in python python3; do # python may lack the packages that python3 has
            python=$(command -v "$name") && missing=$(list_missing "$python") && [ -z "$missing" ] && break 2
        done
    done
    [ -n "${missing+known}" ] || die "INPAINT_ENV=current: no python is on the PATH: activate an environment, or unset INPAINT_ENV"
    [ -z "$missing" ] ||
        die "the active environment lacks ${missing// /, }: pip install -r requirements.lock, or unset INPAINT_ENV"
else
    export PYTHONNOUSERSITE=1
    case ${INPAINT_VENV:=.venv} in /*) venv=$INPAINT_VENV ;; *) venv=$root/$INPAINT_VENV ;; esac
    install
    python=$venv/bin/python
    export PATH="$venv/bin:$PATH"
fi

case "${1:-}" in
    test) shift; builtin cd -- "$root"; exec "$python" -m pytest -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder "$@" ;;
    bench) shift; builtin cd -- "$root"; exec "$python" benchmarks/training.py "$@" ;;
    inpaint) shift; exec "$python" -P -m inpaint_lib.photos.inpaint "$@" ;;
    *) exec "$python" -P -m workflow "$@" ;;
esac
