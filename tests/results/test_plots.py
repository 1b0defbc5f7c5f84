"""Figures: what they are drawn from, and what is drawn."""

import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from inpaint_lib import losses, metrics, models
from inpaint_lib.data import packs
from inpaint_lib.lab import live
from inpaint_lib.results import collect, pictures, plots, report, stats
from inpaint_lib.study import grid
from inpaint_lib.training import artifacts, loop


def quiet(*_):
    pass


@pytest.fixture
def trained(micro):
    study = micro(setups=["fixed", "progressive"])
    collect.complete(study, quiet)
    return study


def test_an_outline_has_a_segment_wherever_hole_and_surroundings_touch():
    mask = np.random.default_rng(0).random((9, 7)) < 0.4
    padded = np.pad(mask, 1)
    perimeter = sum(int((padded != np.roll(padded, 1, axis)).sum()) for axis in (0, 1))
    segments = pictures.outline(mask)
    assert len(segments) == perimeter and len({s.tobytes() for s in segments}) == perimeter
    assert (np.abs(np.diff(segments, axis=1)).sum((1, 2)) == 1).all()
    assert pictures.outline(np.zeros((4, 4))).size == 0
    np.testing.assert_array_equal(pictures.outline([[1]]).reshape(-1, 2).max(0), [0.5, 0.5])


def test_pictures_are_of_the_best_the_median_and_the_worst_image(trained):
    tables_of = [pd.read_csv(r.folder / "per_image.csv.gz") for r in trained.runs()]
    width = trained.config.mask_widths[-1]
    rows = pd.concat(t[(t.stage == 2) & (t.mask_width == width) & (t.region == "hole")] for t in tables_of)
    order = rows.groupby("image").l1.mean().sort_values(kind="stable").index
    expected = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    assert collect.ranked(trained, "scenes", "custom") == expected


def test_a_filled_image_is_what_the_stages_network_makes_of_it(trained):
    run = trained.runs()[0]
    real, hole, image = pictures.filled(run, [5, 1], stage=1)
    pack = packs.existing(trained, "scenes")
    np.testing.assert_array_equal(real, pack.test[[5, 1]])
    masks = pack.test_masks(run.model.mask_family, trained.config.mask_widths[-1])
    generator = artifacts.load_generator(run, 1)
    for k, n in enumerate((5, 1)):
        output, truth, mask = next(metrics.inpaint(generator, pack.test[n : n + 1], masks[n : n + 1], "cpu", 1))
        np.testing.assert_allclose(image[k].astype(int), metrics.to_uint8(losses.composite(output, truth, mask))[0], atol=1)
    np.testing.assert_array_equal(image[hole == 0], real[hole == 0])


def test_effects_are_differences_from_fixed_of_the_same_seed(trained):
    results = collect.results(trained)
    l1 = collect.final(trained, results).query("region == 'hole' and metric == 'l1'").set_index("setup").value
    found = collect.effects(trained, results)
    assert found.effect.tolist() == pytest.approx([l1["progressive"] / l1["fixed"] - 1])
    assert list(found.setup) == ["progressive"]
    assert collect.effects(trained, results[results.setup != "fixed"]).empty


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_the_answer_marks_means_and_draws_the_verdicts_interval_from_three_seeds_on(seeds):
    setups = ["progressive", "mixed"]
    rows = [("faces", "custom", s, seed, 0.01 * k + 0.002 * seed) for k, s in enumerate(setups) for seed in range(seeds)]
    effects = pd.DataFrame(rows, columns=["dataset", "architecture", "setup", "seed", "effect"])
    verdict = {"dataset": "faces", "architecture": "custom", "ci_low": -0.007, "ci_high": 0.008, "n_seeds": seeds}
    axis = plots.answer(effects, pd.DataFrame([verdict])).axes[0]
    drawn = [list(line.get_xdata()) for line in axis.lines]
    for setup in setups:
        assert any(x == pytest.approx([100 * effects[effects.setup == setup].effect.mean()]) for x in drawn if len(x) == 1)
    drawn = [x == pytest.approx([-0.7, 0.8]) for x in drawn if len(x) == 2]
    assert any(drawn) == (seeds >= 3) and axis.get_xlim()[1] > 2
    assert plots.answer(effects[effects.setup == "mixed"], pd.DataFrame([verdict]).iloc[:0]).axes


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_bands_are_t_intervals_and_need_three_seeds(seeds):
    values = pd.DataFrame(np.random.default_rng(1).normal(size=(4, seeds)), index=[1, 2, 3, 4])
    _, axis = plots.figure()
    plots._lines(axis, values, "fixed")
    assert len(axis.collections) == (seeds >= 3) and len(axis.lines) == (3 if seeds == 2 else 1)
    np.testing.assert_allclose(axis.lines[-1].get_ydata(), values.mean(axis=1))
    if seeds >= 3:
        corners = axis.collections[0].get_paths()[0].vertices
        assert corners[corners[:, 0] == 2][:, 1].max() == pytest.approx(stats.interval(values.loc[2])[1])


