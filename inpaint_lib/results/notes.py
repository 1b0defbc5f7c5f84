"""What a reader must know before believing a number, made from a study's Results."""

import math
from pathlib import Path

import pandas as pd

from ..metrics import PSNR_CAP
from . import select

NETWORKS = {"inception": "FID, KID and IS", "alexnet": "LPIPS"}
FOOTNOTE = (Path(__file__).parent / "templates" / "footnote.txt").read_text("utf-8")


def caveats(results):
    """Return what a reader must know before believing a number: one sentence each."""
    found, config = [], results.about["config"]
    for name, data in results.about["data"].items():
        if data["stands_in_for"]:
            instead = f"Data set {name} is used instead of {data['stands_in_for']}"
            found.append(f"{instead}: {data['about']}.")
        if data["test_groups"]:
            found.append(
                f"{len(set(data['test_groups']))} photographs do not teach a network to generalise "
                f"to another one: test crops of {name} show unseen parts of the photographs that "
                "were trained on."
            )
    architectures = set(results.runs.architecture)
    if config["training"]["perceptual_weights"] == "random" and "custom" in architectures:
        found.append(
            "The perceptual loss of custom uses random weights: it exercises the machinery and "
            "does not measure what people perceive."
        )
    if (n := results.runs.seed.nunique()) < 3:
        found.append(
            f"Trained with {n} seed{'s' * (n > 1)} per cell: no difference between setups can be "
            "told from chance, whatever the table shows. The protocol asks for five."
        )
    found += [f"Left out: run {n} ({why})." for n, why in results.about["left_out"].items()]
    return found


def footnote(results):
    """Return what every table must say about itself."""
    config, width = results.about["config"], results.widths[-1]
    size, data = config["data"]["image_size"], results.about["data"]
    cells = select.cells(results.runs)
    families = {a: results.family(a) for _, a in cells}
    covered = [f"{d}/{a} {data[d]['masks'][f'{families[a]}_{width}']:.3f}" for d, a in cells]
    frozen = [f"{name} {stored['identity']['masks'][:16]}" for name, stored in data.items()]
    n_images = [f"{name} {stored['images']['test']:,}" for name, stored in data.items()]
    slow = results.baselines[results.baselines.n_images < results.baselines.n_images.max()]
    parts = slow[["baseline", "n_images"]].drop_duplicates().to_numpy().tolist()
    parts = [f"{name} on the first {n} images" for name, n in parts]
    said = FOOTNOTE.format(
        size=size,
        n_images=", ".join(n_images),
        frozen=", ".join(frozen),
        families=", ".join(f"{name}: {family}" for name, family in families.items()),
        width=width,
        nominal=f"{(width / size) ** 2:.2f}",
        covered=", ".join(covered),
        averaged=_averaged(select.finished(results)),
        cap=f"{PSNR_CAP:.0f}",
        slow="".join(f"; {part}" for part in parts),
    )
    return " ".join([*said.split(), *(f"{w}." for w in networks(results))])


def _averaged(runs):
    seeds = runs.groupby(["dataset", "architecture", "setup"]).seed
    if seeds.ngroups == 0:
        return "no run finished"
    fewest, most = seeds.count().min(), seeds.count().max()
    if (fewest, most) == (1, 1):
        return "one seed"
    counted = f"{most}" if fewest == most else f"{fewest} to {most}"
    return f"mean ± standard deviation over {counted} seeds"


def networks(results):
    """Return with which networks FID, IS and LPIPS were measured, or why there are none."""
    finished, found = select.finished(results), []
    for name, measures in NETWORKS.items():
        found += [f"{measures}: {text}" for text in sorted(set(finished[name])) if text]
    warnings = {text for texts in finished.warnings for text in texts.split("; ") if text}
    return [*found, *sorted(warnings)]


def in_words(verdicts):
    """Return rows of hypotheses.csv as a table of words. An effect is in its scale's unit: per cent
    of the second setup's value, or the metric's own."""
    rows = list(verdicts.itertuples())
    columns = {
        "hypothesis": verdicts.hypothesis.str.partition(": ")[2] if rows else [],
        "data": verdicts.dataset,
        "architecture": verdicts.architecture,
        "verdict": verdicts.verdict,
        "metric": verdicts.metric,
        "effect": [_effect(row, row.effect) + _decibel(row) for row in rows],
        "interval": [interval(row) for row in rows],
        "p": ["-" if pd.isna(row.p_value) else f"{row.p_value:.3g}" for row in rows],
        "seeds": verdicts.n_seeds,
        "smallest detectable effect": [_effect(row, row.detectable).lstrip("+") for row in rows],
        "remark": verdicts.remark.fillna(""),
    }
    return pd.DataFrame(columns, verdicts.index)


def interval(row):
    """Return the interval of a row of hypotheses.csv in words."""
    ends = [_effect(row, value) for value in (row.ci_low, row.ci_high)]
    return "-" if pd.isna(row.ci_low) else " to ".join(ends)


def _effect(row, value):
    if pd.isna(value):
        return "-"
    return f"{100 * value:+.1f} %" if row.scale == "ratio" else f"{value:+.4f}"


def _decibel(row):
    """Return an L1 ratio as a gain in PSNR would count it."""
    shown = row.metric == "l1" and pd.notna(row.effect)
    return f" ({-20 * math.log10(1 + row.effect):+.2f} dB)" if shown else ""
