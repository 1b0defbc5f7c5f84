"""The painter's answers: fills and scores of a painted hole, presets, own images, Python lines."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from inpaint_lib import losses, masks, metrics, models
from inpaint_lib.data import images
from inpaint_lib.evaluation import evaluate
from inpaint_lib.lab import paint, state, what_if
from inpaint_lib.study import files, grid
from inpaint_lib.training import artifacts, loop, probe
from tests.conftest import MICRO, smooth

GRID = MICRO | {"grid.architectures": ["custom", "context_encoder", "free_form"]}
GRID |= {"grid.setups": ["fixed"]}
LARGE = 20 * 2**20


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Micro runs of all architectures, evaluated."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INPAINT_OUTPUT", str(tmp_path_factory.mktemp("paint")))
        study = grid.open_study("smoke", GRID)
        for run in study.runs():
            loop.fit(run, lambda *_: None)
            evaluate.evaluate(run, 2)
        changes = {"lr_g": 0.003}
        run = what_if.make_run(study, "fast", "clutter", "custom", "fixed", 0, changes)
        files.write_json(study.folder / "what_if" / "fast" / what_if.CHANGES, changes)
        loop.fit(run, lambda *_: None)
        evaluate.evaluate(run, 2)
        yield state.Trained(study)


def names(trained, *architectures):
    found = [run for run in trained.runs.values() if not run.study.what_if]
    return [
        run.name for run in found if run.architecture in (architectures or models.ARCHITECTURES)
    ]


def box(top, left, height, width, size=32):
    hole = np.zeros((size, size), np.uint8)
    hole[top : top + height, left : left + width] = 1
    return hole


def painted(trained, hole, runs, image=3, stage=2, own=None, **more):
    sent = [np.packbits(hole).tobytes()] + ([own.tobytes()] if own is not None else [])
    return paint.paint(trained, sent, "clutter", runs, image, stage, **more)


# --- fills


@pytest.mark.parametrize("width", [8, 16])
@pytest.mark.parametrize("architecture", list(models.ARCHITECTURES))
def test_a_frozen_hole_gets_the_number_of_the_tables(trained, architecture, width):
    [name] = names(trained, architecture)
    run = trained.runs[name]
    hole = trained.pack("clutter").test_masks(run.model.mask_family, width, [3])[0]
    found = painted(trained, hole, [name], width=width)
    table = evaluate.read_image_errors(run).set_index(["mask_width", "image"]).l1
    assert found["runs"][0]["l1"] == pytest.approx(table[width, 3], rel=1e-4)
    assert (found["hole"], found["left_out"]) == (hole.sum(), "")
    assert found["width"] == (width if architecture == "context_encoder" else None)


def test_batch_norm_is_that_of_the_painted_holes_size(trained):
    [name] = names(trained, "context_encoder")
    run, stored = trained.runs[name], artifacts.load_generator(trained.runs[name], 2)
    hole, image = box(9, 9, 7, 8), trained.image("clutter", 3)[0]  # 56 px: nearest to 8 x 8
    found = painted(trained, hole, [name])["runs"][0]
    G = probe.calibrate_for(run, trained.pack("clutter"), stored, 8, "cpu")
    expected, uncalibrated = (
        metrics.measure_images(*next(metrics.inpaint(one, image[None], hole[None], "cpu", 1)))[
            0, 0, 0
        ]
        for one in (G, stored)
    )
    assert found["l1"] == pytest.approx(float(expected), rel=1e-5)
    assert found["l1"] != pytest.approx(float(uncalibrated), rel=1e-3)


def test_a_fill_is_new_in_the_hole_alone_and_several_runs_fill_the_same_hole(trained):
    hole = box(10, 12, 5, 9)
    answer = painted(trained, hole, names(trained))
    assert len(answer["runs"]) == 3 and np.array_equal(
        answer["truth"], trained.image("clutter", 3)[0]
    )
    for found in answer["runs"]:
        changed = (found["fill"] != answer["truth"]).any(2)
        assert changed[hole == 1].mean() > 0.5 and not changed[hole == 0].any()
        error = np.abs(found["fill"].astype(float) - answer["truth"])[hole == 1].mean() / 255
        assert found["l1"] == pytest.approx(error, abs=0.003)  # the fill is rounded


def test_scores_are_those_of_d_for_the_fill_and_for_the_truth(trained):
    hole = box(10, 12, 5, 9)
    answer = painted(trained, hole, names(trained))
    for found, name in zip(answer["runs"], names(trained), strict=True):
        run, shown = trained.runs[name], [(answer["truth"], hole)]
        G, D = trained.generator(run, 2, 8), artifacts.load_networks(run, 2)[1]
        if metrics.find_batch_norms(D):  # it judges a batch, as in training
            D.train()
            recorded = trained.about["datasets"]["clutter"]["recorded"]
            shown += [trained.holed(run, 8, image) for image in recorded]
        images, holes = map(np.stack, zip(*shown, strict=True))
        real, mask = metrics.to_float(images), torch.from_numpy(holes)[:, None].float()
        with torch.no_grad():
            output = G(real * (1 - mask), mask)[-1]
            for key, image in {"scores": output, "real": real}.items():
                seen = run.architecture_entry.objective.seen(image, real, mask)
                for score, expected in zip(found[key], losses.get_scores(D(seen)), strict=True):
                    assert np.allclose(score, expected[0, 0], atol=1e-5)


def test_what_the_context_encoder_cannot_fill_is_left_out_for_all_and_the_reason_given(trained):
    hole = box(14, 0, 4, 32)
    both = painted(trained, hole, names(trained, "custom", "context_encoder"))
    assert both["hole"] == 4 * 16 and both["left_out"].startswith("64 painted px are left out")
    assert "context_encoder" in both["left_out"]
    for found in both["runs"]:
        assert not (found["fill"] != both["truth"])[:, :8].any()
    alone = painted(trained, hole, names(trained, "custom"))
    assert alone["hole"] == 4 * 32 and alone["left_out"] == ""


@pytest.mark.parametrize("hole", [box(0, 0, 0, 0), box(0, 0, 4, 32)])
def test_without_a_hole_that_can_be_filled_there_is_the_image_alone(trained, hole):
    answer = painted(trained, hole, names(trained, "context_encoder"))
    assert np.array_equal(answer["truth"], trained.image("clutter", 3)[0])
    assert answer["runs"] == [] and answer["hole"] == 0 and not answer["filled"].any()
    assert bool(answer["left_out"]) == bool(hole.any())


def test_a_stage_and_an_own_image_are_those_asked_for(trained):
    hole, name = box(10, 10, 8, 8), names(trained, "custom")
    own = smooth(32, 32)
    later, before = (painted(trained, hole, name, own=own, stage=k) for k in (2, 0))
    assert np.array_equal(later["truth"], own)
    assert np.array_equal(later["runs"][0]["fill"][hole == 0], own[hole == 0])
    G, _ = models.create("custom", 32, 0, **trained.runs[name[0]].model.widths)
    [batch] = metrics.inpaint(G, own[None], hole[None], "cpu", 1)
    expected = metrics.to_uint8(losses.composite(*batch))[0]
    assert np.array_equal(before["runs"][0]["fill"], expected)
    assert not np.array_equal(later["runs"][0]["fill"], expected)


def test_runs_without_networks_are_named_or_left_empty_beside_others(trained):
    hole, missing, there = box(10, 10, 8, 8), "clutter/custom/fixed/seed9", names(trained, "custom")
    with pytest.raises(ValueError, match="seed9 is published without its network"):
        painted(trained, hole, [missing])
    found = painted(trained, hole, [missing, *there])["runs"]
    assert found[0] is None and found[1]["l1"] == painted(trained, hole, there)["runs"][0]["l1"]


# --- presets


@pytest.mark.parametrize("family", list(masks.FAMILIES))
def test_presets_are_the_frozen_holes_and_exist_at_any_size(trained, family):
    for width in (8, 16):
        frozen = trained.pack("clutter").test_masks(family, width)
        for draw in (0, 5):
            found = paint.preset(trained, [], family, width, draw)["hole"]
            assert found.dtype == np.uint8 and np.array_equal(found, frozen[draw])
    areas = [paint.preset(trained, [], family, w, 1)["hole"].sum() for w in (1, 5, 11, 23, 32)]
    assert areas == sorted(areas) and areas[0] >= 1
    with pytest.raises(ValueError, match="outside 1"):
        paint.preset(trained, [], family, 33, 0)


# --- own images


def upload(trained, content, name="mine.png", part=2**20):
    for offset in range(0, max(len(content), 1), part):
        sent = [memoryview(content)[offset : offset + part]]
        answer = paint.own_image(trained, sent, name, len(content), offset)
    return answer


def png(pixels, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", **options)
    return file.getvalue()


def test_an_own_image_in_parts_is_cut_as_data_preparation_does(trained):
    content = png(smooth(90, 140))
    answer = upload(trained, content, part=1000)
    assert answer["received"] == len(content)
    assert np.array_equal(answer["image"], images.read_image(io.BytesIO(content), 32))


def test_a_file_of_20_mb_is_read_and_its_parts_are_not_kept(trained):
    noise = np.random.default_rng(0).integers(0, 256, (2700, 2700, 3), np.uint8)
    content = png(noise, compress_level=0)
    assert len(content) > LARGE and upload(trained, content)["image"].shape == (32, 32, 3)
    assert not trained.upload


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no image", "mine.png cannot be used: not an image"),
        (b"", "mine.png cannot be used: not an image"),
        (png(smooth(90, 140))[:900], "mine.png cannot be used: truncated"),
        (png(smooth(4, 4)), r"mine.png cannot be used: too small \(4 x 4 pixels\)"),
    ],
)
def test_what_is_no_image_is_refused_with_the_reason(trained, content, words):
    with pytest.raises(ValueError, match=words):
        upload(trained, content)
    assert upload(trained, png(smooth(40, 40)))["image"].shape == (32, 32, 3)  # the next one works


def test_a_file_above_64_mb_is_refused_before_it_is_sent(trained):
    with pytest.raises(ValueError, match=r"mine.png has 70 MB; at most 64 MB are read"):
        paint.own_image(trained, [b"\0"], "mine.png", 70 * 2**20, 0)


def test_parts_out_of_order_are_refused(trained):
    paint.own_image(trained, [b"\0" * 9], "mine.png", 30, 0)
    for offset in (10, 8, 20):
        with pytest.raises(ValueError, match="interrupted: choose the file again"):
            paint.own_image(trained, [b"\0"], "mine.png", 30, offset)


# --- as Python


def run_code(trained, hole, runs, folder, monkeypatch, own=None, **more):
    sent = [np.packbits(hole).tobytes()]
    text = paint.code(trained, sent, "clutter", runs, 3, own=own, **more)["code"]
    monkeypatch.chdir(folder)
    found = {}
    exec(compile(text, "copied", "exec"), found)
    return found


def test_copied_lines_make_the_same_fills(trained, tmp_path, monkeypatch, capsys):
    hole = box(9, 2, 8, 20)
    [tried] = set(trained.runs) - set(names(trained))
    for runs in (names(trained), [*names(trained, "custom"), tried]):
        for stage in (0, 2):
            expected = painted(trained, hole, runs, stage=stage)["runs"]
            found = run_code(trained, hole, runs, tmp_path, monkeypatch, stage=stage)
            assert list(found["fills"]) == runs and runs[0] in capsys.readouterr().out
            for name, one in zip(runs, expected, strict=True):
                assert np.array_equal(found["fills"][name], one["fill"])
                assert found["hole_l1"][name] == pytest.approx(one["l1"], rel=1e-6)


def test_copied_lines_read_an_own_image_by_its_name(trained, tmp_path, monkeypatch):
    name = 'it\'s \\ "mine".png'
    (tmp_path / name).write_bytes(png(smooth(50, 60)))
    own, runs, hole = (
        images.read_image(tmp_path / name, 32),
        names(trained, "custom"),
        box(9, 9, 8, 8),
    )
    expected = painted(trained, hole, runs, own=own)["runs"][0]["fill"]
    found = run_code(trained, hole, runs, tmp_path, monkeypatch, own=name, stage=2)
    assert np.array_equal(found["fills"][runs[0]], expected)


def test_nothing_painted_gives_no_lines(trained):
    with pytest.raises(ValueError, match="paint a hole first"):
        paint.code(trained, [bytes(128)], "clutter", names(trained), 3, 2)
