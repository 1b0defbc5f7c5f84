"""What a user has set or installed must not change what a study computes or shows, nor break it."""

import functools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from inpaint_lib.study import provenance
from tests.workflow.commands import (
    ROOT,
    SETTINGS,
    call,
    commit_all,
    current,
    is_refusal,
    run,
    write_script,
)
from workflow import __main__ as command

TRAP = "raise SystemExit('a module of the current folder was executed')"


def hostile(folder):
    """Return an environment in which everything is set that once changed or broke a study."""
    kernel, profile = folder / "jupyter/kernels/python3", folder / "profile"
    deep = folder / ("x" * 90)
    for path in (kernel, profile, deep, folder / "startup/profile_default/startup"):
        path.mkdir(parents=True)
    argv = ["/usr/bin/false", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "other", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    (profile / "config.yaml").write_text("dry-run: true\n")
    (folder / "matplotlibrc").write_text("axes.facecolor: red\nfigure.dpi: 20\n")
    (folder / "startup/profile_default/startup/00.py").write_text("raise SystemExit")
    (folder / "bashrc").write_text(f"echo >> {folder / 'bashes'}\n")
    return {
        "MPLBACKEND": "Agg",
        "MATPLOTLIBRC": str(folder / "matplotlibrc"),
        "SNAKEMAKE_PROFILE": str(profile),
        "JUPYTER_PATH": str(folder / "jupyter"),
        "IPYTHONDIR": str(folder / "startup"),
        "HOME": "/proc/nohome",
        "TMPDIR": str(deep),
        "CDPATH": ".:/tmp",
        "PYTHONSAFEPATH": "1",
        "PYTHONWARNINGS": "error",
        "PYTHONSTARTUP": "/none",
        "GIT_DIR": str(folder / "none.git"),
        "PIP_USER": "1",
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "BASH_ENV": str(folder / "bashrc"),
        "TQDM_DISABLE": "1",
        "BASH_FUNC_cd%%": '() { builtin cd "$@" && ls; }',
    }


@functools.cache
def plain_help():
    return run("--help", cwd=ROOT.parent)


def with_fake(folder, text, *arguments, **environment):
    """Return what run_all.sh prints where `python` lacks no package and otherwise does `text`."""
    write_script(folder / "python", f'case "$*" in *find_spec*) ;; *) {text} ;; esac')
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"INPAINT_ENV": "current", "PATH": path} | environment
    code, out, err = call(ROOT / "run_all.sh", *arguments, env=environment)
    assert code == 0, err
    return out


def test_the_environment_of_every_process_holds_what_is_listed_and_nothing_else(tmp_path):
    kept = {"HOME": "/here", "LC_TIME": "C", "https_proxy": "p", "CUDA_VISIBLE_DEVICES": "1"}
    kept |= {"NVIDIA_X": "1", "SLURM_JOB_ID": "7", "INPAINT_OUTPUT": "o", "UV_DEFAULT_INDEX": "i"}
    kept |= {"PIP_INDEX_URL": "u", "OMP_NUM_THREADS": "3", "TMPDIR": str(tmp_path), "CI": "1"}
    others = {"PYTHONHOME": "/n", "PYTEST_ADDOPTS": "-x", "GIT_DIR": "g", "MPLBACKEND": "Agg"}
    others |= {"SNAKEMAKE_PROFILE": "p", "IPYTHONDIR": "i", "UV_SYSTEM_PYTHON": "1", "ANY": "1"}
    others |= {"TORCH_LOGS": "all", "MKL_DEBUG_CPU_TYPE": "5", "NPY_DISABLE_CPU_FEATURES": "AVX2"}
    out = with_fake(tmp_path, "exec env", "tiny", **kept, **others, PYTHONPATH="/more")
    found = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
    assert {name: found.get(name) for name in kept} == kept
    assert not others.keys() & found.keys()
    assert found["PYTHONPATH"] == f"{ROOT}:/more" and found["PYTHONUTF8"] == "1"


