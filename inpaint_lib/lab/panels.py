"""The widgets of notebook 40: choose runs, scrub, compare curves, see D's scores, paint holes.

None is an Output widget: its messages to the kernel can stall a headless execution.
"""

import io
from html import escape

import ipycanvas
import ipywidgets
import numpy as np

from ..data import images
from ..results import pictures, plots
from . import explore, live


def panel(draw, controls, picker, name, note="", above=()):
    """Return (a widget with controls, a picture and a text; a function that redraws both).

    `draw(runs, **values)` returns (figure, frame), and may add a note. It is called when a control
    or the choice changes; the message of its ValueError is shown instead.
    """
    picture = ipywidgets.Image(value=b"", format="png", layout={"align_self": "flex-start"})
    label = ipywidgets.HTML()
    picture.add_class(f"{name}-picture")
    label.add_class("jp-RenderedHTMLCommon").add_class(f"{name}-text")

    def redraw(_=None):
        try:
            values = {key: control.value for key, control in controls.items()}
            fig, frame, *more = draw(picker.runs(), **values)
            text = " ".join([note.format(**values), *more])
            label.value = f"<p>{text}</p>" + frame.to_html(border=0, float_format="{:.4g}".format)
            picture.value, picture.layout.visibility = live.png(fig, 96), "visible"
        except ValueError as error:
            label.value, picture.layout.visibility = f"<p>{escape(str(error))}</p>", "hidden"

    for control in [*picker.controls.values(), *controls.values()]:
        control.observe(redraw, "value")
    redraw()
    top = ipywidgets.HBox([*above, *controls.values()], layout={"flex_flow": "row wrap"})
    return ipywidgets.VBox([top, picture, label]).add_class(name), redraw


class Picker:
    """Choose among finished runs: one data set and seed, any architectures and setups.

    `box` is the widget. At first all setups of one architecture are chosen.
    """

    def __init__(self, found):
        self.found, self.config = found, found[0].config
        self.controls = {}
        for name in ("dataset", "seed", "architecture", "setup"):
            options = list(dict.fromkeys(getattr(run, name) for run in found))
            several = name in ("architecture", "setup")
            kind = ipywidgets.SelectMultiple if several else ipywidgets.Dropdown
            self.controls[name] = control = kind(options=options, description=name)
            control.value = options[:1] if several else options[0]
        self.controls["setup"].value = self.controls["setup"].options
        self.box = ipywidgets.HBox(list(self.controls.values()), layout={"flex_flow": "row wrap"})

    def runs(self):
        """Return the chosen runs; there may be none."""
        chosen = {name: np.atleast_1d(control.value) for name, control in self.controls.items()}
        return [run for run in self.found if all(getattr(run, k) in v for k, v in chosen.items())]

    def sliders(self, *names):
        """Return controls over "stage", "image" (of the test set) and "width" (of the hole)."""
        stages, widths = self.config.curriculum.n_stages, self.config.curriculum.mask_widths
        last = len(explore.pack_of(self.found).test) - 1
        width = {"options": widths, "value": widths[-1], "description": "hole (px)"}
        made = {
            "stage": live.slide("stage", stages, 0, stages),
            "image": live.slide("test image", 0, 0, last),
            "width": ipywidgets.SelectionSlider(**width, continuous_update=False),
        }
        return {name: made[name] for name in names}


def scrubber(picker):
    """Return the panel that fills a test image with all chosen runs, by stage, image and width."""
    controls = picker.sliders("stage", "image", "width")
    note = "Weights of the end of stage {stage} (0: before training)."
    return panel(explore.outputs, controls, picker, "scrub", note)[0]


def curves(picker):
    """Return the panel that compares a logged quantity of all chosen runs."""
    terms = [(label, key) for key, label in plots.TERM_LABELS.items()]
    controls = {
        "term": ipywidgets.Dropdown(options=terms, value="adversarial_g", description="quantity"),
        "weight": ipywidgets.FloatSlider(0.6, max=0.98, step=0.02, description="smoothing"),
    }
    return panel(explore.curves, controls, picker, "curves", "At the last log point:")[0]


