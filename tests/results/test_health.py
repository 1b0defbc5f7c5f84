"""Planted histories: each rule finds what it is for, and nothing in a healthy run."""

import numpy as np
import pandas as pd
import pytest

from inpaint_lib.results import frames, health, standing
from inpaint_lib.setups import SETUPS, Schedule
from tests.results import synthetic

SCHEDULE = Schedule(steps=160, mask_widths=(4, 8, 12, 16))  # stages of 40 steps


def planted(stages=(1, 2, 3, 4), seed=0, **columns):
    """A healthy noisy history, ten log points a stage, but for `columns`: {name: value or {stage:
    value or ten values}}."""
    rng, parts = np.random.default_rng(seed), []
    for stage in stages:
        noise = rng.normal(1, 0.1, (4, 10))
        part = pd.DataFrame({"step": (stage - 1) * 40 + np.arange(4, 41, 4), "stage": stage})
        part = part.assign(adversarial_weight=1.0, d_accuracy=(0.75 * noise[0]).clip(0.5, 1))
        part = part.assign(adversarial_share=0.3 * noise[1], total_g=noise[2], grad_norm_g=noise[3])
        for name, value in columns.items():
            value = value.get(stage) if isinstance(value, dict) else value
            part[name] = part[name] if value is None else value
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def found(history, setup="fixed", **more):
    """Return {(rule, stage): level} of what a run's findings complain about."""
    table = health.examine_run(history, setup, SCHEDULE, **more)
    rows = table[table.level.isin(["bad", "warn"])]
    assert (rows.sentence != "").all() and (rows.evidence != "").all() and (rows.advice != "").all()
    return {(row.rule, row.stage): row.level for row in rows.itertuples()}


def errors(table):
    """Return errors of {stage: {width: l1}}."""
    rows = [[stage, width, l1] for stage, of in table.items() for width, l1 in of.items()]
    return pd.DataFrame(rows, columns=["stage", "mask_width", "l1"])


BESIDE = {"hole_l2": 0.02, "best_baseline": "Telea", "best_baseline_l2": 0.03}


@pytest.mark.parametrize("seed", range(20))
def test_random_noise_around_a_healthy_run_stays_healthy(seed):
    steady = {stage: {w: 0.1 * 0.99**stage for w in (4, 8, 12, 16)} for stage in (1, 2, 3, 4)}
    beside = BESIDE | {"beats_trivial": True, "beats_all": True}
    assert found(planted(seed=seed), "progressive", errors=errors(steady), beside=beside) == {}


@pytest.mark.parametrize(
    ("rule", "columns", "level"),
    [
        ("idle", {"d_accuracy": {4: 0.52}}, "bad"),
        ("wins", {"d_accuracy": {4: 0.97}}, "bad"),
        ("starved", {"adversarial_share": {4: 0.001}}, "bad"),
        ("small_share", {"adversarial_share": {4: 0.02}}, "warn"),
        ("diverging", {"total_g": {4: np.geomspace(1, 4, 10)}}, "bad"),
        ("diverging", {"grad_norm_g": {4: np.geomspace(1, 9, 10)}}, "bad"),
    ],
)
def test_each_rule_finds_what_is_planted_in_its_stage_alone(rule, columns, level):
    assert found(planted(**columns)) == {(rule, 4): level}


def test_what_a_later_stage_ended_only_warns():
    history = planted(d_accuracy={1: 0.51, 2: 0.53})
    assert found(history) == {("idle", 2): "warn", ("idle", 1): "warn"}
    table = health.examine_run(history, "fixed", SCHEDULE)
    assert health.summarise(table) == ("warn", "D is idle (stage 1, 2)")
    assert len(health.list_faults(table)) == 1 and health.list_faults(table).stage.tolist() == [2]
    assert found(history[history.stage <= 2]) == {("idle", 2): "bad", ("idle", 1): "warn"}


def test_limits_are_those_of_an_active_game():
    low, high = standing.ACCURACY
    for accuracy in (low, high):
        assert found(planted(d_accuracy=accuracy, adversarial_share=standing.SHARE)) == {}


