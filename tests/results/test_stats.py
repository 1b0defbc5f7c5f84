"""Words, gates and estimates on synthetic studies whose answer is known."""

import dataclasses
import itertools
import re

import numpy as np
import pytest
import yaml
from scipy import stats as scipy_stats

from inpaint_lib import masks, models, setups
from inpaint_lib.evaluation import measures
from inpaint_lib.results import findings, hypotheses, resampling, select, standing, stats
from inpaint_lib.study import config, files
from tests.results import synthetic

TWO = {"setups": ["fixed", "progressive"], "diverged": ()}
CELL = TWO | {"datasets": ["faces"], "architectures": ["custom"], "seeds": range(5)}
RUN = "faces/custom/{}/seed{}".format


@pytest.fixture
def registered(monkeypatch):
    """Give the settings of the tests' studies five registered seeds."""
    monkeypatch.setattr(hypotheses, "find_registration", lambda *_: (5, False))


def questions(results):
    return stats.get_questions(stats.judge(results)).set_index("question")


# --- words


@pytest.mark.parametrize(
    ("effect", "noise", "expected"),
    [(0.9, 0.002, "supported"), (0.98, 0.002, "no harm"), (1.0, 0.001, "equivalent")]
    + [(1.02, 0.002, "no benefit"), (1.1, 0.002, "worse"), (1.0, 0.05, "inconclusive")],
)
def test_a_planted_effect_gets_its_word(registered, effect, noise, expected):
    three = {"setups": ["fixed", "progressive", "mixed"]}
    results = synthetic.study(**CELL | three, noise=noise, effect={"progressive": effect})
    found = questions(results)
    assert list(stats.judge(results)) == stats.COLUMNS
    assert found.word.to_dict() == dict.fromkeys(["Q1", "Q2", "Q3"], expected)
    assert set(found.badges) == {"exploratory"} and set(found.registered_seeds) == {5}
    assert list(found.width) == ["largest", "all", "all"] and set(found.level) == {1 - 0.05 / 18}


def test_a_word_rests_on_the_registered_seeds_alone(registered):
    results = synthetic.study(**CELL | {"seeds": range(5)}, noise=0.01)
    more = synthetic.study(**CELL | {"seeds": range(9)}, noise=0.01)
    found, wanted = questions(more), questions(results)
    assert (found.effect == wanted.effect).all() and (found.word == wanted.word).all()
    assert found.remark["Q1"] == "seed 5, 6, 7, 8: left out, not registered"


def test_intervals_of_more_comparisons_than_registered_are_wider(registered):
    three = {"setups": ["fixed", "progressive", "mixed"], "datasets": ["faces", "clutter", "coco"]}
    results = synthetic.study(**three, seeds=[0], diverged=())
    assert set(questions(results).level) == {1 - 0.05 / 27}


def test_every_interval_is_called_by_exactly_one_word_whose_claim_it_carries():
    claims = {
        "supported": lambda low, high: high < -1,
        "no harm": lambda low, high: low < -1 <= high <= 1,
        "equivalent": lambda low, high: -1 <= low and high <= 1,
        "no benefit": lambda low, high: -1 <= low <= 1 < high,
        "worse": lambda low, high: low > 1,
        "inconclusive": lambda low, high: low < -1 and high > 1,
    }
    for low, high in itertools.combinations_with_replacement(np.arange(-2, 2.5, 0.5), 2):
        held = [name for name, claim in claims.items() if claim(low, high)]
        assert held == [stats.choose_word(low, high, 1.0)]


def test_an_interval_is_that_of_a_paired_t_test_at_the_level_of_eighteen(registered):
    results = synthetic.study(**CELL, noise=0.02)
    row = questions(results).loc["Q2"]
    values = results.values.query("stage == 3 and region == 'hole' and metric == 'l1'")
    values = values.query("mask_family == 'square' and mask_width > 0")
    logs = {
        setup: np.log([scipy_stats.gmean(of.value) for _, of in part.groupby("seed")])
        for setup, part in values.groupby("setup")
    }
    test = scipy_stats.ttest_rel(logs["progressive"], logs["fixed"])
    expected = np.expm1(test.confidence_interval(1 - 0.05 / 18))
    assert [row.ci_low, row.ci_high] == pytest.approx(list(expected))
    d = logs["progressive"] - logs["fixed"]
    assert (row.effect, row.deviation) == pytest.approx((np.expm1(d.mean()), d.std(ddof=1)))


