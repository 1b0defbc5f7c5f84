"""Collect a study's run folders into Results; no other module of this package reads them."""

import numpy as np
import pandas as pd

from .. import PROTOCOL
from ..data import packing, packs
from ..evaluation import evaluate, external
from ..study import config as configuration
from ..training import identity, recording, weights
from . import frames, hypotheses


def collect(study, partial=False):
    """Return the Results of a study's runs, from their folders.

    A run of another protocol is left out and listed in about["left_out"]. Raises FileNotFoundError
    for the first run that is not finished or evaluated (`partial` leaves such runs out), and
    SettingsChanged for a run with other settings."""
    left_out, fills, rows, errors = {}, {}, [], {}
    found = {name: [] for name in frames.COLUMNS}
    for run in study.runs():
        result = identity.read_result(run)
        if result and result["identity"]["protocol"] != PROTOCOL:
            left_out[run.name] = f"protocol {result['identity']['protocol']}, now {PROTOCOL}"
            continue
        if lacks := _lacks(run, result):
            if partial:
                continue
            what = f"run {run.name} of profile {study.profile} is not {lacks}"
            raise FileNotFoundError(f"{what}: run ./run_all.sh {study.profile}")
        _refuse_other(run, result)
        rows.append(_row(run, result))
        if result["outcome"] == "finished":
            _add_run(run, found, errors)
            if run.seed == study.config.grid.seeds[0]:  # pictures show one seed
                fills |= {f"{run.name}/{key}": v for key, v in evaluate.read_fills(run).items()}
    found["runs"] = [pd.DataFrame(rows)]
    about = {"name": study.profile, "profile": study.profile, "protocol": PROTOCOL}
    if study.source not in ("", study.profile):
        about["source"] = study.source  # the path of a profile elsewhere
    about |= {"config": configuration.to_dict(study.config), "hypotheses": hypotheses.hash_plan()}
    if study.config.initial_weights:
        about["initial_weights"] = weights.hash_weights(study.config.initial_weights)
    perceptual = study.config.training.perceptual_weights
    if (named := identity.name_perceptual(perceptual)) != perceptual:
        about["perceptual_weights"] = named
    about |= {"left_out": left_out, "data": {}, "recorded": {}}
    for dataset in dict.fromkeys(row["dataset"] for row in rows):
        _add_data(study, dataset, about, found, fills)
    tables = {name: frames.join(name, parts) for name, parts in found.items()}
    tables["per_image"] = frames.join_errors(errors)
    return frames.narrow(frames.Results(about, **tables, fills=fills))


def _lacks(run, result):
    """Return "finished" or "evaluated", whichever the run is not, or None if it is both."""
    if result is None:
        return "finished"
    stages = run.evaluated_stages if result["outcome"] == "finished" else ()
    return None if all(evaluate.is_evaluated(run, k) for k in stages) else "evaluated"


def _refuse_other(run, result):
    """Raise SettingsChanged for a run with other settings; precision `auto` matches any."""
    wanted = identity.identify(run, packs.open_pack(run.study, run.dataset), result["device_kind"])
    if run.config.training.precision == "auto":
        made = result["identity"]["settings"]["training"]["precision"]
        wanted["settings"]["training"]["precision"] = made
    identity.refuse_other(run, wanted)


def _row(run, result):
    """Return a run's row of `runs`."""
    made, head = result["provenance"], evaluate.read_head(run) or {"settings": {}, "warnings": []}
    memory, parameters = result["peak_memory_bytes"], result["parameters"]
    row = {key: result[key] for key in frames.COLUMNS["runs"] if key in result}
    row |= {key: getattr(run, key) for key in frames.RUN}
    row |= {"protocol": result["identity"]["protocol"], "torch": made["versions"]["torch"]}
    row |= {"commit": made["commit"], "system": made["system"]}
    row |= {"host_memory": memory["host"], "device_memory": memory.get("device")}
    row |= {"parameters_g": parameters["generator"], "parameters_d": parameters["discriminator"]}
    row |= {name: head["settings"].get(name, "") for name in evaluate.NETWORKS}
    row["warnings"] = "; ".join(head["warnings"])
    return {key: float(f"{v:.9g}") if isinstance(v, float) else v for key, v in row.items()}


def _add_run(run, found, errors):
    """Add a finished run's values and history, and its errors per image."""
    named = {key: getattr(run, key) for key in frames.RUN}
    history = pd.read_csv(run.folder / "history.csv")
    for name, frame in (("values", evaluate.read_values(run)), ("history", history)):
        found[name].append(frame.assign(**named))
    of_images = frames.spread_images(evaluate.read_image_errors(run), "mask_width")
    errors |= {(*named.values(), metric): frame for metric, frame in of_images.items()}


def _add_data(study, dataset, about, found, fills):
    """Add a data set's metadata, baselines (measured if missing) and recorded test images."""
    pack, folder = packs.open_pack(study, dataset), study.data_folder(dataset)
    found["baselines"].append(evaluate.measure_baselines(study, dataset).assign(dataset=dataset))
    others, stale = external.read_scores(study.config, pack)
    for name, frame in others.items():
        named = {"dataset": dataset, "baseline": name + frames.EXTERNAL}
        found["baselines"].append(frame.assign(**named))
    why = "scored with other settings: score it again"
    about["left_out"] |= {f"{dataset}/external/{name}": why for name in stale}
    images = evaluate.read_baseline_errors(folder)
    found["baseline_images"].append(images.assign(dataset=dataset))
    stored = {key: pack.manifest[key] for key in ("about", "stands_in_for", "images")}
    holes = {key: mask["hole_fraction"] for key, mask in pack.manifest["masks"].items()}
    stored |= {"identity": pack.identity, "masks": holes}
    if own := pack.manifest["masks"].get(packing.OWN):
        stored["own_masks"] = own
    chosen = recording.choose_images(study.config, len(pack.test))
    about["data"][dataset], about["recorded"][dataset] = stored, [int(k) for k in chosen]
    fills[f"{dataset}/truth"] = np.array(pack.test[chosen])
    for key in {name.rsplit("/", 1)[1] for name in fills if "/stage" in name}:
        family, width = key.rsplit("_", 1)
        fills[f"{dataset}/mask/{key}"] = pack.test_masks(family, int(width), chosen)