def test_stages_without_training_or_adversarial_loss_are_not_judged():
    share, weight = {1: 0.0}, {1: 0.0}
    history = planted(adversarial_share=share, adversarial_weight=weight, d_accuracy={1: 1.0})
    assert found(history, "recon_first") == {}
    table = health.examine_run(planted(stages=[4]), "last_only", SCHEDULE)
    first = table[(table.stage == 1) & (table.rule != "forgetting")]
    assert set(first.level) == {"none"} and set(first.sentence) == {
        "Nothing is trained in this stage."
    }


def test_a_stage_in_the_making_waits_for_some_log_points():
    history = planted(d_accuracy=0.5)
    early = health.examine_run(history[:3], "fixed", SCHEDULE).set_index(["rule", "stage"])
    assert early.level["idle", 1] == "none" and "Too early" in early.sentence["idle", 1]
    assert early.sentence["idle", 2] == "Not reached yet."
    assert found(history[:4]) == {("idle", 1): "bad"}
    assert health.summarise(early.reset_index())[0] == "none"
    assert set(health.examine_run(history[:0], "fixed", SCHEDULE).level) == {"none"}


def test_a_width_that_gets_worse_after_its_stage_is_forgotten():
    table = {1: {4: 0.10, 8: 0.3}, 2: {4: 0.105, 8: 0.10}, 3: {4: 0.12, 8: 0.1}}
    forgotten = {("forgetting", 3): "warn"}
    assert found(planted(), "progressive", errors=errors(table)) == forgotten
    rows = health.list_faults(health.examine_run(planted(), "progressive", SCHEDULE, errors(table)))
    assert "4 px" in rows.evidence.iloc[0] and "+20%" in rows.evidence.iloc[0]
    for setup in ("fixed", "mixed", "replay"):  # nothing is left behind
        assert found(planted(), setup, errors=errors(table)) == {}
    assert found(planted(), "unheard of", errors=errors(table)) == {}


def test_the_stage_that_teaches_a_width_is_the_last_that_trains_it():
    taught = {name: health.find_last_taught(name, SCHEDULE) for name in SETUPS}
    assert taught["progressive"] == {4: 1, 8: 2, 12: 3, 16: 4}
    assert taught["reversed"] == {12: 1, 8: 2, 4: 3, 16: 4}
    assert taught["fixed"] == taught["last_only"] == {16: 4}
    assert taught["mixed"] == dict.fromkeys((4, 8, 12, 16), 4)
    assert taught["long_last"] == {4: 1, 8: 2, 12: 2, 16: 4}


def test_losing_to_trivial_baselines_is_bad_and_to_classical_ones_a_warning():
    for beats, level in (((False, False), "bad"), ((True, False), "warn")):
        beside = BESIDE | dict(zip(("beats_trivial", "beats_all"), beats, strict=True))
        assert found(planted(), beside=beside) == {("baselines", 4): level}


def test_a_run_that_diverged_says_so_where_it_ended():
    assert found(planted([1, 2]), lost=(80, "total_g became nan")) == {("diverging", 2): "bad"}


def test_the_findings_of_a_study_agree_with_its_standing():
    results = synthetic.study(setups=("fixed", "recon_first", "adv_ramp"), seeds=range(2))
    asked = "stage == 2 and setup == 'fixed' and seed == 0"
    results = synthetic.with_rows(results, "history", asked, d_accuracy=0.99)
    table = health.examine_runs(results)
    games = standing.judge_games(results)
    of_game = table[table.rule.isin(health.OF_GAME)]
    idle = of_game.level.isin(["bad", "warn"]).groupby([of_game[k] for k in [*frames.RUN, "stage"]])
    both = (
        games.set_index([*frames.RUN, "stage"]).active.to_frame().join(idle.any().rename("found"))
    )
    assert (both.active.eq(False) == both.found).all() and both.found.sum() == 6
    runs = standing.judge_runs(results).set_index(frames.RUN)
    fine = table[table.rule == "baselines"].set_index(frames.RUN).level == "ok"
    assert (runs.beats_all == fine[runs.index]).all() and fine.sum() == len(runs) - 1
    lost = table[(table.seed == 1) & (table.setup == "adv_ramp") & (table.dataset == "clutter")]
    lost = lost[lost.architecture == "free_form"]
    assert health.summarise(lost) == ("bad", "Diverging (stage 1)")
