"""What a finished run's networks are worth: every measure, every mask family and width. Nothing here trains.

`evaluate(run)` writes evaluation.csv beside the run's result and returns it; it is done again only when the run's weights, the
data, this code or the metrics' own networks change. `baselines(study, dataset)` measures fillings without training by the same
functions. Values are means over test images, one a row: stage, mask_family, mask_width, region, metric, value, n_images.

Beside L1, L2 and PSNR (metrics.py), per image:

- ssim: structural similarity (Wang et al. 2004; 11 x 11 Gaussian window, mirrored at the border) of the composite.
- lpips: learned perceptual distance (Zhang et al. 2018, AlexNet) of the composite, where its weights are at hand.
- colour: CIEDE2000 between the mean CIELAB colours of the filled hole and of the truth there.
- continuity: mean absolute difference, images in [0, 1], between composite and truth of the gradient across the hole's boundary
  (all pairs of neighbouring pixels of which one lies in the hole).

Per run: overfitting = hole L1 on as many training images minus that on test images, with the same full-size masks: the further
below zero, the more it is fitted to the training images. Stability, from history.csv, unweighted adversarial losses of G:

- stability: deviation between steps, last stage (all of the paper's setups train on full-size holes there).
- stability_probe: deviation over the whole training on one fixed batch with full-size holes.
- transient_peak: highest loss in a stage over the mean of the stage before, worst stage; settling_share: share of a stage's log
  points until the loss stays within two deviations of the stage's second half, worst stage.
"""

import functools
import itertools
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from skimage.color import deltaE_ciede2000

from . import artifacts, data, fid, losses, masks, metrics, models, pretrained, runs, train
from . import baselines as fillings

COLUMNS = ["stage", "mask_family", "mask_width", "region", "metric", "value", "n_images"]
CODE = tuple(f"inpaint_lib/{name}.py" for name in ("evaluate", "metrics", "fid", "pretrained", "baselines"))


def lab(images):
    """sRGB in [0, 1], (..., 3, H, W) -> CIELAB, D65 white (IEC 61966-2-1; CIE 15)."""
    linear = torch.where(images > 0.04045, ((images + 0.055) / 1.055) ** 2.4, images / 12.92)
    to_xyz = torch.tensor([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]])
    white = torch.tensor([0.95047, 1.0, 1.08883])
    xyz = torch.einsum("ij,...jhw->...ihw", (to_xyz / white[:, None]).to(images), linear)
    x, y, z = torch.where(xyz > 0.008856, xyz.clamp(min=0) ** (1 / 3), 7.787 * xyz + 16 / 116).unbind(-3)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -3)


def colour(output, real, mask):
    """CIEDE2000 of the mean colours in the hole: (B,) tensor. Images (B,3,H,W) in [-1, 1]."""
    means = [(lab((image.double() + 1) / 2) * mask).sum((2, 3)) / mask.sum((2, 3)) for image in (output, real)]
    return torch.from_numpy(deltaE_ciede2000(*(m.cpu().numpy() for m in means)))


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
    from torchmetrics.functional.image import structural_similarity_index_measure  # seconds of import, so only where it is used

    whole = ((x.float() + 1) / 2 for x in (losses.composite(output, real, mask), real))
    return structural_similarity_index_measure(*whole, data_range=1.0, reduction="none")


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
    identity = {}
    try:
        extractor = fid.extractor(inception_weights, device)
        identity["inception"] = extractor.digest
    except pretrained.NotAvailable as error:
        identity["inception"] = str(error)
    try:
        identity["alexnet"] = runs.file_sha256(pretrained.find("alexnet", lpips_weights))
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        lpips = LearnedPerceptualImagePatchSimilarity("alex").net.to(device)
    except pretrained.NotAvailable as error:
        identity["alexnet"] = str(error)
    return Tools(extractor, lpips, identity)


def tools(config):
    return _tools(config.inception_weights, config.lpips_weights, train.choose_device(config.device))


