"""The widgets of notebook 40, thin around explore.py: choosing runs, scrubbing, comparing curves, D's scores, painting holes.

Pictures are Image widgets redrawn as PNG and texts are HTML widgets. There is no Output widget: its messages to the kernel can
stall a headless execution (see live.slider). A widget shows nothing without a browser, so the notebook shows figures beside.
"""

import io
from html import escape

import ipycanvas
import ipywidgets
import numpy as np
import pandas as pd

from .. import masks, models
from ..data import images
from ..results import pictures, plots
from ..rng import keyed
from ..training.artifacts import load_networks
from . import explore, live

CANVAS = 320  # pixels of the screen, at most, that an image of up to 160 px is enlarged to for painting
KEPT = 8  # pairs of networks held in memory
WRAP = ipywidgets.Layout(flex_flow="row wrap")


def empty_picture(name):
    """An Image widget that shows its PNG at its own size: stretched to the page, pixels and letters would blur."""
    widget = ipywidgets.Image(value=b"", format="png", layout={"align_self": "flex-start", "max_width": "100%"})
    widget.add_class(name)
    return widget


def table(frame, note=""):
    """A frame as HTML, in JupyterLab's own style, under a note."""
    return f"<p>{note}</p>" + frame.to_html(border=0, float_format="{:.4g}".format, na_rep="-")


def text(name):
    widget = ipywidgets.HTML()
    widget.add_class("jp-RenderedHTMLCommon")
    widget.add_class(name)
    return widget


class Picker:
    """Chooses among finished runs: one data set and seed, any architectures and setups. `box` is the widget.

    At first the grid of `config` is chosen, as far as it is there. Raises ValueError if there is no run.
    """

    def __init__(self, found, config):
        if not found:
            raise ValueError("no finished run: train one first, as notebooks 10 to 12 do")
        self.found, self.loaded = found, {}
        values = {k: list(dict.fromkeys(getattr(r, k) for r in found)) for k in ("dataset", "architecture", "setup", "seed")}
        several = {"layout": {"width": "300px", "height": "110px"}}
        self.controls = {
            "dataset": ipywidgets.Dropdown(options=values["dataset"], description="data set"),
            "architecture": ipywidgets.SelectMultiple(options=values["architecture"], description="architecture", **several),
            "setup": ipywidgets.SelectMultiple(options=values["setup"], description="setups", **several),
            "seed": ipywidgets.Dropdown(options=sorted(values["seed"]), description="seed"),
        }
        grid = [r for r in found if all(getattr(r, k) in getattr(config, f"{k}s") for k in self.controls)] or found[:1]
        for name, control in self.controls.items():
            of_first = [r for r in grid if (r.dataset, r.seed) == (grid[0].dataset, grid[0].seed)]
            there = list(dict.fromkeys(getattr(r, name) for r in of_first))
            control.value = tuple(there) if name in ("architecture", "setup") else there[0]
        dataset, architecture, setup, seed = self.controls.values()
        self.box = ipywidgets.HBox([ipywidgets.VBox([dataset, seed]), architecture, setup], layout=WRAP)

    def runs(self):
        """The finished runs of the choice, in the order of the registries; may be empty."""
        wanted = {k: c.value if isinstance(c.value, tuple) else (c.value,) for k, c in self.controls.items()}
        return [r for r in self.found if all(getattr(r, k) in values for k, values in wanted.items())]

    def load(self, run, stage):
        """`artifacts.load_networks`, the last ones kept in memory."""
        key = run.name, stage
        if key not in self.loaded:
            if len(self.loaded) >= KEPT:
                self.loaded.pop(next(iter(self.loaded)))
            self.loaded[key] = load_networks(run, stage)
        return self.loaded[key]

    def on_change(self, callback):
        for control in self.controls.values():
            control.observe(callback, "value")

    def chooser(self, description, position):
        """A dropdown of the chosen runs that follows the choice."""
        control = ipywidgets.Dropdown(description=description)

        def follow(_=None):
            picked = self.runs()
            control.options = [(explore.name_of(run), run) for run in picked]
            control.value = picked[min(position, len(picked) - 1)] if picked else None

        self.on_change(follow)
        follow()
        return control

    def sliders(self):
        """Number of the test image and hole width."""
        config, n = self.found[0].study.config, max(len(explore.pack_of([r]).test) for r in self.found)
        return {
            "image": ipywidgets.IntSlider(0, 0, n - 1, description="test image", continuous_update=False),
            "width": ipywidgets.SelectionSlider(
                options=config.mask_widths, value=config.mask_widths[-1], description="hole (px)", continuous_update=False
            ),
        }

    def last_stage(self):
        return len(self.found[0].study.config.mask_widths)


