"""A published study on a page of Markdown, README.md: the answer, how sure it is, who computed it, what it does not show."""

import pandas as pd

from ..study import config as configuration
from ..study import files
from . import collect, notes, report, standing, stats, tables, trend

PERSONAL = "surprised.md"  # beside README.md: what a person has to say


def write(study):
    """Write README.md of a Published from its tables, its runs, and what a person wrote beside them."""
    with files.replacing(study.report / "README.md") as temporary:
        temporary.write_text(text(study), encoding="utf-8")


def text(study):
    config = study.config
    runs = pd.read_csv(study.report / "tables" / "runs.csv")
    results = collect.of_runs(study)
    personal = study.base / PERSONAL
    measured = "fid" in set(pd.read_csv(study.report / "tables" / "results.csv").metric)
    manifests = {d: files.read_json(study.data_folder(d) / "manifest.json") for d in config.datasets}
    otherwise = report.deviations(config, manifests, measured)
    return "\n".join([
        f"# The published study *{study.profile}*: does growing the hole beat training on full-size holes?",
        "",
        *headline(study),
        "",
        "![Hole L1 of every setup against that of fixed](figures/answer.png)",
        "",
        *(["![The registered comparison, a line per seed](figures/pairs.png)", ""] if config.seeds[1:] else []),
        *_trend(study, "", "../"),
        "## Have the networks learnt?",
        "",
        *standing.summary(runs),
        "",
        *tables.markdown(tables.standings(runs)),
        "",
        "## What was run",
        "",
        f"{how(study, '`')} Data: {', '.join(config.datasets)}, {config.image_size} px. Setups: {', '.join(config.setups)}.",
        "",
        *tables.markdown(computed_by(results)),
        "",
        *(["## What surprised", "", personal.read_text(encoding="utf-8").strip(), ""] if personal.is_file() else []),
        "## What it does not show",
        "",
        *(f"- {sentence}" for sentence in notes.caveats(study)),
        f"- It differs from the paper's study in {len(otherwise)} points: {', '.join(what for what, *_ in otherwise)}.",
        "- FID, Inception Score and LPIPS were "
        + ("measured." if measured else "not measured: their networks' weights were not at hand."),
        "",
        "## Check it, go on with it",
        "",
        f"`./run_all.sh verify {study.profile}` makes every table and figure anew from `runs/`, compares, and writes the whole "
        "report to `index.html`. [docs/contribute.md](../../../docs/contribute.md): how to add a seed.",
        "",
    ])  # fmt: skip


def commands(study):
    """The commands that train the runs of a Published, and no others."""
    stored, grid = files.read_json(study.base / "study.json"), ("datasets", "architectures", "setups", "seeds")
    usual = configuration.load(stored["profile"])
    blocks = [((r.dataset,), (r.architecture,), (r.setup,), (r.seed,)) for r in study.runs()]
    for k in (2, 1, 0, 3):  # what differs in one value alone is asked for together
        alike = {}
        for block in blocks:
            alike.setdefault((*block[:k], *block[k + 1 :]), []).extend(block[k])
        blocks = [(*rest[:k], tuple(values), *rest[k:]) for rest, values in alike.items()]
    changed = [f"--set {key}={value}" for key, value in stored.get("overrides", {}).items()]
    return [
        " ".join(["./run_all.sh", stored["profile"], *changed, *(
            f"--{key} {','.join(map(str, values))}" for key, values in zip(grid, block, strict=True)
            if values != getattr(usual, key))])
        for block in blocks
    ]  # fmt: skip


def how(study, mark=""):
    """The commands of a Published, its runs, hours and devices, in a sentence; `mark`: about each command."""
    results, command = collect.of_runs(study), f"{mark} and {mark}".join(commands(study))
    hours, threads = sum(r["seconds"] for r in results.values()) / 3600, study.config.threads
    devices = ", ".join(dict.fromkeys(r["device"] for r in results.values()))
    of = f" ({threads} thread{'s' * (threads > 1)} a run)" if "cpu" in devices else ""
    return (f"{mark}{command}{mark}: {len(results)} runs of {study.config.total_images:,} images each, {hours:.1f} hours of "
            f"training on {devices}{of}.")  # fmt: skip