def scores(picker):
    """Return the panel with the scores of the first chosen run's D, on an image and its fill."""
    controls = picker.sliders("stage", "image", "width")
    return panel(explore.scores, controls, picker, "scores", "Mean scores at each scale of D:")[0]


class Painter:
    """Paint a hole on a test image or on one of your own; every chosen run fills it.

    `box` is the widget; `layers` has the hole of every stroke, (size, size) uint8.
    """

    def __init__(self, picker):
        self.layers, self.stroke, self.own = [], None, None
        self.size = picker.config.data.image_size
        self.zoom = max(320 // self.size, 2)  # pixels of the screen
        side = self.size * self.zoom
        shape = {"width": f"{side}px", "height": f"{side}px"}  # otherwise clicks are scaled
        self.canvas = ipycanvas.Canvas(width=side, height=side, layout=shape)
        self.canvas.add_class("paint-canvas")
        self.canvas.on_mouse_down(self.press)
        self.canvas.on_mouse_move(self.move)
        self.canvas.on_mouse_up(self.release)
        self.canvas.on_mouse_out(self.release)
        self.canvas.on_client_ready(lambda: self.update())  # also in a page that is opened later
        self.brush = live.slide("brush (px)", max(self.size // 8, 1), 1, self.size // 2)
        self.upload = ipywidgets.FileUpload(accept="image/*", description="own image")
        self.upload.observe(self.take_upload, "value")
        self.buttons = {n: ipywidgets.Button(description=n) for n in ("undo", "clear")}
        self.buttons["undo"].on_click(lambda _: self.keep(-1))
        self.buttons["clear"].on_click(lambda _: self.keep(0))
        controls = picker.sliders("stage", "image")
        controls["image"].observe(lambda _: setattr(self, "own", None), "value")
        above = [self.canvas, self.brush, self.upload, *self.buttons.values()]
        self.box, self.update = panel(self.draw, controls, picker, "paint", above=above)

    def draw(self, picked, stage, image):
        """Return (a figure of what the chosen runs make of the hole, a frame, a note)."""
        test = explore.pack_of(picked).test
        truth = test[min(image, len(test) - 1)] if self.own is None else self.own
        hole = np.maximum.reduce([np.zeros((self.size, self.size), np.uint8), *self.layers])
        hole, reason = explore.confine(hole, {run.architecture for run in picked})
        shown = pictures.show_hole(truth, hole).repeat(self.zoom, 0).repeat(self.zoom, 1)
        opaque = np.pad(shown, ((0, 0), (0, 0), (0, 1)), constant_values=255)
        self.canvas.put_image_data(opaque, 0, 0)  # without an alpha channel it travels as JPEG
        if not hole.any():
            raise ValueError(f"There is no hole to fill: paint with the mouse. {reason}")
        holes = {run.architecture: hole for run in picked}
        found = explore.compare(picked, truth, holes, stage)
        return *found, f"{hole.sum()} px of hole. {reason}"

    def press(self, x, y):
        self.stroke = [(x / self.zoom, y / self.zoom)]
        self.canvas.stroke_style, self.canvas.line_cap = pictures.OUTLINE, "round"
        self.canvas.line_width = self.brush.value * self.zoom

    def move(self, x, y):
        if self.stroke:
            last = self.stroke[-1]
            self.stroke.append((x / self.zoom, y / self.zoom))
            self.canvas.stroke_line(last[0] * self.zoom, last[1] * self.zoom, x, y)

    def release(self, *_):
        stroke, self.stroke = self.stroke, None
        if stroke:
            self.add(explore.rasterise(stroke, self.brush.value, self.size))

    def add(self, layer):
        self.layers.append(layer)
        self.update()

    def keep(self, n):
        self.layers = self.layers[:n]
        self.update()

    def take_upload(self, _):
        """Use the uploaded image, cut and resized as in data preparation, or say why not."""
        file = self.upload.value[-1]
        try:
            self.own = images.read(io.BytesIO(bytes(file["content"])), self.size)
            self.update()
        except images.Unusable as error:
            what = escape(f"{file['name']}: {error.reason} {error.detail}")
            self.box.children[2].value = f"<p>{what}</p>"
