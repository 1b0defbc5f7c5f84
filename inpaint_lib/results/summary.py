"""Write a published study as a page of Markdown, and its block of README.md (study.md.j2)."""

import pandas as pd

from . import findings, frames, notes, standing, stats, tables

BEGIN, END = "<!-- published {} -->", "<!-- end -->"  # of a study's block in the front page


def render_study(results, personal="", captions=None, front=False):
    """Return a published study's README.md, or with `front` its block of the front page.

    personal: a person's text (findings.fill_surprises); captions: {figure: {"caption": text}}."""
    runs, judged = standing.judge_runs(results), stats.judge(results)
    cell = choose_cell(results, runs)
    return notes.render(
        "study.md",
        front=front,
        about=results.about,
        config=results.about["config"],
        runs=results.runs,
        answers=notes.answer_questions(judged),
        meanings=notes.explain_words(judged),
        supported=notes.count_supported(judged),
        badges=notes.explain_badges(judged),
        estimated=findings.describe_estimates(results),
        primaries="\n".join(tables.to_markdown(_primaries(judged))),
        grid="\n".join(tables.to_markdown(_grid(judged))),
        opening=cell,
        captions={key: of["caption"] for key, of in (captions or {}).items()},
        standing=standing.summarise(runs),
        standings="\n".join(tables.to_markdown(tables.count_standings(runs))),
        made="\n".join(tables.to_markdown(_computed_by(results.runs))),
        personal=findings.fill_surprises(results, personal)[0],
        caveats=notes.list_caveats(results),
        networks=notes.describe_networks(results),
    )


def _primaries(judged):
    """Return the registered questions as a table of words and intervals."""
    rows = stats.get_questions(judged)
    table = notes.format_rows(rows).assign(comparison=rows.question)
    table = table.rename(columns={"comparison": ""})
    return table.drop(columns=["width", "level", "smallest detectable effect"])


def _grid(judged):
    """Return effect and word of every registered question (rows) in every cell (columns)."""
    rows = stats.get_questions(judged)
    cell = rows.dataset + ", " + rows.architecture
    effect = notes.format_rows(rows).effect.astype(str)
    shown = pd.DataFrame({"": rows.question, "cell": cell, "text": effect + " " + rows.word})
    wide = shown.pivot(index="", columns="cell", values="text").reindex(columns=cell.unique())
    return wide.fillna("-").map(str.rstrip).reset_index()


def fill_block(text, results):
    """Return a page with a published study's block, if it has one, written again.

    Raises ValueError for a block without an end."""
    begin = BEGIN.format(results.about["name"])
    before, mark, rest = text.partition(begin)
    _, end, after = rest.partition(END)
    if not mark:
        return text
    if not end:
        raise ValueError(f"the block {begin} has no end: add a line {END} after it")
    return f"{before}{begin}\n\n{render_study(results, front=True)}\n{end}{after}"


def choose_cell(results, runs):
    """Return the data set and architecture whose fills a page shows first, or None.

    It is the cell in which most runs beat the trivial baselines; among equal ones, that with the
    lowest L2 relative to the best baseline. runs: standing.judge_runs."""
    runs = runs.assign(ratio=runs.hole_l2 / runs.best_baseline_l2)
    cells = runs.groupby(frames.CELL, sort=False).agg({"beats_trivial": "mean", "ratio": "mean"})
    shown = {tuple(key.split("/")[:2]) for key in results.fills if "/stage" in key}
    cells = cells[(cells.beats_trivial > 0) & cells.index.isin(shown)]
    best = cells.sort_values(["beats_trivial", "ratio"], ascending=[False, True]).index
    return best[0] if len(best) else None


def _computed_by(runs):
    """Return runs and hours per data set, seed, device, versions and commit."""
    runs = runs.assign(runs=1, hours=runs.seconds / 3600)
    keys = ["dataset", "seed", "device", "precision", "system", "torch", "commit"]
    found = runs.groupby(keys, sort=False)[["runs", "hours"]].sum().reset_index()
    return found.assign(hours=found.hours.round(1))