@pytest.mark.parametrize("missing", ["USER", "LOGNAME", "HOME", "PATH", "USER LOGNAME HOME PATH"])
def test_a_user_without_a_name_or_a_home_gets_them(missing):
    """As in containers that are started with a user id of their own choice."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        shutil.copy(ROOT / "run_all.sh", folder)
        listing = 'case "$*" in *find_spec*) ;; *) /usr/bin/env ;; esac'
        write_script(Path(folder, "python"), listing)
        given = {"PATH": f"{folder}:/usr/bin:/bin", "USER": "u", "LOGNAME": "u", "HOME": "/"}
        given = {key: value for key, value in given.items() if key not in missing.split()}
        unnamed = {"user": 54321, "group": 54321} if os.getuid() == 0 else {}
        environment = given | {"INPAINT_ENV": "current", "CONDA_PREFIX": ""}
        code, out, err = call("bash", f"{folder}/run_all.sh", "tiny", env=environment, **unnamed)
    if "PATH" in missing.split():
        assert "lacks" in err or code == 0  # a shell's own default
        return
    found = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
    assert code == 0 and found["USER"] and found["LOGNAME"] and found["HOME"][0] == "/"


def test_an_active_environment_that_lacks_packages_gets_one_line_with_all_of_them(tmp_path):
    """Asked of a Python that has the standard library alone; the list is that of pyproject.toml."""
    for name in ("python", "python3"):
        write_script(tmp_path / name, f'exec {sys.executable} -S -E "$@"')
    environment = current(PYTHONPATH="") | {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    found = call("bash", ROOT / "run_all.sh", "smoke", env=environment)
    assert is_refusal(*found)
    named = set(re.search("lacks (.*): pip install", found[2])[1].split(", "))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    modules = {"opencv-python-headless": "cv2", "pillow": "PIL", "pyyaml": "yaml"}
    modules |= {"scikit-image": "skimage"}
    names = [text.split(">=")[0] for text in project["dependencies"]]
    wanted = {modules.get(name, name.replace("-", "_")) for name in names}
    assert named == wanted


@pytest.mark.parametrize("folder", ["notebooks", "."])
@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_a_notebook_finds_its_library_in_its_folder_and_in_the_root(path, folder):
    """However it is run: VS Code, JupyterHub, nbconvert, papermill."""
    cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    before = "".join(cells[1]["source"]).split("from inpaint_lib", 1)[0]
    first = "\n".join(line for line in before.splitlines() if "sys" in line)
    found = "import inpaint_lib; print(inpaint_lib.__file__)"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    words = [sys.executable, "-P", "-c", f"{first}\n{found}"]
    code, out, err = call(*words, cwd=ROOT / folder, env=environment)
    assert code == 0, err
    assert os.path.samefile(ROOT / folder / out.strip(), ROOT / "inpaint_lib/__init__.py")


def test_an_environment_that_is_made_knows_the_library_for_other_tools_too(tmp_path):
    root = clone(tmp_path)
    fake = tmp_path / "bin/python3.13"
    text = f"""case "$*" in
*ensurepip*) echo 3.13 ;;
*"-m venv"*) mkdir -p "${{@: -1}}"/bin "${{@: -1}}"/lib/python3.13/site-packages
        cp {fake} "${{@: -1}}/bin/python"; cp /bin/true "${{@: -1}}/bin/uv" ;;