def measure(batches, lpips=None, raw=True):
    """All per-image measures of `(output, real, mask)` batches -> {(region, metric): mean}, and the composites (uint8).
    `raw`: also of the output outside the hole."""
    found, composites = {}, []
    for output, real, mask in batches:
        values = metrics.per_image(output, real, mask)
        for i, region in enumerate(metrics.REGIONS):
            for j, metric in enumerate(metrics.METRICS):
                found.setdefault((region, metric), []).append(values[:, i, j])
        whole = losses.composite(output, real, mask)
        for key, function in EXTRA.items():
            found.setdefault(key, []).append(torch.atleast_1d(function(output, real, mask)).double().cpu())
        if lpips:
            device = next(lpips.parameters()).device
            with torch.inference_mode():
                values = lpips(whole.float().to(device), real.to(device)).flatten()
            found.setdefault(("whole_composite", "lpips"), []).append(values.double().cpu())
        composites.append(metrics.to_uint8(whole))
    means = {key: float(torch.cat(parts).nanmean()) for key, parts in found.items() if raw or key[0] != "whole_raw"}
    return means, np.concatenate(composites)


def _distribution(extractor, pack, composites, batch_size):
    """FID against the originals of the same test images, and IS -> ({(region, metric): value}, warnings)."""
    key = pack.manifest["files"]["test.npy"]["sha256"], runs.code_digest("inpaint_lib/fid.py")
    truth = fid.reference(pack.folder, extractor, pack.test, batch_size, key)
    found, logits = fid.features(extractor, composites, batch_size)
    value, negative = fid.distance(truth, fid.statistics(found)) if len(found) > 1 else (float("nan"), 0.0)
    score = fid.inception_score(logits)
    names = {("whole_composite", f"{name}{extractor.suffix}"): v for name, v in (("fid", value), ("is", score))}
    return names, fid.warnings(len(found), found.shape[1], negative)


def _settings(config, what):
    return what | {"code": runs.code_digest(*CODE), **tools(config).identity, "fid_stages": config.fid_stages}


def _kept(folder, name, settings):
    """The frame that was written with these settings and its warnings, or None."""
    head, path = runs.read_json(folder / f"{name}.json"), folder / f"{name}.csv"
    return (pd.read_csv(path), head["warnings"]) if head and head["settings"] == settings and path.is_file() else None


def _keep(folder, name, settings, rows, warnings):
    frame = pd.DataFrame(rows, columns=COLUMNS)
    runs.write_csv(folder / f"{name}.csv", frame)
    runs.write_json(folder / f"{name}.json", {"settings": settings, "warnings": sorted(set(warnings))})
    return frame, sorted(set(warnings))


def kept(run):
    """The run's evaluation and its warnings as they lie on disk. Raises FileNotFoundError."""
    head = runs.read_json(run.folder / "evaluation.json")
    if head is None:
        raise FileNotFoundError(f"run {run.name} is not evaluated: ./run_all.sh {run.study.profile}")
    return pd.read_csv(run.folder / "evaluation.csv"), head


