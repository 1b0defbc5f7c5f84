"""A run's evaluation against its parts; baselines; the model card."""

import copy
import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from inpaint_lib import losses, masks, metrics, models
from inpaint_lib.data import packs
from inpaint_lib.evaluation import baselines, evaluate, fid, measures, pretrained
from inpaint_lib.study import files
from inpaint_lib.training import artifacts, loop, probe, recording

HEADINGS = "What it is|Intended use and limits|Training data|Training procedure|Metrics|How to use"


@pytest.fixture
def trained(copied, micro):
    """A run whose evaluation uses 6 of its 8 test images elsewhere."""
    (run,) = micro({"evaluation.images_elsewhere": 6, "grid.setups": ["progressive"]}).runs()
    return run


def rows_of(frame, family, width, region, metric, stage=2):
    keys = {"mask_family": family, "mask_width": width, "region": region, "metric": metric}
    keys["stage"] = stage
    return frame[(frame[list(keys)] == list(keys.values())).all(axis=1)]


def value(*args, **options):
    (found,) = rows_of(*args, **options).value
    return found


def count(*args, **options):
    (found,) = rows_of(*args, **options).n_images
    return found


def test_the_last_stage_holds_every_family_width_region_and_measure(trained, extractor):
    frame, pack = evaluate.evaluate(trained, 2), packs.open_pack(trained.study, trained.dataset)
    assert set(frame.stage) == {2} and not frame.duplicated(evaluate.COLUMNS[:5]).any()
    pairs = set(zip(frame.region, frame.metric, strict=True))
    assert pairs <= measures.MEASURES and {m for _, m in pairs} >= {"fid", "kid", "is", "noise"}
    for family in masks.FAMILIES:
        for width in (8, 16):
            part = frame[(frame.mask_family == family) & (frame.mask_width == width)]
            expected = {(r, m) for r in metrics.REGIONS for m in metrics.METRICS}
            assert expected | set(measures.EXTRA) <= set(zip(part.region, part.metric, strict=True))
            shown = count(frame, family, width, "hole", "l1")
            assert shown == (8 if family == "square" else 6)
    with_fid = frame[(frame.metric == "fid") & (frame.mask_width == 16)]
    assert set(with_fid.mask_family) == {"square", "free_form", "rectangles"}
    assert count(frame, "square", 16, "whole_composite", "fid") == 8
    for width in (8, 16):
        assert count(frame, "square", width, "whole_composite", "lpips_vgg") == 6
    assert any("full rank" in warning for warning in evaluate.read_head(trained)["warnings"])

    G = artifacts.load_generator(trained, 2)
    outputs = list(
        metrics.inpaint(G, pack.test[:6], pack.test_masks("rectangles", 8)[:6], "cpu", 3)
    )
    l1 = metrics.measure_batches(outputs)[:, 0, 0].mean().item()
    assert value(frame, "rectangles", 8, "hole", "l1") == pytest.approx(l1, rel=1e-5)
    holes = pack.test_masks("square", 16)
    outputs = list(metrics.inpaint(G, pack.test, holes, "cpu", 8))
    filled = metrics.to_uint8(losses.composite(*outputs[0]))
    pair = (
        fid.compute_features(extractor, x, 8).astype(float) for x in (np.array(pack.test), filled)
    )
    found = value(frame, "square", 16, "whole_composite", "fid")
    assert found == pytest.approx(fid.frechet_distance(*pair), rel=1e-4)
    differences = np.abs(filled.astype(float) - pack.test)[:6].mean() / 127.5
    found = value(frame, "square", 16, "whole_composite", "lpips_vgg")
    assert found == pytest.approx(differences, rel=1e-4)
    spread = pack.train[np.linspace(0, 23, 8).round().astype(int)]
    both = (
        metrics.measure_batches(metrics.inpaint(G, x, holes, "cpu", 8)) for x in (spread, pack.test)
    )
    train, test = (values[:, 0, 0].mean().item() for values in both)
    gap = value(frame, "square", 16, "hole", "overfitting")
    assert gap == pytest.approx(train - test, abs=1e-7)


def test_a_stage_before_the_last_is_measured_on_fewer_images_and_without_networks(trained):
    frame = evaluate.evaluate(trained, 1)
    assert set(frame.mask_family) == {"square"} and set(frame.mask_width) == {8, 16}
    assert set(frame.region) == set(metrics.REGIONS)
    assert set(frame.metric) == {*metrics.METRICS, "colour", "continuity", "ssim"}
    assert set(frame.n_images) == {6}


