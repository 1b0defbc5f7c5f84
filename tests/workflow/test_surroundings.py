"""What a user has set, installed or lying about must not change what a study computes or shows, nor break it."""

import functools
import json
import locale
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from inpaint_lib.study import provenance
from tests.conftest import MICRO, repository
from workflow import lab, snakemake

ROOT = Path(repository())
SETTINGS = [f"--set={key}={json.dumps(value)}" for key, value in (MICRO | {"setups": ["fixed"]}).items()]
TRAP = "raise SystemExit('a module of the current folder was executed')"


def run(*arguments, cwd=ROOT, root=ROOT, **environment):
    """run_all.sh in the current environment -> (exit code, stdout, stderr)."""
    done = subprocess.run(["bash", root / "run_all.sh", *map(str, arguments)], cwd=cwd, env=current(**environment),
                          capture_output=True, text=True, encoding="utf-8", check=False)  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def current(**environment):
    """The environment in which run_all.sh takes this Python's packages."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{environment.pop('PATH', os.environ['PATH'])}"
    return os.environ | {"INPAINT_ENV": "current", "PATH": path, **environment}


def hostile(folder):
    """An environment in which everything is set that once changed or broke a study."""
    kernel, profile, deep = folder / "jupyter/kernels/python3", folder / "profile", folder / ("x" * 90)
    for path in (kernel, profile, deep, folder / "startup/profile_default/startup"):
        path.mkdir(parents=True)
    argv = ["/usr/bin/false", "-f", "{connection_file}"]
    (kernel / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "other", "language": "python"}))
    (profile / "config.yaml").write_text("dry-run: true\n")
    (folder / "matplotlibrc").write_text("axes.facecolor: red\nfigure.dpi: 20\n")
    (folder / "startup/profile_default/startup/00.py").write_text("raise SystemExit")
    (folder / "bashrc").write_text(f"echo >> {folder / 'bashes'}\n")
    return {
        "MPLBACKEND": "Agg", "MATPLOTLIBRC": str(folder / "matplotlibrc"), "SNAKEMAKE_PROFILE": str(profile),
        "JUPYTER_PATH": str(folder / "jupyter"), "IPYTHONDIR": str(folder / "startup"), "HOME": "/proc/nohome",
        "TMPDIR": str(deep), "CDPATH": ".:/tmp", "PYTHONSAFEPATH": "1", "PYTHONWARNINGS": "error", "PYTHONSTARTUP": "/none",
        "GIT_DIR": str(folder / "none.git"), "PIP_USER": "1", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0",
        "BASH_ENV": str(folder / "bashrc"), "TQDM_DISABLE": "1", "BASH_FUNC_cd%%": "() { builtin cd \"$@\" && ls; }",
    }  # fmt: skip


@functools.cache
def plain_help():
    return run("--help", cwd=ROOT.parent)


@pytest.mark.parametrize("command", [["--help"], ["compare", "a", "b"], ["inpaint", "--help"], ["tyni"]], ids=" ".join)
def test_modules_in_the_current_folder_are_not_executed(tmp_path, command):
    for name in ("numpy", "random", "torch", "json", "workflow", "inpaint_lib", "yaml", "argparse"):
        (tmp_path / f"{name}.py").write_text(TRAP)
    code, out, err = run(*command, cwd=tmp_path)
    assert "was executed" not in out + err and code == (0 if "--help" in command else 2), err


@pytest.mark.parametrize(
    "environment",
    [{"CDPATH": ".:/tmp"}, {"PYTHONSAFEPATH": "1"}, {"BASH_FUNC_cd%%": "() { echo elsewhere; }"}, {"PYTHONHOME": "/none"},
     {"BASH_FUNC_python%%": "() { false; }"}, {"PYTHONWARNINGS": "error"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}],
    ids=lambda e: "+".join(e),
)  # fmt: skip
def test_help_is_the_same_whatever_is_exported(environment):
    assert run("--help", cwd=ROOT.parent, **environment) == plain_help()


def test_a_clone_whose_path_has_a_colon_is_refused_in_a_line(tmp_path):
    (tmp_path / "a:b").mkdir()
    shutil.copy(ROOT / "run_all.sh", tmp_path / "a:b")
    code, out, err = run("smoke", root=tmp_path / "a:b")
    assert (code, out, len(err.splitlines())) == (2, "", 1) and "has a colon, which separates paths; move" in err


def test_a_link_to_the_command_finds_the_repository(tmp_path):
    (tmp_path / "one").symlink_to(ROOT / "run_all.sh")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/run_all.sh").symlink_to("../one")
    assert run("--help", root=tmp_path / "folder") == plain_help()


def test_files_of_tests_run_side_by_side(tmp_path):
    (tmp_path / "python").write_text('#!/bin/sh\ncase "$*" in *find_spec*) ;; *) echo "$@" ;; esac\n')
    (tmp_path / "python").chmod(0o755)
    environment = os.environ | {"INPAINT_ENV": "current", "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run([ROOT / "run_all.sh", "test", "-x"], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "-m pytest -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder -x\n"
    assert "OMP_NUM_THREADS" in os.environ


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the published faces were drawn on x86-64")
def test_processors_draw_the_same_faces(tmp_path):
    """Of small's 8,000 faces these two had a pixel one level off where numpy found AVX-512: another data set to `publish`."""
    draw = "from inpaint_lib.data.faces import draw; import zlib; print(zlib.crc32(draw([4440, 5946], 32).tobytes()))"
    (tmp_path / "python").write_text(f'#!/bin/sh\ncase "$*" in *find_spec*) ;; *) exec {sys.executable} -c "{draw}" ;; esac\n')
    (tmp_path / "python").chmod(0o755)
    environment = os.environ | {"INPAINT_ENV": "current", "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("NPY_DISABLE_CPU_FEATURES", None)
    done = subprocess.run([ROOT / "run_all.sh", "tiny"], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "2291068157\n"


def test_a_current_folder_that_was_deleted_is_told(tmp_path):
    (tmp_path / "gone").mkdir()
    line = f"cd {tmp_path}/gone && rmdir ../gone && exec bash {ROOT}/run_all.sh smoke --dry-run"
    done = subprocess.run(["bash", "-c", line], env=os.environ | {"INPAINT_ENV": "current"}, capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 2 and not done.stdout
    assert [said for said in done.stderr.splitlines() if not said.startswith("shell-init")] == [
        "run_all.sh: the current folder was deleted; cd to another one"
    ]


def started(*arguments, stdout, **environment):
    """workflow in this very Python -> (exit code, stderr)."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run([sys.executable, "-P", "-m", "workflow", *arguments], env=environment, stdout=stdout,
                          stderr=subprocess.PIPE, text=True, check=False)  # fmt: skip
    return done.returncode, done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_help_that_cannot_be_printed_is_told():
    with open("/dev/full", "w") as full:
        code, err = started("--help", stdout=full)
    assert code == 1 and len(err.splitlines()) == 1 and "cannot be printed (No space left on device)" in err


@pytest.mark.parametrize("arguments", [["--help"], ["smoke", *SETTINGS, "--dry-run"]], ids=["help", "dry-run"])
def test_a_reader_who_has_seen_enough_ends_it_quietly(tmp_path, arguments):
    reads, writes = os.pipe()
    os.close(reads)
    with os.fdopen(writes, "w") as closed:
        assert started(*arguments, stdout=closed, INPAINT_OUTPUT=str(tmp_path)) == (141, "")


def test_scripts_keep_their_line_ends_whatever_git_is_told():
    ends = subprocess.run(["git", "check-attr", "eol", "--", "run_all.sh", "workflow/local_slurm.sh", "config/tiny.yaml"],
                          cwd=ROOT, capture_output=True, text=True, check=True).stdout  # fmt: skip
    assert ends.count("eol: lf") == 3


@pytest.mark.parametrize("named", [{}, {"GIT_DIR": "{}/.git"}, {"GIT_DIR": "{}/.git", "GIT_WORK_TREE": "{}"}])
def test_another_repositorys_commit_is_never_provenance(tmp_path, monkeypatch, named):
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@x", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "other"], check=True)
    (tmp_path / "unpacked").mkdir()
    monkeypatch.setattr(provenance, "ROOT", tmp_path / "unpacked")  # a copy without a repository of its own, inside another
    for name, value in named.items():
        monkeypatch.setenv(name, value.format(tmp_path))
    assert provenance.current()["commit"] == "unknown"


@pytest.mark.parametrize("path", ["/nowhere", ""])
def test_without_git_provenance_is_unknown(monkeypatch, path):
    monkeypatch.setenv("PATH", path)
    assert provenance.current()["commit"] == "unknown"


def test_new_files_have_the_rights_that_the_umask_leaves(tmp_path):
    code = ("import importlib, os, sys, numpy; from safetensors.numpy import save_file; from inpaint_lib.study import files\n"
            "for path in sys.argv[1:]:\n"
            "    os.umask(int(os.path.basename(path), 8)); importlib.reload(files)\n"  # it is asked for at import
            "    with files.replacing(path) as temporary: save_file({'a': numpy.zeros(1)}, temporary)")  # fmt: skip
    rights = {tmp_path / f"{umask:o}": mode for umask, mode in ((0o022, 0o644), (0o002, 0o664), (0o077, 0o600))}
    subprocess.run([sys.executable, "-c", code, *rights], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
    assert {path: path.stat().st_mode & 0o777 for path in rights} == rights


def test_files_are_read_as_utf8_whatever_the_locale(tmp_path):
    """The interpreter's own default apart: PYTHONUTF8 is not set here."""
    look = ("import locale; from inpaint_lib.study import config, files, provenance; from workflow import graph;"
            "graph.check_notebook('notebooks/20_metrics.ipynb'); config.load('smoke');"
            "print(provenance.code_digest('inpaint_lib/**/*.py', 'notebooks/*.ipynb'))")  # fmt: skip
    found = set()
    for language in ("C", "C.UTF-8", locale.setlocale(locale.LC_CTYPE)):
        environment = os.environ | {"PYTHONPATH": str(ROOT), "LC_ALL": language, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
        done = subprocess.run([sys.executable, "-P", "-c", look], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found.add(done.stdout)
    assert len(found) == 1


def test_a_failure_of_snakemake_itself_reaches_the_user(tmp_path):
    (tmp_path / "runs/smoke").mkdir(parents=True)
    (tmp_path / "runs/smoke/.snakemake").write_text("a file where Snakemake wants a folder")
    code, out, err = run("smoke", *SETTINGS, INPAINT_OUTPUT=str(tmp_path))
    assert code == 1 and "run_all.sh: Snakemake: " in err and ".snakemake" in err, err
    assert "index.html" not in out


def test_the_link_to_the_report_replaces_a_folder_that_a_copy_left_in_its_place(tmp_path):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").touch()
    shutil.copytree(tmp_path / "report", tmp_path / "link")
    for _ in range(2):
        snakemake._link(tmp_path / "link", tmp_path / "report")
        assert (tmp_path / "link").is_symlink() and (tmp_path / "link/index.html").is_file()


@pytest.mark.skipif(os.getuid() != 0, reason="asks what happens to root")
def test_lab_as_root_says_what_to_do():
    code, out, err = run("lab")
    assert (code, out, len(err.splitlines())) == (2, "", 1) and "--allow-root" in err


def test_lab_starts_and_makes_a_kernel_in_hostile_surroundings(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--allow-root", "--no-browser", f"--port={port}", "--IdentityProvider.token=x"]
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(["bash", ROOT / "run_all.sh", "lab", *options], stdout=said, stderr=said,
                                   env=current(**hostile(tmp_path)))  # fmt: skip
    try:
        address = f"http://127.0.0.1:{port}/api/kernels?token=x"
        for _ in range(600):
            try:
                with urllib.request.urlopen(urllib.request.Request(address, b'{"name": "python3"}')) as answer:
                    assert answer.status == 201  # a kernel was made
                break
            except urllib.error.URLError:
                assert process.poll() is None, (tmp_path / "said").read_text()
                time.sleep(0.2)
        else:
            raise AssertionError((tmp_path / "said").read_text())
    finally:
        process.terminate()
        process.wait(30)


def test_a_kernel_of_lab_does_without_the_users_ipython_profile(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert lab.surroundings(tmp_path / "own").keys() == {"IPYTHONDIR", "JUPYTER_RUNTIME_DIR"}
    monkeypatch.setenv("HOME", str(tmp_path / "none"))
    assert lab.surroundings(tmp_path / "own")["HOME"] == str(tmp_path / "own")