def front_page(study):
    """What README.md of the repository says of a Published: lines of Markdown."""
    runs, config = pd.read_csv(study.report / "tables" / "runs.csv"), study.config
    folder = f"reports/published/{study.profile}"
    return [
        f"**[The published study *{study.profile}*]({folder}/README.md)**: {', '.join(config.datasets)} at "
        f"{config.image_size} px. {how(study, '`')}",
        "",
        *headline(study),
        "",
        *_trend(study, f"{folder}/", "reports/published/"),
        standing.summary(runs)[0],
        "",
        *(f"It does not show: {sentence}" for sentence in notes.caveats(study)[:1]),
        f"Every number follows from files in this repository: `./run_all.sh verify {study.profile}`.",
    ]


def show_on(page, study):
    """Write `front_page` between the marks of a Published in a Markdown file, if it has them."""
    begin, end, content = f"<!-- published {study.profile} -->\n", "<!-- end -->", page.read_text(encoding="utf-8")
    if begin in content:
        before, after = content.split(begin)[0], content.split(begin)[1].split(end, 1)[1]
        with files.replacing(page) as temporary:
            temporary.write_text("\n".join([before + begin, *front_page(study), "", end + after]), encoding="utf-8")


def _trend(study, own, shelf):
    """The trend with the budget, lines of Markdown; `own`, `shelf`: the way to a study's folder and to that of all of them."""
    if not (said := trend.sentences(study)):
        return []
    names = dict.fromkeys(trend.read(study)[0].study)
    linked = ", ".join(f"[{name}]({shelf}{name}/README.md)" for name in names)
    return [f"The trend with the budget (registered, secondary; {linked}):", "", *(f"- {line}" for line in said), "",
            f"![The effect against the budget]({own}figures/trend.png)", ""]  # fmt: skip


def headline(study):
    """The answer to each primary hypothesis in a sentence, and the verdicts as a table: lines of Markdown."""
    verdicts = pd.read_csv(study.report / "tables" / "hypotheses.csv")
    primary = verdicts[verdicts.hypothesis.str.startswith("primary")]
    if primary.empty:
        return ["No pair of runs that the registered claim names is published yet."]
    table = pd.DataFrame({
        "data": primary.dataset,
        "architecture": primary.architecture,
        "progressive fills better than fixed": [f"**{v}**" for v in primary.verdict],
        "effect on hole L1": [notes.effect(r, r.effect) + notes.decibel(r) for r in primary.itertuples()],
        "interval": [_interval(r) for r in primary.itertuples()],
        "seeds": primary.n_seeds,
        "so many seeds find": [notes.effect(r, r.detectable).lstrip("+") for r in primary.itertuples()],
    })  # fmt: skip
    remarked = primary[primary.remark.notna()]  # an empty one is read as missing
    remarks = [f"{r.dataset}, {r.architecture}: {r.remark}." for r in remarked.itertuples()]
    return [*(f"- {_sentence(r)}" for r in primary.itertuples()), "", *tables.markdown(table), "",
            *(["Pairs left out, or whose two runs were trained otherwise: " + " ".join(remarks), ""] if remarks else []),
            f"Margin: 2 %. Intervals: 95 %, widened by Holm's method over {stats.registered().primaries} registered primaries. "
            "exploratory: not the paper's data and sizes; provisional: fewer seeds than the five registered."]  # fmt: skip


def _sentence(row):
    where = f"{row.dataset}, {row.architecture}"
    if pd.isna(row.effect) or row.verdict.startswith("not answered"):
        return f"{where}: {row.verdict}."
    what = f"{abs(100 * row.effect):.1f} % {'lower' if row.effect < 0 else 'higher'}"
    return (f"{where}: with growing holes the error in full-size holes ends {what} than with full-size holes throughout "
            f"({row.n_seeds} seed{'s' * (row.n_seeds != 1)}, interval {_interval(row)}): {row.verdict}.")  # fmt: skip


def _interval(row):
    return "-" if pd.isna(row.ci_low) else f"{notes.effect(row, row.ci_low)} to {notes.effect(row, row.ci_high)}"


def computed_by(results):
    """Who computed what: a row per commit, device and versions. `results`: {name of a run: its result.json}."""
    rows = []
    for result in results.values():
        made = result["provenance"]
        rows.append({"runs": 1, "hours": result["seconds"] / 3600, "seed": result["settings"]["seed"],
                     "data": result["settings"]["dataset"], "device": f"{result['device']}, {result['precision']}",
                     "system": made["system"], "torch": made["versions"]["torch"], "commit": made["commit"]})  # fmt: skip
    keys = ["data", "seed", "device", "system", "torch", "commit"]
    found = pd.DataFrame(rows).groupby(keys, sort=False)[["runs", "hours"]].sum().reset_index()
    return found.assign(hours=found.hours.round(1))
