"""./run_all.sh bench: every case is kept when it is measured, and few packages are needed."""

import json
import sys
from pathlib import Path

import pytest
import torch

from inpaint_lib.study import files
from inpaint_lib.training import step
from tests.conftest import repository
from workflow import estimate

ROOT = Path(repository())
sys.path.insert(0, str(ROOT / "benchmarks"))
import estimates  # noqa: E402
import gpu  # noqa: E402
import training as bench  # noqa: E402


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """The path of the report, with invented figures: ours is twice as fast; 64:free_form fails."""

    def measure(size, architecture, *_):
        if (size, architecture) == (64, "free_form"):
            raise bench.Ended
        found = {"size": size, "architecture": architecture, "date": "2026-01-01", "batch": 8}
        for name, speed in (("textbook", 1.0), ("ours", 2.0)):
            found[name] = {"images_per_second": speed, "spread": [speed, speed]}
            found[name]["peak_memory_bytes"] = 2**30
        options = {"options": {"fused_adam": True}, "without": {"fused_adam": 1.0}}
        return found | options | {"speedup": 2.0, "gflop_per_image": 1.0}

    peak = {"tflops": 1.0, "dtype": "float32"}
    monkeypatch.setattr(bench, "REPORTS", tmp_path)
    monkeypatch.setattr(bench, "measure", measure)
    monkeypatch.setattr(bench, "measured_peak", lambda device: peak)
    monkeypatch.setattr(bench, "name_of", lambda device: "a machine")
    return tmp_path / "training_a_machine.json"


def cases(path):
    return [(c["size"], c["architecture"]) for c in files.read_json(path)["cases"]]


def test_a_report_is_written_after_every_case(measured, monkeypatch):
    invented = bench.measure

    def interrupted(size, architecture, *rest):
        if architecture == "context_encoder":
            raise KeyboardInterrupt
        return invented(size, architecture, *rest)

    monkeypatch.setattr(bench, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench.main(["--device", "cpu"])
    assert cases(measured) == [(64, "custom")]
    text = measured.with_suffix(".md").read_text()
    assert "| 64 | custom | 8 | 1 (1-1) | 2 (2-2) | 2 |" in text
    assert "| 64 | custom | 0.50 |" in text and "ratio 2.00" in text
    assert bench.main(["--device", "cpu", "--case", "128:custom"]) == 0
    assert cases(measured) == [(64, "custom"), (128, "custom")]
    monkeypatch.setattr(torch, "__version__", "0.1")  # cases of another torch are dropped
    assert bench.main(["--device", "cpu", "--case", "64:custom"]) == 0
    assert cases(measured) == [(64, "custom")]


def test_a_case_that_fails_leaves_the_others(measured, capfd):
    assert bench.main(["--device", "cpu"]) == 1
    assert (64, "free_form") not in cases(measured) and len(cases(measured)) == 5
    out, err = capfd.readouterr()
    assert len(err.splitlines()) == 1 and "64:free_form: a process failed" in err
    assert len(out.splitlines()) == 5


def test_an_unknown_case_gets_one_line(measured, capfd):
    assert bench.main(["--device", "cpu", "--case", "65:custom"]) == 2
    err = capfd.readouterr().err
    assert "'65:custom': give one of 64:custom, " in err and len(err.splitlines()) == 1
    assert not measured.exists()


# --- benchmarks/gpu.py


def test_the_report_of_a_card_is_written_after_every_part(tmp_path, monkeypatch):
    def run_part(part, limit, options):
        if part == "fid":
            raise KeyboardInterrupt
        return {"failed": "why"} if part == "smoke" else {"TFLOP/s": 98.9, "images/s": 10}

    monkeypatch.setattr(bench, "REPORTS", tmp_path)
    monkeypatch.setattr(bench, "name_of", lambda device: "NVIDIA H100")
    monkeypatch.setattr(gpu, "run_part", run_part)
    with pytest.raises(KeyboardInterrupt):
        gpu.main(["--device", "cpu", "--tiny"])
    found = files.read_json(tmp_path / "gpu_nvidia_h100.json")
    assert found["peak"] == 989 and found["parts"]["smoke"] == {"failed": "why"}
    text = (tmp_path / "gpu_nvidia_h100.md").read_text()
    assert "- share of the dense bfloat16 peak: 0.1\n" in text and "- failed: why" in text


def test_a_part_of_a_card_s_report_that_takes_too_long_is_ended():
    assert gpu.run_part("fid", 0.5, ["--device", "cpu"])["failed"] == "not done after 0.5 s"


@pytest.mark.slow
@pytest.mark.parametrize("part", gpu.TINY)
def test_all_that_is_measured_on_a_card_runs_to_its_end_on_the_cpu(output, monkeypatch, part):
    monkeypatch.setattr(estimate, "SECONDS", 0.1)
    kind, *case = part.split()
    try:
        found = json.loads(json.dumps(gpu.KINDS[kind]("cpu", True, *case)))
    finally:
        step.set_deterministic(False)
    assert found["equal weights, deterministic on"] if kind == "smoke" else found


@pytest.mark.slow
def test_a_part_is_measured_in_a_process_of_its_own():
    assert "failed" not in gpu.run_part("fid", 60, ["--device", "cpu", "--tiny"])


@pytest.mark.slow
def test_an_estimate_is_compared_with_a_real_run(tmp_path, micro, monkeypatch):
    monkeypatch.setattr(estimate, "SECONDS", 0.1)
    said, took = estimates.measure(micro().runs()[0])
    assert said > 0 and took > 0
    lines = estimates.write({("smoke", "custom"): (3.0, 4.0)}, 16, tmp_path / "page.md")
    assert lines[-1] == "| smoke | custom | 3 | 4 | 0.75 |"
    assert lines[-1] in (tmp_path / "page.md").read_text()


# --- the loops themselves


@pytest.mark.slow
def test_both_loops_are_measured(monkeypatch):
    monkeypatch.setattr(bench, "SECONDS", 0.1)
    found = bench.measure(64, "context_encoder", "cpu", 1, False)
    assert found["speedup"] > 0 and found["gflop_per_image"] == pytest.approx(0.59, rel=0.1)