def test_few_seeds_come_before_divergence_before_the_baselines_before_the_interval(registered):
    def found(seeds, lost, level):
        names = [RUN("fixed", k) for k in range(lost)]
        study = CELL | {"seeds": range(seeds), "diverged": names}
        return questions(synthetic.study(**study, level={"custom": level})).loc["Q1"]

    bad, good = 0.5, 0.1  # hole L1, of which the first does not beat the baselines
    assert [found(2, lost, bad).word for lost in (0, 1)] == ["", ""]
    row = found(5, 1, bad)
    assert (row.word, row.n_seeds) == ("diverged", 4)
    assert row.remark.startswith("1 of 5 fixed and 0 of 5 progressive runs diverged")
    assert row.effect == pytest.approx(-0.2, abs=0.05)  # over complete pairs
    assert found(5, 3, good).word == "diverged"  # not "": five seeds were trained
    assert found(5, 0, bad).word == "not testable"
    assert found(5, 0, good).word == "supported"


def test_fewer_seeds_than_registered_are_provisional_and_a_divergence_does_not_make_them_so(
    registered,
):
    for seeds, lost, badges in [(3, 0, "exploratory, provisional"), (5, 1, "exploratory")]:
        names = [RUN("fixed", k) for k in range(lost)]
        study = CELL | {"seeds": range(seeds), "diverged": names}
        assert questions(synthetic.study(**study)).badges["Q1"] == badges


def test_words_exist_with_the_settings_of_a_registered_profile_alone(tmp_path):
    results, plan = synthetic.study(**CELL), hypotheses.read_plan()
    assert set(questions(results).word) == {""} and set(questions(results).level) == {0.95}

    def registration(profile, overrides=None, dataset="faces", named=None):
        made = config.to_dict(config.load(profile, overrides))
        about = results.about | {"config": made} | (named or {})
        of = dataclasses.replace(results, about=about)
        return hypotheses.find_registration(plan, of, dataset, "custom")

    assert registration("small") == registration("small", dataset="folder") == (10, False)
    assert registration("paper", dataset="celeba") == (5, True)
    assert registration("paper", dataset="folder") == (5, False)
    path = tmp_path / "vgg16.pth"
    path.touch()
    given = {"training.perceptual_weights": str(path)}
    for content, expected in (("torchvision", (5, False)), ("ab" * 32, (0, False))):
        named = {"perceptual_weights": content}
        assert registration("paper", given, named=named) == expected
    for profile in ("tiny", "medium", "smoke"):
        assert registration(profile) == (0, False)
    for key, value in {
        "curriculum.total_images": 40960,
        "models.custom.loss_weights.adversarial": 1.0,
        "models.custom.lr_g": 1e-3,
        "data.test_images": 64,
        "training.log_every": 20,
    }.items():
        assert registration("small", {key: value}) == (0, False), key
    other_model = {"models.free_form.lr_g": 1e-3, "evaluation.recorded_images": 2}
    assert registration("small", other_model) == (10, False)


# --- pairs


@pytest.mark.parametrize("value", [0.0, -0.1])
def test_a_pair_without_a_logarithm_is_left_out_and_named(value):
    rows = "setup == 'fixed' and seed == 3 and metric == 'l1'"
    found = questions(synthetic.with_rows(synthetic.study(**CELL), "values", rows, value=value))
    assert set(found.n_seeds) == {4}  # in the largest hole, and over all widths
    assert set(found.remark) == {"seed 3: left out, no logarithm (a value of 0 or below)"}


@pytest.mark.parametrize(
    ("column", "value", "left", "remark"),
    [("precision", "bfloat16", 4, "seed 2: left out, precision bfloat16 / float32")]
    + [("device_kind", "cuda", 4, "seed 2: left out, device_kind cpu / cuda")]
    + [("protocol", 1, 4, "seed 2: left out, protocol 1 / 3")]
    + [("torch", "3", 5, "seed 2: torch 2.9 / 3"), ("device", "x", 5, "seed 2: device cpu / x")],
)
def test_runs_of_another_protocol_precision_or_kind_of_device_are_no_pair(
    column, value, left, remark
):
    rows = "setup == 'fixed' and seed == 2"
    found = questions(synthetic.with_rows(synthetic.study(**CELL), "runs", rows, **{column: value}))
    assert (found.n_seeds["Q1"], found.remark["Q1"]) == (left, remark)


