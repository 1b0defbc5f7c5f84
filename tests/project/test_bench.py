"""./run_all.sh bench: what it measures is kept case by case, and it needs no more than measuring does."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from inpaint_lib.study import files
from tests.conftest import repository

sys.path.insert(0, str(Path(repository(), "benchmarks")))
import training as bench  # noqa: E402

NEEDED = {"filelock", "numpy", "pandas", "pillow", "psutil", "pydantic", "pyyaml", "safetensors", "torch", "tqdm"}
MODULES = {"opencv-python-headless": "cv2", "pillow": "PIL", "pyyaml": "yaml", "scikit-image": "skimage",
           "scikit-learn": "sklearn"}  # fmt: skip


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Where reports go, with figures made up at once: ours twice as fast as the textbook loop; 64:free_form fails."""

    def measure(size, architecture, *_):
        if (size, architecture) == (64, "free_form"):
            raise bench.Ended
        textbook, ours = ({"images_per_second": v, "spread": [v, v], "peak_memory_bytes": 2**30} for v in (1.0, 2.0))
        return {"size": size, "architecture": architecture, "date": "2026-01-01", "textbook": textbook, "ours": ours,
                "batch": 8, "speedup": 2.0, "gflop_per_image": 1.0, "levers": {"fused_adam": True}, "without": {},
                "profile": dict.fromkeys(bench.KINDS, 0.1)}  # fmt: skip

    monkeypatch.setattr(bench, "REPORTS", tmp_path)
    monkeypatch.setattr(bench, "measure", measure)
    monkeypatch.setattr(bench, "activations", lambda architecture: 1.0)
    monkeypatch.setattr(bench, "measured_peaks", lambda device: {"tflops": 1.0, "gb_per_s": 1.0, "dtype": "float32"})
    monkeypatch.setattr(bench, "name_of", lambda device: "a machine")
    return tmp_path / "training_a_machine.json"


def cases(path):
    return [(c["size"], c["architecture"]) for c in files.read_json(path)["cases"]]


def test_a_report_is_there_after_every_case(measured, monkeypatch):
    measure = bench.measure

    def interrupted(size, architecture, *rest):
        if architecture == "context_encoder":
            raise KeyboardInterrupt
        return measure(size, architecture, *rest)

    monkeypatch.setattr(bench, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench.main(["--device", "cpu"])
    assert cases(measured) == [(64, "custom")]
    assert "| 64 | custom | 8 |" in measured.with_suffix(".md").read_text()


def test_cases_may_be_measured_one_by_one(measured, monkeypatch):
    for asked in (["--case", "128:custom"], ["--case", "128:free_form", "--case", "64:custom"]):
        assert bench.main(["--device", "cpu", *asked]) == 0
    assert cases(measured) == [(64, "custom"), (128, "custom"), (128, "free_form")]
    assert files.read_json(measured)["paper_hours"] == {} and files.read_json(measured)["startup"] == {}
    monkeypatch.setattr(torch, "__version__", "0.1")  # another torch: what the last one did is not beside it
    assert bench.main(["--device", "cpu", "--case", "64:custom"]) == 0
    assert cases(measured) == [(64, "custom")]


def test_a_case_that_fails_leaves_the_others(measured, capfd):
    assert bench.main(["--device", "cpu"]) == 1
    assert (64, "free_form") not in cases(measured) and len(cases(measured)) == 5
    out, err = capfd.readouterr()
    assert len(err.splitlines()) == 1 and "64:free_form: a process failed" in err and len(out.splitlines()) == 5


@pytest.mark.parametrize("architecture", bench.models.ARCHITECTURES)
def test_what_a_step_keeps_is_reckoned_for_every_architecture(architecture):
    assert 0.1 < bench.activations(architecture) < 40


@pytest.mark.parametrize(
    ("asked", "said"),
    [("65:custom", "'65:custom': give one of 64:custom, "), ("custom", "'custom': give one of"), ("", "'': give one of")],
)
def test_an_unknown_case_gets_one_line(measured, capfd, asked, said):
    assert bench.main(["--device", "cpu", "--case", asked]) == 2
    assert said in (err := capfd.readouterr().err) and len(err.splitlines()) == 1 and not measured.exists()


def test_the_python_that_has_the_packages_is_taken(tmp_path):
    """The `python` of a system may be another than the `python3` that has them."""
    (tmp_path / "python").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python").chmod(0o755)
    (tmp_path / "python3").symlink_to(sys.executable)
    path = os.pathsep.join([str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]])
    for present, said in ((True, "give one of 64:custom"), (False, "the active environment lacks torch, numpy, pandas, PIL")):
        if not present:
            (tmp_path / "python3").unlink()
            (tmp_path / "python3").symlink_to(tmp_path / "python")
        environment = os.environ | {"PATH": path, "INPAINT_ENV": "current", "PYTHONPATH": os.pathsep.join(sys.path[1:])}
        done = subprocess.run([Path(repository(), "run_all.sh"), "bench", "--case", "x"], env=environment, capture_output=True,
                              text=True, check=False)  # fmt: skip
        assert done.returncode == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def test_measuring_needs_few_packages_and_no_git():
    root = Path(repository())
    required = {*tomllib.loads((root / "pyproject.toml").read_text())["project"]["dependencies"]}
    absent = [MODULES.get(name, name.replace("-", "_")) for name in required - NEEDED]
    code = (f"import sys; sys.modules |= dict.fromkeys({absent}); sys.path.insert(0, 'benchmarks'); import training, torch\n"
            "cpu = torch.device('cpu'); run = training.case_of(64, 'context_encoder', 'cpu')\n"
            "training.trial.stepper(run, cpu, training.choose_levers(run.config, cpu), training.made_up(run))()")  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(root), "PATH": "/nowhere", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    asked = next(line for line in (root / "run_all.sh").read_text().splitlines() if line.strip().startswith("bench) needed="))
    assert {*asked.split('"')[1].split()} == {MODULES.get(name, name) for name in NEEDED}  # what run_all.sh looks for first
