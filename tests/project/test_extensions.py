"""A setup, an architecture and a data set of one's own, one entry each, outside the package."""

import pytest

from inpaint_lib import models, setups
from inpaint_lib.data import sources
from inpaint_lib.evaluation import evaluate
from inpaint_lib.results import collect, figures, report, tables
from inpaint_lib.study import grid
from inpaint_lib.training import identity, loop
from tests.conftest import snapshot

BEFORE = """\
extends: smoke
grid: {datasets: [faces], architectures: [custom], setups: [fixed]}
data: {train_images: 24, test_images: 8}
curriculum: {mask_widths: [8, 16], total_images: 64, batch_size: 4}
training: {perceptual_width: 4, log_every: 8, probe_batches: 4}
machine: {device: cpu}
"""
SETUPS = "fixed", "shrinking"
PAIRS = "faces/narrow", "stripes/custom"
WITHOUT = [f"{pair}/{setup}/seed0" for pair in PAIRS for setup in SETUPS]
AFTER = (
    BEFORE.replace("[faces]", "[faces, stripes]")
    .replace("[custom]", "[custom, narrow]")
    .replace("setups: [fixed]", f"setups: [fixed, shrinking], without: {WITHOUT}")
    + """\
extensions: [own.py]
models:
  narrow:
    widths: {generator_width: 8, discriminator_width: 8, scales: 1}
    mask_family: square
    lr_g: 1.0e-3
    lr_d: 1.0e-3
    betas: [0.5, 0.999]
    loss_weights: {adversarial: 0.1, l1_valid: 1, l1_hole: 2, perceptual: 0.05}
    loss_options: {l1_normalisation: region}
"""
)
OWN = """\
from dataclasses import replace

import numpy as np

from inpaint_lib.data.sources import DATASETS, Dataset, Plan
from inpaint_lib.models import ARCHITECTURES
from inpaint_lib.setups import SETUPS, Setup, fixed


def shrinking(schedule, step):
    phase = fixed(schedule, step)
    return replace(phase, mask_width=schedule.mask_widths[::-1][phase.stage])


def plan(config):
    n, test = config.data.train_images, config.data.test_images
    return Plan(list(range(n)), list(range(n, n + test)))


def stripes(items, size, seed):
    for k in items:
        row = (np.arange(size) * (k + 3) % 251).astype(np.uint8)
        yield np.broadcast_to(row[:, None, None], (size, size, 3))


SETUPS["shrinking"] = Setup(shrinking, "The hole shrinks.", "#112233", "*", control=True)
ARCHITECTURES["narrow"] = replace(ARCHITECTURES["custom"], about="A narrow custom.")
DATASETS["stripes"] = Dataset("stripes", plan, stripes)
"""


@pytest.fixture
def registries():
    """What the extension registers is forgotten after the test."""
    kept = [(r, dict(r)) for r in (setups.SETUPS, models.ARCHITECTURES, sources.DATASETS)]
    yield
    for registry, entries in kept:
        registry.clear()
        registry.update(entries)


@pytest.mark.slow
def test_entries_of_ones_own_train_beside_finished_runs(tmp_path, output, registries):
    profile = tmp_path / "mine.yaml"
    profile.write_text(BEFORE)
    before = grid.open_study(profile)
    for run in before.runs():
        loop.fit(run, after_stage=evaluate.evaluate)
    evaluate.measure_baselines(before, "faces")
    old = {run.folder: snapshot(run.folder) for run in before.runs()}

    (tmp_path / "own.py").write_text(OWN)
    profile.write_text(AFTER)
    study = grid.open_study(profile)
    assert len(study.runs()) == 2 * 2 * 2 - 4 and identity.find_changed(study) == {}
    for run in study.runs():
        assert loop.fit(run, after_stage=evaluate.evaluate)["outcome"] == "finished"
        evaluate.complete(run)
    for dataset in study.config.grid.datasets:
        evaluate.measure_baselines(study, dataset)
    assert {folder: snapshot(folder) for folder in old} == old

    results = collect.collect(study)
    tables.write(results, study.report / "tables")
    drawn = figures.draw(results)
    report.save_figures(study.report / "figures", drawn, pdf=False)
    report.build(results, study.report)
    page = (study.report / "index.html").read_text(encoding="utf-8")
    table = (study.report / "tables" / "table.csv").read_text()
    for name in ("stripes", "narrow", "shrinking"):
        assert name in page and name in table
    assert "grid_stripes_narrow" in drawn and "grid_faces_custom" in drawn
