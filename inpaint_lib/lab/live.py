"""Draw what a training sees, a picture of it that redraws itself, and a slider that redraws."""

import io
import os
import time

import ipywidgets
import numpy as np
import pandas as pd
import torch
from IPython.display import display

from .. import losses, masks, metrics
from ..data import feed, packs
from ..results import pictures, plots
from ..training import loop

SAMPLES = 10  # test images shown


def png(fig, dpi="figure"):
    """Return a figure as PNG bytes."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def slide(name, value, low, high):
    """Return a slider over integers."""
    return ipywidgets.IntSlider(value, low, high, description=name, continuous_update=False)


def slider(draw, value, low, high, description):
    """Return a widget that redraws `draw(value) -> figure`; see panels for why without Output."""
    image = ipywidgets.Image(value=png(draw(value)), format="png")
    control = slide(description, value, low, high)
    control.observe(lambda change: setattr(image, "value", png(draw(change["new"]))), "value")
    return ipywidgets.VBox([control, image])


class Live:
    """Show a training while it runs: `loop.fit(run, watch=Live())`.

    Drawing takes a twentieth of the time. If $INPAINT_UNSEEN is set, it begins after a minute.
    """

    def __init__(self):
        wait = 60 if os.environ.get("INPAINT_UNSEEN") else 0
        self.handle, self.next_drawing = None, time.monotonic() + wait

    def __call__(self, run, state, bar):
        """Draw, unless it is too early for another picture. `bar` is the progress as text."""
        trained, begun = state.step >= run.config.curriculum.steps, time.monotonic()
        if begun < self.next_drawing and not trained:
            return
        fig = draw(run, state, f"{run.name}: trained" if trained else str(bar))
        if self.handle:
            self.handle.update(fig)
        else:
            self.handle = display(fig, display_id=True)
        now = time.monotonic()
        self.next_drawing = now + max(1.0, 20 * (now - begun))


def draw(run, state, title):
    """Return a figure of a training: losses, and test images as its G fills them now."""
    history = pd.DataFrame(state.history)
    shown = (run.architecture_entry.objective.terms[-1], "adversarial_g", "adversarial_d")
    fig, axes = plots.figure(2, 3, figsize=(8.5, 4.2), height_ratios=[1, 1.4], layout="constrained")
    for axis, term in zip(axes[0], shown, strict=True):
        plots.shade_stages(axis, history)
        axis.plot(history.step, history[term], color=plots.style(run.setup)["color"])
        axis.set(title=plots.TERM_LABELS.get(term, term), xlim=(0, run.config.curriculum.steps))
    for axis in axes[1]:
        axis.remove()
    below = fig.add_subplot(axes[1, 0].get_gridspec()[1, :])
    pack, width = packs.existing(run.study, run.dataset), run.config.curriculum.mask_widths[-1]
    real = np.array(pack.test[:SAMPLES])
    hole = pack.test_masks(run.model.mask_family, width, slice(SAMPLES))
    device = next(state.G.parameters()).device
    [batch] = metrics.inpaint(state.G, real, hole, device, SAMPLES)
    now = metrics.to_uint8(losses.composite(*batch))
    rows = {"input": pictures.show_hole(real, hole), "now": now, "truth": real}
    picture, gap = pictures.tiled(list(np.stack(list(rows.values()), axis=1)), len(rows))
    below.imshow(picture, interpolation="nearest")
    below.set_yticks((np.arange(len(rows)) + 0.5) * (real.shape[1] + gap), list(rows))
    below.set_xticks([])
    below.grid(False)
    fig.suptitle(title, fontsize=8, family="monospace")
    return fig


def families(images, width):
    """Draw the mask families at one nominal width, painted on images."""
    size = images.shape[1]
    frozen = {name: masks.frozen(name, len(images), width, size, seed=0) for name in masks.FAMILIES}
    shown = {name: pictures.show_hole(images, mask) for name, mask in frozen.items()}
    return pictures.grid(shown, f"{width} px of {size}")


def training_batch(run, pack, step):
    """Return the images of one training step with their holes painted: (B,H,W,3) uint8."""
    config, cpu = run.config, torch.device("cpu")
    steps, size = range(step, step + 1), config.curriculum.batch_size
    images = next(feed.batches(feed.mapped(pack), run.seed, steps, size, cpu, "resident"))
    holes = loop.holes(run, step, run.phase(step).mask_width)
    return pictures.show_hole(images.numpy(), holes[:, 0])