def test_pairs_side_by_side_are_those_that_are_judged(registered):
    """In the figures, in the table of a notebook and in claims of surprised.md."""
    other = "setup == 'progressive' and seed == 2"
    results = synthetic.study(**CELL | {"seeds": range(7)})
    results = synthetic.with_rows(results, "runs", other, device_kind="cuda")
    row, effects = questions(results).loc["Q1"], stats.compute_effects(results)
    assert row.n_seeds == 4 and sorted(effects.seed) == [0, 1, 3, 4]
    assert np.expm1(np.log1p(effects.effect).mean()) == pytest.approx(row.effect)
    asked = "progressive", "fixed", "faces", "custom", "largest"
    assert findings.Claims(results).effect(*asked)[0] == pytest.approx(row.effect)


# --- gates


def test_seeds_that_are_not_registered_decide_no_gate(registered):
    results = synthetic.study(**CELL | {"seeds": range(9)})
    worse = synthetic.with_errors(results, "seed >= 5", "l2", lambda _: 9.0)
    assert questions(worse).word.to_dict() == {"Q1": "supported", "Q2": "supported"}
    alone = synthetic.study(**CELL | {"seeds": [7, 8]})
    assert questions(alone).n_seeds.to_dict() == {"Q1": 0, "Q2": 0}


def test_the_better_side_has_to_beat_the_trivial_baselines_at_the_widths_in_question(registered):
    results = synthetic.study(**CELL)  # progressive is better
    largest, smallest = (f"mask_width == {results.widths[k]}" for k in (-1, 0))

    def words(rows):
        of = synthetic.with_errors(results, rows, "l2", lambda _: 9.0)
        return questions(of).word.to_dict(), standing.judge_gates(of).set_index(["setup", "width"])

    assert words("setup == 'fixed'")[0] == {"Q1": "supported", "Q2": "supported"}
    found, _ = words(f"setup == 'progressive' and {largest}")
    assert found == {"Q1": "not testable", "Q2": "not testable"}
    found, gates = words(f"setup == 'progressive' and {smallest}")
    assert found == {"Q1": "supported", "Q2": "not testable"}
    beaten = {"smallest": False, "12": True, "largest": True, "all": False}
    assert gates.beats_trivial["progressive"].to_dict() == beaten
    twenty = synthetic.with_errors(results, smallest, "l2", lambda l2: 20 * l2)
    gates = standing.judge_gates(twenty).set_index(["setup", "width"])  # one width may fail for all
    assert gates.beats_trivial["progressive"].to_dict() == beaten | {"all": True}


def test_a_comparison_at_a_width_is_gated_by_that_width():
    results = synthetic.study(**CELL)
    rows = f"setup == 'progressive' and mask_width == {results.widths[0]}"
    found = stats.judge(synthetic.with_errors(results, rows, "l2", lambda _: 9.0))
    found = found[found.question.eq("") & found.metric.eq("l1") & found.region.eq("hole")]
    expected = {"smallest": "trivial baselines not beaten by progressive", "12": ""}
    assert found.set_index("width").remark.to_dict() == expected


def test_both_sides_have_to_beat_the_baselines_where_they_are_equal(registered):
    results = synthetic.study(**CELL, effect={}, noise=0.0)
    worse = synthetic.with_errors(results, "setup == 'fixed'", "l2", lambda _: 9.0)
    assert questions(results).word["Q1"] == "equivalent"
    assert questions(worse).word["Q1"] == "not testable"
    assert questions(worse).remark["Q1"] == "trivial baselines not beaten by fixed"


@pytest.mark.parametrize("baseline", standing.TRIVIAL)
def test_a_gate_is_the_upper_end_of_the_ratio_to_each_trivial_baseline(baseline):
    results = synthetic.study(**CELL | {"datasets": ["clutter"]})
    gates = standing.judge_gates(results).set_index(["setup", "width"])
    own = results.per_image.query("setup == 'fixed' and metric == 'l2'")
    own = own.groupby("mask_width").mean().to_numpy().T
    other = results.baseline_images.query(f"mask_family == 'square' and baseline == '{baseline}'")
    other = other.pivot(index="image", columns="mask_width", values="l2").to_numpy()
    rng, drawn = np.random.default_rng(1), []
    for _ in range(2000):
        images = rng.integers(len(own), size=len(own))
        ratios = own[images].mean(0) / other[images].mean(0)
        drawn.append([*ratios, scipy_stats.gmean(ratios)])
    expected = np.percentile(drawn, 97.5, axis=0) - 1
    found = gates.loc["fixed"].loc[["smallest", "12", "largest", "all"], baseline]
    assert found.to_numpy() == pytest.approx(expected, abs=0.01)
    easy = synthetic.with_rows(results, "baseline_images", f"baseline == '{baseline}'", l2=1e-6)
    assert not standing.judge_gates(easy).beats_trivial.any()


