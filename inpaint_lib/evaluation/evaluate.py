"""What a finished run's networks are worth: every measure, every mask family and width. Nothing here trains.

`evaluate(run)` writes evaluation.csv beside the run's result and returns it; it is done again only when the run's weights, the
data, this code or the metrics' own networks change. `baselines(study, dataset)` measures fillings without training by the same
functions. Values are means over test images, one a row: stage, mask_family, mask_width, region, metric, value, n_images.

Beside L1, L2 and PSNR (metrics.py), per image:

- ssim: structural similarity (Wang et al. 2004; 11 x 11 Gaussian windows inside the image) of the composite.
- lpips: learned perceptual distance (Zhang et al. 2018, AlexNet) of the composite, where its weights are at hand; in the region
  hole_window of the smallest square around the hole alone, of at least WINDOW pixels.
- colour: CIEDE2000 between the mean CIELAB colours of the filled hole and of the truth there.
- continuity: mean absolute difference, images in [0, 1], between composite and truth of the gradient across the hole's boundary
  (all pairs of neighbouring pixels of which one lies in the hole). As the composite is the truth outside, that is the error of
  the hole's outermost pixels: it tells how well the fill joins, not whether another fill would have joined as well.

Per run: overfitting = hole L1 on training images (as many, evenly spread) minus that on test images, with the same full-size
masks: over-fitting lowers it. One set may be harder than the other, so its level means little: the fills without training
have a difference too, shown beside. In the region hole_snapshot: L1, L2 and PSNR of G with the weights of the
last step; all else is of their moving average. Of the adversarial game:

- stability: G's unweighted adversarial loss on one fixed batch, its deviation over the last stage's steps as a ratio to what
  the networks at rest show from batch to batch (training/probe.py). noise: the latter.
- d_accuracy: D's balanced accuracy in training, mean over the last stage.
- transient_peak: highest loss in a stage over the mean of the stage before, worst stage; settling_share: share of a stage's log
  points until SETTLED in a row lie within two deviations of the stage's second half, worst stage.

Batch-norm statistics are those of the holes under evaluation (probe.calibrated), for every setup alike. A run that diverged has
no evaluation but an empty one.
"""

import contextlib
import functools
import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytorch_msssim
import torch
from skimage.color import deltaE_ciede2000, rgb2lab

from .. import losses, masks, metrics, models
from ..data import packs
from ..study import devices, files, provenance
from ..training import artifacts, probe
from . import baselines as fillings
from . import fid, pretrained

COLUMNS = ["stage", "mask_family", "mask_width", "region", "metric", "value", "n_images"]
CODE = ("inpaint_lib/metrics.py", "inpaint_lib/evaluation/*.py", "inpaint_lib/study/ahead.py")


def colour(output, real, mask):
    """CIEDE2000 of the mean colours in the hole: (B,) tensor. Images (B,3,H,W) in [-1, 1]."""
    hole, means = mask.cpu().double().numpy(), []
    for image in (output, real):
        lab = rgb2lab(((image.double() + 1) / 2).cpu().numpy(), channel_axis=1)  # CIELAB, D65
        means.append((lab * hole).sum((2, 3)) / hole.sum((2, 3)))
    return torch.from_numpy(deltaE_ciede2000(*means))


def continuity(output, real, mask):
    """Difference of the gradients across the boundary: (B,), NaN for an image that is all hole."""
    error = (losses.composite(output, real, mask).double() - real) / 2
    total = count = 0
    for axis in (2, 3):
        border = mask.diff(dim=axis).abs()
        total = total + (error.diff(dim=axis).abs() * border).sum((1, 2, 3))
        count = count + 3 * border.sum((1, 2, 3))
    return total / count


def ssim(output, real, mask):
    whole = ((x.float() + 1) / 2 for x in (losses.composite(output, real, mask), real))
    return pytorch_msssim.ssim(*whole, data_range=1.0, size_average=False)


SETTLED, WINDOW = 3, 32
WITH_FID = ("free_form", "rectangles")  # beside the family trained with
EXTRA = {("hole", "colour"): colour, ("hole", "continuity"): continuity, ("whole_composite", "ssim"): ssim}


@dataclass(frozen=True)
class Tools:
    """The networks that metrics need, on a device; None where they are not at hand, and `identity` then says why."""

    extractor: fid.Extractor | None
    lpips: torch.nn.Module | None
    identity: dict


