"""The files of a run: checkpoints, stage weights, tables, model, result.

All files appear complete or not at all. result.json is written last, when the run has ended.
"""

import errno
import io
import json
import os
import shutil
import zipfile

import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import save

from .. import models
from ..study import files, provenance
from ..study.grid import CHECKPOINTS
from . import probe, recording
from .weights import DISCRIMINATOR, GENERATOR, SNAPSHOT, create_initial, create_networks


def list_files(run, outcome="finished"):
    """Return the files that an ended run must have, relative to its folder."""
    always = ["run.json", "history.csv", "probe.csv", "recording.npz"]
    if outcome == "diverged":
        return always
    stages = [f"stages/{k}.safetensors" for k in range(1, run.n_stages + 1)]
    return [*always, *stages, "model/model.safetensors", "model/model.json"]


def discard(folder):
    """Delete the contents of a run's folder, once its lock is free."""
    with files.lock(folder):
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif not path.name.endswith(".lock"):
                path.unlink()


def save_checkpoint(folder, value):
    """Save the newest checkpoint and keep the one before it."""
    newest, previous = (folder / name for name in CHECKPOINTS)
    with files.replace(newest) as temporary:
        content = io.BytesIO()  # torch.save into a file raises errors without a number
        torch.save(value, content)
        temporary.write_bytes(content.getbuffer())
        if newest.exists():
            os.replace(newest, previous)


def load_checkpoint(path, mapped=False):
    """Return a checkpoint; print a message and return None if the file is damaged.

    mapped: its tensors stay on disk and are not verified."""
    try:
        with zipfile.ZipFile(path) as archive:  # torch.load does not verify checksums
            if not mapped and (damaged := archive.testzip()):
                raise ValueError(f"{damaged} is damaged")
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # a damaged file can fail anywhere in these readers
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # EINVAL: a wrong offset
            raise
        print(f"{path.name} is damaged ({type(error).__name__}) and not used", flush=True)
        return None


def resume(state, run, wanted):
    """Load the newest usable checkpoint into `state`; without one, training starts at step 0.

    Raises provenance.SettingsChanged, before anything changes, if it has another identity.
    """
    saved = _newest_complete(run, wanted)
    (run.folder / "result.json").unlink(missing_ok=True)
    if saved:
        state.load_state_dict(saved["state"])
    else:
        for stale in ("stages", "model", "evaluation"):
            shutil.rmtree(run.folder / stale, ignore_errors=True)
    files.write_json(run.folder / "run.json", wanted)


def _newest_complete(run, wanted):
    """Return the newest checkpoint whose earlier stages are on disk, or None; delete the others."""
    for path in (run.folder / name for name in CHECKPOINTS):
        if not path.exists():
            continue
        if saved := load_checkpoint(path):
            provenance.refuse_changes(f"run {run.name}", saved["identity"], wanted)
            done = run.schedule.stage(saved["state"]["step"])
            if all(_stage_file(run, k).is_file() for k in range(1, done + 1)):
                return saved
            print(f"{path.name} is not used: weights of an earlier stage are missing", flush=True)
        path.unlink()  # or the next checkpoint would replace the good one
        more = (run.folder / CHECKPOINTS[1]).exists()
        start = f"resuming from {CHECKPOINTS[1]}" if more else "training starts again from step 0"
        print(start, flush=True)
    return None


def _stage_file(run, stage):
    return run.folder / "stages" / f"{stage}.safetensors"


def save_stage(run, pack, state, stage):
    """Save the networks at the end of `stage` (1 ..): G's moving average, D and, after the last
    stage, also G's weights of the last step.

    Batch norm has the statistics of the largest holes.
    """
    tensors = _tensors(_calibrated(run, pack, state.average.module))
    tensors |= {DISCRIMINATOR + k: v for k, v in _tensors(state.D).items()}
    if stage == run.n_stages:
        tensors |= {SNAPSHOT + k: v for k, v in _tensors(_calibrated(run, pack, state.G)).items()}
    header = {"run": run.name, "stage": str(stage), "step": str(state.step)}
    with files.replace(_stage_file(run, stage)) as temporary:
        temporary.write_bytes(save(tensors, header))


