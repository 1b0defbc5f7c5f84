"""Answer the explorer's page: ANSWERS {kind of question: function(state, buffers, **params)}.

Each returns what becomes JSON and arrays: scores float32 as D gives them, images (H,W,3) uint8,
holes (H,W) uint8, 1 = hole. Raises ValueError with the line to show.
"""

import numpy as np
import torch

from .. import losses, metrics
from ..results import health as rules
from ..training import probe

HOLE = metrics.REGIONS.index("hole")


def histories(state, _, runs):
    """Return the logged columns of some runs: {"runs": [{"columns", "values" (columns, rows)}]}."""
    found = []
    for name in runs:
        frame = state.history(name)
        values = frame.to_numpy(np.float32).T
        found.append({"columns": list(frame.columns), "values": values})
    return {"runs": found}


def recorded(state, _, runs, image):
    """Return what was recorded of a test image: {"runs": [state.recorded]}."""
    return {"runs": [state.recorded(name, image) for name in runs]}


def image(state, _, dataset, image):
    """Return a test image with its frozen holes: {"truth", "holes": {family_width: hole}}."""
    truth, holes = state.image(dataset, image)
    return {"truth": truth, "holes": holes}


def errors(state, _, runs):
    """Return hole L1: {"runs": [{"stages" (stages, widths), "images" (widths, images)}]}."""
    found = [state.errors(name) for name in runs]
    return {"runs": [{"stages": stages, "images": images} for stages, images in found]}


# --- with networks


def find_run(state, name):
    """Return a run with networks. Raises ValueError for one that is published without."""
    run = state.runs.get(name)
    if run is None:
        raise ValueError(f"{name} is published without its network: only recorded fills are shown.")
    return run


def fill(state, _, runs, stage, width, image):
    """Fill a test image's frozen hole with the networks of a stage (0: before training).

    Returns {"runs": [{"fill", "l1", "scores": D's maps of the fill, "real": of the real image}]}.
    """
    found = []
    for name in runs:
        run = find_run(state, name)
        found.append(fill_hole(state, run, stage, width, *state.holed(run, width, image)))
    return {"runs": found}


def fill_hole(state, run, stage, width, truth, hole):
    """Fill a hole of an image with one run: {"fill", "l1", "scores", "real"}, as in `fill`.

    A D with batch norm judges it among the recorded images, in training mode as in training."""
    G, D = state.generator(run, stage, width), state.networks(run, stage)[1]
    shown, normed = [(truth, hole)], bool(metrics.find_batch_norms(D))
    if normed:
        others = state.about["datasets"][run.dataset]["recorded"]
        beside = (state.holed(run, width, image) for image in others)
        shown += [pair for pair in beside if not all(map(np.array_equal, pair, shown[0]))]
    images, holes = (np.stack(of) for of in zip(*shown, strict=True))
    [batch] = metrics.inpaint(G, images, holes, "cpu", len(shown))
    output, real, mask = batch
    maps = {}
    with probe.use_training_mode(*[D] * normed), torch.no_grad():
        for key, judged in {"scores": output, "real": real}.items():
            seen = run.architecture_entry.objective.seen(judged, real, mask)
            maps[key] = [scores[0, 0].numpy() for scores in losses.get_scores(D(seen))]
    composite = metrics.to_uint8(losses.composite(*batch))[0]
    l1 = metrics.measure_images(*batch)[0, HOLE, 0].item()
    return {"fill": composite, "l1": l1, **maps}


def attention(state, _, run, stage, width, image):
    """Return what free_form's attention copies into a test image's frozen hole.

    {"fill", "hole", "valid" (side, side): the patches that may be copied, "weights" (queries,
    keys)}; side: patches across. Raises ValueError for other architectures.
    """
    run, seen = find_run(state, run), []
    truth, hole = state.holed(run, width, image)
    G = state.generator(run, stage, width)
    layer = getattr(G, "attention", None)
    if layer is None:
        raise ValueError(f"{run.architecture} has no attention.")
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    try:
        [batch] = metrics.inpaint(G, truth[None], hole[None], "cpu", 1)
    finally:
        hook.remove()
    with torch.inference_mode():
        weights, valid = layer.weights(*seen[0])
    side = seen[0][0].shape[2] // 2
    found = {"fill": metrics.to_uint8(losses.composite(*batch))[0], "hole": hole}
    return found | {"valid": valid[0].view(side, -1).numpy(), "weights": weights[0].T.numpy()}


def health(state, _, runs):
    """Return what results/health.py finds: {"runs": [{"level", "headline", "findings"}]}."""
    return {"runs": [rules.describe_health(state.health(name)) for name in runs]}


ANSWERS = {f.__name__: f for f in (histories, recorded, image, errors, fill, attention, health)}
