"""What moves in a notebook: a picture of the training that redraws itself, and a slider that redraws a figure."""

import io
import os
import time

import ipywidgets
import numpy as np
import pandas as pd
from IPython.display import display

from .. import losses
from ..results import pictures, plots


def png(fig, dpi="figure"):
    """A figure as PNG bytes."""
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


def slider(draw, value, low, high, description):
    """A slider that redraws `draw(value) -> figure`, for JupyterLab. It works without an Output widget, whose messages to the
    kernel can stall a headless execution."""

    image = ipywidgets.Image(value=png(draw(value)), format="png")
    control = ipywidgets.IntSlider(value, low, high, description=description, continuous_update=False)
    control.observe(lambda change: setattr(image, "value", png(draw(change["new"]))), "value")
    return ipywidgets.VBox([control, image])


class Live:
    """A picture of the training that redraws itself in a notebook: pass it to `loop.fit(run, watch=Live())`.

    Progress with images/s and time left, losses, and what G makes of the first test images with full-size holes. Drawing takes
    at most a twentieth of the time. Where nobody looks on ($INPAINT_UNSEEN, of run_notebook) only the last picture counts, or,
    if the run does not come to its end, the last there is: the first is drawn after a minute.
    """

    SAMPLES = 10

    def __init__(self):
        self.handle, self.next_drawing = None, time.monotonic() + 60 * bool(os.environ.get("INPAINT_UNSEEN"))

    def __call__(self, run, state, bar):
        finished = state.step >= run.config.steps
        begun = time.monotonic()
        if begun < self.next_drawing and not finished:
            return
        fig = self.draw(run, state, f"{run.name}: trained" if finished else str(bar))
        if self.handle is None:
            self.handle = display(fig, display_id=True)
        else:
            self.handle.update(fig)
        now = time.monotonic()
        self.next_drawing = now + max(1.0, 20 * (now - begun))

    def draw(self, run, state, text):
        history, terms = pd.DataFrame(state.history), losses.OBJECTIVES[run.architecture].terms
        fig, axes = plots.figure(2, 3, figsize=(8.5, 4.2), height_ratios=[1, 1.4], layout="constrained")
        for axis, term in zip(axes[0], (terms[-1], "adversarial_g", "adversarial_d"), strict=True):
            plots.shade_stages(axis, history)
            axis.plot(history.step, history[term], ".-", color=plots.SETUP_COLOURS[run.setup], lw=1.2, ms=3)
            axis.set(title=plots.TERM_LABELS[term], xlim=(0, run.config.steps))
        for axis in axes[1]:
            axis.remove()
        below = fig.add_subplot(axes[1, 0].get_gridspec()[1, :])
        real, hole, filled = pictures.filled_by(state.G, run, slice(self.SAMPLES))
        rows = [pictures.show_hole(real, hole), filled, real]
        canvas, gap = pictures.tiled([np.stack(image) for image in zip(*rows, strict=True)], len(rows))
        below.imshow(canvas, interpolation="nearest")
        below.set_xticks([])
        size = real.shape[1]
        below.set_yticks([k * (size + gap) + size / 2 for k in range(3)], ["input", "now", "truth"])
        below.tick_params(length=0)
        below.spines[:].set_visible(False)
        below.grid(False)
        fig.suptitle(text, fontsize=8, family="monospace")
        return fig
