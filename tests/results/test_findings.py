"""Sentences about estimates say what the frames hold; a claim of another direction is named."""

import numpy as np
import pytest

from inpaint_lib.results import figures, findings, published, select, stats
from tests.results import synthetic

SETUPS = ["fixed", "progressive", "mixed", "last_only", "long_last", "recon_only"]


@pytest.fixture(scope="module")
def results():
    return synthetic.study(["faces"], setups=SETUPS, seeds=range(3), smaller={"mixed": 0.5})


def test_estimates_are_told_with_their_range(results):
    told = dict(findings.describe_estimates(results))
    exposure, game = told.values()
    judged = stats.judge(results).query(
        "width == 'largest' and metric == 'l1' and region == 'hole'"
    )
    rows = judged[(judged["first"] == "progressive") & (judged.second == "last_only")]
    low, high = (f"{-100 * value:.1f} %" for value in (rows.effect.max(), rows.effect.min()))
    assert f"{low} to {high} lower than that of last_only (3 comparisons)" in exposure
    assert "one step in 3" in exposure
    assert "9 of 9 runs of fixed, 9 of 9 runs of progressive, 9 of 9 runs of mixed" in game
    few = synthetic.study(["faces"], ["custom"], ["recon_only"], seeds=[0])
    assert findings.describe_estimates(few) == []


def test_claims_are_filled_in_from_the_frames(results):
    of = '"faces", "custom"'
    text = f'{{{{ lower("progressive", "fixed", {of}, "all") }}}}, then '
    text += f'{{{{ error("mixed", {of}, 8, 1) }}}}; {{{{ active("fixed", {of}) }}}}; '
    text += '{{ beat("faces", "l1") }}\n'
    filled, wrong = findings.fill_surprises(results, text)
    wide = select.average_widths(results).query("architecture == 'custom'")
    wide = wide.pivot(index="seed", columns="setup", values="value")
    effect = np.exp(np.log(wide.progressive / wide.fixed).mean()) - 1
    rows = select.get_by_stage(results).query(
        "architecture == 'custom' and setup == 'mixed' and mask_width == 8 and stage == 1"
    )
    error = rows[rows.metric == "l1"].value.mean()
    assert filled == f"{-100 * effect:.1f} % lower, then {error:.3f}; 3 of 3; 54 of 54"
    assert wrong == []


def test_a_claim_may_name_another_measure(results):
    of = '"progressive", "fixed", "faces", "custom", "largest", "colour"'
    filled, wrong = findings.fill_surprises(results, f"{{{{ lower({of}) }}}}")
    judged = stats.judge(results).query("dataset == 'faces' and architecture == 'custom'")
    (effect,) = judged[judged.name == "progressive against fixed: colour"].effect
    assert filled == f"{-100 * effect:.1f} % lower" and wrong == []


def test_a_claim_whose_direction_is_another_is_told_and_the_true_one_is_shown(results):
    text = '{{ higher("progressive", "fixed", "faces", "custom", "largest") }}'
    filled, (wrong,) = findings.fill_surprises(results, text)
    assert filled.endswith("% lower") and wrong.endswith(f"width largest: is {filled}")


def test_an_error_that_goes_another_way_over_the_stages_is_told(results):
    of = ("progressive", "faces", "custom", 8)
    values = [float(findings.Claims(results).error(*of, stage)) for stage in (1, 3)]
    true, other = ("falls", "rises") if values[1] < values[0] else ("rises", "falls")
    filled, wrong = findings.fill_surprises(results, f"{{{{ {true}{of} }}}}")
    assert filled == f"{true} from {values[0]:.3f} to {values[1]:.3f}" and wrong == []
    assert findings.fill_surprises(results, f"{{{{ {other}{of} }}}}")[0] == filled
    assert len(findings.fill_surprises(results, f"{{{{ {other}{of} }}}}")[1]) == 1


