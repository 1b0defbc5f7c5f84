"""Show a training while it runs, its health, and the images and holes that it sees.

Displays are updated in place. None is an Output widget: its messages to the kernel can stall a
headless execution.
"""

import contextlib
import io
import os
import time
from html import escape
from types import SimpleNamespace

import ipywidgets
import numpy as np
import pandas as pd
import torch
from IPython.display import display

from .. import losses, masks, metrics
from ..data import feed, packs
from ..evaluation import evaluate
from ..results import health, pictures, plots, standing
from ..study import devices, provenance
from ..training import artifacts, identity, loop, weights

SAMPLES = 10  # test images shown
SHARP = 144  # dots per inch of a picture in a widget: two pixels for one, where screens have them


def _encode(fig, dpi="figure"):
    """Return a figure as PNG bytes."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def show_slider(draw, value, low, high, description):
    """Return a widget that redraws `draw(value) -> figure`."""
    first = draw(value)
    width = round(72 * first.get_figwidth())  # as large as a figure of the notebook
    image = ipywidgets.Image(value=_encode(first, SHARP), format="png", width=width)
    options = {"description": description, "continuous_update": False}
    control = ipywidgets.IntSlider(value, low, high, **options)
    control.observe(
        lambda move: setattr(image, "value", _encode(draw(move["new"]), SHARP)), "value"
    )
    return ipywidgets.VBox([control, image])


ANOTHER = """To train another, change setup, architecture or seed in the cell of parameters and run
all cells. To change its weights or rates, use the cell under What if?"""


@contextlib.contextmanager
def shorten_errors(*kinds):
    """Make a notebook show errors of these kinds as one sentence, without a traceback."""
    try:
        yield
    except kinds as error:
        sentence = str(error) or "stopped: run the cell again to continue from the last checkpoint"
        error._render_traceback_ = lambda: [sentence]  # IPython calls it
        raise


def train(run, after_stage=None, another=ANOTHER):
    """Train a run, show it meanwhile, and return what loop.fit returns.

    A run that was trained before is shown again, with a line that says how to train another.
    """
    live, before = Live(), identity.read_result(run)
    known = provenance.SettingsChanged, weights.WeightsError, devices.OutOfMemory
    with shorten_errors(KeyboardInterrupt, *known):
        result = loop.fit(run, live, after_stage)
    if result["outcome"] == "finished" and not live.unseen:
        live.finished(run)
    if before:
        print(f"{run.name} was trained before: {result['images']:,} images.\n{another}")
    return result


class Live:
    """Show a training while it runs: `loop.fit(run, watch=Live())`.

    Progress moves every second. Drawing the picture and the health below it takes at most a
    twentieth of the time. With $INPAINT_UNSEEN only the picture is shown, from the second minute on
    and at the end.
    """

    encoding = "utf-8"  # of `write`, for tqdm

    def __init__(self):
        self.unseen = bool(os.environ.get("INPAINT_UNSEEN"))
        self.next_drawing = time.monotonic() + (60 if self.unseen else 0)
        self.shown = {}  # displays by name

    def write(self, text):
        """Show the progress bar, as tqdm writes it."""
        if text.strip() and not self.unseen:
            self._show("progress", {"text/plain": text.strip()}, raw=True)

    def flush(self):
        """Do nothing: `write` shows at once."""

    def __call__(self, run, state):
        """Draw, unless it is too early for another picture."""
        trained, begun = state.step >= run.config.curriculum.steps, time.monotonic()
        if begun < self.next_drawing and not trained:
            return
        stage = run.phase(state.step - 1).stage + 1
        title = "trained" if trained else f"stage {stage} of {run.n_stages}, step {state.step}"
        self._show("picture", draw_training(run, state, f"{run.name}: {title}"))
        if not self.unseen:
            found = check_health(run, pd.DataFrame(state.history))
            self._show("health", {"text/html": render_health(found)}, raw=True)
        now = time.monotonic()
        self.next_drawing = now + max(1.0, 20 * (now - begun))

    def finished(self, run):
        """Show the end of a finished run."""
        if "picture" not in self.shown:
            history = pd.read_csv(run.folder / "history.csv")
            G = artifacts.load_generator(run, run.n_stages)
            state = SimpleNamespace(history=history, G=G)
            self._show("picture", draw_training(run, state, f"{run.name}: trained"))
        self._show("health", {"text/html": render_health(check_health(run))}, raw=True)

    def _show(self, name, what, **options):
        if handle := self.shown.get(name):  # there is none outside IPython
            handle.update(what, **options)
        else:
            self.shown[name] = display(what, display_id=True, **options)


# --- health


def check_health(run, history=None):
    """Return what results/health.py finds in a run's folder, finished or not: a DataFrame.

    history: the log points so far, of a run that has not written its history.csv.
    """
    if history is None:
        history = pd.read_csv(run.folder / "history.csv")
    ended = identity.read_result(run)
    lost = (ended["step"], ended["why"]) if ended and ended["why"] else None
    found = {"errors": None, "beside": None}
    if any((run.folder / "evaluation").glob("stage*.csv")):
        found = _read_errors(run)
    return health.examine_run(history, run.setup, run.schedule, **found, lost=lost)


def _read_errors(run):
    """Return the arguments {"errors", "beside"} of the health rules, None where not evaluated."""
    values = evaluate.read_values(run)
    own = (values.mask_family == run.model.mask_family) & (values.region == "hole")
    before = values[own & (values.metric == "l1") & (values.stage < run.n_stages)]
    errors = before.rename(columns={"value": "l1"})[["stage", "mask_width", "l1"]]
    if not (run.folder / "evaluation" / "images.csv.gz").is_file():
        return {"errors": errors, "beside": None}
    images = evaluate.read_image_errors(run)
    few = images[images.image < run.config.evaluation.images_elsewhere]  # as after other stages
    last = few.groupby("mask_width", as_index=False).l1.mean().assign(stage=run.n_stages)
    errors, largest = pd.concat([errors, last]), run.config.curriculum.mask_widths[-1]
    try:
        table = evaluate.read_baseline_errors(run.study.data_folder(run.dataset))
    except FileNotFoundError:
        return {"errors": errors, "beside": None}
    table = table[(table.mask_family == run.model.mask_family) & (table.mask_width == largest)]
    own = images[images.mask_width == largest].set_index("image")[["l2"]]
    return {
        "errors": errors,
        "beside": standing.compare_with_baselines(own, table).iloc[0].to_dict(),
    }


def render_health(found):
    """Return the health of one run as HTML: what is wrong, the evidence, what to try."""
    level, _ = health.summarise(found)
    items = [
        f"<li><b>{row.title}</b> ({row.level}, stage {row.stages}). {escape(row.sentence)} "
        f"{escape(row.evidence)} <i>{escape(row.advice)}</i></li>"
        for row in health.list_faults(found).itertuples()
    ]
    text = {"none": "too early to tell", "ok": "ok, no rule finds anything"}.get(level, level)
    return f"<p><b>Health: {text}.</b></p>" + f"<ul>{''.join(items)}</ul>" * bool(items)


# --- pictures


def draw_training(run, state, title):
    """Draw a training: its losses, and test images as its G fills them now."""
    history = pd.DataFrame(state.history)
    shown = (run.architecture_entry.objective.terms[-1], "adversarial_g", "adversarial_d")
    look = {"color": plots.get_style(run.setup)["color"]}
    fig, axes = plots.make_figure(
        2, 3, figsize=(8.5, 4.2), height_ratios=[1, 1.4], layout="constrained"
    )
    for axis, term in zip(axes[0], shown, strict=True):
        plots.shade_stages(axis, history)
        marker = "." if len(history) < 20 else ""  # one point alone is no line
        axis.plot(history.step, history[term], marker, ls="-", **look)
        axis.set(title=plots.TERM_LABELS.get(term, term), xlim=(0, run.config.curriculum.steps))
    for axis in axes[1]:
        axis.remove()
    below = fig.add_subplot(axes[1, 0].get_gridspec()[1, :])
    pack, width = packs.open_pack(run.study, run.dataset), run.config.curriculum.mask_widths[-1]
    real = np.array(pack.test[:SAMPLES])
    hole = pack.test_masks(run.model.mask_family, width, slice(SAMPLES))
    device = next(state.G.parameters()).device
    [batch] = metrics.inpaint(state.G, real, hole, device, SAMPLES)
    now = metrics.to_uint8(losses.composite(*batch))
    rows = {"input": pictures.show_hole(real, hole), "now": now, "truth": real}
    picture, gap = pictures.tile(list(np.stack(list(rows.values()), axis=1)), len(rows))
    below.imshow(picture, interpolation="nearest")
    below.set_yticks((np.arange(len(rows)) + 0.5) * (real.shape[1] + gap), list(rows))
    below.set_xticks([])
    below.grid(False)
    fig.suptitle(title, fontsize=9)
    return fig


def draw_families(images, width):
    """Draw the mask families at one nominal width, painted on images (N,H,W,3) uint8."""
    size = images.shape[1]
    frozen = {
        name: masks.draw_test_masks(name, len(images), width, size, seed=0)
        for name in masks.FAMILIES
    }
    shown = {name: pictures.show_hole(images, mask) for name, mask in frozen.items()}
    return pictures.draw_grid(shown, f"{width} px of {size}")


def read_batch(run, pack, step):
    """Return the images of one training step with their holes painted: (B,H,W,3) uint8."""
    config, cpu = run.config, torch.device("cpu")
    steps, size = range(step, step + 1), config.curriculum.batch_size
    images = next(feed.load_batches(feed.map_images(pack), run.seed, steps, size, cpu, "resident"))
    holes = loop.draw_holes(run, step, run.phase(step).mask_width)
    return pictures.show_hole(images.numpy(), holes[:, 0])