def test_holes_are_binned_by_their_area_over_all_widths(trained):
    frame, pack = evaluate.evaluate(trained, 2), packs.open_pack(trained.study, trained.dataset)
    images = evaluate.read_image_errors(trained).set_index(["mask_width", "image"]).l1
    bins = frame[frame.region.str.startswith("area")]
    assert set(bins.region) == {"area_0_10", "area_20_30"}  # squares of 1/16 and 1/4
    assert set(bins.mask_family) == {"square"} and set(bins.mask_width) == {0}
    for region, width in (("area_0_10", 8), ("area_20_30", 16)):
        assert pack.test_masks("square", width).mean() == (width / 32) ** 2
        assert value(frame, "square", 0, region, "l1") == pytest.approx(images[width].mean())
        assert count(frame, "square", 0, region, "psnr") == 8


def test_a_setup_that_trains_in_its_last_stage_alone_is_evaluated_there_alone(micro):
    (run,) = micro({"grid.setups": ["last_only"]}).runs()
    loop.fit(run)
    evaluate.complete(run)
    assert not evaluate.is_evaluated(run, 1) and evaluate.is_evaluated(run, 2)
    assert set(evaluate.read_values(run).stage) == {2}
    assert all(key.startswith("stage2/") for key in evaluate.read_fills(run))


def test_stored_errors_and_fills_are_the_measured_ones(trained):
    frame = pd.concat([evaluate.evaluate(trained, stage) for stage in (1, 2)])
    pack, images = (
        packs.open_pack(trained.study, trained.dataset),
        evaluate.read_image_errors(trained),
    )
    assert list(images) == ["mask_width", "image", "l1", "l2"] and len(images) == 2 * 8
    for width, part in images.groupby("mask_width"):
        found = value(frame, "square", width, "hole", "l1")
        assert part.l1.mean() == pytest.approx(found, rel=1e-6)
    fills, chosen = evaluate.read_fills(trained), recording.choose_images(trained.config, 8)
    assert list(chosen) == [0, 2, 3, 5]  # of the first six
    widths = ["square_8", "square_16"]
    expected = [f"stage1/{key}" for key in widths]
    assert set(fills) == {*expected, "stage2/free_form_16", *(f"stage2/{key}" for key in widths)}
    for stage in (1, 2):
        holes = pack.test_masks("square", 16)[chosen]
        filled, truth = fills[f"stage{stage}/square_16"], np.array(pack.test)[chosen]
        assert filled.dtype == np.uint8 and np.array_equal(filled[holes == 0], truth[holes == 0])
        error = np.abs(filled.astype(float) - truth)[holes > 0].mean() / 255
        if stage == 2:
            of = images[(images.mask_width == 16) & images.image.isin(chosen)]
            assert error == pytest.approx(of.l1.mean(), abs=2e-3)


def test_evaluation_during_training_is_the_one_afterwards_and_changes_nothing(
    finished, output, micro, run_of
):
    run = run_of(micro())

    def contents():
        folder = run.folder / "evaluation"
        weights = artifacts.load_generator(run, 2).state_dict()
        written = {p.name: p.read_bytes() for p in folder.glob("*.*") if p.suffix}
        return written, {name: w.numpy().tobytes() for name, w in weights.items()}

    loop.fit(run, after_stage=evaluate.evaluate)
    found = contents()
    assert evaluate.is_evaluated(run, 1) and evaluate.is_evaluated(run, 2)
    artifacts.discard(run.folder)
    again = finished / run.folder.relative_to(output)
    shutil.copytree(again, run.folder, dirs_exist_ok=True)
    assert not evaluate.is_evaluated(run, 2)
    evaluate.complete(run)
    assert contents() == found


def test_only_missing_stages_and_those_of_other_settings_are_evaluated(trained, monkeypatch):
    calls, original = [], evaluate.evaluate
    monkeypatch.setattr(evaluate, "evaluate", lambda *a: calls.append(a[1]) or original(*a))
    evaluate.complete(trained)
    evaluate.complete(trained)
    assert calls == [1, 2]
    monkeypatch.setattr(evaluate, "PROTOCOL", 99)
    assert not evaluate.is_evaluated(trained, 1)
    evaluate.complete(trained)
    assert calls == [1, 2, 1, 2]


