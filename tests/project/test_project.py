"""What keeps the repository honest: one set of dependencies, all used; clean code; a lock without
addresses.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.conftest import repository

ROOT = Path(repository())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DEPENDENCIES = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]
LOCK = (ROOT / "requirements.lock").read_text()
# packages whose use in the code has another name than the package
USED_AS = {
    "pillow": "PIL",
    "pyyaml": "yaml",
    "opencv-python-headless": "cv2",
    "pytorch-fid": "pytorch_fid",
    "pytorch-msssim": "pytorch_msssim",
    "pytest-xdist": "xdist",
    "torch-fidelity": "torch_fidelity",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
    "ipykernel": "python3",  # the kernel papermill starts
    "nbval": "--nbval-lax",
    "snakemake-executor-plugin-slurm": "executor: slurm",
    "import-linter": "lint-imports",
    "pre-commit": "repos",  # the head of its configuration
}


def name_of(requirement):
    return re.split(r"[<>=!~ \[;]", requirement)[0].lower()


def test_the_lock_pins_every_dependency_with_hashes_and_no_address():
    pinned = set(re.findall(r"^([a-z0-9._-]+)==", LOCK, re.M))
    assert {name_of(d) for d in DEPENDENCIES} <= pinned
    entries = re.split(r"^(?=[a-z0-9._-]+==)", LOCK, flags=re.M)[1:]
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in LOCK and "--index" not in LOCK.replace("--no-emit-index-url", "")


def test_pyproject_conda_and_lock_agree():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    python = next(d for d in environment["dependencies"] if str(d).startswith("python="))
    assert PROJECT["requires-python"] == f">={python.removeprefix('python=')},<3.14"
    assert environment["dependencies"][-1] == {"pip": ["-r requirements.lock"]}
    assert "(3, 11)" in (ROOT / "run_all.sh").read_text()


@pytest.mark.parametrize("name", sorted(map(name_of, DEPENDENCIES)))
def test_no_dependency_is_unused(name):
    patterns = (
        "inpaint_lib/**/*.py",
        "workflow/*",
        "workflow/**/*.yaml",
        "tests/**/*.py",
        "notebooks/*.ipynb",
        "*.sh",
        ".pre-commit-config.yaml",
    )
    sources = {
        p
        for pattern in patterns
        for p in ROOT.glob(pattern)
        if p.is_file() and p.name != "test_project.py"
    }
    word = re.compile(rf"(?<![\w-]){re.escape(USED_AS.get(name, name))}(?![\w])")
    assert any(word.search(p.read_text(errors="ignore")) for p in sources), (
        f"{name} is used nowhere"
    )


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff_is_clean(command):
    command = [sys.executable, "-m", "ruff", *command, "--no-cache", "."]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_nothing_is_exempt_from_formatting():
    paths = [*ROOT.glob("*/**/*.py"), *ROOT.glob("notebooks/*.ipynb")]
    exempt = re.compile(r"fmt: (skip|off)")
    mine = Path(__file__)
    assert not [
        p for p in paths if ".venv" not in str(p) and p != mine and exempt.search(p.read_text())
    ]


def test_the_training_loop_names_no_architecture_and_no_setup():
    from inpaint_lib import models, setups

    text = (ROOT / "inpaint_lib" / "training" / "loop.py").read_text()
    assert not [
        name
        for name in (*models.ARCHITECTURES, *setups.SETUPS)
        if re.search(rf"['\"]{name}['\"]|\.{name}\b", text)
    ]


def test_imports_point_one_way():
    """The contracts in pyproject.toml; a new module must be given its place there."""
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_pre_commit_configuration_is_valid():
    command = [sys.executable, "-m", "pre_commit", "validate-config", ".pre-commit-config.yaml"]
    subprocess.run(command, cwd=ROOT, check=True)
