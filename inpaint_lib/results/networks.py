"""Save the networks of a published study: those of its first data set and seed, in half precision.

They are in the study's folder:

    networks/<data set>/<architecture>/<setup>/model.safetensors
                          G, and D with the prefix "discriminator.", of the last stage
    networks/<data set>/<architecture>/<setup>/recording.npz
                          what was recorded during training (training/recording.py)
    networks/seed.json    the number of that seed: one with a lower number may be published later
    networks/<data set>/calibration.npz
                          the training images that batch norm is re-estimated on
"""

import shutil
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.torch import save_file

from ..data import packs
from ..study import files
from ..training import artifacts, identity, probe
from . import frames, select


def save_networks(study, base):
    """Add networks of a study's finished runs to the published study in the folder `base`.

    Existing ones stay. Return the names of the setups that were added."""
    about, added = files.read_json(base / "study.json"), []
    dataset, seed = about["config"]["grid"]["datasets"][0], _find_seed(about, base)
    files.write_json(base / "networks" / "seed.json", seed)
    for run in study.runs():
        place = base / "networks" / run.dataset / run.architecture / run.setup
        first = (run.dataset, run.seed) == (dataset, seed)
        result = identity.read_result(run) if first and run.setup in select.SHOWN else None
        if not result or result["outcome"] != "finished" or (place / "recording.npz").is_file():
            continue
        if run.setup in select.ASKED:
            _save_model(run, place / "model.safetensors")
        _save_calibration(run, place.parent.parent / "calibration.npz")
        with files.replace(place / "recording.npz") as temporary:
            shutil.copyfile(run.folder / "recording.npz", temporary)
        added.append(f"{base.name}/{run.dataset}/{run.architecture}/{run.setup}")
    return added


def _find_seed(about, base):
    """Return the seed whose networks a published study has, or will have."""
    kept = files.read_json(base / "networks" / "seed.json")
    return about["config"]["grid"]["seeds"][0] if kept is None else kept


def find_files(results, base, file):
    """Return {run: path} of the published runs with a file, for example "recording.npz"."""
    runs = results.runs[results.runs.seed == _find_seed(results.about, base)]
    paths = {name: base / "networks" / Path(name).parent / file for name in frames.name_runs(runs)}
    return {name: path for name, path in paths.items() if path.is_file()}


def _save_model(run, path):
    with safe_open(run.folder / "model" / "model.safetensors", "pt") as file:
        header = file.metadata()
    G, D = (network.state_dict() for network in artifacts.load_networks(run, run.n_stages))
    tensors = G | {artifacts.DISCRIMINATOR + name: value for name, value in D.items()}
    with files.replace(path) as temporary:
        save_file({name: halve(value) for name, value in tensors.items()}, temporary, header)


def halve(tensor):
    """Return a floating-point tensor in half precision; any other unchanged."""
    return (tensor.half() if tensor.is_floating_point() else tensor).contiguous()


def _save_calibration(run, path):
    pack = packs.open_pack(run.study, run.dataset)
    chosen = probe.spread_evenly(len(pack.train), probe.CALIBRATION)
    if not path.is_file():
        with files.replace(path) as temporary:
            np.savez_compressed(temporary, images=pack.train[chosen])
