"""The painter in a headless Chromium, in a plain page that asks Python itself.

Skipped where there is no Chromium.
"""

import base64
import json

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from inpaint_lib.lab import paint, state, widget
from inpaint_lib.results import explored, pictures, script
from inpaint_lib.study import grid
from inpaint_lib.training import loop
from tests import browsers
from tests.conftest import MICRO, photograph, smooth

pytestmark, browser = browsers.MARKS, browsers.browser
GRID = MICRO | {"grid.architectures": ["custom", "context_encoder"]}
SIZE, SIDE = 32, 320  # px of an image, and of the canvas here
PAGE = """
(function () { %s
  const coded = (part) => btoa(Array.from(new Uint8Array(part.buffer || part), (b) => String.fromCharCode(b)).join(""));
  const bytes = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
  window.open_explorer = (meta) => {
    const request = async (kind, params, buffers) => {
      const reply = JSON.parse(await ask(JSON.stringify({ kind, params, buffers: (buffers || []).map(coded) })));
      if ("error" in reply) throw new Error(reply.error);
      return revived(reply.answer, reply.buffers.map(bytes));
    };
    const host = makeHost(meta, request, true);
    mount(document.querySelector("main"), host, () => {});
    host.select({ tab: "painter", setups: ["fixed", "progressive"] });
    window.host = host;
  };
})();
"""  # noqa: E501


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Finished micro runs: custom under two setups, context_encoder under one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INPAINT_OUTPUT", str(tmp_path_factory.mktemp("painter")))
        study = grid.open_study("smoke", GRID)
        for run in study.runs()[:3]:
            loop.fit(run, lambda *_: None)
        yield state.Trained(study)


class Painter:
    """The painter of a page; `asked` has what the page asked: [(kind, params, buffers)]."""

    def __init__(self, browser, trained):
        self.asked, self.trained = [], trained
        self.page = browser.new_page(viewport={"width": 1280, "height": 1000})
        self.errors = []
        self.page.on("pageerror", lambda error: self.errors.append(error))
        self.page.expose_function("ask", self.answer)
        style = script.STYLE + f".ix-easel {{ width: {SIDE}px }}"
        self.page.set_content(f"<!doctype html><style>{style}</style><main></main>")
        self.page.add_script_tag(content=PAGE % script.join_files())
        self.page.evaluate("open_explorer", trained.about)
        self.canvas = self.page.locator(".ix-easel canvas")
        self.settle()

    def answer(self, text):
        message = json.loads(text)
        buffers = [base64.b64decode(part) for part in message["buffers"]]
        self.asked.append((message["kind"], message["params"], buffers))
        try:
            found, sent = (
                widget.ANSWERS[message["kind"]](self.trained, buffers, **message["params"]),
                [],
            )
            answer = explored.pack_arrays(found, sent)
        except ValueError as error:
            return json.dumps({"error": str(error)})
        return json.dumps(
            {"answer": answer, "buffers": [base64.b64encode(b).decode() for b in sent]}
        )

    def settle(self):
        self.page.evaluate("host.settled()")

    def point(self, x, y):
        """Where a pixel's centre is on the page; it may lie outside the image."""
        self.canvas.scroll_into_view_if_needed()
        box = self.canvas.bounding_box()
        assert (box["width"], box["height"]) == (SIDE, SIDE)
        return [box[k] + (at + 0.5) * SIDE / SIZE for k, at in (("x", x), ("y", y))]

    def drag(self, *points, button="left"):
        self.page.mouse.move(*self.point(*points[0]))
        self.page.mouse.down(button=button)
        for point in points[1:]:
            self.page.mouse.move(*self.point(*point), steps=3)
        self.page.mouse.up(button=button)
        self.settle()

    def press(self, name):
        self.page.get_by_role("button", name=name, exact=True).click()
        self.settle()

    def key(self, *keys):
        self.canvas.focus()
        for key in keys:
            self.page.keyboard.press(key)
        self.settle()

    def canvas_pixels(self):
        script = "c => Array.from(c.getContext('2d').getImageData(0, 0, c.width, c.height).data)"
        found = np.array(self.canvas.evaluate(script), np.uint8)
        return found.reshape(SIZE, SIZE, 4)[..., :3]

    def hole(self):
        """The hole that was sent last, which is the one on the canvas."""
        bits = next(buffers[0] for kind, _, buffers in self.asked[::-1] if kind == "paint")
        sent = np.unpackbits(np.frombuffer(bits, np.uint8)).reshape(SIZE, SIZE)
        shown = (self.canvas_pixels() == pictures.HOLE).all(2)
        assert np.array_equal(shown, sent == 1)
        return sent

    def numbers(self):
        return self.page.locator(".ix-panel-painter .ix-tile .ix-number").all_inner_texts()

    def words(self):
        return " ".join(self.page.locator(".ix-panel-painter [role=status]").all_inner_texts())