def test_a_run_is_compared_with_a_slow_baseline_on_the_images_that_one_was_measured_on():
    """The network is worse on the first four images alone, or better there alone."""
    results = synthetic.study(**CELL | {"seeds": [0]})
    for first, rest, beats_all in ((0.06, 0.001, False), (0.001, 0.04, True)):
        table = results.per_image.copy()
        table[:] = np.where(table.columns < 4, first, rest).astype("float32")
        found = standing.judge_runs(dataclasses.replace(results, per_image=table))
        assert found.beats_trivial.all() and (found.beats_all == beats_all).all()


def test_a_run_that_does_not_beat_the_trivial_baselines_is_counted():
    results = synthetic.study(**CELL)
    rows = f"setup == 'fixed' and seed == 3 and mask_width == {results.widths[-1]}"
    runs = standing.judge_runs(synthetic.with_errors(results, rows, "l2", lambda _: 9.0))
    assert runs[~runs.beats_trivial].seed.tolist() == [3]
    assert (
        "in 9 of 10 runs on faces, and below that of all baselines in"
        in standing.summarise(runs)[0]
    )
    own = results.per_image.loc["faces", "custom", "fixed", 0, "l2", 16]
    ratios, means = {}, {}
    of_cell = results.baseline_images.query("mask_family == 'square' and mask_width == 16")
    for name, part in of_cell.groupby("baseline"):
        means[name] = part.l2.mean()
        ratios[name] = means[name] / own[: len(part)].mean()
    best = min(ratios, key=ratios.get)
    row = runs.set_index(["setup", "seed"]).loc[("fixed", 0)]
    assert (row.best_baseline, row.best_baseline_l2) == (best, pytest.approx(means[best]))


@pytest.mark.parametrize("baseline", standing.TRIVIAL)
def test_hole_l1_is_compared_with_both_trivial_baselines(baseline):
    results = synthetic.study(**CELL)
    assert standing.judge_runs(results).below_trivial_l1.all()
    table = results.baseline_images.copy()
    rows = (table.baseline == baseline) & (table.mask_width == results.widths[-1])
    errors = select.get_image_errors(results, "l1", mask_width=results.widths[-1]).mean(axis=1)
    table.loc[rows, "l1"] = errors.median()
    runs = standing.judge_runs(dataclasses.replace(results, baseline_images=table))
    lower = runs.set_index(["setup", "seed"]).below_trivial_l1
    assert lower[lower].index.tolist() == [
        of[2:] for of in errors.index if errors[of] < errors.median()
    ]
    assert f"baselines in {lower.sum()} of 10 runs on faces." in standing.summarise(runs)[1]


# --- the adversarial game


@pytest.mark.parametrize(
    ("column", "value", "active"),
    [("d_accuracy", 0.56, True), ("d_accuracy", 0.94, True), ("d_accuracy", 0.54, False)]
    + [("d_accuracy", 0.96, False), ("adversarial_share", 0.06, True)]
    + [("adversarial_share", 0.04, False)],
)
def test_a_game_is_active_by_accuracy_and_share_of_its_own_stage(column, value, active):
    results = synthetic.study(**CELL)
    rows = "setup == 'fixed' and seed == 1 and stage == {}"
    for stage, in_last in ((1, True), (3, active)):
        of = synthetic.with_rows(results, "history", rows.format(stage), **{column: value})
        found = standing.judge_games(of).set_index(["setup", "seed", "stage"]).active
        assert found["fixed", 1, stage] is active and found.eq(True).sum() == 29 + active
        runs = standing.judge_runs(of).set_index(["setup", "seed"]).loc[("fixed", 1)]
        assert runs.game_active == in_last and runs.always_active == active
        assert runs.active_stages == ("3 of 3" if active else "2 of 3")