@functools.lru_cache(maxsize=2)
def _tools(inception_weights, lpips_weights, device):
    extractor = lpips = None
    with contextlib.suppress(pretrained.NotAvailable):
        extractor = fid.extractor(inception_weights, device)
    with contextlib.suppress(pretrained.NotAvailable):
        pretrained.find("alexnet", lpips_weights)
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity  # seconds of import

        lpips = LearnedPerceptualImagePatchSimilarity("alex").net.to(device)
    wanted = {"inception": inception_weights, "alexnet": lpips_weights}
    return Tools(extractor, lpips, {name: pretrained.identity(name, value) for name, value in wanted.items()})


def tools(config):
    return _tools(config.inception_weights, config.lpips_weights, devices.choose_device(config.device))


RUN_MEASURES = ("stability", "noise", "d_accuracy", "transient_peak", "settling_share")
MEASURES = {  # every (region, metric) there can be, the stand-ins' apart
    *itertools.product(metrics.REGIONS, metrics.METRICS), *EXTRA, ("hole", "overfitting"),
    *(("whole_composite", name) for name in ("lpips", "fid", "kid", "is")), ("hole_window", "lpips"),
    *(("hole_snapshot", name) for name in metrics.METRICS), *(("training", name) for name in RUN_MEASURES),
}  # fmt: skip


def measure(batches, lpips=None, raw=True):
    """All per-image measures of `(output, real, mask)` batches -> {(region, metric): (N,) float64}, and the composites (uint8).
    `raw`: also of the output outside the hole."""
    found, composites = {}, []
    for output, real, mask in batches:
        values = metrics.per_image(output, real, mask).cpu()
        for i, region in enumerate(metrics.REGIONS):
            for j, metric in enumerate(metrics.METRICS):
                found.setdefault((region, metric), []).append(values[:, i, j])
        whole = losses.composite(output, real, mask)
        for key, function in EXTRA.items():
            found.setdefault(key, []).append(torch.atleast_1d(function(output, real, mask)).double().cpu())
        if lpips:
            for key, value in _lpips(lpips, whole, real, mask).items():
                found.setdefault(key, []).append(value)
        composites.append(metrics.to_uint8(whole))
    return {k: torch.cat(v).numpy() for k, v in found.items() if raw or k[0] != "whole_raw"}, np.concatenate(composites)


def _lpips(network, whole, real, mask):
    """Of the whole composites, and of the windows around their holes: {(region, metric): (B,)}."""
    device, size = next(network.parameters()).device, mask.shape[-1]
    pair = [x.float().to(device) for x in (whole, real)]
    with torch.inference_mode():
        values = {("whole_composite", "lpips"): network(*pair).flatten()}
        windows = []
        for k, hole in enumerate(mask[:, 0].bool().cpu()):
            ends = [(float(places.min()), float(places.max()) + 1) for places in hole.nonzero(as_tuple=True)]
            side = int(min(size, max(WINDOW, *(high - low for low, high in ends))))
            top, left = (int(min(max((low + high - side) / 2, 0), size - side)) for low, high in ends)
            windows.append(network(*(x[k : k + 1, :, top : top + side, left : left + side] for x in pair)).flatten())
        values["hole_window", "lpips"] = torch.cat(windows)
    return {key: value.double().cpu() for key, value in values.items()}


def means(values):
    """{key: mean over images}; an image that is all hole has no boundary, and does not count in continuity."""
    return {k: float(np.nanmean(v) if k == ("hole", "continuity") else np.mean(v)) for k, v in values.items()}


def _distribution(extractor, pack, composites, batch_size):
    """FID and KID against the originals of the same test images, and IS -> ({(region, metric): value}, warnings)."""
    key = pack.manifest["files"]["test.npy"]["sha256"], provenance.code_digest("inpaint_lib/evaluation/fid.py")
    truth = fid.reference(pack.folder, extractor, pack.test, batch_size, key)
    found, logits = fid.features(extractor, composites, batch_size)
    several = len(found) > 1
    value, negative = fid.distance(*map(fid.statistics, (truth, found))) if several else (float("nan"), 0.0)
    measured = {"fid": value, "kid": fid.kernel_distance(truth, found), "is": fid.inception_score(logits)}
    names = {("whole_composite", f"{name}{extractor.suffix}"): v for name, v in measured.items()}
    return names, fid.warnings(len(found), found.shape[1], negative)


def _settings(config, what):
    return what | {"code": provenance.code_digest(*CODE), **tools(config).identity}


def _kept(folder, name, settings):
    """The frame that was written with these settings and its warnings, or None."""
    head, path = files.read_json(folder / f"{name}.json"), folder / f"{name}.csv"
    return (pd.read_csv(path), head["warnings"]) if head and head["settings"] == settings and path.is_file() else None


