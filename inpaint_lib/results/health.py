"""Check whether a training is healthy: rules over a run's history, with evidence and advice.

`examine_run` checks one run, finished or still training, `examine_runs` those of a study. Levels:
"ok", "warn", "bad" ("warn" in any but the newest stage), and "none" if a rule does not apply or has
too few log points. The limits of an active adversarial game are those of standing.py.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from .. import setups
from . import frames, select, standing
from .standing import ACCURACY, SHARE

# --- thresholds; observed numbers are those of 698 stages of finished runs at 32 px

STARVED = SHARE / 10  # ten times the adversarial weight would still leave the share below SHARE
# Medians of the last quarter of a stage over its first; observed: at most 1.1 and 1.4. D's loss and
# gradients are left out: they change by factors of ten and more while a healthy D learns.
GROWTH = {"total_g": 1.5, "grad_norm_g": 3.0}
FORGETS = 0.10  # rise of hole L1: a width that is still trained moves by up to 6 % between stages
LEAST = 4  # log points of an unfinished stage that a rule needs


class Rule(NamedTuple):
    """A rule's texts: without a finding (fine), with one (wrong), and what to try then (advice)."""

    title: str
    fine: str
    wrong: str
    advice: str


RULES = {
    "idle": Rule(
        "D is idle",
        "D can tell filled images from real ones.",
        "D hardly tells filled images from real ones, so it cannot say what to improve.",
        "Usual in a short first stage. If it stays: raise lr_d or train longer; where the share of "
        "the adversarial gradient is high, G outruns D: lower loss_weights.adversarial.",
    ),
    "wins": Rule(
        "D wins",
        "D errs often enough for G to have a chance.",
        "D is nearly always right: it recognises every fill.",
        "Lower lr_d or raise lr_g; or raise loss_weights.adversarial, so that D influences G more.",
    ),
    "starved": Rule(
        "G is starved",
        "An adversarial gradient reaches G.",
        "Almost no adversarial gradient reaches G: it trains on reconstruction alone.",
        "The weight alone does not help. See whether D is idle or wins, and change lr_d first.",
    ),
    "small_share": Rule(
        "Small adversarial share",
        "The adversarial loss is a noticeable part of G's gradient.",
        "The adversarial loss is too small a part of G's gradient to shape what G learns.",
        "Raise loss_weights.adversarial by the missing factor; a setup that lowers the weight in "
        "early stages does so on purpose.",
    ),
    "diverging": Rule(
        "Diverging",
        "G's loss and gradients do not grow within the stage.",
        "G's loss or its gradients grow while the task stays the same.",
        "Lower lr_g, then lr_d; if the adversarial share is high, lower loss_weights.adversarial.",
    ),
    "forgetting": Rule(
        "Forgets small holes",
        "Hole widths of earlier stages are filled as well as when they were taught.",
        "A hole width is filled worse than after the stage that taught it.",
        "Try setup replay, which shows smaller holes again, or mixed, which shows all throughout.",
    ),
    "baselines": Rule(
        "Not better than baselines",
        "The network fills the largest hole better than every baseline.",
        "A baseline, which needs no training, fills the largest hole as well or better.",
        "Train longer (curriculum.total_images) or raise lr_g; until then the run says nothing "
        "about its setup.",
    ),
}
OF_GAME = ("idle", "wins", "starved", "small_share")
COLUMNS = ["rule", "title", "stage", "level", "sentence", "evidence", "advice"]
LEVELS = ["bad", "warn", "ok", "none"]  # worst first


