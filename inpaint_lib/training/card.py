"""What goes out with a trained generator: its description as a dict, and the model card made from it.

What is said here has no part in what is computed: this file is none of loop.SOURCES, and a change leaves finished runs valid.
"""

from .. import metrics
from ..data import sources

DEFINITIONS = {  # of the metrics and regions in a description
    "l1": "mean absolute difference, images in [0, 1], per image, then averaged",
    "l2": "mean squared difference, images in [0, 1], per image, then averaged",
    "psnr": f"10 log10(1 / L2) in dB per image, capped at {metrics.PSNR_CAP:.0f}, then averaged",
    "hole": "the hole's pixels alone",
    "whole_composite": "output in the hole, truth elsewhere, over the whole image",
    "whole_raw": "the network's output over the whole image",
}
SHOWN = ("mask_family", "mask_width", "region", "l1", "l2", "psnr", "n_images", "n_psnr_capped")
TASKS = {True: "the central half of a square image", False: "holes of any place and shape, up to half of the image wide"}


def describe(result, manifest, stages, central):
    """All that is needed to rebuild, use and judge a finished run's generator: a dict, ready for JSON.

    `result` is result.json, `manifest` the pack's, `stages` the table stages.csv; `central`: it fills the central half alone.
    """
    settings, config = result["settings"], result["config"]
    last = stages[stages.stage == stages.stage.max()]
    measured = {"after_stage": int(last.stage.iloc[0]), "definitions": DEFINITIONS}
    return {
        "run": result["run"],
        "architecture": settings["architecture"],
        "image_size": settings["image_size"],
        "fills": TASKS[central],
        "parameters": result["parameters"]["generator"],
        "settings": settings,
        "data": {key: manifest[key] for key in ("about", "stands_in_for", "images", "files")},
        "training": {
            "images_shown": result["final"]["step"] * settings["batch_size"],
            "steps": result["final"]["step"],
            "stages": len(settings["mask_widths"]),
            **{key: result[key] for key in ("seconds", "device", "precision")},
        },
        "metrics": measured | {"values": last[list(SHOWN)].to_dict("records")},
        "warnings": _warnings(settings, config, manifest),
        "licence": sources.DATASETS[settings["dataset"]].licence,
        "provenance": result["provenance"],
    }


def _warnings(settings, config, manifest):
    found = []
    if manifest["stands_in_for"]:
        found.append(f"Data set {settings['dataset']} is a stand-in for {manifest['stands_in_for']}: {manifest['about']}.")
    if "perceptual" in settings["loss_weights"] and config["perceptual_weights"] == "random":
        found.append("The perceptual loss used random weights: part of the machinery, no measure of what people perceive.")
    if config["total_images"] < 1_000_000:
        found.append(f"Trained on {config['total_images']:,} images shown: a demonstration, too little for good fillings.")
    return found


def write(description):
    """The model card as Markdown."""
    d, s, t = description, description["settings"], description["training"]
    rows = [[f"{v:.5g}" if isinstance(v, float) else str(v) for v in map(row.get, SHOWN)] for row in d["metrics"]["values"]]
    table = "\n".join(f"| {' | '.join(row)} |" for row in [SHOWN, ["---"] * len(SHOWN), *rows])
    return CARD.format(
        d=d, s=s, t=t, table=table, data=d["data"], commit=d["provenance"]["commit"],
        warnings="".join(f"- **{w}**\n" for w in d["warnings"]),
        losses=", ".join(f"{k} {v:g}" for k, v in s["loss_weights"].items()),
        hashes="\n".join(f"- `{name}`: SHA-256 {entry['sha256']}" for name, entry in d["data"]["files"].items()),
        definitions="\n".join(f"- `{name}`: {what}" for name, what in d["metrics"]["definitions"].items()),
        versions=", ".join(f"{name} {version}" for name, version in d["provenance"]["versions"].items()),
        licence=d["licence"] or "The code is under the MIT licence. Mind the licence of the images it was trained on.",
    )  # fmt: skip


CARD = """# {d[run]}: a network that fills holes

{warnings}
## What it is

The generator of `{d[architecture]}` at {d[image_size]} x {d[image_size]} pixels, {d[parameters]:,} parameters, trained by the
setup `{s[setup]}` in a replication of *Learning to Inpaint by Progressively Growing the Mask Regions* (Hedjazi & Genç, arXiv
2002.09280). `model.safetensors` holds the weights and, in its header, all of `model.json`.

## Intended use and limits

Made to study training setups. It fills {d[fills]}; it was trained on holes of the family `{s[mask_family]}`. What it
puts into a hole is invented: no evidence of what was there. It knows the kind of image it was trained on alone. It works at
its own resolution, so wide holes in large photographs come out blurred.

## Training data

`{s[dataset]}`: {data[about]}. {data[images][train]:,} images for training, {data[images][test]:,} for testing.

{hashes}

## Training procedure

{t[images_shown]:,} images shown in {t[steps]:,} steps of {s[batch_size]}; {t[stages]} stages, hole widths {s[mask_widths]}
pixels; seed {s[seed]}. Adam, learning rates {s[lr_g]:g} (generator) and {s[lr_d]:g} (discriminator), betas {s[betas]}.
Losses: {losses}. {t[seconds]:,} seconds on {t[device]} in {t[precision]}; commit {commit}; {versions}.

## Metrics

After stage {d[metrics][after_stage]}, on frozen test masks of every width; no post-processing.

{table}

{definitions}

## How to use

    ./run_all.sh inpaint PHOTO --box x,y,w,h --weights model.safetensors -o OUT.png

## Licence

{licence}
"""
