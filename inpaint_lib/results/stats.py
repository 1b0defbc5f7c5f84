"""Compare setups over training seeds and give verdicts, as registered in config/hypotheses.yaml.

The effect of a comparison is the mean over seeds of log(first / second), or of first - second if
its scale is `difference`, with a t interval. Two runs of a seed are a pair if both finished with
the same protocol, precision and kind of device; a value of 0 or below has no logarithm. `remark`
says what is left out. Only registered questions, in studies with the settings of a registered
profile, get a verdict (a word); everything else is an estimate with a 95 % interval.
docs/protocol.md explains the words.
"""

import functools
import itertools
import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special

from . import frames, hypotheses, select, standing

ALPHA, MIN_SEEDS, POWER = 0.05, 3, 0.8
COLUMNS = ["question", "name", "dataset", "architecture", "first", "second", "region", "metric"]
COLUMNS += ["width", "scale", "effect", "ci_low", "ci_high", "level", "margin", "deviation"]
COLUMNS += ["detectable", "n_images", "n_seeds", "registered_seeds", "word", "badges", "remark"]
WORDS = ("supported", "no harm", "equivalent", "no benefit", "worse", "inconclusive")
WORDS += ("not testable", "diverged")
ALIKE = ("protocol", "precision", "device_kind")  # equal in the two runs of a pair
NOTED = ("device", "torch")  # a remark names them if they differ
TOO_FEW = "too few seeds to detect"


# --- one comparison


def compute_interval(differences, alpha=ALPHA):
    """Return (low, high), the t interval of the mean over the last axis at level 1 - alpha.

    Both are NaN for fewer than two values."""
    d = np.asarray(differences, float)
    if (n := d.shape[-1]) < 2:
        return math.nan, math.nan
    half = compute_half_width(d.std(axis=-1, ddof=1), n, alpha)
    return d.mean(axis=-1) - half, d.mean(axis=-1) + half


def compute_half_width(deviation, n, alpha=ALPHA):
    """Return half of the t interval of a mean of n >= 2 values."""
    return special.stdtrit(n - 1, 1 - alpha / 2) * deviation / math.sqrt(n)


def choose_word(low, high, margin):
    """Return the verdict on an effect from its interval: one of the first six WORDS."""
    if high < -margin:
        return "supported"
    if low > margin:
        return "worse"
    if high <= margin:
        return "equivalent" if low >= -margin else "no harm"
    return "no benefit" if low >= -margin else "inconclusive"


def compute_detectable(deviation, n_seeds, margin, alpha):
    """Return the smallest detectable effect: the mean at which a gain is found with 80 % power.

    Then the interval ends below -margin (noncentral t). NaN for fewer than two seeds."""
    if n_seeds < 2 or not deviation > 0:
        return math.nan
    freedom = n_seeds - 1
    quantile = special.stdtrit(freedom, 1 - alpha / 2)
    shift = special.nctdtrinc(freedom, 1 - POWER, quantile)
    return -margin - float(shift) * deviation / math.sqrt(n_seeds)


# --- all of them


class Comparison(NamedTuple):
    """A comparison: the columns of `judge` that are equal in every cell."""

    question: str  # "" of an estimate
    name: str
    first: str
    second: str
    region: str
    metric: str
    width: str
    scale: str


def _comparisons(plan, results):
    """Return the Comparisons of the questions, then those that are estimates."""
    questions = [
        Comparison(key, of.name, *of.setups, "hole", "l1", of.width, "ratio")
        for key, of in plan.questions.items()
    ]
    known, found = set(itertools.chain(*plan.pairs)), []
    others = [name for name in frames.order(results.runs.setup) if name not in known]
    pairs = [*plan.pairs, *itertools.product(others, ("fixed", "progressive"))]
    every = [*dict.fromkeys(select.name_widths(results).values()), "all"]
    for pair, of in itertools.product(pairs, plan.measures):
        for width in every if of.width == "each" else [of.width]:
            name = f"{pair[0]} against {pair[1]}: {of.name}"
            found.append(Comparison("", name, *pair, of.region, of.metric, width, of.scale))
    asked = {question[2:] for question in questions}  # the same measure
    return questions + [one for one in found if one[2:] not in asked]


def _values(results):
    """Return ({key: {(setup, seed): value}}, {key: number of images}).

    A key is (dataset, architecture, region, metric, width).
    """
    values, n_images = {}, {}
    for row in select.get_compared(results).itertuples():
        key = row.dataset, row.architecture, row.region, row.metric, row.width
        values.setdefault(key, {})[row.setup, row.seed] = row.value
        n_images[key] = row.n_images
    return values, n_images