def _keep(folder, name, settings, rows, warnings):
    (folder / f"{name}.json").unlink(missing_ok=True)  # until it is written again there is no evaluation
    frame = pd.DataFrame(rows, columns=COLUMNS)
    files.write_csv(folder / f"{name}.csv", frame)
    files.write_json(folder / f"{name}.json", {"settings": settings, "warnings": sorted(set(warnings))})
    return frame, sorted(set(warnings))


def kept(run):
    """The run's evaluation and its warnings as they lie on disk. Raises FileNotFoundError."""
    head = files.read_json(run.folder / "evaluation.json")
    if head is None:
        raise FileNotFoundError(f"run {run.name} is not evaluated: ./run_all.sh {run.study.profile}")
    return pd.read_csv(run.folder / "evaluation.csv"), head


def settings_of(run, pack):
    """What an evaluation rests on."""
    config = run.config
    stages = range(1, len(config.mask_widths) + 1) if not diverged(run) else ()
    weights = [files.file_sha256(run.folder / "stages" / f"{k}.safetensors") for k in stages]
    hashes = {name: entry["sha256"] for name, entry in pack.manifest["files"].items()}
    return _settings(config, {"weights": weights, "data": hashes, "fid_stages": config.fid_stages})


def evaluate(run):
    """Evaluate a finished run, unless that is done -> (frame, warnings)."""
    with files.locked(run.folder, ".evaluation.lock"), devices.enough_memory(run.config, "evaluation"):
        return _evaluate(run)


def _evaluate(run):
    config, pack = run.config, packs.existing(run.study, run.dataset)
    last, widths = len(config.mask_widths), config.mask_widths
    if diverged(run):
        return _keep(run.folder, "evaluation", settings_of(run, pack), [], [])
    settings = settings_of(run, pack)
    if found := _kept(run.folder, "evaluation", settings):
        return found
    torch.set_num_threads(config.threads)
    device, batch = devices.choose_device(config.device), config.evaluation_batch
    extractor, lpips = tools(config).extractor, tools(config).lpips
    own, rows, warnings, n = run.model.mask_family, [], [], len(pack.test)
    families = models.ARCHITECTURES[run.architecture].MASK_FAMILIES
    raw = not models.central(run.architecture)  # a network that puts out the centre alone has no whole image of its own

    def add(stage, family, width, values, n):
        rows.extend([stage, family, width, *key, value, n] for key, value in values.items())

    for stage in range(1 if extractor and config.fid_stages == "all" else last, last + 1):
        G = artifacts.load_generator(run, stage, device)
        for family in families if stage == last else [own]:
            for width in widths:
                batches = probe.at_work(run, pack, G, family, width, device)
                if stage == last:
                    values, composites = measure(batches, lpips, raw)
                    add(stage, family, width, means(values), n)
                else:
                    composites = np.concatenate([metrics.to_uint8(losses.composite(*each)) for each in batches])
                if extractor and (family == own or (width == widths[-1] and family in WITH_FID)):
                    values, warned = _distribution(extractor, pack, composites, batch)
                    add(stage, family, width, values, n)
                    warnings += warned

    def full(G, images):  # both are kept with batch norm's statistics of full-size holes
        return metrics.inpaint(G, images, pack.test_masks(own, widths[-1])[: len(images)], device, batch)

    sets, snapshot = _both_sets(pack, n), artifacts.load_snapshot(run, device)
    errors = [_mean_hole_l1(full(G, images)) for images in sets]
    add(last, own, widths[-1], {("hole", "overfitting"): errors[0] - errors[1]}, len(sets[0]))
    values = metrics.evaluate(full(snapshot, pack.test))[:, 0].mean(0).tolist()
    add(last, own, widths[-1], {("hole_snapshot", m): v for m, v in zip(metrics.METRICS, values, strict=True)}, n)
    noise = probe.at_rest(run, pack, snapshot, artifacts.load_networks(run, last)[1].to(device), device)
    found = stability(pd.read_csv(run.folder / "history.csv"), pd.read_csv(run.folder / "probe.csv"), noise)
    add(last, own, widths[-1], {("training", k): v for k, v in found.items() if np.isfinite(v)}, 0)
    return _keep(run.folder, "evaluation", settings, rows, warnings)


def diverged(run):
    """Whether the run came to its end before its budget was spent."""
    return (files.read_json(run.folder / "result.json") or {}).get("outcome") == "diverged"


def _mean_hole_l1(batches):
    return float(metrics.evaluate(batches)[:, 0, 0].mean())


def _both_sets(pack, n):
    """Up to n training images, evenly spread, and as many test images."""
    n = min(n, len(pack.train), len(pack.test))
    spread = np.linspace(0, len(pack.train) - 1, n).round().astype(int)
    return np.array(pack.train[spread]), np.array(pack.test[:n])