def load_networks(run, stage):
    """Return (G, D) of the end of a stage (1 ..; 0: before training), in eval mode."""
    if not stage:
        return tuple(network.eval() for network in create_initial(run))
    return load_pair(run, _stage_file(run, stage))


def load_pair(run, path):
    """Return (G, D) of a run with the weights of a file, in eval mode."""
    pairs = zip(create_networks(run), (GENERATOR, DISCRIMINATOR), strict=True)
    return tuple(_load_weights(network, path, prefix) for network, prefix in pairs)


def load_generator(run, stage, device="cpu"):
    """Return the generator of `load_networks` on a device."""
    return load_networks(run, stage)[0].to(device)


def load_snapshot(run, device="cpu"):
    """Return the generator with the weights of the last step, in eval mode."""
    path = _stage_file(run, run.n_stages)
    return _load_weights(create_networks(run)[0], path, SNAPSHOT).to(device)


def _load_weights(network, path, prefix):
    """Return a network with the weights that a file has under a prefix, in eval mode."""
    with safe_open(path, "pt") as stored:
        found = {name: stored.get_tensor(prefix + name) for name in network.state_dict()}
    network.load_state_dict(found)
    return network.eval()


def _calibrated(run, pack, generator):
    device = next(generator.parameters()).device
    return probe.calibrate_for(run, pack, generator, run.config.curriculum.mask_widths[-1], device)


def _tensors(network):
    return {k: v.cpu().contiguous() for k, v in network.state_dict().items()}


def write_records(run, state):
    """Write history.csv, probe.csv and recording.npz up to the current step."""
    history = pd.DataFrame(state.history or {"step": [], "stage": []})
    files.write_csv(run.folder / "history.csv", history)
    probed = pd.DataFrame(state.probes, columns=["step", "probe_g"])
    files.write_csv(run.folder / "probe.csv", probed)
    recording.write(run.folder / "recording.npz", state.recording)


def finish(run, pack, state, wanted, why=""):
    """Write the last files of a run that finished, or diverged (`why`); return its result."""
    write_records(run, state)
    last, networks = state.sittings[-1], {"generator": state.G, "discriminator": state.D}
    trained = sum(run.phase(step).trains for step in range(state.step))
    peaks = [s["peak_memory_bytes"] for s in state.sittings if "peak_memory_bytes" in s]
    result = {
        "run": run.name,
        "outcome": "diverged" if why else "finished",
        "why": why,
        "step": state.step,
        "identity": wanted,
        "final": state.history[-1] if state.history else {},
        "images": run.config.curriculum.batch_size * trained,
        "parameters": {name: models.n_parameters(n) for name, n in networks.items()},
        "seconds": round(state.seconds, 2),
        "step_seconds": round(state.step_seconds, 2),
        "peak_memory_bytes": {
            kind: max((peak[kind] or 0 for peak in peaks), default=0) for kind in ("host", "device")
        },
        **{key: last[key] for key in ("device", "device_kind", "precision", "provenance")},
        "sittings": state.sittings,
    }
    if not why:
        _save_model(run, pack, _calibrated(run, pack, state.average.module), result)
    files.write_json(run.folder / "result.json", result)
    for name in CHECKPOINTS if why else CHECKPOINTS[1:]:
        (run.folder / name).unlink(missing_ok=True)
    return result


def _save_model(run, pack, generator, result):
    """Save the generator, and its description as model.json and in the file's header."""
    about = {key: pack.manifest[key] for key in ("about", "stands_in_for", "images")}
    description = {
        "run": run.name,
        "architecture": run.architecture,
        "image_size": run.config.data.image_size,
        "parameters": result["parameters"]["generator"],
        "settings": result["identity"]["settings"],
        "protocol": result["identity"]["protocol"],
        "data": about | {"identity": pack.identity},
        "training": {k: result[k] for k in ("images", "step", "seconds", "device", "precision")},
        "provenance": result["provenance"],
    }
    header = {"description": json.dumps(description)}
    with files.replace(run.folder / "model" / "model.safetensors") as temporary:
        temporary.write_bytes(save(_tensors(generator), header))
    files.write_json(run.folder / "model" / "model.json", description)
