"""What a reader must know before believing a number, made from the configuration and from what was measured."""

import math

import pandas as pd

from .. import metrics
from ..data import sources
from ..evaluation import baselines, evaluate, pretrained
from ..study import files
from . import collect


def caveats(study):
    """What a reader must know before believing a number: one sentence each."""
    config = study.config
    used = {name: sources.DATASETS[name] for name in config.datasets}
    found = [f"Data set {n} is a stand-in for {s.stands_in_for}: {s.about}." for n, s in used.items() if s.stands_in_for]
    if "scenes" in config.datasets:
        found.append(
            "Eight photographs do not teach a network to generalise to a ninth: test crops of scenes show unseen parts of "
            "the photographs that were trained on."
        )
    if config.perceptual_weights == "random" and "custom" in config.architectures:
        found.append(
            "The perceptual loss of custom uses random weights: it is part of the machinery here, no measure of what people "
            "perceive."
        )
    if (n := len(config.seeds)) < 3:
        found.append(
            f"Trained with {n} seed{'s' * (n > 1)} per cell: no difference between setups can be told from chance, "
            "whatever the table shows. The protocol asks for five."
        )
    return found


def footnote(study):
    """What every table must say about itself. Raises FileNotFoundError as collect.stages."""
    config, runs = study.config, study.runs()
    rows = collect.final(study, collect.stages(study).query("region == 'hole'"))
    families = ", ".join(f"{name}: {config.models[name].mask_family}" for name in config.architectures)
    nominal = (config.mask_widths[-1] / config.image_size) ** 2
    manifests = {d: files.read_json(study.data_folder(d) / "manifest.json") for d in config.datasets}
    n_images = ", ".join(f"{d} {m['images']['test']:,}" for d, m in sorted(manifests.items()))
    holes = {(r.dataset, r.architecture): f"{r.model.mask_family}_{config.mask_widths[-1]}" for r in runs}
    covered = ", ".join(f"{d}/{a} {manifests[d]['masks'][key]['hole_fraction']:.3f}" for (d, a), key in sorted(holes.items()))
    of_cells = {(r.dataset, r.architecture, r.setup): 0 for r in runs}
    for run in collect.finished(study):
        of_cells[run.dataset, run.architecture, run.setup] += 1
    fewest, most = min(of_cells.values()), max(of_cells.values())
    n_seeds = f"{most} seeds" if fewest == most else f"{fewest} to {most} seeds, those whose runs did not diverge"
    averaged = "no run finished" if not most else "one seed" if most == 1 else f"mean ± standard deviation over {n_seeds}"
    frozen = ", ".join(f"{d} {m['files']['masks.npz']['sha256'][:16]}" for d, m in manifests.items())
    slow = ", ".join(baselines.SLOW)
    sentences = [
        f"Test images of {config.image_size} px: {n_images}.",
        f"Frozen masks (SHA-256: {frozen}) of the training family ({families}), {config.mask_widths[-1]} px wide: nominal hole "
        f"fraction {nominal:.2f}, realised mean {covered}.",
        f"Per image, then averaged; {averaged}.",
        "Images in [0, 1]: L1 = mean absolute difference, L2 = mean squared difference, PSNR = 10 log10(1 / L2) in dB per "
        f"image, capped at {metrics.PSNR_CAP:.0f} ({rows.n_psnr_capped.sum()} capped).",
        "hole: pixels of the hole alone; whole: the composite (output in the hole, truth elsewhere) over the whole image.",
        "SSIM: 11 x 11 Gaussian window. FID, KID and IS: composites, the former two against the originals of the same test "
        "images, KID unbiased, so that it may lie below 0, IS over ten splits.",
        "Delta E: CIEDE2000 between the mean colours of hole and truth. Continuity: difference of the gradients across the "
        "hole's boundary. Training - test: hole L1 on training images minus test images; what the baselines show there is how "
        "far the two sets differ. Stability: deviation of G's unweighted adversarial loss on one fixed batch over the last "
        "stage's steps, over its deviation between batches with the final networks at rest: 1 = nothing moves beyond that.",
        f"Baselines need no training; {slow}: the first {config.slow_baseline_images} test images at most, so without FID, KID "
        "and IS where there are more.",
        "No post-processing.",
    ]
    return " ".join([*sentences, *(f"{w}." for w in distribution_warnings(study))])


def distribution_warnings(study):
    """With which networks FID, IS and LPIPS were measured, why there are none, and how far to trust them."""
    heads, found = [evaluate.kept(run)[1] for run in collect.finished(study)], []
    for name, weights in pretrained.WEIGHTS.items():
        if name == "alexnet" and study.config.lpips_weights == "none":
            continue
        if name == "inception" and study.config.inception_weights == "random":
            found.append(
                "FID and IS not available: this profile does without the Inception weights (set inception_weights=auto, or "
                "name their file). FID and IS (random features) come from a small seeded network: they exercise the machinery "
                "and compare with no other figure"
            )
            continue
        for identity in sorted({h["settings"][name] for h in heads}):
            known = identity == weights.sha256
            found.append(
                f"{weights.metrics}: {weights.what}, SHA-256 {identity[:16]}" if known
                else f"{weights.metrics} not available: {identity}"
            )  # fmt: skip
    return [*found, *sorted({w for h in heads for w in h["warnings"]})]


def effect(row, value):
    """An effect of hypotheses.csv in its scale's unit: per cent of the second setup's value, or the metric's own."""
    return "-" if pd.isna(value) else per_cent(value) if row.scale == "ratio" else f"{value:+.4f}"


def per_cent(value):
    return f"{100 * value:+.1f} %"


def decibel(row):
    """An L1 ratio as a gain in PSNR would count it."""
    return f" ({-20 * math.log10(1 + row.effect):+.2f} dB)" if row.metric == "l1" and pd.notna(row.effect) else ""
