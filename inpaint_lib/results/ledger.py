"""Write the pages that are made from code and published studies.

These are the blocks of studies in README.md, docs/glossary.md, and docs/results.md, the ledger of
what every study found.
"""

import pandas as pd

from ..study import files
from . import frames, glossary, hypotheses, notes, published, stats, summary, tables

ROOT = files.ROOT
NOBODY = "this project"  # of runs without a name


def render_pages():
    """Return {path: text} of the pages that `./run_all.sh publish --docs` writes."""
    studies = [frames.load(base) for base in published.list_studies()]
    front = ROOT / "README.md"
    text = front.read_text(encoding="utf-8")
    for results in studies:
        text = summary.fill_block(text, results)
    docs = {"glossary.md": glossary.to_markdown(), "results.md": render_ledger(studies)}
    return {front: text} | {ROOT / "docs" / name: text for name, text in docs.items()}


def render_ledger(studies):
    """Return docs/results.md for a list of Results."""
    questions = {key: of.name for key, of in hypotheses.read_plan().questions.items()}
    rows = [row for results in studies for row in _rows(results)]
    table = "\n".join(tables.to_markdown(pd.DataFrame(rows))) if rows else "No study is published."
    marks = {}
    for results in studies:
        badges = stats.get_questions(stats.judge(results)).badges.str.split(", ").explode()
        marks[results.about["name"]] = sorted(set(badges) - {""})
    return notes.render("results.md", questions=questions, table=table, marks=marks) + "\n"


def _rows(results):
    """Yield a study's rows: one per question, data set and architecture."""
    name, who = results.about["name"], results.about.get("who", {})
    asked = stats.get_questions(stats.judge(results))
    for row, shown in zip(asked.itertuples(), notes.format_rows(asked).itertuples(), strict=True):
        runs = results.runs[results.runs.setup.isin([row.first, row.second])]
        runs = runs[(runs.dataset == row.dataset) & (runs.architecture == row.architecture)]
        runs = runs[runs.seed < (row.registered_seeds or runs.seed.max() + 1)]
        yield {
            "study": f"[{name}](../reports/published/{name}/README.md)",
            "question": row.question,
            "data set": row.dataset,
            "architecture": row.architecture,
            "seeds": row.n_seeds,
            "verdict": row.word or "none yet",
            "effect": shown.effect,
            "interval": shown.interval,
            "by": ", ".join(dict.fromkeys(who.get(run, NOBODY) for run in frames.name_runs(runs))),
            "commit": ", ".join(dict.fromkeys(runs.commit)),
        }
