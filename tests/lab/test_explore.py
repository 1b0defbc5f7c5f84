"""What notebook 40 computes, and its widgets driven from Python."""

import io
import shutil
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from inpaint_lib import losses, masks, models
from inpaint_lib.data import images, packs
from inpaint_lib.lab import explore, panels
from inpaint_lib.study import files, grid
from inpaint_lib.training import artifacts, loop
from tests.conftest import MICRO, smooth


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Three finished micro runs: custom under two setups, context_encoder under one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INPAINT_OUTPUT", str(tmp_path_factory.mktemp("explore")))
        study = grid.open_study("smoke", MICRO | {"architectures": ["custom", "context_encoder"]})
        for run in study.runs()[:3]:
            loop.fit(run, lambda *_: None)
        yield study


@pytest.fixture
def picker(trained):
    picker = panels.Picker(explore.finished(trained), trained.config)
    picker.controls["architecture"].value = ("custom",)
    return picker


# --- strokes


@pytest.mark.parametrize("width", [1, 3, 8])
@pytest.mark.parametrize("end", [(50, 30), (30, 50), (50, 50), (42, 57)])
def test_a_stroke_is_as_wide_as_the_brush(width, end):
    hole = explore.rasterise([([(20.3, 20.6), end], width)], 64)  # on a grid line the pixels of both sides would count
    length = np.hypot(end[0] - 20.3, end[1] - 20.6)
    area = max(width, 2**0.5) * length + np.pi * max(width, 2**0.5) ** 2 / 4
    assert hole.shape == (64, 64) and hole.dtype == np.uint8 and set(np.unique(hole)) == {0, 1}
    assert abs(hole.sum() - area) < 0.25 * length + 2, "a brush one pixel wider or narrower would miss it"


def test_strokes_have_the_origin_at_the_upper_left_and_x_to_the_right():
    hole = explore.rasterise([([(4, 2.5), (28, 2.5)], 3)], 32)
    assert hole[1:4, 4:28].all() and hole.sum() == hole[1:4].sum() and not hole[:, :2].any()


@pytest.mark.parametrize("point", [(5.5, 7.5), (5, 7), (5.3, 7.9), (0, 0), (31.99, 31.99)])
@pytest.mark.parametrize("width", [1, 5])
def test_a_click_is_a_dot(point, width):
    hole = explore.rasterise([([point], width)], 32)
    assert hole[int(point[1]), int(point[0])] and hole.sum() <= max(4, np.pi * (width / 2 + 1) ** 2)


def test_what_is_painted_outside_is_cut_off():
    assert not explore.rasterise([([(-20, 5), (-9, 90)], 6), ([(50, 50)], 4)], 32).any()
    crossing = explore.rasterise([([(-20, 10.5), (60, 10.5)], 1)], 32)
    assert crossing[10].all() and crossing.sum() == 32
    assert not explore.rasterise([], 32).any()


def test_thin_lines_have_no_gaps():
    hole = explore.rasterise([([(3, 3), (29, 14)], 1)], 32)
    assert hole[:, 3:29].any(0).all()


def test_the_context_encoder_is_given_the_central_half_and_told_why():
    hole = explore.rasterise([([(0, 16), (32, 16)], 4)], 32)
    same, reason = explore.confine(hole, ["custom", "free_form"])
    assert same is hole and reason == ""
    inside, reason = explore.confine(hole, ["custom", "context_encoder"])
    assert inside.sum() == 4 * 16 and not inside[:, :8].any() and not inside[:, 24:].any()
    assert reason.startswith("64 painted px outside") and "context_encoder" in reason
    assert explore.confine(inside, ["context_encoder"])[1] == ""


# --- fillings


class Grey(torch.nn.Module):
    """Puts out mid-grey everywhere."""

    def forward(self, masked, mask):
        return [torch.zeros_like(masked)]


def test_a_filling_is_the_output_in_the_hole_and_the_image_elsewhere():
    image, hole = smooth(32, 32), explore.rasterise([([(10, 10), (20, 20)], 5)], 32)
    one = explore.fill({"grey": Grey()}, image, hole)["grey"]
    outside = hole == 0
    assert np.array_equal(one.composite[outside], image[outside]) and (np.abs(one.composite[~outside] - 127.5) <= 1).all()
    difference = np.abs(image[~outside] / 255 - 0.5)
    assert one.l1 == pytest.approx(difference.mean(), abs=1e-5) and one.l2 == pytest.approx((difference**2).mean(), abs=1e-5)
    assert one.psnr == pytest.approx(-10 * np.log10((difference**2).mean()), abs=1e-3)
    assert not one.error[outside].any() and one.error[~outside].mean() == pytest.approx(one.l1, abs=1e-6)


@pytest.mark.parametrize("architecture", list(models.ARCHITECTURES))
def test_every_architecture_fills_what_it_is_given_even_the_largest_hole(architecture):
    G, _ = models.create(architecture, 32, generator_width=8)
    hole, _ = explore.confine(np.ones((32, 32), np.uint8), [architecture])
    one = explore.fill({"": G}, smooth(32, 32), hole)[""]
    assert np.isfinite([one.l1, one.l2, one.psnr]).all() and np.isfinite(one.error).all()


