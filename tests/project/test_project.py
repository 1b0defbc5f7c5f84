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

from inpaint_lib import models, setups
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
    "pytest-xdist": "-n logical",
    "torch-fidelity": "torch_fidelity",
    "scikit-image": "skimage",
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


def test_no_dependency_is_unused():
    patterns = "inpaint_lib/**/*.py workflow/**/* tests/**/*.py notebooks/*.ipynb *.sh .pre-commit*"
    paths = {path for pattern in patterns.split() for path in ROOT.glob(pattern) if path.is_file()}
    text = "\n".join(path.read_text(errors="ignore") for path in paths - {Path(__file__)})
    words = {name: USED_AS.get(name, name) for name in map(name_of, DEPENDENCIES)}
    used = {
        n for n, word in words.items() if re.search(rf"(?<![\w-]){re.escape(word)}(?!\w)", text)
    }
    assert used == words.keys()


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff_is_clean(command):
    command = [sys.executable, "-m", "ruff", *command, "--no-cache", "."]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_nothing_is_exempt_from_formatting_and_no_pickle_is_loaded():
    folders = ("inpaint_lib", "workflow", "benchmarks", "examples", "docs", "notebooks")
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*.*py*")]
    forbidden = re.compile(r"fmt: (skip|off)|weights_only=False|allow_pickle=True")
    assert len(paths) > 80 and not [
        p for p in paths if p.suffix != ".pyc" and forbidden.search(p.read_text())
    ]


def test_the_training_loop_names_no_architecture_and_no_setup():
    text = (ROOT / "inpaint_lib" / "training" / "loop.py").read_text()
    names = "|".join((*models.ARCHITECTURES, *setups.SETUPS))
    assert not re.search(rf"['\"]({names})['\"]|\.({names})\b", text)


def test_imports_point_one_way():
    """The contracts in pyproject.toml; a new module must be given its place there."""
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_pre_commit_configuration_is_valid():
    command = [sys.executable, "-m", "pre_commit", "validate-config", ".pre-commit-config.yaml"]
    subprocess.run(command, cwd=ROOT, check=True)