@pytest.fixture
def painter(browser, trained):
    painter = Painter(browser, trained)
    yield painter
    painter.page.close()
    assert not painter.errors


def segment(a, b, width):
    """The pixels whose centre is within half a width of a line between centres, the slow way."""
    a, b, found = np.add(a, 0.5), np.add(b, 0.5), np.zeros((SIZE, SIZE), np.uint8)
    along = np.linspace(a, b, 2000)
    for y in range(SIZE):
        for x in range(SIZE):
            near = np.hypot(*(along - (x + 0.5, y + 0.5)).T).min()
            found[y, x] = near <= max(width, 2**0.5) / 2 + 1e-3
    return found


# --- strokes


def test_a_stroke_is_filled_by_all_runs_while_it_is_painted(painter):
    assert "Paint a hole" in painter.words()
    painter.page.mouse.move(*painter.point(8, 10))
    painter.page.mouse.down()
    painter.page.mouse.move(*painter.point(24, 20), steps=4)
    painter.settle()  # the button is held
    expected = segment((8, 10), (24, 20), 4)
    hole = painter.hole()
    assert (hole != expected).sum() <= 2 and hole.sum() > 60
    found = painter.numbers()
    params, buffers = [(p, b) for kind, p, b in painter.asked if kind == "paint"][-1]
    answer = paint.paint(painter.trained, buffers, **params)
    assert len(answer["runs"]) == 2 and f"{hole.sum()} px of hole" in painter.words()
    assert found[0] == f"hole L1 {answer['runs'][0]['l1']:.3f}"
    assert found[2] == f"hole L1 {answer['runs'][1]['l1']:.3f}"
    means = [np.mean([m.mean() for m in answer["runs"][0][k]]) for k in ("scores", "real")]
    assert [float(n) for n in found[1].removeprefix("D ").split(", of truth ")] == pytest.approx(
        means, abs=0.006
    )
    painter.page.mouse.up()
    painter.settle()
    painter.page.mouse.move(*painter.point(3, 28))
    painter.settle()
    assert np.array_equal(painter.hole(), hole)
    last = [p for kind, *p in painter.asked if kind == "paint"][-2:]
    assert last[0] != last[1], "the end of a stroke asks for nothing that is there"


def test_a_stroke_goes_on_beyond_the_edge_and_ends_there(painter):
    painter.drag((20, 4), (40, 4), (40, 16), (20, 16), (60, 28))
    hole = painter.hole()
    assert hole[4, 20:].all() and hole[16, 20:].all() and not hole[10, 20:28].any()
    painter.page.mouse.move(*painter.point(10, 10))
    painter.page.mouse.move(*painter.point(12, 12))
    painter.settle()
    assert np.array_equal(painter.hole(), hole), "the button was released outside"


@pytest.mark.parametrize("button", ["right", "middle"])
def test_other_buttons_never_paint(painter, button):
    painter.drag((5, 5), (20, 20), button=button)
    assert not painter.hole().any()
    painter.drag((5, 5), (9, 5))
    before = painter.hole()
    painter.drag((5, 20), (20, 20), button=button)
    assert np.array_equal(painter.hole(), before) and before.any()