def test_an_empty_hole_is_said():
    with pytest.raises(ValueError, match="no hole"):
        explore.fill({"grey": Grey()}, smooth(32, 32), np.zeros((32, 32), np.uint8))


# --- curves


def test_smoothing_is_the_bias_corrected_moving_average():
    values, weight, mean, found = [3.0, -1.0, 4.0, 1.0], 0.7, 0.0, []
    for t, value in enumerate(values, 1):  # Kingma & Ba 2015
        mean = weight * mean + (1 - weight) * value
        found.append(mean / (1 - weight**t))
    assert explore.smooth(values, weight) == pytest.approx(found)
    assert explore.smooth(values, 0).tolist() == values
    assert explore.smooth([2.5] * 9, 0.98) == pytest.approx([2.5] * 9)
    with pytest.raises(ValueError, match="outside"):
        explore.smooth(values, 1)


# --- runs


def test_finished_runs_are_found_with_their_own_configuration(trained):
    found = explore.finished(grid.open_study("smoke"))  # another budget, other images: what was trained counts
    assert [explore.name_of(run) for run in found] == ["custom fixed", "custom progressive", "context_encoder fixed"]
    assert found[0].study.config.total_images == trained.config.total_images
    assert not explore.finished(grid.open_study("smoke", {"mask_widths": [4, 16]}))


def test_runs_of_one_budget_are_offered(trained, tmp_path, monkeypatch):
    shutil.copytree(trained.folder, tmp_path / "runs/smoke")
    monkeypatch.setenv("INPAINT_OUTPUT", str(tmp_path))
    path = trained.runs()[0].folder / "result.json"
    result = files.read_json(path)
    files.write_json(path, result | {"config": result["config"] | {"total_images": 2 * trained.config.total_images}})
    other = grid.open_study("smoke", {"total_images": 2 * trained.config.total_images})
    assert [explore.name_of(r) for r in explore.finished(other)] == ["custom fixed"]
    assert len(explore.finished(trained)) == 2


def test_a_run_without_result_or_weights_or_on_other_data_is_not_offered(trained):
    first = trained.runs()[0].folder
    for path in (first / "result.json", first / "stages/1.safetensors", trained.data_folder("scenes") / "manifest.json"):
        hidden = path.rename(path.with_suffix(".hidden"))
        assert "custom fixed" not in map(explore.name_of, explore.finished(trained))
        hidden.rename(path)


def test_stages_are_those_nearest_before_an_iteration(trained):
    run = trained.runs()[0]  # 16 iterations, two stages
    assert [explore.stage_at(run, k) for k in (0, 7, 8, 15, 16, 99)] == [0, 0, 1, 1, 2, 2]
    assert "in stage 2 of 2" in explore.describe(run, 11) and "end of stage 1 (iteration 8)" in explore.describe(run, 11)
    assert "before training" in explore.describe(run, 0)
    assert explore.logged(run, 0) is None and explore.logged(run, 7).step == 6 and explore.logged(run, 8).step == 8


def test_networks_of_a_stage_are_the_saved_ones_and_of_stage_0_the_initial_ones(trained):
    run = trained.runs()[1]
    pack = packs.existing(trained, run.dataset)
    fill = explore.compare([run], pack.test[0], {"custom": pack.test_masks("square", 16)[0]}, lambda run: 2)[1]
    assert fill["hole L1"].iloc[0] == pytest.approx(per_image(run).iloc[0].l1, rel=1e-5)
    initial, _ = models.create("custom", 32, 0, **run.model.widths)
    untrained, _ = artifacts.load_networks(run, 0)
    assert all(torch.equal(a, b) for a, b in zip(initial.parameters(), untrained.parameters(), strict=True))


def per_image(run):
    frame = pd.read_csv(run.folder / "per_image.csv.gz")
    return frame[(frame.stage == 2) & (frame.mask_width == 16) & (frame.region == "hole")]


def test_scores_are_the_discriminator_s_own(trained):
    for run in trained.runs()[1:3]:
        pack, pair = packs.existing(trained, run.dataset), artifacts.load_networks(run, 2)
        hole = pack.test_masks(run.model.mask_family, 16)[0]
        found, boundary = explore.score_maps(run, pair, pack.test[0], hole)
        assert boundary == losses.OBJECTIVES[run.architecture].adversarial[2]
        scales = run.model.widths.get("scales", 1)
        assert all(len(maps) == scales and all(m.ndim == 2 for m in maps) for _, maps in found.values())
        assert not np.array_equal(found["real"][1][0], found["filled"][1][0])


def test_wins_add_up_to_the_test_images(trained):
    table = explore.wins(trained.runs()[:2])
    assert table["best on images"].sum() == 8
    with pytest.raises(ValueError, match="No finished run"):
        explore.wins([])


# --- widgets, without a browser


def text_and_picture(box):
    return box.children[2].value, box.children[1].value


