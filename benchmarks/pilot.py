"""The pilot of protocol 3: which adversarial weights `small` trains with. reports/pilot.md says
what is tried and by which rule a candidate is chosen.

    PYTHONPATH=. python benchmarks/pilot.py ARCHITECTURE [SETUP]

trains the candidates one after another on images of the training part and adds a line per run to
reports/pilot/ARCHITECTURE.jsonl; runs that are there are not trained again. With a SETUP the chosen
weights are trained by that setup. This file is also the extension that adds the data sets with
validation images: what is left of the training part once `train_images` are taken.
"""

import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from inpaint_lib.data.sources import DATASETS, Plan

FOLDER = Path(__file__).resolve().parent.parent / "reports" / "pilot"
VALIDATION, SEEDS, SOURCES = 256, (100, 101, 102), ("faces", "clutter")
CANDIDATES = {  # adversarial weight, D's learning rate
    "custom": [(0.05, 2e-4), (0.1, 2e-4), (0.2, 2e-4)],
    "context_encoder": [(0.003, 2e-4), (0.01, 2e-4), (0.03, 2e-4)],
    "free_form": [(0.01, 2e-3), (0.02, 2e-3), (0.05, 2e-3), (0.02, 4e-3), (0.05, 4e-3)],
}
ACCURACY, SHARE = (0.55, 0.95), (0.1, 1.0)


def with_validation(source):
    """Return a data set that tests on images of another one's training part."""

    def plan(config):
        n = config.data.train_images
        wider = config.data.model_copy(update={"train_images": n + VALIDATION})
        train = source.plan(config.model_copy(update={"data": wider})).train
        return Plan(train[:n], train[n : n + VALIDATION])

    return replace(source, plan=plan)


for _name in SOURCES:
    DATASETS[f"{_name}_pilot"] = with_validation(DATASETS[_name])


def study_of(architecture, weight, lr_d, setup):
    """Return the Study of a candidate."""
    from inpaint_lib.study import config, grid

    overrides = {
        "grid.datasets": [f"{name}_pilot" for name in SOURCES],
        "grid.architectures": [architecture],
        "grid.setups": [setup],
        "grid.seeds": list(SEEDS),
        "grid.fewer_seeds": {},
        "data.test_images": VALIDATION,
        "extensions": [__file__],
        f"models.{architecture}.loss_weights.adversarial": weight,
        f"models.{architecture}.lr_d": lr_d,
    }
    return grid.Study(f"pilot_{architecture}_{weight:g}_{lr_d:g}", config.load("small", overrides))


def measured(run):
    """Train and measure a run -> a line of the record."""
    from inpaint_lib.evaluation import evaluate
    from inpaint_lib.results.resampling import means
    from inpaint_lib.training import loop

    first = grid_folder() / "pilot_data" / run.dataset  # one pack for all candidates
    with_pack(run, first)
    result = loop.fit(run)
    model = run.model
    line = {"architecture": run.architecture, "setup": run.setup, "dataset": run.dataset}
    line |= {"seed": run.seed, "adversarial": model.loss_weights["adversarial"], "lr_d": model.lr_d}
    line |= {"outcome": result["outcome"], "seconds": result["step_seconds"]}
    if result["outcome"] == "diverged":
        return line
    evaluate.evaluate(run, run.n_stages)
    width = run.config.curriculum.mask_widths[-1]
    history = pd.read_csv(run.folder / "history.csv")
    last = history[history.stage == run.n_stages]
    line |= {"d_accuracy": last.d_accuracy.mean(), "share": last.adversarial_share.mean()}
    line |= {"cosine": last.gradient_cosine.mean()}
    own = evaluate.read_images(run).query("mask_width == @width")
    line |= {"hole_l1": own.l1.mean(), "hole_l2": own.l2.mean()}
    evaluate.baselines(run.study, run.dataset)
    fills = evaluate.read_baseline_images(run.study.data_folder(run.dataset))
    fills = fills[(fills.mask_width == width) & (fills.mask_family == model.mask_family)]
    beats = []
    for name in ("mean colour", "nearest"):
        other = fills[fills.baseline == name].l2.to_numpy()
        line[f"{name} l2"] = other.mean()
        drawn = means((own.l2.to_numpy() - other)[:, None])
        beats.append(bool(np.quantile(drawn, 0.975) < 0))
    return line | {"beats_trivial": all(beats)}


def grid_folder():
    from inpaint_lib.study import grid

    return grid.output_root() / "runs"


def with_pack(run, first):
    """Prepare the data of a run by linking those that another candidate prepared."""
    from inpaint_lib.data import packs

    folder = run.study.data_folder(run.dataset)
    if not folder.exists() and first.exists():
        shutil.copytree(first, folder, copy_function=os.link)
    packs.prepare(run.study, run.dataset)
    if not first.exists():
        shutil.copytree(folder, first, copy_function=os.link)


def meets(line):
    """Return whether a run keeps a candidate in the pilot."""
    inside = line["outcome"] == "finished" and ACCURACY[0] <= line["d_accuracy"] <= ACCURACY[1]
    return inside and SHARE[0] <= line["share"] <= SHARE[1]


def main(architecture, setup="fixed", candidates=None):
    path = FOLDER / f"{architecture}.jsonl"
    known = [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []
    keys = ("setup", "dataset", "seed", "adversarial", "lr_d")
    lines = {tuple(line[key] for key in keys): line for line in known}
    for seed in SEEDS:
        for weight, lr_d in candidates or CANDIDATES[architecture]:
            of = [v for k, v in lines.items() if k[0] == setup and k[3:] == (weight, lr_d)]
            if setup == "fixed" and not all(map(meets, of)):
                continue  # a candidate is out as soon as one of its runs is
            for run in study_of(architecture, weight, lr_d, setup).runs():
                key = (setup, run.dataset, run.seed, weight, lr_d)
                if run.seed == seed and key not in lines:
                    lines[key] = line = measured(run)
                    FOLDER.mkdir(exist_ok=True)
                    with path.open("a") as file:
                        file.write(json.dumps(line) + "\n")
                    print(line, flush=True)
                    if setup == "fixed" and not meets(line):
                        break


if __name__ == "__main__":
    main(*sys.argv[1:])
