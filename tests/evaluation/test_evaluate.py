"""Every measure against a second implementation; a run's evaluation against its parts."""

import dataclasses
import json
import threading

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock
from skimage.color import deltaE_ciede2000, rgb2lab
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import learned_perceptual_image_patch_similarity

from inpaint_lib import losses, masks, metrics, models
from inpaint_lib.data import packs
from inpaint_lib.evaluation import baselines, evaluate, fid, pretrained
from inpaint_lib.results import collect, tables
from inpaint_lib.study import files, grid
from inpaint_lib.training import artifacts, loop, probe


@pytest.fixture
def batch():
    g = torch.Generator().manual_seed(0)
    output, real = (torch.rand(4, 3, 32, 32, generator=g) * 2 - 1 for _ in range(2))
    return output, real, torch.from_numpy(masks.frozen("free_form", 4, 12, 32, seed=0)).float()[:, None]


def as_numpy(*tensors):
    """(B,3,H,W) in [-1, 1] -> (B,H,W,3) float64 in [0, 1]."""
    return [t.double().permute(0, 2, 3, 1).numpy() / 2 + 0.5 for t in tensors]


def test_colour_is_the_difference_of_mean_colours_in_the_hole(batch):
    output, real, mask = batch
    for k, (o, r) in enumerate(zip(*as_numpy(output, real), strict=True)):
        inside = mask[k, 0].numpy() > 0
        expected = deltaE_ciede2000(rgb2lab(o)[inside].mean(0), rgb2lab(r)[inside].mean(0))
        assert evaluate.colour(*batch)[k].item() == pytest.approx(expected, abs=0.01)
    assert evaluate.colour(real, real, mask).max() == 0


def test_continuity_counts_the_pairs_of_pixels_across_the_boundary(batch):
    output, real, mask = batch
    filled = losses.composite(output, real, mask)
    for k, (o, r) in enumerate(zip(*as_numpy(filled, real), strict=True)):
        hole, found = mask[k, 0].numpy() > 0, []
        for y in range(32):
            for x in range(32):
                for v, u in ((y + 1, x), (y, x + 1)):
                    if v < 32 and u < 32 and hole[y, x] != hole[v, u]:
                        found.extend(np.abs((o[v, u] - o[y, x]) - (r[v, u] - r[y, x])))
        assert evaluate.continuity(*batch)[k].item() == pytest.approx(np.mean(found), rel=1e-5)
    assert torch.isnan(evaluate.continuity(output, real, torch.ones_like(mask))).all()