def panel(draw, controls, picker, name):
    """Controls above a picture above a text, redrawn by `draw(**values) -> (figure, HTML)` when a value or the picker's choice
    changes. What `draw` cannot do (ValueError) is said in the text."""
    image, label = empty_picture(f"{name}-picture"), text(f"{name}-text")

    def redraw(_=None):
        try:
            fig, label.value = draw(**{key: control.value for key, control in controls.items()})
            image.value = live.png(fig, 96)
        except ValueError as error:
            label.value = f"<p>{error}</p>"

    for control in controls.values():
        control.observe(redraw, "value")
    if picker:  # else one of the controls follows the choice
        picker.on_change(redraw)
    redraw()
    box = ipywidgets.VBox([ipywidgets.HBox(list(controls.values()), layout=WRAP), image, label])
    box.add_class(name)
    return box


def scrubber(picker):
    """Outputs of all chosen runs side by side, by iteration, test image and hole width; a stage slider jumps to stage ends."""
    steps, log_every = max((r.study.config.steps, r.study.config.log_every) for r in picker.found)
    iteration = ipywidgets.IntSlider(steps, 0, steps, log_every, description="iteration", continuous_update=False)
    stage = ipywidgets.IntSlider(picker.last_stage(), 0, picker.last_stage(), description="stage", continuous_update=False)

    def draw(iteration, image, width):
        picked = picker.runs()
        fig, frame = explore.outputs(picked, iteration, image, width, picker.load)
        return fig, table(frame, explore.describe(picked[0], iteration))

    def jump(change):
        if explore.stage_at(picker.found[0], iteration.value) != change["new"]:
            iteration.value = change["new"] * (steps // picker.last_stage())

    stage.observe(jump, "value")
    iteration.observe(lambda change: setattr(stage, "value", explore.stage_at(picker.found[0], change["new"])), "value")
    box = panel(draw, {"iteration": iteration} | picker.sliders(), picker, "scrub")
    box.children[0].children = (stage, *box.children[0].children)
    return box


def curves(picker):
    """Two of the chosen runs, one logged quantity, smoothed."""
    terms = ipywidgets.Dropdown(options=[(label, key) for key, label in plots.TERM_LABELS.items()], value="adversarial_g",
                                description="quantity")  # fmt: skip
    smoothing = ipywidgets.FloatSlider(0.6, min=0, max=0.98, step=0.02, description="smoothing", continuous_update=False)

    def draw(one, other, term, weight):
        picked = [run for k, run in enumerate((one, other)) if run and (k == 0 or run != one)]
        explore.pack_of(picked)  # or say that there is none
        fig, ends = explore.curves(picked, term, weight)
        return fig, table(ends, "" if len(ends) else "These runs do not log this quantity.")

    controls = {"one": picker.chooser("one", 0), "other": picker.chooser("other", 1), "term": terms, "weight": smoothing}
    return panel(draw, controls, None, "curves")


def scores(picker):
    """D's score maps of one of the chosen runs on a real and on a filled test image."""
    stage = ipywidgets.IntSlider(picker.last_stage(), 0, picker.last_stage(), description="stage", continuous_update=False)

    def draw(run, stage, image, width):
        pack = explore.pack_of([run] if run else [])
        image = min(image, len(pack.test) - 1)
        hole = pack.test_masks(run.model.mask_family, width)[image]
        found, boundary = explore.score_maps(run, picker.load(run, stage), pack.test[image], hole)
        means = {name: {f"scale {k}": m.mean() for k, m in enumerate(maps, 1)} for name, (_, maps) in found.items()}
        note = f'Mean scores of D after stage {stage}; above {boundary:g} it says "real".'
        return explore.score_figure(found, boundary), table(pd.DataFrame(means).T, note)

    return panel(draw, {"run": picker.chooser("run", 0), "stage": stage} | picker.sliders(), None, "scores")


class Painter:
    """Paint a hole on a test image or on one of your own; every chosen run fills it at once. `box` is the widget.

    `layers` are the holes painted so far, one per stroke or draw by seed, (size, size) uint8 each: undo takes off the last.
    """

    def __init__(self, picker):
        self.picker, self.layers, self.stroke, self.own = picker, [], None, None
        self.size = picker.found[0].study.config.image_size
        self.zoom = max(CANVAS // self.size, 2)
        side = self.size * self.zoom  # the layout must say it too, or clicks are scaled
        self.canvas = ipycanvas.Canvas(width=side, height=side, layout={"width": f"{side}px", "height": f"{side}px"})
        self.canvas.add_class("paint-canvas")
        self.brush = ipywidgets.IntSlider(max(self.size // 8, 1), 1, self.size // 2, description="brush (px)")
        self.seed = ipywidgets.BoundedIntText(0, 0, 10**6, description="seed")
        self.image, self.stage = picker.sliders()["image"], ipywidgets.IntSlider(
            picker.last_stage(), 0, picker.last_stage(), description="stage", continuous_update=False
        )  # fmt: skip
        self.upload = ipywidgets.FileUpload(accept="image/*", multiple=False, description="own image")
        self.note, self.label = text("paint-note"), text("paint-text")
        self.picture = empty_picture("paint-picture")
        buttons = {"free-form hole": self.draw_seed, "undo": self.undo, "clear": self.clear, "test image": self.leave_own}
        self.buttons = {name: ipywidgets.Button(description=name) for name in buttons}
        for name, action in buttons.items():
            self.buttons[name].on_click(lambda _, action=action: action())

        self.canvas.on_mouse_down(self.press)
        self.canvas.on_mouse_move(self.move)
        self.canvas.on_mouse_up(lambda *_: self.release())
        self.canvas.on_mouse_out(lambda *_: self.release())
        self.canvas.on_touch_start(lambda touches: self.press(*touches[0]))
        self.canvas.on_touch_move(lambda touches: self.move(*touches[0]))
        self.canvas.on_touch_end(lambda _: self.release())
        self.canvas.on_touch_cancel(lambda _: self.release())
        self.canvas.on_client_ready(lambda: self.show_canvas())  # a page that is opened later sees it too
        self.upload.observe(lambda _: self.take_upload(), "value")
        self.image.observe(lambda _: self.leave_own(), "value")
        self.stage.observe(lambda _: self.update(), "value")
        picker.on_change(lambda _: self.update())

        pick = [self.image, ipywidgets.HBox([self.upload, self.buttons["test image"]]), self.stage, self.brush]
        draw = [
            ipywidgets.HBox([self.seed, self.buttons["free-form hole"]]),
            ipywidgets.HBox([self.buttons["undo"], self.buttons["clear"]]),
        ]
        top = ipywidgets.HBox(
            [self.canvas, ipywidgets.VBox([*pick, *draw, self.note], layout={"margin": "0 0 0 12px"})], layout=WRAP
        )
        self.box = ipywidgets.VBox([top, self.picture, self.label])
        self.update()

    # --- what is painted

    def truth(self):
        """The image under the hole, (size, size, 3) uint8. Raises ValueError if no run is picked."""
        pack = explore.pack_of(self.picker.runs())
        return self.own if self.own is not None else pack.test[min(self.image.value, len(pack.test) - 1)]

    def hole(self):
        """(what is painted and every chosen run can fill, why the rest is left out)."""
        painted = np.maximum.reduce([np.zeros((self.size, self.size), np.uint8), *self.layers])
        return explore.confine(painted, {run.architecture for run in self.picker.runs()})

    def press(self, x, y):
        self.stroke = [(x / self.zoom, y / self.zoom)]
        self.canvas.fill_style = self.canvas.stroke_style = "#ff0090"
        self.canvas.line_width, self.canvas.line_cap = self.brush.value * self.zoom, "round"
        self.canvas.fill_circle(x, y, self.brush.value * self.zoom / 2)

    def move(self, x, y):
        if self.stroke:
            last = self.stroke[-1]
            self.stroke.append((x / self.zoom, y / self.zoom))
            self.canvas.stroke_line(last[0] * self.zoom, last[1] * self.zoom, x, y)

    def release(self):
        if self.stroke:
            strokes, self.stroke = [(self.stroke, self.brush.value)], None
            self.add(explore.rasterise(strokes, self.size))

    def draw_seed(self):
        """Add the free-form hole of the seed, nominally as wide as the last stage's."""
        width = self.picker.found[0].study.config.mask_widths[-1]
        self.add(masks.generate("free_form", 1, width, self.size, keyed(self.seed.value, "painted"))[0, 0].byte().numpy())

    def add(self, layer):
        self.layers.append(layer)
        self.update()

    def undo(self):
        self.layers = self.layers[:-1]
        self.update()

    def clear(self):
        self.layers = []
        self.update()

    def take_upload(self):
        """Show the uploaded image, cut square and resized as data preparation does, or say why it cannot be used."""
        for file in self.upload.value[-1:]:
            try:
                self.own = images.read(io.BytesIO(bytes(file["content"])), self.size)
                self.update()
            except images.Unusable as error:
                self.note.value = f"<p>{escape(file['name'])}: {error.reason} {escape(error.detail or '')}</p>"

    def leave_own(self):
        self.own = None
        self.update()

    # --- what is shown

    def update(self):
        """Redraw the canvas and fill the hole with every chosen run."""
        try:
            image, (hole, reason) = self.truth(), self.hole()
            self.show_canvas()
            self.note.value = f"<p>{reason or 'Paint with the mouse; a click is a dot.'}</p>"
            picked, stage = self.picker.runs(), self.stage.value
            holes = {run.architecture: hole for run in picked}
            fig, frame = explore.compare(picked, image, holes, lambda run: stage, self.picker.load)
            self.picture.value, self.label.value = live.png(fig, 96), table(frame, f"{int(hole.sum())} px of hole.")
            self.picture.layout.visibility = "visible"
        except ValueError as error:
            self.label.value, self.picture.layout.visibility = f"<p>{error}</p>", "hidden"

    def show_canvas(self):
        """The image with the hole, enlarged without blur; where a hole must lie, if it must, is dashed."""
        shown = pictures.show_hole(self.truth(), self.hole()[0])
        opaque = np.dstack([shown, np.full(shown.shape[:2], 255, np.uint8)])  # without alpha it would travel as JPEG
        with ipycanvas.hold_canvas():
            self.canvas.put_image_data(opaque.repeat(self.zoom, 0).repeat(self.zoom, 1), 0, 0)
            if any(models.central(run.architecture) for run in self.picker.runs()):
                quarter = self.size // 4 * self.zoom
                self.canvas.stroke_style, self.canvas.line_width = "white", 1
                self.canvas.set_line_dash([6, 4])
                self.canvas.stroke_rect(quarter, quarter, self.size * self.zoom - 2 * quarter)
                self.canvas.set_line_dash([])
