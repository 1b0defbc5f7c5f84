"""The model card of a trained generator: model/README.md, and metrics in model/model.json."""

from pathlib import Path

from .. import metrics, models
from ..data import sources
from ..study import files

DEFINITIONS = {  # of the metrics and regions in a card
    "l1": "mean absolute difference, images in [0, 1], per image, then averaged",
    "l2": "mean squared difference, images in [0, 1], per image, then averaged",
    "psnr": f"10 log10(1 / L2) in dB per image, capped at {metrics.PSNR_CAP:.0f}, then averaged",
    "hole": "the hole's pixels alone",
    "whole_composite": "output in the hole, truth elsewhere, over the whole image",
    "visible": "the network's raw output on the known pixels",
}
KEYS = ["mask_family", "mask_width", "region", "n_images"]
CENTRE = "the central half of a square image"
ANYWHERE = "holes of any place and shape, up to half of the image wide"


def write(run, frame):
    """Write the model card of a finished run from model.json and the frame of its last stage."""
    import jinja2  # here: only evaluation needs it

    folder = run.folder / "model"
    if not (description := files.read_json(folder / "model.json")):
        return
    of = frame.metric.isin(metrics.METRICS) & frame.region.isin(DEFINITIONS)
    own = frame[of & (frame.mask_family == run.model.mask_family)]
    table = own.pivot(index=KEYS, columns="metric", values="value").reset_index()
    values = {"definitions": DEFINITIONS, "values": table.to_dict("records")}
    description["metrics"] = {"after_stage": run.n_stages} | values
    files.write_json(folder / "model.json", description)
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(loader=loader, trim_blocks=True, keep_trailing_newline=True)
    text = environment.get_template("card.md.j2").render(
        size=description["image_size"],
        central=models.is_central(run.architecture),
        d=description,
        shown=[*KEYS[:3], *metrics.METRICS, KEYS[3]],
        fills=CENTRE if models.is_central(run.architecture) else ANYWHERE,
        warnings=_warnings(run, description["data"]),
        licence=sources.find_dataset(run.dataset).licence,
    )
    files.write_text(folder / "README.md", text)


def _warnings(run, data):
    """Return warnings about the training of the generator."""
    found, images = [], run.config.curriculum.total_images
    if stands_for := data["stands_in_for"]:
        found.append(f"Data set {run.dataset} is used instead of {stands_for}: {data['about']}.")
    weights = run.config.training.perceptual_weights
    if "perceptual" in run.model.loss_weights and weights == "random":
        found.append("The perceptual loss used random weights: it measures nothing people see.")
    if images < 1_000_000:
        found.append(f"Trained on {images:,} images: a demonstration, too few for good fills.")
    return found