esac"""
    write_script(fake, text)
    environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}
    code, _, err = call("bash", root / "run_all.sh", "smoke", env=environment)
    assert code == 0, err
    (pth,) = (root / ".venv/lib").rglob("*.pth")
    assert pth.read_text() == f"{root}\n" and (root / ".venv/.installed").exists()


def test_packages_of_the_users_own_folder_count_only_where_others_lack_them(tmp_path):
    for lacking, expected in (("", "1"), ("torch", "")):
        asked = f'if [ -n "$PYTHONNOUSERSITE" ]; then echo {lacking}; fi'
        text = f'case "$*" in *find_spec*) {asked} ;; *) echo "[$PYTHONNOUSERSITE]" ;; esac'
        for name in ("python", "python3"):
            write_script(tmp_path / name, text)
        environment = current() | {"PATH": f"{tmp_path}:/usr/bin:/bin", "CONDA_PREFIX": ""}
        _, out, err = call("bash", ROOT / "run_all.sh", "tiny", env=environment)
        assert out == f"[{expected}]\n", err


def test_the_python_that_has_the_packages_is_used(tmp_path):
    """On some systems `python` lacks the packages that `python3` has."""
    write_script(tmp_path / "python", "exit 1")
    write_script(tmp_path / "python3", 'case "$*" in *find_spec*) ;; *) echo found ;; esac')
    environment = current() | {"PATH": f"{tmp_path}:/usr/bin:/bin", "CONDA_PREFIX": ""}
    _, out, err = call("bash", ROOT / "run_all.sh", "bench", env=environment)
    assert out == "found\n", err


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_line_ends_of_windows_are_told(tmp_path, shell):
    text = (ROOT / "run_all.sh").read_text().replace("\n", "\r\n")
    (tmp_path / "run_all.sh").write_text(text, newline="")
    found = call(shell, tmp_path / "run_all.sh")
    assert is_refusal(*found) and "CRLF" in found[2]


@pytest.mark.parametrize("command", [["--help"], ["show", "tyni"]], ids=" ".join)
def test_modules_in_the_current_folder_are_not_executed(tmp_path, command):
    for name in ("numpy", "random", "torch", "json", "workflow", "inpaint_lib", "yaml", "argparse"):
        (tmp_path / f"{name}.py").write_text(TRAP)
    code, out, err = run(*command, cwd=tmp_path)
    assert "was executed" not in out + err and code == (0 if "--help" in command else 2), err


def test_help_is_the_same_whatever_is_exported():
    exported = {"CDPATH": ".:/tmp", "PYTHONSAFEPATH": "1", "PYTHONWARNINGS": "error"}
    exported |= {"PYTHONHOME": "/none", "LC_ALL": "C", "PYTHONUTF8": "0"}
    exported |= {"BASH_FUNC_cd%%": "() { echo elsewhere; }", "BASH_FUNC_python%%": "() { false; }"}
    assert run("--help", cwd=ROOT.parent, **exported) == plain_help()


def test_help_lists_profiles_options_and_commands():
    code, out, _ = plain_help()
    words = "medium, paper, small, smoke, tiny --datasets --architectures --setups --seeds --jobs"
    words += " --set --only --dry-run --skip-published --estimate show status lab publish verify"
    assert code == 0 and all(word in out for word in words.split())


def test_sh_instead_of_bash_and_a_link_to_the_command_work(tmp_path):
    found = call("sh", ROOT / "run_all.sh", "--help", cwd=ROOT.parent, env=current())
    assert found == plain_help()
    (tmp_path / "one").symlink_to(ROOT / "run_all.sh")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/run_all.sh").symlink_to("../one")
    assert run("--help", root=tmp_path / "folder") == plain_help()


def test_a_clone_whose_path_has_a_colon_is_refused_in_a_line(tmp_path):
    (tmp_path / "a:b").mkdir()
    shutil.copy(ROOT / "run_all.sh", tmp_path / "a:b")
    found = run("smoke", root=tmp_path / "a:b")
    assert is_refusal(*found) and "has a colon, which separates paths: move" in found[2]


def python_of(folder, name, version):
    """Write a program that stands for a Python of a version and says what it makes."""
    supported = f"[ {version} -ge 11 ] && [ {version} -le 13 ]"
    text = f"""case "$*" in *ensurepip*) {supported} && echo 3.{version} ;;