def test_figures_are_saved_at_twice_their_size_and_as_vectors_with_sizes_for_the_page(trained):
    figure = pictures.grid({"a": np.zeros((2, 8, 8, 3), np.uint8)}, rows=["x", "y"], holes=np.eye(8)[None].repeat(2, 0))
    report.save_figures(trained, {"one": (figure, "What to see.")})
    folder = trained.report / "figures"
    entry = json.loads((folder / "captions.json").read_text())["one"]
    with Image.open(folder / "one.png") as image:
        assert np.allclose(image.size, (2 * entry["width"], 2 * entry["height"]), atol=2)
    assert (folder / "one.pdf").read_bytes().startswith(b"%PDF") and entry["caption"] == "What to see."


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_the_live_view_shows_progress_losses_and_samples_and_changes_no_training(micro, monkeypatch, architecture):
    study, shown = micro(architectures=[architecture]), []
    handle = type("Handle", (), {"update": lambda _, figure: shown.append(figure)})()
    monkeypatch.setattr(live, "display", lambda figure, **_: shown.append(figure) or handle)
    drawing, run = live.Live(), grid.Run(study, "scenes", architecture, "progressive", 0)

    def at_every_log_point(run, state, bar):
        drawing.next_drawing = 0.0
        drawing(run, state, bar)
        assert state.G.training and state.D.training

    loop.fit(run, at_every_log_point)
    watched = (run.folder / "stages.csv").read_bytes()
    assert "trained" in shown[-1].get_suptitle() and re.search(r"image", shown[0].get_suptitle())
    assert [len(axis.images) for axis in shown[-1].axes].count(1) == 1 and plt.get_fignums() == []
    for path in run.folder.rglob("*.*"):
        path.unlink()
    loop.fit(run, quiet)
    assert (run.folder / "stages.csv").read_bytes() == watched


def test_where_nobody_looks_on_a_short_run_draws_its_last_picture_alone(micro, monkeypatch):
    study, shown = micro(architectures=["context_encoder"]), []
    monkeypatch.setattr(live, "display", lambda figure, **_: shown.append(figure))
    monkeypatch.setenv("INPAINT_UNSEEN", "1")
    loop.fit(grid.Run(study, "scenes", "context_encoder", "fixed", 0), live.Live())
    assert [figure.get_suptitle().endswith("trained") for figure in shown] == [True]


def test_the_registered_pairs_are_drawn_by_seed_and_the_interval_against_seeds():
    rows = [("faces", a, s, seed, 0.1 + 0.01 * seed) for a in ("custom", "free_form") for s in ("fixed", "progressive", "mixed")
            for seed in range(3)]  # fmt: skip
    values = pd.DataFrame(rows, columns=["dataset", "architecture", "setup", "seed", "value"])
    fig = plots.pairs(values)
    assert len(fig.axes) == 2 and [len(axis.lines) for axis in fig.axes] == [3, 3]
    verdicts = pd.DataFrame({"dataset": "faces", "architecture": ["custom", "free_form"], "margin": 0.02, "n_seeds": 3,
                             "deviation": [0.01, np.nan]})  # fmt: skip
    axis = plots.precision(verdicts).axes[0]
    (curve, dot, margin) = axis.lines
    assert margin.get_ydata()[0] == pytest.approx(2) and (np.diff(curve.get_ydata()) < 0).all()
    assert dot.get_ydata()[0] == pytest.approx(100 * stats.interval([-0.01, 0, 0.01])[1])