def test_a_game_is_judged_by_the_means_over_its_log_points():
    results, rows = synthetic.study(**CELL), "setup == 'fixed' and seed == 1 and stage == 3"
    steps = sorted(results.history.query(rows).step)
    for first, active in ((0.10, False), (0.45, True)):  # 0.7 at the others
        of = synthetic.with_rows(results, "history", rows, d_accuracy=0.7)
        of = synthetic.with_rows(of, "history", f"{rows} and step == {steps[0]}", d_accuracy=first)
        found = standing.judge_games(of).set_index(["setup", "seed", "stage"])
        assert found.active["fixed", 1, 3] is active
        mean = (first + 0.7 * (len(steps) - 1)) / len(steps)
        assert found.d_accuracy["fixed", 1, 3] == pytest.approx(mean)


def test_a_game_is_not_applicable_without_an_adversarial_loss_or_without_training():
    named = ["recon_first", "recon_only", "last_only"]
    results = synthetic.study(**CELL | {"setups": named, "seeds": [0]})
    found = standing.judge_games(results).groupby("setup").active.agg(list)
    assert found["recon_first"] == [None, True, True] and found["recon_only"] == [None] * 3
    assert found["last_only"] == [None, None, True]
    runs = standing.judge_runs(results).set_index("setup")
    expected = {"recon_first": "2 of 2", "recon_only": "not applicable", "last_only": "1 of 1"}
    assert runs.active_stages.to_dict() == expected
    assert "last stage of 2 of 2 runs" in standing.summarise(runs.reset_index())[2]


def test_stability_is_compared_only_where_both_games_are_active_in_the_last_stage():
    results = synthetic.study(**CELL)
    for stage, n_seeds in ((1, 5), (3, 0)):
        rows = f"setup == 'fixed' and seed == 0 and stage == {stage}"
        of = synthetic.with_rows(results, "history", rows, d_accuracy=0.99)
        found = stats.judge(of).set_index("metric").loc["stability"]
        assert found.n_seeds == n_seeds and ("1 of 10 runs" in found.remark) == (n_seeds == 0)
    for noise, few in ((0.01, False), (0.1, True)):
        found = stats.judge(synthetic.study(**CELL, noise=noise)).set_index("metric")
        assert ("too few seeds" in found.remark["stability"]) == few


# --- estimates


def test_estimates_have_95_percent_intervals_and_no_word(registered):
    found = stats.judge(synthetic.study(**CELL | {"setups": [*synthetic.MADE, "recon_only"]}))
    found = found[found.question == ""]
    assert set(found.level) == {0.95} and set(found.word) == {""} and found.margin.isna().all()
    assert set(found.registered_seeds) == {0} and not found.duplicated(stats.COLUMNS[4:9]).any()
    pairs = set(zip(found["first"], found.second, strict=True))
    assert ("progressive", "mixed") in pairs and ("recon_only", "fixed") in pairs
    measured = set(zip(found.region, found.metric, found.width, strict=True))
    assert {("hole", "l1", "12"), ("hole", "psnr", "largest"), ("visible", "l1", "largest")} <= (
        measured
    )
    assert ("whole_composite", "fid", "largest") not in measured  # it was not measured


def test_an_estimate_of_scale_difference_is_in_the_unit_of_its_metric():
    results = synthetic.study(**CELL)
    row = stats.judge(results).set_index("metric").loc["psnr"]
    values = select.get_trained(results).query("region == 'hole' and metric == 'psnr'")
    wide = values[values.mask_width == results.widths[-1]]
    wide = wide.pivot(index="seed", columns="setup", values="value")
    d = wide.progressive - wide.fixed
    ends = scipy_stats.ttest_1samp(d, 0).confidence_interval(0.95)
    assert row[["effect", "ci_low", "ci_high"]].tolist() == pytest.approx([d.mean(), *ends])


def test_a_setup_of_ones_own_is_estimated_against_fixed():
    found = stats.judge(synthetic.unknown("mine", seeds=range(3)))
    assert set(zip(found["first"], found.second, strict=True)) == {("mine", "fixed")}
    assert found.effect[found.metric == "l1"].to_numpy() == pytest.approx(-0.1, abs=0.05)


