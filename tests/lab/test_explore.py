"""What notebook 40 computes, and its widgets driven from Python."""

import io
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from inpaint_lib import losses, models
from inpaint_lib.data import images
from inpaint_lib.evaluation import evaluate
from inpaint_lib.lab import explore, panels
from inpaint_lib.study import grid
from inpaint_lib.training import artifacts, loop
from tests.conftest import MICRO, smooth
from tests.photos.test_inpaint import answering, zeros

GRID = MICRO | {"grid.architectures": ["custom", "context_encoder"]}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Three finished micro runs of four: custom under two setups, context_encoder under one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INPAINT_OUTPUT", str(tmp_path_factory.mktemp("explore")))
        study = grid.open_study("smoke", GRID)
        for run in study.runs()[:3]:
            loop.fit(run, lambda *_: None)
        yield study


@pytest.fixture
def picker(trained):
    return panels.Picker(explore.finished(trained))


# --- strokes


@pytest.mark.parametrize("width", [1, 3, 8])
@pytest.mark.parametrize("end", [(50, 30), (30, 50), (50, 50), (42, 57)])
def test_a_stroke_is_as_wide_as_the_brush(width, end):
    # on a grid line the pixels of both sides would count
    hole = explore.rasterise([(20.3, 20.6), end], width, 64)
    length, wide = np.hypot(end[0] - 20.3, end[1] - 20.6), max(width, 2**0.5)
    assert hole.shape == (64, 64) and hole.dtype == np.uint8 and set(np.unique(hole)) == {0, 1}
    # a brush one pixel wider or narrower would miss it
    assert abs(hole.sum() - wide * length - np.pi * wide**2 / 4) < 0.25 * length + 2


@pytest.mark.parametrize("point", [(5.5, 7.5), (5.3, 7.9), (0, 0), (31.99, 31.99)])
@pytest.mark.parametrize("width", [1, 5])
def test_a_click_is_a_dot(point, width):
    hole = explore.rasterise([point], width, 32)
    assert hole[int(point[1]), int(point[0])] and hole.sum() <= max(4, np.pi * (width / 2 + 1) ** 2)


def test_x_goes_to_the_right_and_y_down_what_is_outside_is_cut_off_and_no_line_has_gaps():
    hole = explore.rasterise([(4, 2.5), (28, 2.5)], 3, 32)
    assert hole[1:4, 4:28].all() and hole.sum() == hole[1:4].sum() and not hole[:, :2].any()
    assert not explore.rasterise([(-20, 5), (-9, 90)], 6, 32).any()
    crossing = explore.rasterise([(-20, 10.5), (60, 10.5)], 1, 32)
    assert crossing[10].all() and crossing.sum() == 32
    assert explore.rasterise([(3, 3), (29, 14)], 1, 32)[:, 3:29].any(0).all()


def test_the_context_encoder_gets_the_central_half_and_the_reason_is_given():
    hole = explore.rasterise([(0, 16), (32, 16)], 4, 32)
    same, reason = explore.confine(hole, ["custom", "free_form"])
    assert same is hole and reason == ""
    inside, reason = explore.confine(hole, ["custom", "context_encoder"])
    assert inside.sum() == 4 * 16 and not inside[:, :8].any() and not inside[:, 24:].any()
    assert reason.startswith("64 painted px") and "context_encoder" in reason
    assert explore.confine(inside, ["context_encoder"])[1] == ""


# --- fills


def test_a_fill_is_the_output_in_the_hole_and_the_image_elsewhere():
    image, hole = smooth(32, 32), explore.rasterise([(10, 10), (20, 20)], 5, 32)
    grey = answering(zeros).generator
    composite, values = explore.fill(grey, image, hole)
    inside = hole == 1
    assert np.array_equal(composite[~inside], image[~inside])
    assert (np.abs(composite[inside] - 127.5) <= 1).all()
    error = np.abs(image[inside] / 255 - 0.5)
    l2 = (error**2).mean()
    assert values == pytest.approx([error.mean(), l2, -10 * np.log10(l2)], abs=1e-3)
    with pytest.raises(ValueError, match="no hole"):
        explore.fill(grey, image, np.zeros_like(hole))


@pytest.mark.parametrize("architecture", list(models.ARCHITECTURES))
def test_every_architecture_fills_the_largest_hole_it_can(architecture):
    G, _ = models.create(architecture, 32, generator_width=8)
    hole, _ = explore.confine(np.ones((32, 32), np.uint8), [architecture])
    assert np.isfinite(explore.fill(G, smooth(32, 32), hole)[1]).all()


# --- finished runs


def test_finished_runs_of_the_same_settings_are_found_and_none_is_an_error(trained):
    found = [explore.name_of(run) for run in explore.finished(trained)]
    assert found == ["custom fixed", "custom progressive", "context_encoder fixed"]
    other = grid.open_study("smoke", GRID | {"models.custom.lr_g": 0.1234})
    assert [explore.name_of(run) for run in explore.finished(other)] == ["context_encoder fixed"]
    other = grid.open_study("smoke", GRID | {"grid.seeds": [7]})
    with pytest.raises(FileNotFoundError, match=r"no finished run in .*: ./run_all.sh smoke$"):
        explore.finished(other)


def test_weights_of_a_stage_are_the_saved_ones_and_of_stage_0_the_initial_ones(trained):
    run = trained.runs()[1]
    evaluate.evaluate(run, 2)
    per_image = evaluate.read_images(run).set_index(["mask_width", "image"]).l1
    for width in (8, 16):
        frame = explore.outputs([run], 2, 3, width)[1]
        assert frame.L1.iloc[0] == pytest.approx(per_image[width, 3], rel=1e-4)
    initial, _ = models.create("custom", 32, 0, **run.model.widths)
    image, hole = explore.frozen_hole(run, 3, 16)
    frame = explore.outputs([run], 0, 3, 16)[1]
    assert frame.L1.iloc[0] == pytest.approx(explore.fill(initial, image, hole)[1][0], rel=1e-5)


