"""Write the sentences of tables and pages: caveats, footnotes, answers to the registered questions.

Longer texts are in templates/."""

from collections import Counter
from pathlib import Path

import jinja2
import pandas as pd

from ..metrics import PSNR_CAP
from . import frames, select, stats

TEMPLATES = Path(__file__).parent / "templates"
ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(TEMPLATES),
    autoescape=lambda name: ".html" in name,
    trim_blocks=True,
    lstrip_blocks=True,
)
BESIDE = {"Q2": "fixed never trains on the smaller holes; mixed, which Q3 compares with, does."}
NO_WORDS = "only studies with the settings of a registered profile get a verdict"
BADGES = {
    "exploratory": "other data, smaller images or a smaller budget than the paper's",
    "provisional": "fewer seeds than registered",
}
MEANING = {
    "supported": "the gain is larger than {margin}",
    "no harm": "a loss of {margin} is excluded, a gain is not shown",
    "equivalent": "a gain and a loss of {margin} are both excluded",
    "no benefit": "a gain of {margin} is excluded",
    "worse": "the loss is larger than {margin}",
    "inconclusive": "neither a gain nor a loss of {margin} is excluded",
    "not testable": "the setup with the lower error does not beat the trivial baselines",
    "diverged": "runs diverged; the estimate is that of the complete pairs",
}


def render(template, **values):
    """Return a filled template; values in HTML templates are escaped."""
    return ENVIRONMENT.get_template(f"{template}.j2").render(**values)


def list_caveats(results):
    """Return the reasons not to trust a study's numbers, a sentence each."""
    text = render(
        "caveats.txt",
        about=results.about,
        architectures=set(results.runs.architecture),
        seeds=results.runs.seed.nunique(),
        needed=stats.MIN_SEEDS,
        power=_describe_power(stats.get_questions(stats.judge(results))),
    )
    return text.splitlines()


def _describe_power(rows):
    """Return what questions with fewer seeds than registered can detect, or ""."""
    rows = rows[(rows.word != "") & (rows.n_seeds < rows.registered_seeds)]
    gains = -100 * rows.detectable.dropna()
    if gains.empty:
        return ""
    least, middle, most = (f"of {value:.0f} %" for value in gains.quantile([0, 0.5, 1]))
    found = f"a gain {middle}"
    if len(gains) > 1:
        found = f"a gain {least} in the most precise comparison, {middle} in the median one, "
        found += f"{most} in the least precise"
    return (
        f"{format_range(rows.n_seeds)} of {rows.registered_seeds.max()} registered seeds: four of "
        f"five such studies would find {found}. Inconclusive does not mean no effect."
    )


def render_footnote(results):
    """Return the text below every table: images, masks, seeds, definitions of the measures."""
    finished = select.get_finished(results)
    n_seeds = finished.groupby(["dataset", "architecture", "setup"]).seed.count()
    baselines = results.baselines.query("region == 'hole'").groupby(["dataset", "baseline"])
    measured = baselines.n_images.max()
    fewer = measured[measured < measured.groupby("dataset").transform("max")]
    others = results.baselines[results.baselines.baseline.str.endswith(frames.EXTERNAL)]
    changed = others.query("region == 'visible' and metric == 'l1' and value > 0")
    text = render(
        "footnote.txt",
        about=results.about,
        largest=results.widths[-1],
        families={name: results.family(name) for name in set(results.runs.architecture)},
        cells=select.list_cells(results.runs),
        seeds=sorted(set(n_seeds)),
        cap=PSNR_CAP,
        slow=fewer.droplevel("dataset").to_dict(),
        external=len(others),
        changed=list(dict.fromkeys(changed.baseline.str.removesuffix(frames.EXTERNAL))),
    )
    return " ".join([*text.split(), *describe_networks(results)])


def describe_networks(results):
    """Return sentences: which networks FID, IS and LPIPS used, or that they were not measured."""
    finished, metrics = select.get_finished(results), results.values.metric
    known = {name: sorted(set(finished[name])) for name in ("inception", "alexnet")}
    measured = {name: metrics.str.startswith(name).any() for name in ("fid", "lpips")}
    warnings = {text for texts in finished.warnings for text in texts.split("; ") if text}
    text = render("networks.txt", known=known, measured=measured, warnings=sorted(warnings))
    return text.splitlines()


def answer_questions(judged):
    """Return a dict per registered question: question, name, badges, text (over all cells), cells.

    cells: a dict per cell: the word, its meaning, and the estimate as a text."""
    found = []
    for question, rows in stats.get_questions(judged).groupby("question", sort=False):
        cells = []
        for row in rows.itertuples():
            meaning = MEANING.get(row.word, "").format(margin=f"{100 * row.margin:g} %")
            cells.append({"word": row.word, "meaning": meaning, "text": _estimate(row)})
        badges = ", ".join(sorted({b for of in rows.badges for b in of.split(", ") if b}))
        answer = {"question": question, "name": rows["name"].iloc[0], "badges": badges}
        text = f"{_overall(rows)} {BESIDE.get(question, '')}".rstrip()
        found.append(answer | {"text": text, "cells": cells})
    return found


def explain_words(judged):
    """Return what each word in a table of `stats.judge` means, a text each."""
    rows = stats.get_questions(judged).query("word != ''")
    margins = dict(zip(rows.word, rows.margin, strict=True))
    return [
        f"{word}: {MEANING[word].format(margin=f'{100 * m:g} %')}" for word, m in margins.items()
    ]