@pytest.mark.parametrize("kind", ["touch", "pen"])
def test_fingers_and_pens_paint(painter, kind):
    protocol = painter.page.context.new_cdp_session(painter.page)
    path = [painter.point(x, 10) for x in (6, 12, 18)]
    if kind == "touch":
        for name, points in (
            ("Start", path[:1]),
            ("Move", path[1:2]),
            ("Move", path[2:]),
            ("End", []),
        ):
            points = [{"x": x, "y": y} for x, y in points]
            protocol.send(
                "Input.dispatchTouchEvent", {"type": f"touch{name}", "touchPoints": points}
            )
    else:
        names = ["mousePressed", "mouseMoved", "mouseMoved", "mouseReleased"]
        for name, (x, y) in zip(names, [*path, path[-1]], strict=True):
            options = {"x": x, "y": y, "button": "left", "buttons": 1, "pointerType": "pen"}
            protocol.send("Input.dispatchMouseEvent", {"type": name, "clickCount": 1, **options})
    painter.settle()
    hole = painter.hole()
    assert hole[10, 6:19].all() and not hole[:, 23:].any()


def test_steps_are_undone_and_done_again(painter):
    holes = [painter.hole()]
    for x in (4, 14, 24):
        painter.drag((x, 5), (x, 25))
        holes.append(painter.hole())
    painter.press("clear")
    holes.append(painter.hole())
    assert not holes[-1].any() and len({hole.tobytes() for hole in holes}) == 4
    for k in (3, 2):
        painter.press("undo")
        assert np.array_equal(painter.hole(), holes[k])
    painter.key("z", "z")
    assert not painter.hole().any()
    painter.key("z")  # nothing is left: nothing happens
    for k, keys in ((1, ["y"]), (2, ["Control+Shift+Z"]), (1, ["Control+z"]), (2, ["Control+y"])):
        painter.key(*keys)
        assert np.array_equal(painter.hole(), holes[k])
    painter.drag((28, 28), (28, 28))  # what was undone is gone
    expect(painter.page.get_by_role("button", name="redo", exact=True)).to_be_disabled()


def test_the_eraser_takes_away_and_a_rectangle_has_sharp_corners(painter):
    painter.press("rectangle")
    painter.drag((20, 22), (40, 12), (9, 10))
    box = np.zeros((SIZE, SIZE), np.uint8)
    box[10:23, 9:21] = 1
    assert np.array_equal(painter.hole(), box)
    painter.key("e")
    painter.drag((9, 16), (20, 16))
    erased = painter.hole()
    assert not erased[15:17, 9:21].any() and erased[10:13, 9:21].all()
    painter.key("b", "]", "]")
    assert painter.page.locator(".ix-tools output").first.inner_text() == "6 px"
    painter.drag((14, 16), (14, 16))
    assert painter.hole()[16, 12:17].all()


def test_it_works_by_keyboard_alone(painter):
    painter.key("ArrowLeft", "ArrowLeft", "Shift+ArrowUp", "Enter")
    hole = painter.hole()
    y, x = np.argwhere(hole).mean(0)
    assert (x, y) == pytest.approx((13.5, 11.5), abs=0.3)
    assert hole.sum() == pytest.approx(np.pi * 4, abs=3)
    assert painter.page.evaluate("host.selection.step") == painter.trained.about["steps"]


# --- presets, runs, stages


def test_presets_are_frozen_holes_whose_width_can_be_pulled(painter):
    painter.page.get_by_label("preset", exact=True).select_option("rectangles")
    painter.settle()
    frozen = [painter.trained.pack("clutter").test_masks("rectangles", 16)[k] for k in (0, 1)]
    assert np.array_equal(painter.hole(), frozen[0])
    slider, areas = painter.page.get_by_label("size, width in px"), []
    for width in (20, 26, 32):
        slider.fill(str(width))
        painter.settle()
        areas.append(painter.hole().sum())
    assert areas == sorted(areas) and "32 px" in painter.page.locator(".ix-tools").inner_text()
    slider.fill("16")
    painter.press("place")
    assert np.array_equal(painter.hole(), frozen[0])
    painter.press("place")
    assert np.array_equal(painter.hole(), frozen[1])
    painter.press("undo")
    assert not painter.hole().any()


