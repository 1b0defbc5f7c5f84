"""What a study will cost: reckoned from what a run does and leaves."""

from collections import Counter

import pytest
import torch

from inpaint_lib import metrics, models
from inpaint_lib.evaluation import evaluate
from inpaint_lib.training import artifacts, loop, probe
from inpaint_lib.training.step import choose_levers
from workflow import estimate


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_disk_is_what_a_finished_run_leaves(micro, architecture):
    study = micro(architectures=[architecture], setups=["fixed"], test_images=16)
    run = study.runs()[0]
    loop.fit(run, lambda *_: None)
    names = ["checkpoint.pt", "per_image.csv.gz", "model/model.safetensors", *(f"stages/{k}.safetensors" for k in (1, 2))]
    left = sum((run.folder / name).stat().st_size for name in names)
    device = torch.device("cpu")
    reckoned = estimate._disk(run, loop.start(run, device, choose_levers(study.config, device)))
    assert reckoned == pytest.approx(left, rel=0.1)


@pytest.mark.parametrize(("small", "when"), [(True, "last"), (True, "all"), (False, "all")])
@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_sets_are_those_a_run_fills_and_calibrates_with(micro, monkeypatch, architecture, small, when):
    """Those of a small test set are not filled again at a run's end."""
    study = micro(architectures=[architecture], setups=["fixed"], test_images=8, train_images=8, fid_stages=when)
    run = study.runs()[0]
    monkeypatch.setattr(probe, "SMALL", probe.SMALL * small)
    counted = Counter()

    def count(name, what):
        plain = getattr(metrics, what)
        monkeypatch.setattr(metrics, what, lambda *given: (counted.update([name]), plain(*given))[1])

    count("filled", "inpaint")
    count("calibrated", "calibrated")
    count("plain", "evaluate")
    loop.fit(run, lambda *_: None)
    evaluate.evaluate(run)
    sets = estimate._sets(run)
    sets["calibrated"] *= bool(metrics.batch_norms(artifacts.load_generator(run, 2)))
    assert {name: sets[name] for name in ("filled", "calibrated", "plain")} == {"calibrated": 0} | counted


def test_a_cost_trains_whole_steps_and_writes_nothing(micro, output, monkeypatch):
    monkeypatch.setattr(estimate, "SECONDS", 0.0)
    study = micro(setups=["fixed"])
    found = estimate.cost_of(study.runs()[0])
    assert found["training_s"] == pytest.approx(study.config.total_images / found["images_per_second"])
    assert found["evaluation_s"] > 0 and found["host"] > 0 and found["device"] is None
    assert list(output.rglob("*")) == []


def test_the_grid_costs_its_runs_and_its_packs(micro, monkeypatch):
    study = micro(architectures=["custom", "free_form"], setups=["fixed", "progressive"], seeds=[0, 1], jobs=2)
    cost = {"images_per_second": 2.0, "training_s": 3600.0, "evaluation_s": 1800.0, "disk": 2**20, "host": 2**30}
    cost["device"] = None
    asked = []

    class Pool:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def apply(self, function, arguments):
            if function is estimate.fillings:
                return 1800.0
            assert function is estimate.cost_of
            asked.append(arguments[0].architecture)
            return cost

    context = type("Context", (), {"Pool": lambda self, n: Pool()})()
    monkeypatch.setattr(estimate.multiprocessing, "get_context", lambda _: context)
    frame, whole = estimate.estimate(study)
    assert asked == ["custom", "free_form"] and list(frame.runs) == [4, 4] and "device memory (GiB)" not in frame
    assert whole["hours"] == pytest.approx(8 * 1.5) and whole["runs"] == len(study.runs()) == 8
    assert whole["disk"] == 8 * 2**20 + (24 + 8) * 3 * 32**2
    text = estimate.as_text(study, frame, whole)
    assert "Fillings without training, once: 0.5 hours." in text
    assert "8 runs: 12 hours one after another; 2 at a time, if they do not slow each other down, 6." in text


def test_what_is_timed_ends_when_the_device_has_done_it(monkeypatch):
    done = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: done.append("waited"))
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: done.append("clock") or len(done))
    assert estimate._seconds(lambda: done.append("work")) == 3
    assert done[-4:] == ["clock", "work", "waited", "clock"]


def test_fillings_cost_what_they_take(micro, monkeypatch):
    """Ten times the images, ten times the hours; the slow one is filled on its few."""
    threads = set()
    monkeypatch.setattr(estimate, "_seconds", lambda work: (work(), threads.add(torch.get_num_threads()), 1.0)[-1])
    torch.set_num_threads(2)  # as many as a process starts with
    few, many = (estimate.fillings(micro(test_images=n, slow_baseline_images=8).runs()[0]) for n in (8, 80))
    assert many > few > 0 and threads == {1}  # as evaluate.baselines
    slow = 4 * (2 * 1 / 2 + 2 * 1 / 2) * 8  # families x (widths + the two sets of the gap), a second for two images
    fast = 4 * 4 * (2 + 2)  # four that fill eight images a second
    compared = 5 * 4 * (1 + 1)  # features and algebra, of every fill and family, as the slow one, too, fills all eight
    assert few == slow + fast + compared


def test_fid_is_reckoned_for_every_set_that_is_compared(micro):
    stages = {}
    for when in ("last", "all"):
        run = micro(architectures=["free_form"], setups=["fixed"], fid_stages=when).runs()[0]
        stages[when] = estimate._distributions(run)
    assert stages == {"last": 2 + 1, "all": 2 * 2 + 1}  # its own holes of both widths, several rectangles


def test_algebra_is_timed_once_what_it_needs_is_loaded(micro, monkeypatch):
    """Loading takes seconds, and would be reckoned for every set that is compared."""
    timed = []
    monkeypatch.setattr(estimate, "_seconds", lambda work: (work(), timed.append(work), 1.5)[-1])
    assert estimate._algebra(micro(architectures=["custom"]).config) == 1.5 and len(timed) == 1
