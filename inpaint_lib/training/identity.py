"""The identity of a training run: its resolved settings, its data and the protocol.

Work in a run's folder is used only if its identity is the wanted one. Commit, versions and machine
are recorded but not compared: finished runs stay valid when code is edited or a setup is added.
"""

import torch

from .. import PROTOCOL
from ..data import packs
from ..study import config as configuration
from ..study import devices, files, grid, provenance
from . import artifacts, weights
from .step import choose_precision

WORDS = ("random", "torchvision")  # of perceptual_weights; anything else names a file
TORCHVISION = "397923af"  # how the SHA-256 of torchvision's VGG-16 begins


def identify(run, pack, device):
    """Return a run's identity on a Pack (or None) and a torch.device or the name of one."""
    config = configuration.to_dict(run.config)
    training, vgg = config["training"], config["training"]["perceptual_weights"]
    training["precision"] = choose_precision(training["precision"], torch.device(device))
    if vgg not in WORDS:
        training["perceptual_weights"] = files.hash_file(vgg)
    settings = {key: getattr(run, key) for key in ("dataset", "architecture", "setup", "seed")}
    settings |= {"data": config["data"], "curriculum": config["curriculum"]}
    settings |= {"model": config["models"][run.architecture], "training": training}
    initial = weights.hash_weights(run.config.initial_weights)
    settings |= {"initial_weights": initial, "mask_source": run.model.mask_family}
    found = {"run": run.name, "protocol": PROTOCOL, "settings": settings}
    return found | ({"data": pack.identity} if pack else {})


def name_perceptual(weights):
    """Return `perceptual_weights` as a word, or as the SHA-256 of a file with other weights."""
    if weights in WORDS:
        return weights
    digest = files.hash_file(weights)
    return "torchvision" if digest.startswith(TORCHVISION) else digest


def _read_identity(run):
    """Return the identity of the work in a run's folder, or None if nothing was trained there."""
    return files.read_json(run.folder / "run.json") if grid.holds_work(run.folder) else None


def read_result(run):
    """Return the result of an ended run whose files are complete, else None."""
    found = files.read_json(run.folder / "result.json")
    names = artifacts.list_files(run, found["outcome"]) if found else ()
    return found if all((run.folder / name).is_file() for name in names) else None


def refuse_other(run, wanted):
    """Raise provenance.SettingsChanged if the run's folder holds work of another identity."""
    if found := _read_identity(run):
        known = {key: found.get(key) for key in wanted}  # no "data" without a pack
        provenance.refuse_changes(f"run {run.name}", known, wanted)


def find_fault(run):
    """Return why a run's work on disk cannot be shown: "not finished", for example; "" if it can.

    Its images need not be there any more."""
    device = devices.choose_device(run.config.machine.device)
    try:
        if _read_identity(run):
            refuse_other(run, identify(run, packs.open_pack(run.study, run.dataset), device))
    except (ValueError, OSError) as error:
        return str(error)
    ended = read_result(run)
    if not ended:
        return "not finished"
    return "" if ended["outcome"] == "finished" else f"diverged: {ended['why']}"


def find_changed(study):
    """Return {folder: error} of runs that `fit` would refuse, and of all runs on changed data."""
    found, device = {}, devices.choose_device(study.config.machine.device)
    for dataset in study.config.grid.datasets:
        try:
            packs.refuse_changed(study, dataset)
        except provenance.SettingsChanged as error:
            found |= dict.fromkeys(packs.find_trained(study, dataset), error)
    current = {name: packs.find_current(study, name) for name in study.config.grid.datasets}
    for run in study.runs():
        try:
            refuse_other(run, identify(run, current[run.dataset], device))
        except provenance.SettingsChanged as error:
            found.setdefault(run.folder, error)
    return found
