"""Prepare the cards of the registered questions: word, interval, distance from margin, seeds."""

import math

import pandas as pd

from . import notes, stats

ENDS = {  # word: the ends of the interval that decide it, each with the margin's sign
    "supported": [("high", -1)],
    "worse": [("low", 1)],
    "no harm": [("high", 1)],
    "no benefit": [("low", -1)],
    "equivalent": [("low", -1), ("high", 1)],
    "inconclusive": [("low", -1), ("high", 1)],
}
WORD_CLASS = {"supported": "good", "no harm": "good", "worse": "harm", "no benefit": "harm"}


def make_cards(results):
    """Return a dict per registered question, as notes.answer_questions, with more for a card.

    Added are the setups, the width, and what is drawn of each cell (see `_row`)."""
    judged = stats.judge(results)
    rows, without = stats.get_questions(judged), stats.leave_each_out(results)
    found = []
    for answer in notes.answer_questions(judged):
        of = list(rows[rows.question == answer["question"]].itertuples())
        own = without[without.question == answer["question"]]
        answer["badges"] = answer["badges"].split(", ") if answer["badges"] else []
        answer |= {"first": of[0].first, "second": of[0].second, "width": of[0].width}
        for cell, row in zip(answer["cells"], of, strict=True):
            there = own[(own.dataset == row.dataset) & (own.architecture == row.architecture)]
            cell |= _row(row, there)
        found.append(answer)
    return found


def _row(row, without):
    """Return what is drawn of one question in one cell; numbers in per cent or None.

    leave_out: a dict per omitted seed; fragile: the other words that these lead to."""
    shown = {key: getattr(row, key) for key in ("dataset", "architecture", "n_seeds")}
    shown |= {key: _per_cent(getattr(row, key)) for key in ("effect", "ci_low", "ci_high")}
    if row.n_seeds < stats.MIN_SEEDS:  # two values have an interval that says nothing
        shown |= {"ci_low": None, "ci_high": None}
    shown |= {"margin": 100 * row.margin, "class": WORD_CLASS.get(row.word, "")}
    shown["distance"] = _distance(row.word, shown)
    kept = without.to_dict("records")
    for one in kept:
        one |= {key: 100 * one[key] for key in ("effect", "ci_low", "ci_high")}
    shown["leave_out"] = kept
    shown["fragile"] = sorted({one["word"] for one in kept} - {row.word, ""})
    return shown


def _per_cent(value):
    return None if pd.isna(value) else 100 * value


def _distance(word, shown):
    """Return a sentence: how many percentage points an interval or estimate is from the margin."""
    margin, effect = shown["margin"], shown["effect"]
    ends = {1: margin, -1: 100 * (1 / (1 + margin / 100) - 1)}  # the same factor either way
    if effect is None:
        return ""
    if shown["ci_low"] is None or word not in ENDS:
        what = "The estimate" if shown["ci_low"] is None else "The mean"
        if ends[-1] <= effect <= ends[1]:
            return f"{what} is inside the margin of {margin:g} %."
        side, end = ("above", ends[1]) if effect > 0 else ("below", ends[-1])
        return f"{what} is {abs(effect - end):.1f} points {side} {end:+.3g} %."
    parts = []
    for which, sign in ENDS[word]:
        name, away = {"low": "lower", "high": "upper"}[which], shown[f"ci_{which}"] - ends[sign]
        side = "above" if away > 0 else "below"
        parts.append(f"{name} end {abs(away):.1f} points {side} {ends[sign]:+.3g} %")
    return f"{', '.join(parts).capitalize()}."


def find_reach(questions):
    """Return the end of the cards' axes in per cent: all intervals fit, up to 60 %."""
    values = [2.5 * cell["margin"] for answer in questions for cell in answer["cells"]]
    for answer in questions:
        for cell in answer["cells"]:
            values += [abs(cell[key] or 0) for key in ("effect", "ci_low", "ci_high")]
    return min(math.ceil(max(values, default=5)), 60)


def describe_certainty(results, questions):
    """Return how certain the answers are, in a few sentences."""
    cells = [cell for answer in questions for cell in answer["cells"]]
    n_seeds = [cell["n_seeds"] for cell in cells] or [results.runs.seed.nunique()]
    seeds = f"The questions have {notes.format_range(n_seeds)} seed{'s' * (max(n_seeds) != 1)}"
    if max(n_seeds) < stats.MIN_SEEDS:
        return f"Not at all. {seeds}, so no difference can be distinguished from chance."
    if not any(cell["word"] for cell in cells):
        return (
            f"{seeds}. Intervals come with the estimates, but no verdict: nothing was registered."
        )
    tested = [cell for cell in cells if cell["word"] in ENDS and cell["leave_out"]]
    changed = sum(bool(cell["fragile"]) for cell in tested)
    badges = sorted({badge for answer in questions for badge in answer["badges"]})
    text = f"{seeds}; all intervals hold together with 95 % certainty."
    if tested:
        text += f" {changed or 'None'} of {len(tested)} verdicts would change without one of the "
        text += "seeds (fewer seeds have wider intervals)."
    return text + (f" {' and '.join(badges).capitalize()}." if badges else "")
