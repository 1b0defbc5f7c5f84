"""Record G's fills of a few test images during training in a run's recording.npz.

G is the moving average, in training mode. For R images, at P evenly chosen log points:

    images             (R,) the indices of the test images
    steps, stages      (P,)
    fills              (P,R,H,W,3) uint8: composites, largest holes
    scores_<k>         (P,R,h,w) float16: D's scores of the fills at scale k

and at the end of each of S stages, for every width:

    end_fills_<width>, end_scores_<width>_<k>
    end_gradients_<width>, end_scales_<width>
                       (S,R,H,W,3) int8 and (S,R) float32: their product is the gradient of G's
                       unweighted adversarial loss with respect to G's output
"""

import numpy as np
import torch

from .. import losses, metrics
from ..study import files
from . import probe


def choose_images(config, n_test):
    """Return the indices of the recorded test images, evenly spread over `images_elsewhere`."""
    n = min(config.evaluation.images_elsewhere, n_test)
    return probe.spread_evenly(n, config.evaluation.recorded_images)


def choose_points(config):
    """Return the steps at which fills are recorded: evenly chosen log points."""
    every, per_stage = config.training.log_every, config.curriculum.steps_per_stage
    steps = range(1, config.curriculum.steps + 1)
    logged = np.array([step for step in steps if step % every == 0 or step % per_stage == 0])
    return set(logged[probe.spread_evenly(len(logged), config.evaluation.recorded_points)].tolist())


class Recorder:
    """Adds to `recording` of a loop.State: {array's name: list of tensors}."""

    def __init__(self, run, pack, state, device):
        kept = state.recording.get("images")  # of a resumed run, whatever the settings are now
        chosen = [int(k) for k in kept or choose_images(run.config, len(pack.test))]
        if not kept and any(len(of) != len(chosen) for of in state.recording.get("fills", [])):
            state.recording.clear()  # of a version that did not say which images it recorded
        state.recording["images"] = [torch.tensor(k) for k in chosen]
        self.batches = {  # the largest holes last
            width: probe.load_frozen_batch(run, pack, chosen, width, device)
            for width in run.config.curriculum.mask_widths
        }
        self.state, self.objective = state, run.architecture_entry.objective
        self.points = choose_points(run.config)

    def at_log_point(self, stage):
        """Record the fills of the largest holes, if this log point is a chosen one."""
        if self.state.step in self.points:
            fills, scores, _ = self._judged(*[*self.batches.values()][-1])
            found = {"steps": torch.tensor(self.state.step), "stages": torch.tensor(stage)}
            found |= {f"scores_{k}": score for k, score in enumerate(scores)}
            self._add(found | {"fills": fills})

    def at_end_of_stage(self):
        """Record fills, scores and gradients for every width."""
        for width, batch in self.batches.items():
            fills, scores, gradient = self._judged(*batch)
            scale = gradient.abs().amax((1, 2, 3)) / 127
            levels = gradient / scale.clamp(min=1e-30)[:, None, None, None]
            found = {
                f"end_fills_{width}": fills,
                f"end_gradients_{width}": levels.round().to(torch.int8).permute(0, 2, 3, 1),
                f"end_scales_{width}": scale,
            }
            self._add(found | {f"end_scores_{width}_{k}": s for k, s in enumerate(scores)})

    def _judged(self, real, mask):
        """Return the fills, D's scores of them and the gradient (R,3,H,W) at G's output."""
        G, D = self.state.average.module, self.state.D
        with probe.use_training_mode(G, D):
            with torch.no_grad():
                output = G(real * (1 - mask), mask)[-1]
            scores = losses.get_scores(D(self.objective.seen(output.requires_grad_(), real, mask)))
            (gradient,) = torch.autograd.grad(self.objective.adversarial[1](scores), output)
        fills = torch.from_numpy(metrics.to_uint8(losses.composite(output, real, mask).detach()))
        return fills, [score.detach()[:, 0].half() for score in scores], gradient

    def _add(self, found):
        for name, value in found.items():
            self.state.recording.setdefault(name, []).append(value.cpu())


def take_image(recorded, image, images):
    """Return {array's name: its part of a test image}, or {} if that was not recorded.

    recorded: the arrays of recording.npz; images: see `list_images`."""
    there = list_images(recorded, images)
    if image not in there:
        return {}
    place, found = there.index(image), {k: v for k, v in recorded.items() if k != "images"}
    return {k: v if k in ("steps", "stages") else v[:, place] for k, v in found.items()}


def list_images(recorded, images):
    """Return the test images in a recording.npz: if it does not say, `images`, or [] if it has
    another number of them."""
    if "images" in recorded:
        return [int(k) for k in recorded["images"]]
    counts = {v.shape[1] for k, v in recorded.items() if k not in ("steps", "stages")}
    return list(images) if counts <= {len(images)} else []


def write(path, recording):
    """Write the recording of a loop.State to an .npz file."""
    arrays = {name: torch.stack(values).numpy() for name, values in recording.items()}
    with files.replace(path) as temporary:
        np.savez_compressed(temporary, **arrays)
