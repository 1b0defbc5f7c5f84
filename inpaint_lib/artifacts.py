"""What a training run leaves on disk, and how it is read back: checkpoint, stage weights, tables, model, result.

All files appear whole or not at all. result.json is written last: it marks the run as finished.
"""

import json

import pandas as pd
import torch
from safetensors.torch import load_file, save_file

from . import card, metrics, models, runs
from .config import to_dict


def save_checkpoint(path, value):
    with runs.replacing(path) as temporary:
        torch.save(value, temporary)


def files(config):
    """What a finished run's folder holds, relative to it."""
    stages = [f"stages/{k}.safetensors" for k in range(1, len(config.mask_widths) + 1)]
    model = [f"model/{name}" for name in ("model.safetensors", "model.json", "README.md")]
    return ["config.json", "history.csv", "stages.csv", "per_image.csv.gz", "checkpoint.pt", *stages, *model]


def resume(state, run, settings):
    """Load the run's checkpoint into `state` if it was made with these settings; else clear what is stale."""
    folder = run.folder
    path = folder / "checkpoint.pt"
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None
    except Exception as error:  # a damaged file can fail in any layer of the reader
        print(f"{path.name} cannot be read ({type(error).__name__}); training starts again", flush=True)
        saved = None
    (folder / "result.json").unlink(missing_ok=True)
    if saved and saved["settings"] == settings:
        done = len(saved["state"]["evaluations"])
        if all((folder / "stages" / f"{k}.safetensors").is_file() for k in range(1, done + 1)):
            state.load_state_dict(saved["state"])
            runs.write_json(folder / "config.json", settings)
            return
        print("weights of a finished stage are missing; training starts again", flush=True)
    elif saved:
        changed = [k for k in settings | saved["settings"] if settings.get(k) != saved["settings"].get(k)]
        print(f"settings changed since the last checkpoint ({', '.join(changed)}); training starts again", flush=True)
    path.unlink(missing_ok=True)
    for stale in [*(folder / "stages").glob("*.safetensors"), *(folder / "model").glob("*")]:
        stale.unlink()
    runs.write_json(folder / "config.json", settings)


def save_stage(run, state, stage, settings):
    """Generator and discriminator (keys under "discriminator.") at a stage's end; the header says what they are."""
    tensors = _tensors(state.G) | {f"discriminator.{k}": v for k, v in _tensors(state.D).items()}
    header = {"run": run.name, "stage": str(stage + 1), "step": str(state.step), "settings": json.dumps(settings)}
    with runs.replacing(run.folder / "stages" / f"{stage + 1}.safetensors") as temporary:
        save_file(tensors, temporary, metadata=header)


def save_model(folder, generator, description):
    """model.safetensors, the generator alone with all of `description` in its header; model.json; README.md, the model card."""
    header = {"settings": json.dumps(description["settings"]), "description": json.dumps(description)}
    with runs.replacing(folder / "model.safetensors") as temporary:
        save_file(_tensors(generator), temporary, metadata=header)
    runs.write_json(folder / "model.json", description)
    with runs.replacing(folder / "README.md") as temporary:
        temporary.write_text(card.write(description))


def _tensors(network):
    return {k: v.cpu().contiguous() for k, v in network.state_dict().items()}


def load_networks(run, stage):
    """(G, D) as they were at the end of `stage` (1 .. number of stages; 0: before training), in eval mode."""
    G, D = models.create(run.architecture, run.study.config.image_size, run.seed, **run.model.widths)
    if stage:
        state, prefix = load_file(run.folder / "stages" / f"{stage}.safetensors"), "discriminator."
        G.load_state_dict({k: v for k, v in state.items() if not k.startswith(prefix)})
        D.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    return G.eval(), D.eval()


def load_generator(run, stage, device="cpu"):
    """The generator alone, as of `load_networks`, on a device."""
    return load_networks(run, stage)[0].to(device)


def write_tables(run, pack, state):
    """history.csv, per_image.csv.gz and its means per stage, stages.csv, as far as training has come -> the latter."""
    config, family = run.study.config, run.model.mask_family
    runs.write_csv(run.folder / "history.csv", pd.DataFrame(state.history))
    axes = [range(1, len(state.evaluations) + 1), config.mask_widths, range(len(pack.test)), metrics.REGIONS]
    index = pd.MultiIndex.from_product(axes, names=["stage", "mask_width", "image", "region"])
    values = torch.stack(state.evaluations).reshape(-1, len(metrics.METRICS)).numpy()
    frame = pd.DataFrame(values, index=index, columns=list(metrics.METRICS)).reset_index()
    frame.insert(1, "mask_family", family)
    runs.write_csv(run.folder / "per_image.csv.gz", frame)
    keys = ["stage", "mask_family", "mask_width", "region"]
    table = frame.groupby(keys, sort=False)[list(metrics.METRICS)].mean().reset_index()
    table["n_images"] = len(pack.test)
    table["n_psnr_capped"] = frame.assign(capped=frame.psnr >= metrics.PSNR_CAP).groupby(keys, sort=False).capped.sum().values
    table["hole_fraction"] = [pack.manifest["masks"][f"{family}_{w}"]["hole_fraction"] for w in table.mask_width]
    table.insert(1, "step", table.stage * (config.steps // len(config.mask_widths)))
    runs.write_csv(run.folder / "stages.csv", table)
    return table


def finish(run, pack, state, settings):
    """Write what a finished run leaves behind; result.json last."""
    table = write_tables(run, pack, state)
    result = {
        "run": run.name,
        "settings": settings,
        "final": state.history[-1],
        "parameters": {"generator": models.n_parameters(state.G), "discriminator": models.n_parameters(state.D)},
        "seconds": round(state.seconds, 2),
        "step_seconds": round(state.step_seconds, 2),
        "peak_memory_bytes": {k: max(s["peak_memory_bytes"][k] or 0 for s in state.sittings) for k in ("host", "device")},
        "device": state.sittings[-1]["device"],
        "precision": state.sittings[-1]["precision"],
        "provenance": state.sittings[-1]["provenance"],
        "sittings": state.sittings,
        "config": to_dict(run.study.config),
    }
    save_model(run.folder / "model", state.G, card.describe(result, pack.manifest, table, models.central(run.architecture)))
    runs.write_json(run.folder / "result.json", result)
    return result
