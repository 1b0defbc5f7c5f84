"""Charts: what they are drawn from, and what is drawn."""

import re

import numpy as np
import pandas as pd
import pytest

from inpaint_lib import setups
from inpaint_lib.results import figures, frames, plots, stats
from tests.results import synthetic


def effects_of(n_seeds, names=("progressive", "mixed")):
    rows = [
        ("faces", "custom", name, seed, 0.01 * k + 0.002 * seed)
        for k, name in enumerate(names)
        for seed in range(n_seeds)
    ]
    return pd.DataFrame(rows, columns=[*frames.RUN, "effect"])


def test_setups_look_as_their_entries_say_and_unknown_ones_are_grey_circles():
    for name, entry in setups.SETUPS.items():
        assert plots.style(name) == {"color": entry.colour, "marker": entry.marker}
    assert plots.style("nobody's")["marker"] == "o"
    red, green, blue = bytes.fromhex(plots.style("nobody's")["color"][1:])
    assert red == green == blue
    assert frames.ordered(["nobody's", "adv_ramp", "fixed"]) == ["fixed", "adv_ramp", "nobody's"]


@pytest.mark.parametrize("n_seeds", [1, 2, 3])
def test_the_answer_marks_means_and_draws_the_interval_from_three_seeds_on(n_seeds):
    effects = effects_of(n_seeds)
    row = {"dataset": "faces", "architecture": "custom", "ci_low": -0.007, "ci_high": 0.008}
    verdicts = pd.DataFrame([row | {"margin": 0.02, "n_seeds": n_seeds}])
    axis = plots.answer(effects, verdicts).axes[0]
    lines = [list(line.get_xdata()) for line in axis.lines]
    for name, part in effects.groupby("setup"):
        mean = [pytest.approx(100 * part.effect.mean())]
        assert mean in [line for line in lines if len(line) == 1], name
    interval = any(line == pytest.approx([-0.7, 0.8]) for line in lines if len(line) == 2)
    assert interval == (n_seeds >= 3) and axis.get_xlim()[1] > 2
    assert plots.answer(effects_of(1, ["nobody's"]), verdicts.iloc[:0]).axes


@pytest.mark.parametrize("n_seeds", [1, 2, 3])
def test_bands_are_t_intervals_and_need_three_seeds(n_seeds):
    values = pd.DataFrame(np.random.default_rng(1).normal(size=(4, n_seeds)), index=[1, 2, 3, 4])
    _, axis = plots.figure()
    plots._lines(axis, values, "fixed")
    assert len(axis.collections) == (n_seeds >= 3)
    assert len(axis.lines) == (3 if n_seeds == 2 else 1)
    np.testing.assert_allclose(axis.lines[-1].get_ydata(), values.mean(axis=1))
    if n_seeds >= 3:
        corners = axis.collections[0].get_paths()[0].vertices
        highest = corners[corners[:, 0] == 2][:, 1].max()
        assert highest == pytest.approx(stats.interval(values.loc[2])[1])


def test_pairs_are_drawn_by_seed_and_the_interval_against_seeds():
    results = synthetic.study(
        datasets=["faces"], architectures=["custom", "free_form"], seeds=range(3)
    )
    found = figures.seeds(results)
    axes = found["pairs"][0].axes
    assert len(axes) == 2 and [len(axis.lines) for axis in axes] == [3, 3]
    curve, dot, *_, margin = found["precision"][0].axes[0].lines
    deviation = stats.judge(results).deviation[0]
    assert (np.diff(curve.get_ydata()) < 0).all() and margin.get_ydata()[0] == pytest.approx(2)
    assert dot.get_ydata()[0] == pytest.approx(100 * stats.half_width(deviation, 3))


def test_every_figure_of_a_study_is_drawn_with_a_caption():
    drawn = figures.draw_all(synthetic.study(datasets=["faces"], seeds=range(2)))
    kinds = ("stages", "heat", "curves", "grid", "evolution")
    cells = [f"faces_{name}" for name in synthetic.LEVEL]
    expected = {f"{kind}_{cell}" for kind in kinds for cell in cells}
    assert set(drawn) == expected | {"answer", "pairs", "precision", "schedules", "masks_faces"}
    for figure, caption in drawn.values():
        assert figure.axes and len(caption) > 40 and not re.search("[{}]", caption)


def test_panels_show_the_values_of_the_training_family():
    results = synthetic.study(datasets=["faces"], architectures=["custom"], seeds=[0])
    figure, _ = figures.stages(results)["stages_faces_custom"]
    axis = figure.axes[len(results.widths) - 1]  # L1, largest hole
    drawn = {line.get_label(): line.get_ydata() for line in axis.lines}
    own = results.values.query("region == 'hole' and metric == 'l1'")
    own = own[own.mask_width == results.widths[-1]]
    own = own[own.mask_family == results.family("custom")]
    assert set(drawn) == set(results.runs.setup)
    for name, part in own.groupby("setup"):
        np.testing.assert_allclose(drawn[name], part.sort_values("stage").value)


def test_a_setup_unknown_here_is_drawn_from_saved_results():
    names = ["fixed", "mine"]
    results = synthetic.unknown("mine", datasets=["faces"], seeds=range(2))
    found = figures.answer(results) | figures.schedules(results) | figures.curves(results)
    labels = {name: figure.legends[0].get_texts() for name, (figure, _) in found.items()}
    shown = {name: [text.get_text() for text in texts] for name, texts in labels.items()}
    assert shown["answer"] == ["mine"] and shown["schedules"] == ["fixed"]
    assert shown["curves_faces_custom"] == names