def test_with_the_context_encoder_presets_are_central_and_the_rest_is_left_out(painter):
    painter.page.evaluate("host.select({ architectures: ['custom', 'context_encoder'] })")
    painter.settle()
    family = painter.page.get_by_label("preset", exact=True)
    assert family.locator("option").all_inner_texts() == ["center"]
    painter.press("place")
    assert painter.hole().sum() == 16 * 16 and "left out" not in painter.words()
    assert len(painter.numbers()) == 2 * 4 and "holes of 16 px" in painter.words()
    painter.drag((2, 4), (30, 4))
    assert "left out: context_encoder" in painter.words()
    shown = (painter.canvas_pixels() == pictures.HOLE).all(2)
    assert 0.3 < shown[3:6, 4:28].mean() < 0.7  # half its pixels are painted
    painter.page.evaluate("host.select({ architectures: ['custom'] })")
    painter.settle()
    assert "left out" not in painter.words() and painter.hole()[4, 4:28].all()


def test_it_follows_stage_image_and_choice_and_asks_for_nothing_twice(painter):
    painter.press("place")
    seen = {tuple(painter.numbers())}
    for changes in ("step: 0", "image: 5", "setups: ['progressive']"):
        painter.page.evaluate(f"host.select({{ {changes} }})")
        painter.settle()
        seen.add(tuple(painter.numbers()))
    assert len(seen) == 4 and "before training" in painter.words()
    number = painter.page.get_by_label("test image", exact=True).last
    assert number.input_value() == "5"
    asked = len(painter.asked)
    painter.page.evaluate("host.select({ hover: 1 })")  # still nearest to the start
    painter.settle()
    assert not [kind for kind, *_ in painter.asked[asked:] if kind == "paint"]
    painter.page.evaluate("host.select({ tab: 'health', image: 3 })")
    painter.settle()
    assert not [kind for kind, *_ in painter.asked[asked:] if kind == "paint"], "it is hidden"
    painter.page.evaluate("host.select({ tab: 'painter' })")
    painter.settle()
    assert painter.asked[-1][1]["image"] == 3
    number.fill("99")
    number.blur()
    painter.settle()
    assert number.input_value() == "7", "the last test image"
    painter.page.evaluate("host.select({ setups: [] })")
    painter.settle()
    assert "No finished run matches this choice" in painter.words()


# --- own images


def expected_pixels(path):
    return np.array(Image.open(path).resize((SIZE, SIZE), Image.Resampling.LANCZOS))


def test_several_own_images_are_painted_on_and_sent_in_parts(painter, tmp_path):
    large = photograph(tmp_path / "large.png", 1000)
    painter.press("place")
    before = painter.numbers()
    file = painter.page.locator(".ix-panel-painter input[type=file]")
    file.set_input_files(large)
    expect(painter.page.locator(".ix-panel-painter")).to_contain_text(
        "large.png: its central square"
    )
    painter.settle()
    assert np.abs(painter.canvas_pixels().astype(int) - expected_pixels(large))[:8].max() <= 1
    assert painter.numbers() != before
    sizes = [len(buffers[0]) for kind, _, buffers in painter.asked if kind == "own_image"]
    assert len(sizes) == 3 and max(sizes) == 2**20 and sum(sizes) == large.stat().st_size
    Image.fromarray(smooth(50, 50, seed=3)).save(tmp_path / "other.png")
    file.set_input_files(tmp_path / "other.png")
    expect(painter.page.locator(".ix-panel-painter")).to_contain_text(
        "other.png: its central square"
    )
    image = painter.page.get_by_label("image", exact=True)
    assert image.locator("option").all_inner_texts() == ["test image", "large.png", "other.png"]
    image.select_option("test image")
    painter.settle()
    assert painter.numbers() == before