def test_the_value_over_all_widths_is_the_geometric_mean():
    results = synthetic.study(**CELL)
    found = select.average_widths(results).set_index(["setup", "seed"]).value
    rows = select.get_trained(results).query("region == 'hole' and metric == 'l1'")
    for run, part in rows.groupby(["setup", "seed"]):
        assert len(part) == 3 and found[run] == pytest.approx(scipy_stats.gmean(part.value))


def test_a_judgement_is_computed_once_and_its_copies_may_be_changed():
    results = synthetic.study(**CELL)
    table = stats.judge(results)
    table["word"] = "changed"
    assert "changed" not in set(stats.judge(results).word)


# --- over images


def test_means_over_images_drawn_anew_are_those_of_a_plain_loop():
    values, expected = np.random.default_rng(0).normal(size=(50, 3)), []
    draw = np.random.default_rng(0)
    for _ in range(resampling.RESAMPLES):
        expected.append(values[draw.integers(50, size=50)].mean(0))
    assert resampling.resample_means(values) == pytest.approx(np.array(expected))


# --- what is registered


def test_the_registered_file_agrees_with_what_there_is():
    plan = hypotheses.read_plan()
    grid = config.load("small").grid
    n_cells = len(models.ARCHITECTURES) * len(grid.datasets)
    assert plan.primaries == len(plan.questions) * n_cells == 18
    assert plan.level() == 1 - 0.05 / 18 and plan.seeds == {"small": 10, "paper": 5}
    assert {of.width for of in plan.questions.values()} <= {"largest", "all"}
    known = {(of.region.split(", ")[0], of.metric) for of in plan.measures}
    assert known <= set(measures.MEASURES)
    families = {of.region.split(", ")[1] for of in plan.measures if ", " in of.region}
    assert families == set(masks.FAMILIES)
    named = set(itertools.chain(*plan.pairs))
    assert named == set(setups.SETUPS) >= set(grid.setups)
    for setup, entry in setups.SETUPS.items():
        against = ("fixed", setup) in plan.pairs, (setup, "fixed") in plan.pairs
        assert any(against) or ("progressive", setup) in plan.pairs or not entry.control
    for profile, n in plan.seeds.items():
        made = config.load(profile).grid
        asked = {setup for of in plan.questions.values() for setup in of.setups}
        assert len(made.seeds) == n and not asked & set(made.fewer_seeds)
        assert set(made.architectures) == set(models.ARCHITECTURES) and len(made.datasets) == 2


def test_the_protocols_page_says_what_is_registered_and_what_the_code_does():
    plan, page = hypotheses.read_plan(), (files.ROOT / "docs/protocol.md").read_text()
    flat = " ".join(page.split())
    for name, of in plan.questions.items():
        assert f"| {name} | {' against '.join(of.setups)} | {of.width}" in flat
    for text in (
        f"registered on {plan.registered}",
        f"{plan.primaries} intervals",
        f"1 - {plan.alpha:g}/{plan.primaries}",
        f"{plan.margin:.0%}".replace("%", " %"),
        f"{plan.seeds['small']} seeds in `small`, {plan.seeds['paper']} in `paper`",
        f"fewer than {stats.MIN_SEEDS} seeds",
        f"{standing.ACCURACY[0]} and {standing.ACCURACY[1]}",
        f"at least {standing.SHARE}",
    ):
        assert text in flat, text
    table = re.findall(r"^\| ([a-z ]+) \| .+ \|$", page, re.MULTILINE)
    assert set(stats.WORDS) <= set(table)
    assert all(of.name.split(" (")[0] in flat for of in plan.measures)


def test_a_wrong_entry_of_the_registered_file_is_named(tmp_path):
    stored, path = yaml.safe_load(hypotheses.PATH.read_text()), tmp_path / "h.yaml"
    wrong = {
        "margin": -1,
        "primaries": "many",
        "pairs": [["fixed", "x"]],
        "questions": {"Q1": {"name": "x", "setups": ["fixed", "mixed"], "width": "half"}},
        "measures": [stored["measures"][0] | {"scale": "log"}],
    }
    for key, value in wrong.items():
        path.write_text(yaml.safe_dump(stored | {key: value}))
        with pytest.raises(config.ConfigError, match=f"h.yaml: {key}"):
            hypotheses.read_plan(path)
    path.write_text("[")
    with pytest.raises(config.ConfigError, match=r"h.yaml is not valid YAML"):
        hypotheses.read_plan(path)