def leave_each_out(results):
    """Return the registered questions with each seed left out, where enough seeds remain.

    There is a row per question, cell and omitted seed: effect, ci_low, ci_high and the word of the
    other seeds, as in `judge`.
    """
    plan, (values, _), rows = hypotheses.read_plan(), _values(results), []
    names = {question[0]: question for question in _comparisons(plan, results)}
    for row in get_questions(judge(results)).itertuples():
        asked, cell = names[row.question], (row.dataset, row.architecture)
        pair = _Pair(results, cell, asked[2:4], row.registered_seeds)
        d = _differences(asked, pair.seeds, values.get((*cell, *asked[4:7]), {}), {})
        for seed in d.index if len(d) > MIN_SEEDS else []:
            low, high = compute_interval(others := d.drop(seed), 1 - row.level)
            said = choose_word(low, high, math.log1p(row.margin)) if row.word in WORDS[:6] else ""
            shown = np.expm1([others.mean(), low, high])
            rows.append([row.question, *cell, seed, *shown, said])
    columns = ["question", *frames.CELL, "seed", "effect", "ci_low", "ci_high", "word"]
    return pd.DataFrame(rows, columns=columns)


@select.compute_once
def judge(results):
    """Return COLUMNS, as in tables/hypotheses.csv: all questions, then all estimates.

    There is a row per question and cell with runs of both setups, and per estimate and cell with
    values. With the scale `ratio`, effects, intervals, margins and `detectable` are ratio - 1;
    deviations are those of the logarithms."""
    plan, rows = hypotheses.read_plan(), []
    values, n_images = _values(results)
    pairs = functools.cache(lambda *of: _Pair(results, *of))
    asked_for = functools.cache(lambda *cell: hypotheses.find_registration(plan, results, *cell))
    cells = select.list_cells(results.runs)
    with_words = sum(asked_for(*cell)[0] > 0 for cell in cells)
    simultaneous = plan.level(len(plan.questions) * with_words)
    for asked, cell in itertools.product(_comparisons(plan, results), cells):
        seeds, of_paper = asked_for(*cell)
        seeds = seeds if asked.question else 0  # estimates use all
        key, pair = (*cell, *asked[4:7]), pairs(cell, (asked.first, asked.second), seeds)
        if not (pair.complete and (asked.question or key in values)):
            continue
        level = simultaneous if seeds else 1 - ALPHA
        row = _compared(plan, asked, pair, values.get(key, {}), seeds > 0, level)
        row |= dict(zip(frames.CELL, cell, strict=True)) | asked._asdict()
        badges = [] if of_paper else ["exploratory"]
        if row["word"] and row["n_seeds"] + len(pair.lost) < seeds:
            badges.append("provisional")
        row |= {"margin": plan.margin if asked.question else math.nan, "registered_seeds": seeds}
        rows.append(row | {"n_images": n_images.get(key, 0), "badges": ", ".join(badges)})
    return pd.DataFrame(rows, columns=COLUMNS)


def pair_values(results, values, first, second, *keys):
    """Return values of two setups side by side: a row per cell, pair of runs (seed) and `keys`.

    values: rows of one measure. Pairs are those of `judge`, of a registered question that of the
    registered seeds."""
    plan, rows = hypotheses.read_plan(), [*frames.CELL, "seed", *keys]
    wide = values.pivot_table("value", rows, "setup", sort=False)
    wide = wide.reindex(columns=[first, second]).dropna()
    asked, paired = {first, second} in [{*of.setups} for of in plan.questions.values()], set()
    for cell in {row[:2] for row in wide.index}:
        registered = asked and hypotheses.find_registration(plan, results, *cell)[0]
        paired |= {(*cell, n) for n in _Pair(results, cell, (first, second), registered).seeds}
    return wide[np.array([row[:3] in paired for row in wide.index], bool)]


def compute_effects(results):
    """Return hole L1 (largest hole) of each run over fixed's with the same seed, minus one."""
    values, found = select.get_hole_l1(results), []
    for setup in values.setup[values.setup != "fixed"].unique():
        wide = pair_values(results, values, setup, "fixed")
        effect = (wide[setup] / wide["fixed"] - 1).rename("effect")
        found.append(effect.reset_index().assign(setup=setup))
    columns = [*frames.RUN, "effect"]
    return pd.concat(found)[columns] if found else pd.DataFrame(columns=columns)


