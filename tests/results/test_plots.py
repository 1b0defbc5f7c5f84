"""Charts: what they are drawn from, and what is drawn."""

import re

import numpy as np
import pandas as pd
import pytest

from inpaint_lib import setups
from inpaint_lib.results import figures, frames, plots, select, stats
from tests.results import synthetic

CELL = {"datasets": ["faces"], "architectures": ["custom"]}


def test_setups_look_as_their_entries_say_and_unknown_ones_are_grey_circles():
    for name, entry in setups.SETUPS.items():
        assert plots.get_style(name) == {"color": entry.colour, "marker": entry.marker}
    assert plots.get_style("nobody's")["marker"] == "o"
    red, green, blue = bytes.fromhex(plots.get_style("nobody's")["color"][1:])
    assert red == green == blue
    assert frames.order(["nobody's", "adv_ramp", "fixed"]) == ["fixed", "adv_ramp", "nobody's"]


@pytest.mark.parametrize("n_seeds", [1, 2, 3])
def test_the_answer_marks_means_and_draws_the_judged_interval_from_three_seeds_on(n_seeds):
    results = synthetic.study(**CELL, seeds=range(n_seeds), smaller={"mixed": 0.9})
    figure, _ = figures.draw(results, "answer")["answer"]
    asked = stats.get_questions(stats.judge(results))
    assert len(figure.axes) == len(asked) + 1 == 4
    for axis, row in zip(figure.axes, asked.itertuples(), strict=False):
        lines = [list(line.get_xdata()) for line in axis.lines]
        mean = next(line[0] for line in lines if len(line) == 1)
        assert mean == pytest.approx(100 * row.effect, abs=0.1)  # there, a mean of logarithms
        ends = pytest.approx([100 * row.ci_low, 100 * row.ci_high])
        assert any(line == ends for line in lines if len(line) == 2) == (n_seeds >= 3)
        title = " ".join(axis.get_title().split())
        assert title.startswith(f"{row.question}: {row.first} against {row.second}")
    against_fixed = stats.compute_effects(results).groupby("setup").effect.mean()
    drawn = [line.get_xdata()[0] for line in figure.axes[-1].lines if len(line.get_xdata()) == 1]
    assert all(np.isclose(drawn, 100 * mean).any() for mean in against_fixed)


def test_the_answer_draws_every_setup_in_the_row_of_its_cell():
    results = synthetic.study(["faces", "clutter"], ["custom", "free_form"], seeds=[0])
    axis = figures.draw(results, "answer")["answer"][0].axes[-1]
    heights = [line.get_ydata()[0] for line in axis.lines if len(line.get_xdata()) == 1]
    setups, cells = results.runs.setup.nunique() - 1, axis.get_yticks()
    assert len(cells) == 4 and len(heights) == 4 * setups
    for k, height in enumerate(sorted(heights, reverse=True)):
        assert abs(height - sorted(cells, reverse=True)[k // setups]) < 0.5


@pytest.mark.parametrize("n_seeds", [1, 2, 3])
def test_bands_are_t_intervals_and_need_three_seeds(n_seeds):
    values = pd.DataFrame(np.random.default_rng(1).normal(size=(4, n_seeds)), index=[1, 2, 3, 4])
    _, axis = plots.make_figure()
    plots._lines(axis, values, "fixed")
    assert len(axis.collections) == (n_seeds >= 3)
    assert len(axis.lines) == (3 if n_seeds == 2 else 1)
    np.testing.assert_allclose(axis.lines[-1].get_ydata(), values.mean(axis=1))
    if n_seeds >= 3:
        corners = axis.collections[0].get_paths()[0].vertices
        highest = corners[corners[:, 0] == 2][:, 1].max()
        assert highest == pytest.approx(stats.compute_interval(values.loc[2])[1])


def test_the_questions_setups_are_drawn_by_seed():
    results = synthetic.study(["faces"], ["custom", "free_form"], seeds=range(3))
    figure, _ = figures.draw(results, "pairs")["pairs"]
    assert len(figure.axes) == 2
    values = select.average_widths(results).query("architecture == 'custom' and setup == 'mixed'")
    drawn = [line.get_ydata() for line in figure.axes[0].lines if line.get_marker() == "v"]
    assert sorted(drawn[0]) == pytest.approx(sorted(values.value))
    ratios = [high / low for low, high in (axis.get_ylim() for axis in figure.axes)]
    assert ratios[0] == pytest.approx(ratios[1])
    assert figures.draw(synthetic.study(["faces"], seeds=[0]), "pairs") == {}


def test_every_figure_of_a_study_is_drawn_with_a_caption():
    setups = [*synthetic.MADE, "last_only"]  # evaluated in one stage
    drawn = figures.draw(synthetic.study(["faces"], ["custom", "free_form"], setups, range(2)))
    kinds = [kind for kind, (_, place) in figures.KINDS.items() if place == "cell"]
    expected = {f"{kind}_faces_{name}" for kind in kinds for name in ("custom", "free_form")}
    of_study = {"answer", "pairs", "decomposition_faces", "games", "forgetting", "schedules"}
    assert set(drawn) == expected | of_study | {"masks_faces"}
    for figure, caption in drawn.values():
        assert figure.axes and len(caption) > 40 and not re.search("[{}]", caption)
    titles = {axis.get_title() for axis in drawn["curves_faces_custom"][0].axes}
    assert {plots.TERM_LABELS[name] for name in ("adversarial_share", "gradient_cosine")} < titles


def test_panels_show_the_values_of_the_training_family():
    results = synthetic.study(**CELL, seeds=[0])
    figure, _ = figures.draw(results, "stages")["stages_faces_custom"]
    axis = figure.axes[len(results.widths) - 1]  # L1, largest hole
    drawn = {line.get_label(): line.get_ydata() for line in axis.lines}
    own = results.values.query("region == 'hole' and metric == 'l1'")
    own = own[own.mask_width == results.widths[-1]]
    own = own[own.mask_family == results.family("custom")]
    assert set(drawn) == set(results.runs.setup)
    few = results.per_image.xs(("l1", results.widths[-1]), level=["metric", "mask_width"])
    for name, part in own.groupby("setup"):
        *before, last = drawn[name]
        np.testing.assert_allclose(before, part.sort_values("stage").value[:-1])
        expected = few.xs(name, level="setup").loc[:, :7]  # the images of the stages before
        assert last == pytest.approx(expected.stack().mean(), rel=1e-6)


def test_a_setup_unknown_here_is_drawn_from_saved_results():
    names = ["fixed", "mine"]
    results = synthetic.unknown("mine", datasets=["faces"], seeds=range(2))
    found = figures.draw(results, "answer", "schedules", "curves")
    labels = {name: figure.legends[0].get_texts() for name, (figure, _) in found.items()}
    shown = {name: [text.get_text() for text in texts] for name, texts in labels.items()}
    assert shown["answer"] == ["mine"] and shown["schedules"] == ["fixed"]
    assert shown["curves_faces_custom"] == names