def count_supported(judged):
    """Return in how many comparisons each registered question is supported, a sentence, or ""."""
    rows = stats.get_questions(judged).query("word != ''")
    if rows.empty:
        return ""
    parts = [
        f"in {(of.word == 'supported').sum()} of {len(of)} comparisons for {question}"
        for question, of in rows.groupby("question", sort=False)
    ]
    told = " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
    untested = (rows.word == "not testable").sum()
    return f"That growing the hole helps is supported {told}" + (
        f"; {untested} of these {len(rows)} are not testable." if untested else "."
    )


def explain_badges(judged):
    """Return how the results of the registered questions are marked, a sentence, or ""."""
    rows, parts = stats.get_questions(judged), []
    for badge, meaning in BADGES.items():
        marked = rows.badges.str.contains(badge)
        if marked.any():
            parts.append(f"{'in part ' * (not marked.all())}*{badge}* ({meaning})")
    return f"The results are {' and '.join(parts)}." if parts else ""


def _overall(rows):
    """Return a question's words and the range of its estimates in all cells, a few sentences."""
    counts = Counter(rows.word)
    words = {word: counts[word] for word in stats.WORDS if counts[word]}
    effects, (first, second) = rows.effect.dropna(), rows[["first", "second"]].iloc[0]
    if effects.empty:
        return "No complete pair of runs."
    text = f"The error of {first} is {describe_effects(effects, second)}"
    if not words:
        why = (
            f"a verdict needs {stats.MIN_SEEDS} seeds" if rows.registered_seeds.any() else NO_WORDS
        )
        return f"{text}. This is an estimate: {why}."
    told = [f"{word} in {n}" for word, n in words.items()]
    if without := (rows.word == "").sum():
        told.append(f"none yet in {without}")
    return f"{text}. Verdicts: {', '.join(told)}."


def describe_effects(effects, second):
    """Return how much lower or higher some errors are than those of the second setup, from the
    smallest effect to the largest: "2.3 % to 16.9 % higher than that of fixed (2 comparisons)"."""
    ends, n = sorted({round(100 * end, 1) for end in (effects.min(), effects.max())}, key=abs), ""
    sides = ["lower" if end < 0 else "higher" for end in ends]
    parts = [f"{abs(end):.1f} % {side}" for end, side in zip(ends, sides, strict=True)]
    if len(set(sides)) == 2:
        text = f"between {' and '.join(sorted(parts, key=lambda part: 'higher' in part))}"
    else:
        text = " to ".join(f"{abs(end):.1f} %" for end in ends) + f" {sides[0]}"
    if len(effects) > 1:
        lower = (effects < 0).sum()
        some = f"lower in {lower} of " if 0 < lower < len(effects) else ""
        n = f" ({some}{len(effects)} comparisons)"
    return f"{text} than that of {second}{n}"


def _estimate(row):
    """Return the estimate of a registered question in one cell, a sentence."""
    where, remark = f"{row.dataset}, {row.architecture}", row.remark and f" ({row.remark})"
    if pd.isna(row.effect):
        return f"{where}: no complete pair of runs{remark}."
    holes = "the largest holes" if row.width == "largest" else "holes of all widths"
    text = f"{where}: in {holes} the error of {row.first} is {abs(100 * row.effect):.1f} % "
    text += f"{'lower' if row.effect < 0 else 'higher'} than that of {row.second} "
    interval = _interval(row)
    between = "" if interval == "-" else f", {100 * row.level:.3g} % interval {interval}"
    return text + f"({row.n_seeds} seed{'s' * (row.n_seeds != 1)}{between}){remark}."


def format_rows(judged):
    """Return rows of stats.judge as a table of text.

    An effect is in per cent of the second setup's value, or in the metric's unit if its scale is
    `difference`."""
    rows = list(judged.itertuples())
    columns = {
        "comparison": [f"{row.question} {row.name}".strip() for row in rows],
        "data": judged.dataset,
        "architecture": judged.architecture,
        "width": judged.width,
        "verdict": judged.word,
        "effect": [_effect(row, row.effect) for row in rows],
        "interval": [_interval(row) for row in rows],
        "level": [f"{100 * row.level:.3g} %" for row in rows],
        "seeds": judged.n_seeds,
        "smallest detectable effect": [_effect(row, row.detectable) for row in rows],
        "remark": judged.remark,
    }
    return pd.DataFrame(columns, judged.index)


def _interval(row):
    """Return an interval as text; that of two seeds says nothing."""
    ends = [_effect(row, value) for value in (row.ci_low, row.ci_high)]
    return "-" if row.n_seeds < stats.MIN_SEEDS or pd.isna(row.ci_low) else " to ".join(ends)


def _effect(row, value):
    if pd.isna(value):
        return "-"
    return format_per_cent(value) if row.scale == "ratio" else f"{value:+.4f}"


def format_range(numbers):
    """Return the smallest and the largest number as text: "3 to 5", or "5" if they are equal."""
    return " to ".join(map(str, dict.fromkeys([min(numbers), max(numbers)])))


def format_per_cent(value):
    """Return a ratio minus one as text, for example "+1.2 %"."""
    return f"{round(100 * value, 1) + 0.0:+.1f} %"  # + 0.0: no -0.0