def evaluate(run):
    """Evaluate a finished run, unless that is done -> (frame, warnings)."""
    config, pack = run.study.config, data.prepare(run.study, run.dataset)
    last, widths = len(config.mask_widths), config.mask_widths
    weights = [runs.file_sha256(run.folder / "stages" / f"{k}.safetensors") for k in range(1, last + 1)]
    hashes = {name: entry["sha256"] for name, entry in pack.manifest["files"].items()}
    settings = _settings(config, {"weights": weights, "data": hashes})
    if found := _kept(run.folder, "evaluation", settings):
        return found
    torch.set_num_threads(config.threads)
    device, batch = train.choose_device(config.device), config.evaluation_batch
    extractor, lpips = tools(config).extractor, tools(config).lpips
    trained_with, rows, warnings = run.model.mask_family, [], []
    families = models.ARCHITECTURES[run.architecture].MASK_FAMILIES
    raw = families != ("center",)  # a network that puts out the centre alone has no whole image of its own

    def add(stage, family, width, values, n):
        rows.extend([stage, family, width, *key, value, n] for key, value in values.items())

    for stage in range(1 if extractor and config.fid_stages == "all" else last, last + 1):
        G = artifacts.load_generator(run, stage, device)
        for family in families if stage == last else [trained_with]:
            for width in widths:
                batches = metrics.inpaint(G, pack.test, pack.test_masks(family, width), device, batch)
                values, composites = measure(batches, lpips, raw)
                n = len(composites)
                if stage == last:
                    add(stage, family, width, values, n)
                if extractor and family == trained_with:
                    values, warned = _distribution(extractor, pack, composites, batch)
                    add(stage, family, width, values, n)
                    warnings += warned
    n = min(len(pack.train), len(pack.test))
    holes = pack.test_masks(trained_with, widths[-1])[:n]
    training, test = (metrics.evaluate(G, images[:n], holes, device, batch)[:, 0, 0] for images in (pack.train, pack.test))
    add(last, trained_with, widths[-1], {("hole", "overfitting"): float(training.mean() - test.mean())}, n)
    history = pd.read_csv(run.folder / "history.csv")
    add(last, trained_with, widths[-1], {("training", k): v for k, v in stability(history).items()}, 0)
    return _keep(run.folder, "evaluation", settings, rows, warnings)


def stability(history):
    """The four numbers of the module's text, from the frame of history.csv."""
    by_stage = [part.adversarial_g.to_numpy() for _, part in history.groupby("stage")]
    peaks = [part.max() - before.mean() for before, part in zip(by_stage, by_stage[1:], strict=False)]
    settling = []
    for part in by_stage[1:]:
        late = part[len(part) // 2 :]
        outside = np.flatnonzero(np.abs(part - late.mean()) > 2 * late.std())
        settling.append((outside[-1] + 1) / len(part) if len(outside) else 0.0)
    return {
        "stability": history[history.stage == history.stage.max()].adversarial_g_std.mean(),
        "stability_probe": history.probe_g.std(ddof=0),
        "transient_peak": max(peaks, default=0.0),
        "settling_share": max(settling, default=0.0),
    }


def baselines(study, dataset):
    """Every baseline on the frozen masks of every family and width: a frame as of `evaluate` with a column `baseline`. FID and
    IS with the widest hole. Kept beside the data; done again only when data, code or the metrics' own networks change."""
    config, pack = study.config, data.prepare(study, dataset)
    widths, used, frames = config.mask_widths, tools(config), []
    for name in fillings.BASELINES:
        n = min(len(pack.test), config.slow_baseline_images) if name in fillings.SLOW else len(pack.test)
        hashes = [pack.manifest["files"][file]["sha256"] for file in ("test.npy", "masks.npz")]
        settings = _settings(config, {"images": n, "widths": list(widths), "data": hashes})
        found = _kept(pack.folder, f"baseline_{name}", settings)
        if not found:
            rows, warnings, images = [], [], np.array(pack.test[:n])
            for family, width in itertools.product(masks.FAMILIES, widths):
                batches = _filled(name, images, pack.test_masks(family, width)[:n], config.evaluation_batch)
                values, composites = measure(batches, used.lpips, raw=False)
                if used.extractor and n == len(pack.test) and width == widths[-1]:
                    distribution, warned = _distribution(used.extractor, pack, composites, config.evaluation_batch)
                    values, warnings = values | distribution, warnings + warned
                rows += [[0, family, width, *key, value, n] for key, value in values.items()]
            found = _keep(pack.folder, f"baseline_{name}", settings, rows, warnings)
        frames.append(found[0].assign(baseline=name))
    return pd.concat(frames, ignore_index=True)


def _filled(name, images, holes, size):
    """Batches as of `metrics.inpaint`, filled by a baseline."""
    for k in range(0, len(images), size):
        part, mask = images[k : k + size], holes[k : k + size]
        output, real = (metrics.to_float(x) for x in (fillings.fill(name, part, mask), part))
        yield output, real, torch.from_numpy(mask)[:, None].float()
