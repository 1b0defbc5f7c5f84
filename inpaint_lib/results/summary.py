"""A published study as a page of Markdown: the answer, how sure it is, what it does not show."""

from . import notes, select, standing, stats, tables

BEGIN, END = "<!-- published {} -->", "<!-- end -->"  # of a study's block in the front page
CHECK = (
    "`./run_all.sh verify {name}` rebuilds every table, every verdict and this page from the saved "
    "values and compares. [docs/contribute.md](../../../docs/contribute.md) says how to add a seed."
)


def page(results, personal=""):
    """Return README.md of a published study; `personal`: what a person has to say."""
    name, runs = results.about["name"], standing.of_runs(results)
    lines = [f"# The published study *{name}*: does growing the hole help?", ""]
    lines += [*headline(results), ""]
    if len(select.effects(results)):
        lines += ["![Hole L1 of every setup against that of fixed](figures/answer.png)", ""]
    if (stats.primary(stats.judge(results)).n_seeds > 1).any():
        lines += ["![The registered comparison, a line per seed](figures/pairs.png)", ""]
    lines += ["## Do the networks beat the baselines?", "", *standing.summary(runs), ""]
    lines += [*tables.markdown(tables.standings(runs)), ""]
    lines += ["## What was run", "", f"{_setting(results)} {_how(results)}", ""]
    lines += [*tables.markdown(_computed_by(results)), ""]
    lines += ["## What surprised", "", personal, ""] if personal else []
    lines += ["## What it does not show", "", *(f"- {text}" for text in notes.caveats(results))]
    lines += [f"- {text}." for text in notes.networks(results)]
    lines += ["", "## Check it, add to it", "", CHECK.format(name=name), ""]
    return "\n".join(lines)


def front_page(results):
    """Return what README.md of the repository says of a published study: lines of Markdown."""
    name = results.about["name"]
    link = f"[The published study *{name}*](reports/published/{name}/README.md)"
    return [
        f"**{link}**: {_setting(results)} {_how(results)}",
        "",
        *headline(results),
        "",
        standing.summary(standing.of_runs(results))[0],
        "",
        *(f"It does not show: {sentence}" for sentence in notes.caveats(results)[:1]),
        f"Every number follows from files in this repository: `./run_all.sh verify {name}`.",
    ]


def filled(text, results):
    """Return a page whose block of a published study says today's `front_page`. Raises ValueError
    without the block's marks."""
    begin = BEGIN.format(results.about["name"])
    before, mark, rest = text.partition(begin)
    _, end, after = rest.partition(END)
    if not (mark and end):
        raise ValueError(f"the page has no block of the study: add the lines {begin} and {END}")
    return "\n".join([before + begin, "", *front_page(results), "", end + after])


def headline(results):
    """Return the answers to the primary hypotheses, sentences and a table: lines of Markdown."""
    primary = stats.primary(stats.judge(results))
    if primary.empty:
        return ["No pair of runs that the registered claim names is published yet."]
    rows = list(primary.itertuples())
    columns = {"verdict": "progressive fills better than fixed", "effect": "effect on hole L1"}
    shown = notes.in_words(primary)
    shown = shown.assign(verdict="**" + shown.verdict + "**").rename(columns=columns)
    shown = shown.drop(columns=["hypothesis", "metric", "p", "remark"])
    lines = [*(f"- {_sentence(row)}" for row in rows), "", *tables.markdown(shown), ""]
    remarks = [f"{r.dataset}, {r.architecture}: {r.remark}." for r in rows if r.remark]
    lines += [f"Pairs that differ or are left out: {' '.join(remarks)}", ""] if remarks else []
    plan = stats.registered()
    margin = next(h["margin"] for h in plan.hypotheses if h["role"] == "primary")
    return lines + [
        f"Margin: {100 * margin:g} %. Intervals: 95 %, widened by Holm's method over "
        f"{plan.primaries} registered primaries. exploratory: not the paper's data and sizes; "
        f"provisional: fewer seeds than the {plan.seeds} registered. Smallest detectable effect: "
        "with 80 % power."
    ]


def _sentence(row):
    where = f"{row.dataset}, {row.architecture}"
    if row.effect != row.effect or row.verdict.startswith("not testable"):
        return f"{where}: {row.verdict}."
    what = f"{abs(100 * row.effect):.1f} % {'lower' if row.effect < 0 else 'higher'}"
    return (
        f"{where}: with growing holes the error in the largest holes ends {what} than with the "
        f"largest holes throughout ({row.n_seeds} seed{'s' * (row.n_seeds != 1)}, interval "
        f"{notes.interval(row)}): {row.verdict}."
    )


def _setting(results):
    """Return data sets, size and setups in a sentence."""
    size = results.about["config"]["data"]["image_size"]
    names = [", ".join(dict.fromkeys(results.runs[key])) for key in ("dataset", "setup")]
    return f"{names[0]} at {size} px; setups {names[1]}."


def _how(results):
    """Return the profile, the runs, hours and devices in a sentence."""
    runs, images = results.runs, results.about["config"]["curriculum"]["total_images"]
    hours, devices = runs.seconds.sum() / 3600, ", ".join(dict.fromkeys(runs.device))
    return (
        f"Profile `{results.about['profile']}` (study.json has every setting): {len(runs)} runs of "
        f"up to {images:,} images each, {hours:.1f} hours of training on {devices}."
    )


def _computed_by(results):
    """Return who computed what: a row per data set, seed, device, versions and commit."""
    runs = results.runs.assign(runs=1, hours=results.runs.seconds / 3600)
    keys = ["dataset", "seed", "device", "precision", "system", "torch", "commit"]
    found = runs.groupby(keys, sort=False)[["runs", "hours"]].sum().reset_index()
    return found.assign(hours=found.hours.round(1))