def examine_run(history, setup, schedule, errors=None, beside=None, lost=None):
    """Return the findings on one run: a row per rule and stage, COLUMNS.

    history: its log points so far (history.csv). schedule: a setups.Schedule. errors: hole L1 after
    the stages measured so far, on the same images (columns stage, mask_width, l1). beside: its row
    of standing.compare_with_baselines, once the last stage is measured. lost: (step, why), if it
    diverged.
    """
    rows, reached = [], history.stage.max() if len(history) else 0
    if lost:
        reached = schedule.stage(max(lost[0] - 1, 0)) + 1
    for stage in range(1, schedule.n_stages + 1):
        part = history[history.stage == stage]
        early = len(part) and part.step.iloc[-1] < stage * schedule.steps_per_stage
        if lost and stage == reached:
            rows += [(rule, stage, "none", "The run diverged in this stage.") for rule in OF_GAME]
            rows.append(("diverging", stage, "bad", f"The run ended here: {lost[1]}."))
        elif part.empty:
            text = "Nothing is trained in this stage." if len(history) else "No log is kept."
            text = "Not reached yet." if stage > reached else text
            rows += [(rule, stage, "none", text) for rule in (*OF_GAME, "diverging")]
        elif early and len(part) < LEAST:
            text = f"Too early to tell: {len(part)} of at least {LEAST} log points."
            rows += [(rule, stage, "none", text) for rule in (*OF_GAME, "diverging")]
        else:
            rows += [(rule, stage, *found) for rule, found in _game(part).items()]
            rows.append(("diverging", stage, *_growth(part)))
        rows.append(("forgetting", stage, *_forgetting(errors, setup, schedule, stage)))
    rows.append(("baselines", schedule.n_stages, *_baselines(beside)))
    return _frame(rows)


@select.compute_once
def examine_runs(results):
    """Return the findings on every run of a study that finished or diverged: RUN and COLUMNS."""
    measured = select.get_by_stage(results).query("metric == 'l1'").dropna(subset="stage")
    measured = measured.rename(columns={"value": "l1"})
    found, steps = [], results.runs.step.tolist()
    for run in standing.judge_runs(results).to_dict("records"):
        own = {key: run[key] for key in frames.RUN}
        history, errors = (
            frame.merge(pd.DataFrame([own]), on=frames.RUN) for frame in (results.history, measured)
        )
        beside = run if run["outcome"] == "finished" else None
        schedule = setups.Schedule(results.schedule.steps, tuple(results.widths), run["seed"])
        lost = (steps[len(found)], run["why"]) if run["diverged"] else None
        table = examine_run(history, run["setup"], schedule, errors, beside, lost)
        found.append(table.assign(**own)[[*frames.RUN, *COLUMNS]])
    return pd.concat(found, ignore_index=True)


def list_faults(findings):
    """Return one run's newest finding of each rule, the worst first.

    stages: all stages in which the rule finds something, as text.
    """
    rows = findings[findings.level.isin(LEVELS[:2])].sort_values("stage", ascending=False)
    rows = rows.sort_values("level", key=lambda level: level.map(LEVELS.index), kind="stable")
    stages = rows.groupby("rule").stage.agg(lambda found: ", ".join(map(str, sorted(found))))
    return rows.drop_duplicates("rule").assign(stages=lambda t: t.rule.map(stages))


def summarise(findings):
    """Return (the worst level, a line that lists the findings) of one run."""
    rows = list_faults(findings)
    if len(rows):
        named = [f"{row.title} (stage {row.stages})" for row in rows.itertuples()]
        return rows.level.iloc[0], "; ".join(named)
    known = (findings.level == "ok").any()
    return ("ok", "no rule finds anything") if known else ("none", "too early to tell")


def describe_health(findings):
    """Return one run's findings for the explorer's page: {"level", "headline", "findings"}."""
    level, text = summarise(findings)
    rows = findings[COLUMNS].to_dict("records")
    return {"level": level, "headline": text, "findings": rows}


# --- the rules: each returns (level, evidence)


def _game(part):
    """Return {rule: (level, evidence)} of the adversarial game over the log points of a stage."""
    weight = part.adversarial_weight.mean()
    accuracy, share = part.d_accuracy.mean(), part.adversarial_share.mean()
    if not weight > 0:
        return dict.fromkeys(OF_GAME, ("none", "No adversarial loss in this stage."))
    if not np.isfinite([accuracy, share]).all():
        return dict.fromkeys(OF_GAME, ("none", "Not logged."))
    low, high = ACCURACY
    judged = f"D judges {accuracy:.1%} of patches correctly"
    part_of = f"The adversarial gradient has {share:.2%} of the norm of the reconstruction gradient"
    if weight < 1:
        part_of += f" (the setup weighs it {weight:.2g} here)"
    missing = f"; a factor of {SHARE / share:.2f} is missing" if STARVED <= share < SHARE else ""
    return {
        "idle": _level(accuracy < low, f"{judged}; idle is below {low:.0%}. {part_of}."),
        "wins": _level(accuracy > high, f"{judged}; winning is above {high:.0%}."),
        "starved": _level(share < STARVED, f"{part_of}; starved is below {STARVED:.1%}."),
        "small_share": _level(
            STARVED <= share < SHARE, f"{part_of}; small is below {SHARE:.0%}{missing}.", "warn"
        ),
    }


