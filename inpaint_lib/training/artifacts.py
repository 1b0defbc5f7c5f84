"""What a training run leaves on disk, and how it is read back: checkpoint, stage weights, tables, model, result.

All files appear whole or not at all. result.json is written last: it marks the run as finished.
"""

import errno
import json
import os
import shutil
import zipfile

import pandas as pd
import torch
from safetensors.torch import load_file, save_file

from .. import metrics, models, setups
from ..study import files, provenance
from ..study.config import to_dict
from ..study.grid import CHECKPOINTS, DIVERGED
from . import card, probe


def save_checkpoint(folder, value):
    """The newest checkpoint; the one before it is kept."""
    newest, previous = (folder / name for name in CHECKPOINTS)
    with files.replacing(newest) as temporary:
        torch.save(value, temporary)
        if newest.exists():
            os.replace(newest, previous)


def load_checkpoint(path):
    """What was saved, or None, with a word, where the file is damaged. Raises OSError for one that cannot be read now."""
    try:
        with zipfile.ZipFile(path) as archive:  # torch's own reader does not check sums
            if damaged := archive.testzip():
                raise ValueError(f"{damaged} is damaged")
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can fail in any layer of the reader
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # EINVAL: an offset outside the file
            raise
        print(f"{path.name} cannot be read ({type(error).__name__})", flush=True)
        return None


def names(config, outcome="finished"):
    """What the folder of a run that has come to its end holds, relative to it."""
    if outcome == "diverged":
        return ["config.json", "history.csv", "stages.csv"]
    stages = [f"stages/{k}.safetensors" for k in range(1, len(config.mask_widths) + 1)]
    model = [f"model/{name}" for name in ("model.safetensors", "model.json", "README.md")]
    return ["config.json", "history.csv", "probe.csv", "stages.csv", "per_image.csv.gz", "checkpoint.pt", *stages, *model]


def resume(state, job):
    """Load the newest whole checkpoint into `state`; where there is none, training starts at step 0.

    Raises provenance.SettingsChanged, before anything is changed, if it was made with other settings.
    """
    folder, saved = job.run.folder, None
    for path in (folder / name for name in CHECKPOINTS):
        if not path.exists():
            continue
        if saved := load_checkpoint(path):
            provenance.refuse_other(f"run {job.run.name}", saved["settings"], job.settings)
            done = len(saved["state"]["evaluations"])
            if all((folder / "stages" / f"{k}.safetensors").is_file() for k in range(1, done + 1)):
                break
            print(f"weights of a stage that {path.name} builds on are missing", flush=True)
        saved = None
        path.unlink()  # or the next one to be saved would push the good one out
        print(f"going on from {CHECKPOINTS[1]}" if (folder / CHECKPOINTS[1]).exists() else "training starts again", flush=True)
    for name in ("result.json", DIVERGED):
        (folder / name).unlink(missing_ok=True)
    files.write_json(folder / "config.json", job.settings)
    if saved:
        return state.load_state_dict(saved["state"])
    for stale in [*(folder / "stages").glob("*.safetensors"), *(folder / "model").glob("*")]:
        stale.unlink()


def discard(folder):
    """Delete what a run's folder holds, once nobody works there."""
    with files.locked(folder):
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif not path.name.endswith(".lock"):
                path.unlink()


def save_stage(job, state, stage):
    """The generator, a moving average of its weights (protocol 2), the discriminator (keys under "discriminator.") and, with
    the last stage, the generator's weights of the last step ("snapshot."); the header says what they are. Batch norm has
    statistics of full-size holes."""
    tensors = _tensors(_calibrated(job, state.average.module))
    tensors |= {f"discriminator.{k}": v for k, v in _tensors(state.D).items()}
    if stage == len(job.run.config.mask_widths) - 1:
        tensors |= {f"snapshot.{k}": v for k, v in _tensors(_calibrated(job, state.G)).items()}
    header = {"run": job.run.name, "stage": str(stage + 1), "step": str(state.step), "settings": json.dumps(job.settings)}
    with files.replacing(job.run.folder / "stages" / f"{stage + 1}.safetensors") as temporary:
        save_file(tensors, temporary, metadata=header)


def save_model(folder, generator, description):
    """model.safetensors, the generator alone with all of `description` in its header; model.json; README.md, the model card."""
    header = {"settings": json.dumps(description["settings"]), "description": json.dumps(description)}
    with files.replacing(folder / "model.safetensors") as temporary:
        save_file(_tensors(generator), temporary, metadata=header)
    files.write_json(folder / "model.json", description)
    with files.replacing(folder / "README.md") as temporary:
        temporary.write_text(card.write(description), encoding="utf-8")


def _calibrated(job, generator):
    device = next(generator.parameters()).device
    return probe.calibrated(job.run, job.pack, generator, job.run.config.mask_widths[-1], device)


def _tensors(network):
    return {k: v.cpu().contiguous() for k, v in network.state_dict().items()}


def load_networks(run, stage):
    """(G, D) as they were at the end of `stage` (1 .. number of stages; 0: before training), in eval mode."""
    G, D = models.create(run.architecture, run.config.image_size, run.seed, **run.model.widths)
    if stage:
        G.load_state_dict(_stored(run, stage, ""))
        D.load_state_dict(_stored(run, stage, "discriminator."))
    return G.eval(), D.eval()


