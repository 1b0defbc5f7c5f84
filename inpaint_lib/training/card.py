"""What goes out with a trained generator: its description as a dict, and the model card made from it.

What is said here has no part in what is computed: this file is none of loop.SOURCES, and a change leaves finished runs valid.
"""

from pathlib import Path

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
            "images_shown": result["images"],
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
    import jinja2  # here: only what has trained needs it

    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(loader=loader, trim_blocks=True, keep_trailing_newline=True)
    return environment.get_template("card.md.j2").render(d=description, shown=SHOWN)