WRONG = {
    '{{ lower("progressive", "fixed", "faces", "nobody", "all") }}': "faces, nobody has no",
    '{{ lower("replay", "fixed", "faces", "custom", "all") }}': "replay against fixed.*: no pair",
    '{{ lower("progressive", "fixed") }}': "missing 3 required",
    '{{ lower("progressive", "fixed", "faces", "custom", "all", "x") }}': "'x' is no measure",
    '{{ error("replay", "faces", "custom", 8, 3) }}': "width 8, stage 3: no error is published",
    '{{ active("recon_only", "faces", "custom") }}': "no run with a game is published",
    '{{ beat("faces", "psnr") }}': "'psnr'",
    "{{ nothing }}": "'nothing' is undefined",
    "{% if %}": "Expected an expression",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_text_that_names_what_there_is_not_is_one_error(results, text):
    with pytest.raises(ValueError, match=WRONG[text]):
        findings.fill_surprises(results, text)


def test_verify_names_a_claim_that_new_seeds_have_turned(tmp_path, monkeypatch):
    monkeypatch.setattr(published, "FOLDER", tmp_path)
    monkeypatch.setattr(figures, "draw", lambda *_: {})
    few = synthetic.study(["faces"], ["custom"], ["fixed", "progressive"], seeds=[0])
    published.publish(few, "mine")
    said = '{{ higher("progressive", "fixed", "faces", "custom", "all") }}'
    (tmp_path / "mine/surprised.md").write_text(said)
    published.rebuild(published.open_published("mine")[1], tmp_path / "mine")
    line, *others = reversed(sorted(published.verify("mine")))
    assert all(other.endswith(".png: missing") for other in others)
    assert line.startswith(
        "surprised.md: progressive against fixed, faces, custom, hole L1, width all: is "
    )


def test_the_decomposition_compares_controls_with_what_they_vary(results):
    figure, _ = figures.draw(results, "decomposition")["decomposition_faces"]
    assert len(figure.axes) == 6
    axis = next(a for a in figure.axes if a.get_title() == "custom, against progressive")
    drawn = {line.get_label(): line.get_ydata() for line in axis.lines}
    wide = select.average_widths(results).query("architecture == 'custom'")
    wide = wide.pivot(index="seed", columns="setup", values="value")
    logs = np.log(wide.mixed / wide.progressive)
    assert len(drawn["mixed"]) == len(results.widths)  # the mean over widths stands alone
    alone = [line.get_ydata()[0] for line in axis.lines if len(line.get_ydata()) == 1]
    assert any(value == pytest.approx(100 * np.expm1(logs.mean())) for value in alone)
    low, high = stats.compute_interval(logs)
    bars = [path.vertices[:, 1] for of in axis.collections for path in of.get_paths()]
    assert any(np.allclose(sorted(bar), 100 * np.expm1([low, high])) for bar in bars)
    papers = synthetic.study(["faces"], ["custom"], ["fixed", "progressive"], seeds=[0])
    assert figures.draw(papers, "decomposition") == {}


def test_games_are_counted_by_setup_and_stage(results):
    table = select.get_cell(figures.standing.judge_games(results), "faces", "custom")
    figure, _ = figures.draw(results, "games")["games"]
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts.count("3/3") == table[table.active.notna()].groupby(["setup", "stage"]).ngroups
    assert texts.count("") == 5  # recon_only, and what last_only does not train


@pytest.mark.parametrize(
    ("setup", "stages"), [("recon_only", []), ("recon_first", [1, 2]), ("last_only", [2])]
)
def test_games_are_drawn_in_their_stages_where_some_or_all_have_none(setup, stages):
    alone = synthetic.study(["faces"], ["custom"], [setup], seeds=[0])
    axis = figures.draw(alone, "games")["games"][0].axes[0]
    assert [t.get_position()[0] for t in axis.texts if t.get_text()] == stages
    assert axis.images[0].get_array().shape == (1, 3)