def stability(history, probed, noise):
    """RUN_MEASURES, from the frames of history.csv and probe.csv and the deviation between batches at rest."""
    by_stage = [part.adversarial_g.to_numpy() for _, part in history.groupby("stage")]
    peaks = [part.max() - before.mean() for before, part in zip(by_stage, by_stage[1:], strict=False)]
    settling = []
    for part in by_stage[1:]:
        late, row = part[len(part) // 2 :], min(SETTLED, len(part))
        inside = np.abs(part - late.mean()) <= 2 * late.std()
        settled = np.flatnonzero(np.lib.stride_tricks.sliding_window_view(inside, row).all(1))
        settling.append(settled[0] / len(part) if len(settled) else 1.0)
    return {
        "stability": probed.probe_g.std() / noise if len(probed) > 1 and noise else float("nan"),
        "noise": noise,
        "d_accuracy": history.d_accuracy[history.stage == history.stage.max()].mean(),
        "transient_peak": max(peaks, default=float("nan")),  # of one stage alone, as last_only's
        "settling_share": max(settling, default=float("nan")),
    }


def baselines(study, dataset):
    """Every baseline on the frozen masks of every family and width: a frame as of `evaluate` with a column `baseline`. FID and
    IS with the widest hole. Kept beside the data; done again only when data, code or the metrics' own networks change. Two
    processes that want them share the work."""
    pack, frames = packs.existing(study, dataset), dict.fromkeys(fillings.BASELINES)
    torch.set_num_threads(study.config.threads)  # with all cores each, two processes are seven times slower
    with devices.enough_memory(study.config, "evaluation"), fillings.workers(len(pack.test)) as pool:
        for wait, name in itertools.product((False, True), frames):  # what another one is at last, when it may be done
            if frames[name] is None:
                with files.locked(pack.folder, f".baseline_{name}.lock", wait) as mine:
                    frames[name] = _baseline(name, study.config, pack, pool).assign(baseline=name) if mine else None
    return pd.concat(frames.values(), ignore_index=True)


def _baseline(name, config, pack, pool):
    """A baseline's frame, as it is kept or else measured."""
    n = min(len(pack.test), config.slow_baseline_images) if name in fillings.SLOW else len(pack.test)
    hashes = [pack.manifest["files"][file]["sha256"] for file in ("train.npy", "test.npy", "masks.npz")]
    settings = _settings(config, {"images": n, "widths": list(config.mask_widths), "data": hashes})
    kept = _kept(pack.folder, f"baseline_{name}", settings)
    if not kept or not (pack.folder / f"baseline_{name}_l2.csv").is_file():
        rows, errors, warnings = _measured(name, n, config, pack, pool)
        files.write_csv(pack.folder / f"baseline_{name}_l2.csv", pd.DataFrame(errors))
        kept = _keep(pack.folder, f"baseline_{name}", settings, rows, warnings)
    return kept[0]


def _measured(name, n, config, pack, pool):
    """(rows, {family: hole L2 of every image with full-size holes}, warnings) of a baseline on the first n test images."""
    widths, used, device = config.mask_widths, tools(config), devices.choose_device(config.device)
    rows, warnings, errors, images = [], [], {}, np.array(pack.test[:n])

    def filled(images, holes):
        return on_device(fillings.batches(name, images, holes, config.evaluation_batch, pool), device)

    for family, width in itertools.product(masks.FAMILIES, widths):
        holes = pack.test_masks(family, width)
        values, composites = measure(filled(images, holes[:n]), used.lpips, raw=False)
        found = means(values)
        if width == widths[-1]:
            errors[family] = values["hole", "l2"]
            if used.extractor and n == len(pack.test):
                distribution, warned = _distribution(used.extractor, pack, composites, config.evaluation_batch)
                found, warnings = found | distribution, warnings + warned
            of = [_mean_hole_l1(filled(part, holes[: len(part)])) for part in _both_sets(pack, n)]
            found["hole", "overfitting"] = of[0] - of[1]
        rows += [[0, family, width, *key, value, n] for key, value in found.items()]
    return rows, errors, warnings


def baseline_errors(folder):
    """{baseline: hole L2 of the test images with full-size holes, a column per family}, as `baselines` left it."""
    return {name: pd.read_csv(folder / f"baseline_{name}_l2.csv") for name in fillings.BASELINES}


def on_device(batches, device):
    """Batches as of `metrics.inpaint`, from those of `baselines.batches`."""
    device = "cpu" if device.type == "mps" else device  # it has no float64
    for filled, images, holes in batches:
        output, real = (metrics.to_float(x, device) for x in (filled, images))
        yield output, real, torch.from_numpy(holes)[:, None].float().to(device)