def get_questions(table):
    """Return the rows of the registered questions of a table of `judge`."""
    return table[table.question != ""]


class _Pair:
    """The runs of two setups in one cell; seeds from `registered` on are left out unless it is 0.

    seeds: those with a pair; lost: those with a run that diverged; remarks: {what differs between
    two runs, or is left out: seeds}. Texts, or "": diverged: how many runs did; idle: in how many
    the game is not active in the last stage; untestable: {width: which setup of lower hole L1 (both
    if equal) does not beat the trivial baselines}."""

    def __init__(self, results, cell, setups, registered):
        runs, gates = (
            select.get_cell(table, *cell)[lambda t: t.setup.isin(setups)]
            for table in (standing.judge_runs(results), standing.judge_gates(results))
        )
        self.complete = runs.setup.nunique() == len(setups)
        self.seeds, self.lost, self.remarks = [], [], {}
        if others := sorted({seed for seed in runs.seed if registered and seed >= registered}):
            self.remarks["left out, not registered"] = others
            runs = runs[runs.seed < registered]
        for seed, pair in runs.groupby("seed"):
            differ = [key for key in (*ALIKE, *NOTED) if pair[key].nunique() > 1]
            apart = [key for key in differ if key in ALIKE]
            if len(pair) == 2 and pair.diverged.any():
                self.lost.append(seed)
            elif len(pair) == 2:
                self.seeds += [] if apart else [seed]
                for key in apart or differ:
                    text = f"{key} {' / '.join(sorted(map(str, pair[key])))}"
                    text = f"left out, {text}" if apart else text
                    self.remarks.setdefault(text, []).append(seed)

        counts = runs.groupby("setup", sort=False).diverged.agg(["sum", "size"])
        text = " and ".join(f"{n} of {of} {setup}" for setup, n, of in counts.itertuples())
        self.diverged = f"{text} runs diverged" if runs.diverged.any() else ""
        active = runs[~runs.diverged].game_active
        text = f"not compared: game not active in {(~active).sum()} of {len(active)} runs"
        self.idle = "" if active.all() else text
        self.untestable = {}
        for width, sides in gates.groupby("width"):
            lower = sides[sides.hole_l1 == sides.hole_l1.min()]
            text = " and ".join(lower.setup[~lower.beats_trivial])
            self.untestable[width] = text and f"trivial baselines not beaten by {text}"


def _differences(asked, seeds, values, remarks):
    """Return log(first / second), or first - second, as a series by seed; add to `remarks`."""
    is_ratio, d = asked.scale == "ratio", {}
    for seed in seeds:
        one, other = (values.get((setup, seed), math.nan) for setup in (asked.first, asked.second))
        if is_ratio and min(one, other) <= 0:
            what = "left out, no logarithm (a value of 0 or below)"
            remarks[what] = [*remarks.get(what, []), seed]
        else:
            d[seed] = math.log(one / other) if is_ratio else one - other
    return pd.Series(d, dtype=float).dropna()


def _compared(plan, asked, pair, values, has_word, level):
    """Return the numbers, the word and the remark of one comparison in one cell.

    values: {(setup, seed): value}."""
    is_ratio, is_stability = asked.scale == "ratio", asked.metric == "stability"
    idle, remarks = pair.idle if is_stability else "", dict(pair.remarks)
    d = _differences(asked, [] if idle else pair.seeds, values, remarks)

    n, alpha = len(d), 1 - level
    margin = math.log1p(plan.margin) if asked.question else 0.0
    low, high = compute_interval(d, alpha)
    smallest = compute_detectable(d.std(), n, margin, alpha) if is_ratio else math.nan
    shown = np.array([d.mean(), low, high, smallest])
    shown = np.expm1(shown) if is_ratio else shown
    row = dict(zip(["effect", "ci_low", "ci_high", "detectable"], shown, strict=True))

    untestable = pair.untestable.get(asked.width, "") if n and asked.width != "none" else ""
    texts = [idle, pair.diverged, untestable]
    if is_stability and -smallest > math.log1p(plan.stability):
        texts.append(f"{TOO_FEW} a difference of {plan.stability:.0%}")
    texts += [f"seed {', '.join(map(str, of))}: {what}" for what, of in remarks.items()]
    said = ""
    if has_word and n + len(pair.lost) >= MIN_SEEDS:
        said = "not testable" if untestable else choose_word(low, high, margin)
        said = "diverged" if pair.diverged else said
    row |= {"level": level, "deviation": d.std(), "n_seeds": n}
    return row | {"word": said, "remark": "; ".join(filter(None, texts))}