def test_what_cannot_be_read_is_refused_in_words(painter, tmp_path):
    with open(tmp_path / "huge.png", "wb") as huge:
        huge.truncate(70 * 2**20)
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").touch()
    file = painter.page.locator(".ix-panel-painter input[type=file]")
    for name, words in [
        ("huge", "huge.png has 70 MB; at most 64 MB are read"),
        ("text", "text.png cannot be used: not an image"),
        ("empty", "empty.png cannot be used: not an image"),
    ]:
        file.set_input_files(tmp_path / f"{name}.png")
        expect(painter.page.locator(".ix-panel-painter .ix-refused")).to_contain_text(words)
    assert len([kind for kind, *_ in painter.asked if kind == "own_image"]) == 3
    expect(painter.page.get_by_role("button", name="own image")).to_be_enabled()


def test_an_image_can_be_dropped(painter, tmp_path):
    Image.fromarray(smooth(50, 50, seed=3)).save(tmp_path / "mine.png")
    content = base64.b64encode((tmp_path / "mine.png").read_bytes()).decode()
    make = """text => { const data = new DataTransfer();
      data.items.add(new File([Uint8Array.from(atob(text), c => c.charCodeAt(0))], "mine.png"));
      return data; }"""
    data = painter.page.evaluate_handle(make, content)
    painter.page.dispatch_event(".ix-panel-painter", "drop", {"dataTransfer": data})
    expect(painter.page.locator(".ix-panel-painter")).to_contain_text(
        "mine.png: its central square"
    )
    painter.settle()
    shown = painter.canvas_pixels().astype(int)
    assert np.abs(shown - expected_pixels(tmp_path / "mine.png")).max() <= 1


# --- to take away


def test_the_picture_that_is_saved_has_input_fills_and_truth(painter, tmp_path):
    painter.press("save picture")
    assert "Nothing to save" in painter.words()
    painter.press("place")
    with painter.page.expect_download() as download:
        painter.press("save picture")
    assert download.value.suggested_filename == "fills.png"
    download.value.save_as(tmp_path / "fills.png")
    saved = np.array(Image.open(tmp_path / "fills.png").convert("RGB"))
    params, buffers = [(p, b) for kind, p, b in painter.asked if kind == "paint"][-1]
    answer = paint.paint(painter.trained, buffers, **params)
    inputs = pictures.show_hole(answer["truth"], answer["filled"])
    shown = [inputs, *(run["fill"] for run in answer["runs"]), answer["truth"]]
    zoom = 6
    assert saved.shape[1] == len(shown) * (SIZE * zoom + 12) + 12
    for k, pixels in enumerate(shown):
        left = 12 + k * (SIZE * zoom + 12)
        tile = saved[36:, left:][: SIZE * zoom, : SIZE * zoom]
        assert np.array_equal(tile[zoom // 2 :: zoom, zoom // 2 :: zoom], pixels)


def test_python_lines_are_shown_for_what_is_painted(painter):
    painter.press("copy as code")
    assert "paint a hole first" in painter.words()
    painter.press("place")
    painter.press("copy as code")
    lines = painter.page.get_by_label("Python")
    expect(lines).to_be_visible()
    params, buffers = [(p, b) for kind, p, b in painter.asked if kind == "paint"][-1]
    assert lines.input_value() == paint.code(painter.trained, buffers, **params)["code"]
    expect(painter.page.locator(".ix-panel-painter")).to_contain_text("Cop")


def test_the_families_are_those_that_there_are():
    from inpaint_lib import masks

    names = ", ".join(f'"{name}"' for name in masks.FAMILIES)
    assert f"PAINT_FAMILIES = [{names}]" in script.join_files()
    assert f"PAINT_HOLE = {pictures.HOLE.tolist()}" in script.join_files()