def test_scores_are_those_that_d_gives(trained):
    for run in trained.runs()[1:3]:
        G, D = artifacts.load_networks(run, 2)
        image, hole = explore.frozen_hole(run, 0, 16)
        found = explore.score_maps(run, (G, D), image, hole)
        real = torch.from_numpy(image / 127.5 - 1).permute(2, 0, 1)[None].float()
        mask = torch.from_numpy(hole)[None, None].float()
        with torch.no_grad():
            seen = run.architecture_entry.objective.seen(real, real, mask)
            expected = [float(maps.mean()) for maps in losses.scores(D(seen))]
        assert [m.mean() for m in found["real"][1]] == pytest.approx(expected, abs=1e-4)
        assert not np.array_equal(found["real"][1][0], found["filled"][1][0])


# --- widgets, without a browser


def shown(box):
    return box.children[2].value, box.children[1].value


def test_controls_redraw_picture_and_text(picker):
    scrubber, curves = panels.scrubber(picker), panels.curves(picker)
    for box, changes in (
        (scrubber, [("stage", 1), ("stage", 0), ("test image", 3), ("hole (px)", 8)]),
        (curves, [("smoothing", 0.0), ("quantity", "d_accuracy")]),
    ):
        controls = {control.description: control for control in box.children[0].children}
        seen = [shown(box)]
        for name, value in changes:
            controls[name].value = value
            seen.append(shown(box))
        assert len({text for text, _ in seen}) == len({picture for _, picture in seen}) == len(seen)
    history = pd.read_csv(picker.found[0].folder / "history.csv")
    assert f"{history.d_accuracy.iloc[-1]:.4g}" in seen[-1][0]
    controls["quantity"].value = "mse"
    assert "logs this quantity" in shown(curves)[0]


def test_the_choice_of_runs_reaches_every_panel(picker):
    boxes = [panels.scrubber(picker), panels.curves(picker), panels.scores(picker)]
    before = [shown(box) for box in boxes]
    assert "custom progressive" in before[0][0] and "context_encoder" not in before[0][0]
    picker.controls["architecture"].value = ("context_encoder",)
    after = [shown(box) for box in boxes]
    assert all(a[1] != b[1] for a, b in zip(before, after, strict=True))
    assert "context_encoder fixed" in after[0][0]
    picker.controls["setup"].value = ("progressive",)  # not trained
    assert all("No finished run matches this choice" in shown(box)[0] for box in boxes)
    picker.controls["setup"].value = ("fixed", "progressive")
    assert "context_encoder fixed" in shown(boxes[1])[0]


def drag(painter, *points):
    painter.press(*points[0])
    for point in points[1:]:
        painter.move(*point)
    painter.release()


def test_a_drag_is_a_stroke_that_is_filled_undone_and_cleared(picker):
    painter = panels.Painter(picker)
    assert "no hole" in shown(painter.box)[0]
    painter.brush.value = 4
    drag(painter, (80, 100), (160, 100), (240, 100))  # 10 px of the screen are one of the image
    expected = explore.rasterise([(8, 10), (24, 10)], 4, 32)
    assert np.array_equal(painter.layers, [expected])
    first = shown(painter.box)
    assert f"{expected.sum()} px of hole" in first[0] and "custom progressive" in first[0]
    drag(painter, (160, 200))
    assert len(painter.layers) == 2 and shown(painter.box)[1] != first[1]
    painter.buttons["undo"].click()
    assert shown(painter.box) == first
    painter.buttons["clear"].click()
    painter.buttons["undo"].click()  # nothing left: nothing happens
    assert not painter.layers and "no hole" in shown(painter.box)[0]
    painter.move(5, 5)  # without a button held down
    assert painter.stroke is None


def test_strokes_outside_the_central_half_are_refused_with_the_reason(picker):
    picker.controls["architecture"].value = ("custom", "context_encoder")
    painter = panels.Painter(picker)
    drag(painter, (10, 10), (60, 10))
    assert "left out" in shown(painter.box)[0] and "no hole" in shown(painter.box)[0]
    drag(painter, (160, 160))
    assert "context_encoder fixed" in shown(painter.box)[0]
    picker.controls["architecture"].value = ("custom",)
    assert "left out" not in shown(painter.box)[0]


def test_an_own_image_is_cut_as_data_preparation_does_and_an_unusable_one_is_reported(picker):
    painter, buffer = panels.Painter(picker), io.BytesIO()
    drag(painter, (160, 160))
    on_test_image = shown(painter.box)
    Image.fromarray(smooth(90, 140)).save(buffer, format="PNG")
    when = datetime(2020, 1, 1, tzinfo=UTC)
    entry = {"name": "mine.png", "type": "image/png", "size": 1, "last_modified": when}
    painter.upload.value = ({**entry, "content": memoryview(buffer.getvalue())},)
    assert np.array_equal(painter.own, images.read(buffer, 32))
    assert shown(painter.box) != on_test_image
    broken = {**entry, "name": "<b>.png", "content": memoryview(b"no image")}
    painter.upload.value = (broken,)
    assert "&lt;b&gt;.png: not an image" in shown(painter.box)[0]
    painter.box.children[0].children[-1].value = 1  # the test image
    painter.box.children[0].children[-1].value = 0
    assert shown(painter.box) == on_test_image
