"""Judge each run alone: whether it diverged, beats the baselines, has an active adversarial game.

- A run beats a baseline if the upper end of the 95 % bootstrap interval, over test images, of
  log(hole L2 / the baseline's hole L2) is below 0, with the largest hole and on the images that the
  baseline was measured on.
- `below_trivial_l1`: hole L1 is below that of both trivial baselines on the same images.
- The game is active in a stage if D's balanced accuracy is within ACCURACY and the gradient of G's
  adversarial loss has at least SHARE of the norm of its reconstruction gradient. Both are means
  over the stage's log points."""

import numpy as np
import pandas as pd

from . import frames, hypotheses, resampling, select

ACCURACY, SHARE = (0.55, 0.95), 0.05
TRIVIAL = ["mean colour", "nearest"]
BEATEN = ["beats_trivial", "beats_all", "below_trivial_l1"]
FLAGS = [*BEATEN, "has_game", "game_active", "always_active"]
MADE = ["device", "device_kind", "precision", "protocol", "torch"]
BESIDE = ["hole_l2", "best_baseline", "best_baseline_l2"]
GAME = ["d_accuracy", "adversarial_share"]
GATE = [*frames.CELL, "setup", "width", "hole_l1", *TRIVIAL, "beats_trivial"]


@select.compute_once
def judge_games(results):
    """Return GAME and `active`: a row per finished run and stage.

    active: True, False, or None if the stage has no adversarial loss or trains nothing."""
    stages = pd.DataFrame({"stage": range(1, len(results.widths) + 1)})
    every = select.get_finished(results)[frames.RUN].merge(stages, how="cross")
    means = results.history.groupby([*frames.RUN, "stage"])[[*GAME, "adversarial_weight"]].mean()
    found = every.merge(means.reset_index(), on=list(every), how="left")
    active = found.d_accuracy.between(*ACCURACY) & (found.adversarial_share >= SHARE)
    found["active"] = active.astype(object).where(found.adversarial_weight > 0, None)
    return found.drop(columns="adversarial_weight")


def _of_games(results):
    """Return a row per run: its last stage's game, and in how many stages the game is active."""
    table = judge_games(results)
    table = table.assign(has_game=table.active.notna(), on=table.active.eq(True))
    counts = table.groupby(frames.RUN)[["on", "has_game"]].transform("sum")
    stages = counts.on.astype(str) + " of " + counts.has_game.astype(str)
    table["active_stages"] = stages.where(counts.has_game > 0, "not applicable")
    table["always_active"] = (counts.on == counts.has_game) & table.has_game
    last = table[table.stage == len(results.widths)].rename(columns={"on": "game_active"})
    return last.drop(columns=["stage", "active"])


def _log_means(*errors):
    """Return the logarithms of the means of columns (a row per image): a row per resample."""
    errors = pd.concat(errors, axis=1, join="inner")
    with np.errstate(divide="ignore"):
        drawn = np.log(resampling.resample_means(errors.to_numpy()))
    return pd.DataFrame(drawn, columns=errors.columns)


@select.compute_once
def judge_gates(results):
    """Return how the mean over seeds compares with the trivial baselines: GATE, a row per cell,
    setup and width (as in select.get_compared). Where seeds are registered, only these count.

    A baseline's column: the upper end of the interval of the ratio of hole L2, minus one; over all
    widths, of the geometric mean of the ratios."""
    plan, rows = hypotheses.read_plan(), []
    hole_l1 = select.get_compared(results).query("region == 'hole' and metric == 'l1'")
    for cell in select.list_cells(select.get_finished(results)):
        named = dict(zip(frames.CELL, cell, strict=True))
        of_runs = select.get_image_errors(results, "l2", **named).astype(float)
        l1 = select.get_cell(hole_l1, *cell)
        if registered := hypotheses.find_registration(plan, results, *cell)[0]:
            of_runs = of_runs[of_runs.index.get_level_values("seed") < registered]
            l1 = l1[l1.seed < registered]
        l1 = l1.groupby(["setup", "width"]).value.mean()
        own = of_runs.groupby(["setup", "mask_width"]).mean().T
        table = select.get_baseline_images(results, *cell)
        others = table.pivot_table("l2", "image", ["baseline", "mask_width"])[TRIVIAL]
        drawn = _log_means(own, others)
        for setup in frames.order(of_runs.index.unique("setup")):
            highs = {}
            for name in TRIVIAL:
                ratio = (drawn[setup] - drawn[name]).rename(columns=select.name_widths(results))
                highs[name] = ratio.assign(all=ratio.mean(axis=1)).quantile(0.975)
            for width, high in pd.DataFrame(highs).iterrows():
                rows.append(
                    [*cell, setup, width, l1[setup, width], *np.expm1(high), high.max() < 0]
                )
    return pd.DataFrame(rows, columns=GATE)