def test_every_call_measures_again_and_a_killed_one_leaves_no_result(trained, monkeypatch):
    first = evaluate.evaluate(trained, 2)
    with monkeypatch.context() as patch:
        patch.setattr(losses, "composite", lambda output, real, mask: torch.zeros_like(real))
        broken = evaluate.evaluate(trained, 2)
        patch.setattr(evaluate, "_store", None)
        with pytest.raises(TypeError):
            evaluate.evaluate(trained, 2)
    before, after = (value(f, "square", 16, "whole_composite", "ssim") for f in (first, broken))
    assert after < 0.5 * before
    assert not evaluate.is_evaluated(trained, 2) and evaluate.read_head(trained) is None


def test_without_weights_the_evaluation_goes_on_and_says_why(trained, tmp_path, monkeypatch, micro):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    auto = {"evaluation.inception_weights": "auto", "grid.setups": ["progressive"]}
    (run,) = micro(auto).runs()
    frame = evaluate.evaluate(run, 2)
    settings = evaluate.read_head(run)["settings"]
    assert not {"fid", "kid", "is", "lpips"} & set(frame.metric)
    assert "no pt_inception-2015-12-05" in settings["inception"] and "none" in settings["alexnet"]
    monkeypatch.setattr(pretrained, "identify", lambda *_: "said in other words")
    assert evaluate.is_evaluated(run, 2)
    monkeypatch.setattr(pretrained, "identify", lambda *_: "ab" * 32)
    assert not evaluate.is_evaluated(run, 2), "weights have come"


def test_the_context_encoder_is_measured_on_central_holes_alone(micro):
    names = {"grid.architectures": ["context_encoder"], "grid.setups": ["fixed"]}
    (run,) = micro(names).runs()
    loop.fit(run)
    frame = evaluate.evaluate(run, 2)
    assert set(frame.mask_family) == {"center"} and "visible" not in set(frame.region)


def test_the_model_card_says_what_it_is_how_good_and_under_which_licence(trained):
    folder = trained.folder / "model"
    frame = evaluate.evaluate(trained, 2)
    text = (folder / "README.md").read_text()
    headings = [line[3:] for line in text.splitlines() if line.startswith("## ")]
    assert headings == [*HEADINGS.split("|"), "Licence"]
    words = (
        "used instead of MSCOCO",
        "random weights",
        "a demonstration",
        "| square | 16 | hole |",
    )
    words += ('torch.export.load("model.pt2").module()', ".resize((32, 32))")
    assert all(word in text for word in words)
    values = json.loads((folder / "model.json").read_text())["metrics"]["values"]
    of_hole = {row["mask_width"]: row["l1"] for row in values if row["region"] == "hole"}
    assert of_hole == {w: value(frame, "square", w, "hole", "l1") for w in (8, 16)}


# --- networks as in training


def test_frozen_networks_have_a_ratio_of_one(micro, run_of):
    """What is measured between batches with frozen networks equals, in expectation, the deviation
    of a loss that only batches move.
    """
    run = run_of(micro({"data.train_images": 96}))
    pack = packs.prepare(run.study, run.dataset)
    G, D = artifacts.load_networks(run, 0)
    runs = run, run, dataclasses.replace(run, seed=1)
    one, again, other = (probe.measure_frozen_noise(of, pack, G, D, "cpu") for of in runs)
    assert one == again > 0 and 0.5 < other / one < 2


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_probing_leaves_the_networks_as_they_are(micro, run_of, architecture):
    run = run_of(micro({"grid.architectures": [architecture]}))
    pack = packs.prepare(run.study, run.dataset)
    G, D = (network.train() for network in artifacts.load_networks(run, 0))
    before = copy.deepcopy((G.state_dict(), D.state_dict()))
    batch = probe.load_fixed_batch(run, pack, torch.device("cpu"))
    found = [
        probe.measure_adversarial(G, D, run.architecture_entry.objective, *batch) for _ in range(2)
    ]
    assert found[0] == found[1] and G.training and D.training
    for network, kept in zip((G, D), before, strict=True):
        assert all(torch.equal(v, kept[k]) for k, v in network.state_dict().items())