def _growth(part):
    """Return (level, evidence): whether G's loss or gradients grow within a stage."""
    quarter, found, grows = max(len(part) // 4, 1), [], False
    for name, limit in GROWTH.items():
        if name in part and len(part) > 1:
            first, last = part[name].iloc[:quarter].median(), part[name].iloc[-quarter:].median()
            if first > 0:  # a hinge loss may be negative
                grows |= bool(last > limit * first)
                what = "loss" if name == "total_g" else "gradient norm"
                found.append(f"G's {what} x {last / first:.2f} (limit x {limit:g})")
    if not found:
        return "none", "Too few log points." if len(part) < 2 else "Not logged."
    return _level(grows, f"From the stage's first to its last quarter: {', '.join(found)}.")


def _forgetting(errors, setup, schedule, stage):
    """Return (level, evidence): whether hole L1 rose for widths taught in earlier stages."""
    if setup not in setups.SETUPS:
        return "none", "The setup has no entry here."
    taught = {w: k for w, k in find_last_taught(setup, schedule).items() if k < stage}
    if not taught:
        return "none", "Every width trained so far is still trained."
    if errors is None or stage not in set(errors.stage):
        return "none", "Not measured yet."
    table = errors.pivot_table("l1", "stage", "mask_width")
    rises = {w: table[w][stage] / table[w][k] - 1 for w, k in taught.items() if k in table.index}
    if not rises:
        return "none", "Not measured after the stages that taught a width."
    width = max(rises, key=rises.get)
    before, now = table[width][taught[width]], table[width][stage]
    evidence = (
        f"{width} px: hole L1 {before:.4f} after stage {taught[width]}, which taught it, {now:.4f} "
        f"after stage {stage} ({rises[width]:+.0%}; limit {FORGETS:+.0%})."
    )
    return _level(rises[width] > FORGETS, evidence, "warn")


@lru_cache(maxsize=256)
def find_last_taught(setup, schedule):
    """Return {hole width: the last stage (1 ..) that trains it in more than 5 % of its steps}.

    Widths without such a stage are left out.
    """
    found, rule, length = {}, setups.SETUPS[setup].phase, schedule.steps_per_stage
    for stage in range(schedule.n_stages):
        steps = stage * length + np.linspace(0, length - 1, min(length, 1000)).round().astype(int)
        phases = [phase for phase in (rule(schedule, int(k)) for k in steps) if phase.trains]
        for width in schedule.mask_widths:
            if sum(phase.mask_width == width for phase in phases) > len(steps) / 20:
                found[width] = stage + 1
    return found


def _baselines(beside):
    """Return (level, evidence): whether a run beats the baselines, as in standing.py."""
    if beside is None:
        return "none", "Not measured yet."
    evidence = (
        f"Largest hole: L2 {beside['hole_l2']:.4f}; the best baseline, {beside['best_baseline']}, "
        f"has {beside['best_baseline_l2']:.4f} on its images. Better than the trivial ones (mean "
        f"colour, nearest pixel): {'yes' if beside['beats_trivial'] else 'no'}."
    )
    if beside["beats_all"]:
        return "ok", evidence
    return "warn" if beside["beats_trivial"] else "bad", evidence


def _level(found, evidence, level="bad"):
    return level if found else "ok", evidence


def _frame(rows):
    """Return rows (rule, stage, level, evidence) as a frame; findings of earlier stages warn."""
    newest = {rule: stage for rule, stage, level, _ in rows if level != "none"}
    found = []
    for rule, stage, level, evidence in rows:
        text = RULES[rule]
        if level == "none":
            texts = evidence, "", ""
        elif level == "ok":
            texts = text.fine, evidence, ""
        else:
            level = level if stage == newest[rule] else "warn"
            texts = text.wrong, evidence, text.advice
        found.append([rule, text.title, stage, level, *texts])
    return pd.DataFrame(found, columns=COLUMNS)