def compare_with_baselines(own, table):
    """Return BESIDE and the first two of BEATEN: a row per column of `own`.

    own: hole L2, a row per image, a column per run; table: that of the baselines (columns baseline,
    image, l2)."""
    highs, ratios, means = {}, {}, {}
    for name, part in table.groupby("baseline"):
        other = part.set_index("image").l2.rename(name)
        drawn = _log_means(own, other)
        highs[name] = drawn[own.columns].sub(drawn[name], axis=0).quantile(0.975)
        ratios[name], means[name] = own.loc[other.index].mean() / other.mean(), other.mean()
    best, below = pd.DataFrame(ratios).idxmax(axis=1), pd.DataFrame(highs) < 0
    found = {"hole_l2": own.mean(), "best_baseline": best, "best_baseline_l2": best.map(means)}
    beats = {"beats_trivial": below[TRIVIAL].all(axis=1), "beats_all": below.all(axis=1)}
    return pd.DataFrame(found | beats).rename_axis(own.columns.names)


def _beaten(results):
    """Return how every finished run compares with the baselines with the largest hole."""
    found, largest = [], results.widths[-1]
    for cell in select.list_cells(select.get_finished(results)):
        named = dict(zip(frames.CELL, cell, strict=True))
        errors = select.get_image_errors(results, "l2", mask_width=largest, **named)
        table = select.get_baseline_images(results, *cell).query("mask_width == @largest")
        rows = compare_with_baselines(errors.astype(float).T, table)
        l1 = select.get_image_errors(results, "l1", mask_width=largest, **named).astype(float)
        trivial = table[table.baseline.isin(TRIVIAL)].groupby("baseline").l1.mean().min()
        rows["below_trivial_l1"] = l1.mean(axis="columns") < trivial
        found.append(rows.reset_index().assign(**named))
    columns = [*frames.RUN, *BESIDE, *BEATEN]
    return pd.concat([pd.DataFrame(columns=columns), *found])


@select.compute_once
def judge_runs(results):
    """Return a row per run: outcome, BESIDE, GAME, FLAGS, MADE; the game is the last stage's."""
    runs = results.runs
    found = runs[[*frames.RUN, "outcome", "why"]].assign(diverged=runs.outcome == "diverged")
    for frame in (_beaten(results), _of_games(results)):
        found = found.merge(frame, on=frames.RUN, how="left")
    found[FLAGS] = found[FLAGS].eq(True)
    found = pd.concat([found, runs[MADE]], axis=1)
    order = [*frames.RUN, "outcome", "why", "diverged", *BESIDE, *GAME, "active_stages"]
    return found[[*order, *FLAGS, *MADE]]


def summarise(runs):
    """Return sentences: how many runs beat the baselines, have an active game, diverged."""
    n, lost, games = len(runs), runs[runs.diverged], runs[runs.has_game]
    found = [
        "In the largest hole the squared error (hole L2) is below that of both trivial baselines "
        f"(mean colour, nearest pixel) in {_count(runs, 'beats_trivial')}, and below that of all "
        f"baselines in {_count(runs, 'beats_all')} (with 95 % certainty over test images).",
        "The mean absolute error (hole L1, which the questions compare) is below that of both "
        f"trivial baselines in {_count(runs, 'below_trivial_l1')}.",
        f"The adversarial game is active in the last stage of {games.game_active.sum()} of "
        f"{len(games)} runs, and in every stage of {games.always_active.sum()}.",
    ]
    if len(lost):
        named = zip(frames.name_runs(lost), lost.why, strict=True)
        listed = ", ".join(f"{name} ({why})" for name, why in named)
        others = "Tables show the others." if len(lost) < n else "No run finished."
        found.append(f"Diverged, never tried again: {len(lost)}: {listed}. {others}")
    return found


def _count(runs, flag):
    """Return how many runs have a flag: "12 of 12 runs on faces and 3 of 12 runs on clutter"."""
    counts = runs.groupby("dataset", sort=False)[flag].agg(["sum", "size"])
    return " and ".join(f"{n} of {of} runs on {name}" for name, n, of in counts.itertuples())