def test_ssim_is_scikit_images(batch):
    output, real, mask = batch
    options = dict(channel_axis=-1, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    pairs = zip(*as_numpy(losses.composite(output, real, mask), real), strict=True)
    expected = [structural_similarity(r, o, **options) for o, r in pairs]
    assert evaluate.ssim(*batch).numpy() == pytest.approx(expected, abs=1e-5)  # windows inside the image alone
    assert evaluate.ssim(real, real, mask).numpy() == pytest.approx(np.ones(4))


def test_measures_are_means_over_images_whatever_the_batches(batch):
    halves = [tuple(t[k : k + 2] for t in batch) for k in (0, 2)]
    (one, filled), (two, again) = evaluate.measure([batch]), evaluate.measure(halves)
    assert one.keys() == two.keys() and all(np.allclose(one[k], two[k]) for k in one) and np.array_equal(filled, again)
    assert one["hole", "l1"] == pytest.approx(metrics.per_image(*batch)[:, 0, 0].numpy())
    assert evaluate.means(one)["hole", "l1"] == pytest.approx(one["hole", "l1"].mean())
    assert ("whole_raw", "l1") in one and ("whole_raw", "l1") not in evaluate.measure([batch], raw=False)[0]


def test_lpips_is_torchmetrics_with_the_weights_at_hand(batch, tmp_path, monkeypatch, micro):
    """AlexNet with random weights, in torch hub's cache under the name of the true one."""
    import torchvision

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    pretrained.cached("alexnet").parent.mkdir(parents=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(torchvision.models.alexnet(weights=None).state_dict(), pretrained.cached("alexnet"))
    config = micro(lpips_weights="auto").config
    evaluate._tools.cache_clear()
    assert evaluate.tools(config).lpips is None and "is not torchvision's AlexNet" in evaluate.tools(config).identity["alexnet"]

    find = pretrained.find
    monkeypatch.setattr(pretrained, "find", lambda name, to: pretrained.cached(name) if name == "alexnet" else find(name, to))
    evaluate._tools.cache_clear()
    output, real, mask = batch
    values = evaluate.measure([batch], evaluate.tools(config).lpips)[0]
    found = values["whole_composite", "lpips"].mean()
    assert values["hole_window", "lpips"] == pytest.approx(values["whole_composite", "lpips"])  # 32 px: the window is all of it
    expected = learned_perceptual_image_patch_similarity(losses.composite(output, real, mask), real, "alex")
    assert found == pytest.approx(expected.item(), rel=1e-5) and found > 0
    assert evaluate.measure([(real, real, mask)], evaluate.tools(config).lpips)[0]["whole_composite", "lpips"].max() == 0
    evaluate._tools.cache_clear()


# --- a run


@pytest.fixture
def trained(micro, run_of):
    study = micro(setups=["progressive"])
    run = run_of(study)
    loop.fit(run, lambda *_: None)
    return run


def value(frame, family, width, region, metric, stage=2):
    rows = frame[(frame.mask_family == family) & (frame.mask_width == width) & (frame.stage == stage)]
    rows = rows[(rows.region == region) & (rows.metric == metric)]
    assert len(rows) == 1
    return rows.value.iloc[0]


def test_an_evaluation_holds_every_family_width_region_and_measure(trained):
    frame, warnings = evaluate.evaluate(trained)
    last = frame[frame.stage == 2]
    for family in masks.FAMILIES:
        for width in (8, 16):
            part = last[(last.mask_family == family) & (last.mask_width == width)]
            pairs = set(zip(part.region, part.metric, strict=True))
            assert {(r, m) for r in metrics.REGIONS for m in metrics.METRICS} | set(evaluate.EXTRA) <= pairs
    assert not frame.duplicated(evaluate.COLUMNS[:5]).any() and frame.value.notna().all()
    assert set(frame[frame.stage == 1].metric) == {"fid_random", "kid_random", "is_random"}  # fid_stages: all
    of_fid = frame[(frame.metric == "fid_random") & (frame.stage == 2) & (frame.mask_width == 16)]
    assert set(of_fid.mask_family) == {"square", "free_form", "rectangles"}
    assert any("full rank" in w for w in warnings)

    pack = packs.prepare(trained.study, trained.dataset)
    G = artifacts.load_generator(trained, 2)
    values = metrics.evaluate(metrics.inpaint(G, pack.test, pack.test_masks("rectangles", 8), "cpu", 3))
    assert value(frame, "rectangles", 8, "hole", "l1") == pytest.approx(values[:, 0, 0].mean().item(), rel=1e-5)
    extractor, filled = fid.random_features(), []
    for output, real, mask in metrics.inpaint(G, pack.test, pack.test_masks("square", 16), "cpu", 8):
        filled.append(metrics.to_uint8(losses.composite(output, real, mask)))
    one, other = (fid.statistics(fid.features(extractor, i, 8)[0]) for i in (np.concatenate(filled), np.array(pack.test)))
    found = value(frame, "square", 16, "whole_composite", "fid_random")
    assert found == pytest.approx(fid.distance(one, other)[0], rel=1e-4)

    full = pack.test_masks("square", 16)
    spread = pack.train[np.linspace(0, 23, 8).round().astype(int)]
    both = [metrics.evaluate(metrics.inpaint(G, images, full, "cpu", 8)) for images in (spread, pack.test)]
    errors = [values[:, 0, 0].mean().item() for values in both]
    assert value(frame, "square", 16, "hole", "overfitting") == pytest.approx(errors[0] - errors[1], abs=1e-7)


@pytest.mark.parametrize("fid_stages", ["all", "last"])
@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_what_training_measured_is_not_computed_again_and_makes_no_difference(micro, monkeypatch, architecture, fid_stages):
    run = grid.Run(micro(architectures=[architecture], fid_stages=fid_stages), "scenes", architecture, "fixed", 0)
    probe._outputs.clear()
    passes, original = [], metrics.inpaint
    monkeypatch.setattr(metrics, "inpaint", lambda *a: passes.append(a) or original(*a))
    loop.fit(run, lambda *_: None)
    stages, widths, families = 2, 2, len(models.ARCHITECTURES[architecture].MASK_FAMILIES)
    assert len(passes) == stages * widths
    assert len(probe._outputs) == (stages if fid_stages == "all" else 1) * widths
    evaluate.evaluate(run)
    assert not probe._outputs
    assert len(passes) == stages * widths + (families - 1) * widths + 3  # and both sets, the snapshot
    at_once = (run.folder / "evaluation.csv").read_bytes()
    probe._outputs.clear()
    (run.folder / "evaluation.json").unlink()
    evaluate.evaluate(run)
    assert (run.folder / "evaluation.csv").read_bytes() == at_once


def test_outputs_are_remembered_of_equal_weights_until_asked_for_and_only_so_many(trained, monkeypatch):
    pack, G = packs.prepare(trained.study, trained.dataset), artifacts.load_generator(trained, 2)
    probe._outputs.clear()

    def put_out(width=16, again=False):
        return torch.cat([output for output, *_ in probe.at_work(trained, pack, G, "square", width, "cpu", again)])

    first = put_out(again=True)
    with torch.no_grad():
        next(G.parameters()).add_(0.1)
    assert not torch.equal(put_out(), first) and len(probe._outputs) == 1
    with torch.no_grad():
        next(G.parameters()).copy_(next(artifacts.load_generator(trained, 2).parameters()))
    assert torch.equal(put_out(), first) and not probe._outputs
    monkeypatch.setattr(probe, "REMEMBERED", 1)
    put_out(8, again=True), put_out(again=True)
    assert len(probe._outputs) == 1
    monkeypatch.setattr(probe, "SMALL", pack.test.nbytes - 1)
    probe._outputs.clear()
    put_out(again=True)
    assert not probe._outputs


def test_an_evaluation_is_done_once_and_again_when_what_it_rests_on_changes(trained, monkeypatch):
    first, _ = evaluate.evaluate(trained)
    calls, original = [], evaluate.measure
    monkeypatch.setattr(evaluate, "measure", lambda *a, **k: calls.append(1) or original(*a, **k))
    again, _ = evaluate.evaluate(trained)
    assert not calls and np.allclose(first.value, again.value, rtol=1e-8)
    path = trained.folder / "stages" / "2.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"step"', b'"sten"'))  # other bytes in the header, the same tensors
    evaluate.evaluate(trained)
    assert calls


def test_without_weights_the_evaluation_goes_on_and_says_why(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    evaluate._tools.cache_clear()
    run = next(r for r in _same(trained, inception_weights="auto").runs())
    frame, warnings = evaluate.evaluate(run)
    assert not any("fid" in m for m in frame.metric) and warnings == []
    collect.measure_fillings(run.study)
    tables.write(run.study)
    text = (run.study.report / "tables" / "table.md").read_text()
    assert "| not available | not available |" in text
    assert "FID and IS not available: no pt_inception-2015-12-05-6726825d.pth in the cache of torch hub: run once" in text


def _same(run, **overrides):
    from tests.conftest import MICRO


    return grid.open_study("smoke", MICRO | {"setups": ["progressive"]} | overrides)


def test_the_context_encoder_is_measured_on_central_holes_alone(micro):
    study = micro(architectures=["context_encoder"], setups=["fixed"])
    (run,) = study.runs()
    loop.fit(run, lambda *_: None)
    frame, _ = evaluate.evaluate(run)
    assert set(frame.mask_family) == {"center"} and "whole_raw" not in set(frame.region)


def test_the_probe_is_one_batch_with_full_holes_and_does_not_touch_training(trained):
    history = pd.read_csv(trained.folder / "history.csv")
    assert history.probe_g.notna().all() and history.probe_d.notna().all() and history.probe_g.nunique() > 1


# --- stability


def history(*stages):
    """A history with the given losses per stage."""
    rows = [(k, v, v) for k, losses_of_stage in enumerate(stages, 1) for v in losses_of_stage]
    return pd.DataFrame(rows, columns=["stage", "adversarial_g", "d_accuracy"])


def stability(*stages, probed=(0.0, 1.0), noise=1.0):
    return evaluate.stability(history(*stages), pd.DataFrame({"probe_g": probed}), noise)


def test_stability_is_the_deviation_on_a_fixed_batch_as_a_ratio_to_that_between_batches_at_rest():
    moves = np.random.default_rng(0).normal(size=4000)
    assert stability([1, 1], probed=0.3 * moves, noise=0.1)["stability"] == pytest.approx(3, rel=0.05)
    assert stability([1, 1], probed=np.ones(40), noise=0.1)["stability"] == 0
    assert np.isnan(stability([1, 1], noise=0.0)["stability"])  # a dead game
    assert stability([1, 1], [0.2, 0.4])["d_accuracy"] == pytest.approx(0.3)


def test_networks_at_rest_have_a_ratio_of_one(micro, run_of):
    """What is measured between batches at rest equals, in expectation, the deviation of a loss that only batches move."""
    run = run_of(micro(batch_size=4, train_images=96))
    pack = packs.prepare(run.study, run.dataset)
    G, D = artifacts.load_networks(run, 0)
    one, again = probe.at_rest(run, pack, G, D, torch.device("cpu")), probe.at_rest(run, pack, G, D, torch.device("cpu"))
    other = dataclasses.replace(run, seed=1)
    assert one == again > 0 and 0.5 < probe.at_rest(other, pack, G, D, torch.device("cpu")) / one < 2


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_probing_leaves_the_networks_as_they_are(micro, run_of, architecture):
    run = run_of(micro(architectures=[architecture]))
    pack = packs.prepare(run.study, run.dataset)
    G, D = (network.train() for network in artifacts.load_networks(run, 0))
    before = [{k: v.clone() for k, v in n.state_dict().items()} for n in (G, D)]
    batch = probe.fixed_batch(run, pack, torch.device("cpu"))
    found = [probe.adversarial(G, D, losses.OBJECTIVES[architecture], *batch) for _ in range(2)]
    assert found[0] == found[1] and G.training and D.training
    for network, kept in zip((G, D), before, strict=True):
        assert all(torch.equal(v, kept[k]) for k, v in network.state_dict().items())


def test_batch_norm_is_judged_with_statistics_of_the_holes_it_is_judged_on(micro):
    """Statistics of a network that trained on both widths are re-estimated for each, weights untouched; and what is
    exported has those of full-size holes."""
    study = micro(architectures=["context_encoder"], setups=["mixed"], batch_size=4, train_images=24)
    (run,) = study.runs()
    loop.fit(run, lambda *_: None)
    pack, G = packs.existing(study, "scenes"), artifacts.load_generator(run, 2)
    of = {width: probe.calibrated(run, pack, G, width, "cpu").state_dict() for width in (8, 16)}
    exported = G.state_dict()
    means = [k for k in exported if k.endswith("running_mean")]
    assert means and all(torch.equal(of[16][k], exported[k]) for k in exported if "num_batches" not in k)
    assert any(not torch.allclose(of[8][k], of[16][k], rtol=1e-3) for k in means)
    learnt = {name for name, _ in G.named_parameters()}
    assert all(torch.equal(of[8][k], of[16][k]) for k in learnt)
    assert not metrics.batch_norms(artifacts.load_networks(dataclasses.replace(run, architecture="custom"), 0)[0])


def test_the_last_steps_weights_are_kept_and_measured_beside_their_average(trained):
    frame, _ = evaluate.evaluate(trained)
    snapshot = artifacts.load_snapshot(trained).state_dict()
    final = torch.load(trained.folder / "checkpoint.pt", weights_only=True)["state"]
    assert all(torch.equal(v, final["G"][k]) for k, v in snapshot.items())
    average = artifacts.load_generator(trained, 2).state_dict()
    assert all(torch.equal(v, final["average"][f"module.{k}"]) for k, v in average.items())
    assert value(frame, "square", 16, "hole_snapshot", "l1") != value(frame, "square", 16, "hole", "l1")


def test_stationary_noise_settles_at_once():
    rng = np.random.default_rng(0)
    shares = [stability(*rng.normal(size=(8, 160)))["settling_share"] for _ in range(50)]
    assert np.median(shares) < 0.05


def test_a_peak_after_a_growth_is_seen_and_how_long_it_lasts():
    calm, peak = [1.0] * 8, [5.0, 3.0] + [1.1, 0.9] * 3
    found = stability(calm, peak)
    assert found["transient_peak"] == pytest.approx(4.0) and found["settling_share"] == pytest.approx(2 / 8)
    found = stability(calm, calm)
    assert found["transient_peak"] == 0 and found["settling_share"] == 0
    assert np.isnan(stability(calm)["transient_peak"])  # a single stage has no growth


# --- baselines


def test_baselines_are_measured_like_the_networks_on_every_family_and_width(micro):
    study = micro()
    with pytest.raises(FileNotFoundError, match="data set scenes of profile smoke is not prepared"):
        evaluate.baselines(study, "scenes")
    pack = packs.prepare(study, "scenes")
    frame = evaluate.baselines(study, "scenes")
    assert set(frame.baseline) == set(baselines.BASELINES) and set(frame.mask_family) == set(masks.FAMILIES)
    holes = pack.test_masks("rectangles", 16)
    filled = baselines.fill("Telea", np.array(pack.test), holes)
    error = np.abs(filled.astype(float) - pack.test)[holes > 0].reshape(-1, 3) / 255
    index = np.argwhere(holes)[:, 0]
    expected = np.mean([error[index == k].mean() for k in range(len(holes))])
    part = frame[frame.baseline == "Telea"]
    assert value(part, "rectangles", 16, "hole", "l1", stage=0) == pytest.approx(expected, rel=1e-5)
    slow = frame[frame.baseline == "biharmonic"]
    assert set(slow.n_images) == {4} and "fid_random" not in set(slow.metric)  # smoke: four images
    assert "fid_random" in set(part.metric) and set(part.n_images) == {8}
    spread = np.array(pack.train[np.linspace(0, 23, 8).round().astype(int)])
    sets = spread, np.array(pack.test)
    errors = [np.abs(baselines.fill("Telea", images, holes).astype(float) - images)[holes > 0].mean() for images in sets]
    gap = value(part, "rectangles", 16, "hole", "overfitting", stage=0)
    assert gap == pytest.approx((errors[0] - errors[1]) / 255, abs=0.01)  # per image there, per pixel here


def test_an_image_that_is_not_a_number_is_not_passed_over(batch):
    output, real, mask = batch
    output = output.clone()
    output[0] = float("nan")
    found, _ = evaluate.measure([(output, real, mask)])
    assert all(np.isnan(found["hole", metric][0]) for metric in metrics.METRICS)
    full = torch.ones_like(mask)
    full[1:] = mask[1:]
    found, _ = evaluate.measure([(batch[0], real, full)])  # the first has no boundary
    assert np.isnan(found["hole", "continuity"][0]) and np.isfinite(evaluate.means(found)["hole", "continuity"])


def test_a_killed_evaluation_leaves_no_numbers_of_other_settings(trained, monkeypatch):
    evaluate.evaluate(trained)
    write = evaluate.files.write_json

    def killed(path, settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate.files, "write_json", killed)
    monkeypatch.setattr(evaluate, "settings_of", lambda *_: {"other": 1})
    with pytest.raises(KeyboardInterrupt):
        evaluate.evaluate(trained)
    monkeypatch.setattr(evaluate.files, "write_json", write)
    with pytest.raises(FileNotFoundError, match="is not evaluated"):
        evaluate.kept(trained)


def test_two_processes_share_the_fillings_and_wait_for_those_the_other_is_at(micro, monkeypatch):
    study = micro()
    pack, order, measured = packs.prepare(study, "scenes"), [], evaluate._measured
    taken, waited = FileLock(pack.folder / ".baseline_mean colour.lock", thread_local=False), files.locked
    taken.acquire()

    def locked(folder, name, wait=True):
        if wait and name == ".baseline_mean colour.lock":
            assert taken.is_locked
            threading.Timer(0.3, taken.release).start()
        return waited(folder, name, wait)

    def measure(name, *rest):
        order.append(name)
        return measured(name, *rest)

    monkeypatch.setattr(files, "locked", locked)
    monkeypatch.setattr(evaluate, "_measured", measure)
    assert set(evaluate.baselines(study, "scenes").baseline) == {*baselines.BASELINES}
    assert order == [*[name for name in baselines.BASELINES if name != "mean colour"], "mean colour"]


def test_baselines_are_kept(micro, monkeypatch):
    study = micro()
    packs.prepare(study, "scenes")
    first = evaluate.baselines(study, "scenes")
    monkeypatch.setattr(baselines, "fill", None)  # must not be asked again
    assert np.allclose(evaluate.baselines(study, "scenes").value, first.value, rtol=1e-8)
    folder = study.data_folder("scenes")
    head = json.loads((folder / "baseline_Telea.json").read_text())
    (folder / "baseline_Telea.json").write_text(json.dumps(head | {"settings": {}}))
    with pytest.raises(TypeError):
        evaluate.baselines(study, "scenes")