def load_generator(run, stage, device="cpu"):
    """The generator alone, as of `load_networks`, on a device."""
    return load_networks(run, stage)[0].to(device)


def load_snapshot(run, device="cpu"):
    """The generator with the weights of the last step, in eval mode."""
    G, _ = models.create(run.architecture, run.config.image_size, run.seed, **run.model.widths)
    G.load_state_dict(_stored(run, len(run.config.mask_widths), "snapshot."))
    return G.to(device).eval()


def _stored(run, stage, prefix):
    """The weights of one of a stage's networks."""
    state = load_file(run.folder / "stages" / f"{stage}.safetensors")
    others = tuple({"discriminator.", "snapshot."} - {prefix})
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix) and not k.startswith(others)}


def write_tables(job, state):
    """history.csv, per_image.csv.gz and its means per stage, stages.csv, as far as training has come -> the latter."""
    run = job.run
    files.write_csv(run.folder / "history.csv", pd.DataFrame(state.history or {"step": [], "stage": []}))
    files.write_csv(run.folder / "probe.csv", pd.DataFrame(state.probes, columns=["step", "probe_g"]))
    if not state.evaluations:
        files.write_csv(run.folder / "stages.csv", pd.DataFrame(columns=["stage"]))
        return None
    state.tables += [_of_stage(job, k, state.evaluations[k]) for k in range(len(state.tables), len(state.evaluations))]
    per_image, means = zip(*state.tables, strict=True)
    with files.replacing(run.folder / "per_image.csv.gz") as temporary:
        temporary.write_bytes(b"".join(per_image))
    table = pd.concat(means, ignore_index=True)
    files.write_csv(run.folder / "stages.csv", table)
    return table


def _of_stage(job, k, values):
    """What stage `k` (0 ..) adds to the tables: its part of per_image.csv.gz, packed (which takes seconds where the test set is
    large, so it is done once), and its rows of stages.csv."""
    pack, config, family = job.pack, job.run.config, job.run.model.mask_family
    axes = [[k + 1], config.mask_widths, range(len(pack.test)), metrics.REGIONS]
    index = pd.MultiIndex.from_product(axes, names=["stage", "mask_width", "image", "region"])
    frame = pd.DataFrame(values.reshape(-1, len(metrics.METRICS)).numpy(), index=index, columns=list(metrics.METRICS))
    frame = frame.reset_index()
    frame.insert(1, "mask_family", family)
    keys = ["stage", "mask_family", "mask_width", "region"]
    table = frame.groupby(keys, sort=False)[list(metrics.METRICS)].mean().reset_index()
    table["n_images"] = len(pack.test)
    table["n_psnr_capped"] = frame.assign(capped=frame.psnr >= metrics.PSNR_CAP).groupby(keys, sort=False).capped.sum().values
    table["hole_fraction"] = [pack.manifest["masks"][f"{family}_{w}"]["hole_fraction"] for w in table.mask_width]
    table.insert(1, "step", table.stage * (config.steps // len(config.mask_widths)))
    return files.as_gzip(frame, header=k == 0), table


def finish(job, state, why=""):
    """Write what a run leaves behind that has come to its end, or diverged (`why`); result.json last."""
    run, table = job.run, write_tables(job, state)
    result = {
        "run": run.name,
        "outcome": "diverged" if why else "finished",
        **({"why": why, "step": state.step} if why else {}),
        "settings": job.settings,
        "final": state.history[-1] if state.history else {},
        "images": _images(run, state.step),
        "parameters": {"generator": models.n_parameters(state.G), "discriminator": models.n_parameters(state.D)},
        "seconds": round(state.seconds, 2),
        "step_seconds": round(state.step_seconds, 2),
        "peak_memory_bytes": {kind: _peak(state.sittings, kind) for kind in ("host", "device")},
        "device": state.sittings[-1]["device"],
        "precision": state.sittings[-1]["precision"],
        "provenance": state.sittings[-1]["provenance"],
        "sittings": state.sittings,
        "config": to_dict(run.config),
    }
    if why:
        for name in CHECKPOINTS:
            (run.folder / name).unlink(missing_ok=True)
        files.write_json(run.folder / DIVERGED, result)
        files.write_json(run.folder / "result.json", result)
        return result
    described = card.describe(result, job.pack.manifest, table, models.central(run.architecture))
    save_model(run.folder / "model", _calibrated(job, state.average.module), described)
    (run.folder / CHECKPOINTS[1]).unlink(missing_ok=True)
    files.write_json(run.folder / "result.json", result)
    return result


def keep(job):
    """The result of a run that has come to its end, in its place."""
    if not (path := job.run.folder / "result.json").is_file():
        files.write_json(path, job.result)
    return job.result


def _images(run, steps):
    """How many images a run was trained with: a setup may rest."""
    schedule = setups.Schedule(run.config.steps, run.config.mask_widths, run.seed)
    return run.config.batch_size * sum(setups.SETUPS[run.setup](schedule, step).trains for step in range(steps))


def _peak(sittings, kind):
    return max(s.get("peak_memory_bytes", {}).get(kind) or 0 for s in sittings)