def test_batch_norm_uses_statistics_of_the_measured_holes(micro):
    """Statistics of a network that trained on both widths are re-estimated for each, weights
    untouched; and what is exported has those of the largest holes."""
    study = micro({"grid.architectures": ["context_encoder"], "grid.setups": ["mixed"]})
    (run,) = study.runs()
    loop.fit(run, lambda *_: None)
    pack, G = packs.open_pack(study, run.dataset), artifacts.load_generator(run, 2)
    of = {width: probe.calibrate_for(run, pack, G, width, "cpu").state_dict() for width in (8, 16)}
    exported = G.state_dict()
    means = [k for k in exported if k.endswith("running_mean")]
    kept = [k for k in exported if "num_batches" not in k]
    assert means and all(torch.equal(of[16][k], exported[k]) for k in kept)
    assert any(not torch.allclose(of[8][k], of[16][k], rtol=1e-3) for k in means)
    trained = {name for name, _ in G.named_parameters()}
    assert all(torch.equal(of[8][k], of[16][k]) for k in trained)


def test_the_last_steps_weights_are_kept_and_measured_beside_their_average(trained):
    frame = evaluate.evaluate(trained, 2)
    snapshot = artifacts.load_snapshot(trained).state_dict()
    final = torch.load(trained.folder / "checkpoint.pt", weights_only=True)["state"]
    assert all(torch.equal(v, final["G"][k]) for k, v in snapshot.items())
    l1 = [value(frame, "square", 16, region, "l1") for region in ("hole_snapshot", "hole")]
    assert l1[0] != l1[1]


# --- baselines


def test_baselines_are_measured_like_the_networks_on_every_family_and_width(micro, extractor):
    study = micro({"evaluation.images_elsewhere": 6})
    with pytest.raises(FileNotFoundError, match="clutter"):
        evaluate.measure_baselines(study, "clutter")
    pack = packs.prepare(study, "clutter")
    frame = evaluate.measure_baselines(study, "clutter")
    assert set(frame.baseline) == set(baselines.BASELINES)
    assert set(frame.mask_family) == set(masks.FAMILIES) and "visible" not in set(frame.region)
    part, holes = frame[frame.baseline == "Telea"], pack.test_masks("rectangles", 16)
    assert "fid" in set(part.metric) and set(part[part.mask_width > 0].n_images) == {6, 8}
    slow = frame[frame.baseline == "biharmonic"]
    assert not {"fid", "lpips_vgg"} & set(slow.metric)
    assert set(slow[slow.mask_width > 0].n_images) == {4}  # smoke: four images

    def errors(images):
        filled = baselines.fill("Telea", images, holes).astype(float)
        pairs = zip(np.abs(filled - images) / 255, holes > 0, strict=True)
        return [error[hole].mean() for error, hole in pairs]

    images, spread = np.array(pack.test), np.linspace(0, 23, 8).round().astype(int)
    found = value(part, "rectangles", 16, "hole", "l1", stage=0)
    assert found == pytest.approx(np.mean(errors(images)), rel=1e-5)
    gap = value(part, "rectangles", 16, "hole", "overfitting", stage=0)
    expected = np.mean(errors(np.array(pack.train[spread]))) - np.mean(errors(images))
    assert gap == pytest.approx(expected, abs=1e-6)
    each = evaluate.read_baseline_errors(pack.folder)
    each = each.query("baseline == 'Telea' and mask_family == 'rectangles' and mask_width == 16")
    assert each.l1.to_numpy() == pytest.approx(errors(images), rel=1e-5)
    areas = pack.test_masks("square", 8).mean((1, 2))
    assert (areas < 0.1).all() and count(part, "square", 0, "area_0_10", "l1", stage=0) == 8


def test_baselines_have_the_same_digits_at_each_call_and_are_kept(micro, monkeypatch):
    study = micro()
    folder = packs.prepare(study, "clutter").folder / "baselines"
    first = evaluate.measure_baselines(study, "clutter")
    monkeypatch.setattr(baselines, "fill", None)  # must not be called again
    pd.testing.assert_frame_equal(
        evaluate.measure_baselines(study, "clutter"), first, check_exact=True
    )
    head = files.read_json(folder / "Telea.json")
    files.write_json(folder / "Telea.json", head | {"settings": {}})
    with pytest.raises(TypeError):
        evaluate.measure_baselines(study, "clutter")