*venv*) echo "made with 3.{version}"; exit 1 ;; *) exit 1 ;; esac"""
    write_script(folder / name, text)


def clone(folder):
    """Return a folder with what run_all.sh needs to install."""
    (folder / "clone").mkdir()
    for name in ("run_all.sh", "requirements.lock"):
        shutil.copy(ROOT / name, folder / "clone")
    (folder / "bin").mkdir()
    return folder / "clone"


@pytest.mark.parametrize(
    ("there", "named", "words"),
    [
        ({"python3": 15, "python3.13": 13}, "", "made with 3.13"),
        ({"python3": 12, "python3.11": 11}, "", "made with 3.11"),
        ({"python3.13": 13, "python3.12": 12, "python3.11": 11}, "", "made with 3.13"),
        ({"python3": 12, "python3.11": 11}, "python3", "made with 3.12"),
        ({"python3": 15}, "", "no Python 3.11, 3.12 or 3.13 with venv was found"),
        ({"python3": 15, "python3.13": 13}, "python3", "INPAINT_PYTHON=python3 is not Python"),
    ],
)
def test_a_python_that_is_supported_installs_and_others_are_refused(tmp_path, there, named, words):
    root = clone(tmp_path)
    for name in ("python3.11", "python3.12", "python3.13", "python3", "python"):
        python_of(tmp_path / "bin", name, there.get(name, 10))
    environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "INPAINT_PYTHON": named}
    code, out, err = call("bash", root / "run_all.sh", "smoke", env=environment)
    assert code and words in out + err
    assert ("made" in words) == (root / ".venv.lock").exists() and "Traceback" not in err


def test_an_environment_is_of_its_lock_and_its_python(tmp_path):
    """INPAINT_VENV names its folder; one of another Python than INPAINT_PYTHON is not used."""
    root = clone(tmp_path)
    python_of(tmp_path / "bin", "python3.13", 13)
    environment = {"PATH": "/usr/bin:/bin", "INPAINT_VENV": "other"}
    lock = call("bash", "-c", "cksum <requirements.lock", cwd=root)[1].strip()

    def begun(stamp, **more):
        (root / "other/bin").mkdir(parents=True, exist_ok=True)
        (root / "other/.installed").write_text(f"{stamp}\n")
        shutil.copy(tmp_path / "bin/python3.13", root / "other/bin/python")
        out = call("bash", root / "run_all.sh", env=environment | more)[1]
        return "installing the environment into other" in out

    named = {"INPAINT_PYTHON": str(tmp_path / "bin/python3.13")}
    assert begun(f"{lock} 3.12", **named)  # its Python is 3.13
    assert not begun(f"{lock} 3.13", **named) and not begun(f"{lock} 3.13")
    python_of(tmp_path / "bin", "python3.12", 12)
    assert begun(f"{lock} 3.13", INPAINT_PYTHON=str(tmp_path / "bin/python3.12"))
    (root / "requirements.lock").write_text("another")
    assert begun(f"{lock} 3.13", **named)


def test_no_folder_is_emptied_but_an_environment_of_this_script(tmp_path):
    root = clone(tmp_path)
    python_of(tmp_path / "bin", "python3.13", 13)

    def install(folder=".venv"):
        environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "INPAINT_VENV": str(folder)}
        return call("bash", root / "run_all.sh", env=environment)

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/work").touch()
    found = install(tmp_path / "mine")
    assert is_refusal(*found) and f"{tmp_path}/mine is not an environment" in found[2]
    assert {p.name for p in tmp_path.iterdir()} == {"bin", "clone", "mine"}
    for name in (".venv", "deep/new"):  # killed while they were installed
        for left in ("half", "pyvenv.cfg"):
            assert "made with 3.13" in install(name)[1], name
            (root / name / left).touch()
    assert "made with" in install(".venv")[1] and not (root / ".venv/half").exists()
    (root / ".venv/.installed").unlink()  # of an earlier version
    assert "made with" in install()[1] and (tmp_path / "mine/work").exists()


def test_a_current_folder_that_was_deleted_is_reported(tmp_path):
    (tmp_path / "gone").mkdir()
    line = f"cd {tmp_path}/gone && rmdir ../gone && exec bash {ROOT}/run_all.sh smoke --dry-run"
    code, out, err = call("bash", "-c", line, env=current())
    said = [line for line in err.splitlines() if not line.startswith("shell-init")]
    assert code == 2 and not out
    assert said == ["run_all.sh: the current folder was deleted: cd to another one"]


@pytest.mark.parametrize("arguments", [["--help"], ["show", "smoke"]], ids=["help", "show"])
def test_a_reader_who_has_seen_enough_ends_it_quietly(tmp_path, arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "INPAINT_OUTPUT": str(tmp_path)}
    command = [sys.executable, "-P", "-m", "workflow", *arguments]
    reads, writes = os.pipe()
    os.close(reads)
    with os.fdopen(writes, "w") as closed:
        done = subprocess.run(command, env=environment, stdout=closed, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (141, b"")


def test_scripts_keep_their_line_ends_whatever_git_is_told():
    names = ["run_all.sh", "tests/workflow/local_slurm.sh", "config/tiny.yaml"]
    out = call("git", "check-attr", "eol", "--", *names, cwd=ROOT)[1]
    assert out.count("eol: lf") == 3


@pytest.mark.parametrize(
    "named", [{}, {"GIT_DIR": "{}/.git"}, {"GIT_DIR": "{}/.git", "GIT_WORK_TREE": "{}"}]
)
def test_another_repositorys_commit_is_never_provenance(tmp_path, monkeypatch, named):
    commit_all(tmp_path)
    (tmp_path / "unpacked").mkdir()  # a copy without a repository of its own, inside another
    monkeypatch.setattr(provenance, "ROOT", tmp_path / "unpacked")
    for name, value in named.items():
        monkeypatch.setenv(name, value.format(tmp_path))
    assert provenance.describe_environment()["commit"] == "unknown"


@pytest.mark.skipif(os.getuid() != 0, reason="gives files to another user")
def test_the_commit_of_a_repository_that_another_user_owns_is_known(tmp_path, monkeypatch):
    commit_all(tmp_path)
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.chown(path, 54321, 54321)
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    monkeypatch.setenv("SUDO_UID", "")
    assert re.fullmatch("[0-9a-f]{12}", provenance.find_commit())


def test_a_failure_of_snakemake_itself_reaches_the_user(output, capfd):
    (output / "runs/smoke").mkdir(parents=True)
    (output / "runs/smoke/.snakemake").write_text("a file where Snakemake needs a folder")
    assert command.main(["smoke", *SETTINGS]) == 1
    out, err = capfd.readouterr()
    assert "run_all.sh: Snakemake: " in err and ".snakemake" in err and "index.html" not in out


# --- JupyterLab


@pytest.mark.skipif(os.getuid() != 0, reason="asks what happens to root")
def test_lab_as_root_says_what_to_do():
    found = run("lab")
    assert is_refusal(*found) and "--allow-root" in found[2]


@pytest.mark.slow
def test_lab_makes_a_kernel_in_hostile_surroundings_on_localhost_for_its_token_alone(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--allow-root", "--no-browser", f"--port={port}", "--port-retries=0"]
    environment = current(**hostile(tmp_path), INPAINT_OUTPUT=str(tmp_path / "output"))
    with (tmp_path / "said").open("w") as said:
        lab = ["bash", ROOT / "run_all.sh", "lab", *options]
        process = subprocess.Popen(lab, stdout=said, stderr=said, env=environment)
    address, deadline = f"http://127.0.0.1:{port}/api/kernels", time.monotonic() + 120
    try:
        while socket.socket().connect_ex(("127.0.0.1", port)):
            alive = process.poll() is None and time.monotonic() < deadline
            assert alive, (tmp_path / "said").read_text()
            time.sleep(0.2)
        [token] = set(re.findall(r"token=(\w+)", (tmp_path / "said").read_text()))
        kernel = urllib.request.Request(f"{address}?token={token}", b'{"name": "python3"}')
        with urllib.request.urlopen(kernel, timeout=60) as answer:
            assert answer.status == 201  # a kernel was made
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(address, timeout=60)
        connections = psutil.Process(process.pid).net_connections("tcp")
        listening = [tuple(c.laddr) for c in connections if c.status == psutil.CONN_LISTEN]
        assert listening == [("127.0.0.1", port)]
    finally:
        process.terminate()
        process.wait(30)
    assert re.search(r"10_train\.ipynb", " ".join(map(str, (tmp_path / "output/lab").iterdir())))