def test_moving_a_slider_redraws_picture_and_text(picker):
    box = panels.scrubber(picker)
    stage, iteration, image, width = box.children[0].children
    seen = [text_and_picture(box)]
    for control, value in ((stage, 1), (iteration, 0), (image, 3), (width, 8)):
        control.value = value
        seen.append(text_and_picture(box))
    assert stage.value == 0, "the stage follows the iteration"
    assert len({text for text, _ in seen}) == len({image for _, image in seen}) == 5
    stage.value = 2
    assert iteration.value == 16


def test_the_choice_of_runs_reaches_every_panel(picker):
    boxes = [panels.scrubber(picker), panels.curves(picker), panels.scores(picker)]
    before = [text_and_picture(box) for box in boxes]
    assert "context_encoder" not in before[0][0]
    picker.controls["architecture"].value = ("context_encoder",)
    after = [text_and_picture(box) for box in boxes]
    assert all(a[1] != b[1] for a, b in zip(before, after, strict=True)) and "context_encoder fixed" in after[0][0]
    picker.controls["setup"].value = ("progressive",)  # not trained
    assert all("No finished run is of this choice" in text_and_picture(box)[0] for box in boxes)
    picker.controls["setup"].value = ("fixed", "progressive")
    assert "context_encoder fixed" in text_and_picture(boxes[1])[0]


def test_smoothing_and_quantity_redraw_the_curves(picker):
    box = panels.curves(picker)
    _, _, term, weight = box.children[0].children
    seen = [text_and_picture(box)]
    weight.value = 0.0
    seen.append(text_and_picture(box))
    term.value = "d_accuracy"
    seen.append(text_and_picture(box))
    term.value = "mse"
    assert "do not log" in text_and_picture(box)[0]
    assert len(set(seen)) == 3


def drag(painter, *points):
    painter.press(*points[0])
    for point in points[1:]:
        painter.move(*point)
    painter.release()


def test_a_drag_is_a_stroke_that_is_filled_undone_and_cleared(picker):
    painter = panels.Painter(picker)
    assert "no hole" in painter.label.value and painter.picture.layout.visibility == "hidden"
    painter.brush.value = 4
    drag(painter, (80, 100), (160, 100), (240, 100))  # 10 px of the screen are one of the model
    expected = explore.rasterise([([(8, 10), (24, 10)], 4)], 32)
    assert np.array_equal(painter.hole()[0], expected)
    assert f"{expected.sum()} px of hole" in painter.label.value and "custom progressive" in painter.label.value
    first = painter.picture.value
    drag(painter, (160, 200))
    assert painter.hole()[0].sum() > expected.sum() and painter.picture.value != first
    painter.buttons["undo"].click()
    assert np.array_equal(painter.hole()[0], expected)
    painter.buttons["clear"].click()
    painter.buttons["undo"].click()  # nothing left: nothing happens
    assert not painter.hole()[0].any() and "no hole" in painter.label.value
    painter.move(5, 5)  # without a button held down
    assert painter.stroke is None


def test_a_seed_draws_its_free_form_hole(picker):
    painter, holes = panels.Painter(picker), []
    for seed in (3, 4, 3):
        painter.seed.value = seed
        painter.clear()
        painter.buttons["free-form hole"].click()
        holes.append(painter.hole()[0])
    assert np.array_equal(holes[0], holes[2]) and not np.array_equal(holes[0], holes[1])
    drawn = masks.generate("free_form", 1, 16, 32, panels.keyed(4, "painted"))[0, 0].numpy()
    assert np.array_equal(holes[1], drawn)


def test_strokes_outside_the_central_half_are_refused_with_the_reason(picker):
    picker.controls["architecture"].value = ("custom", "context_encoder")
    painter = panels.Painter(picker)
    drag(painter, (10, 10), (60, 10))
    assert "left out" in painter.note.value and "no hole" in painter.label.value
    drag(painter, (160, 160))
    assert "context_encoder fixed" in painter.label.value
    picker.controls["architecture"].value = ("custom",)
    assert "left out" not in painter.note.value and painter.hole()[0][1, 1]


def test_an_uploaded_image_is_cut_as_data_preparation_does_and_a_broken_one_is_said(picker):
    painter, buffer = panels.Painter(picker), io.BytesIO()
    Image.fromarray(smooth(90, 140)).save(buffer, format="PNG")
    entry = {"name": "mine.png", "type": "image/png", "size": 1, "last_modified": datetime(2020, 1, 1, tzinfo=UTC)}
    painter.upload.set_trait("value", ({**entry, "content": memoryview(buffer.getvalue())},))
    assert np.array_equal(painter.truth(), images.read(buffer, 32))
    painter.upload.set_trait("value", ({**entry, "name": "<b>.png", "content": memoryview(b"no image")},))
    assert "&lt;b&gt;.png: not an image" in painter.note.value
    painter.buttons["test image"].click()
    assert np.array_equal(painter.truth(), packs.existing(picker.found[0].study, "scenes").test[0])


def test_no_run_is_said(trained):
    with pytest.raises(ValueError, match="no finished run"):
        panels.Picker([], trained.config)
