"""Train a run again with changed settings, under a name of its own.

It lies in runs/<profile>/what_if/<name>/ and uses the study's data. It appears in the explorer,
beside the study's runs, and in no table, status or publication.
"""

import json
import re
from dataclasses import replace

from ..evaluation import evaluate
from ..results import health
from ..study import config as configuration
from ..study import files, grid, provenance
from ..training import identity
from . import live

CHANGES = "changes.json"
MAY_CHANGE = ("curriculum.", "models.", "training.")  # the data are the study's
USAGE = """Nothing is changed, so nothing is trained. Name a change, for example
    changes = {"lr_d": 4e-4}                        (a key of the architecture's section)
    changes = {"loss_weights.adversarial": 0.05}
    changes = {"curriculum.total_images": 5120}     (any key of curriculum, models or training)
and run this cell again. All keys: ./run_all.sh show PROFILE"""
ANOTHER = "To train another, give it another name."


def train(run, name, changes):
    """Train `run` under a name with changed settings, show it meanwhile, evaluate it and print its
    health. Without changes, print how to name some. Raises config.ConfigError, SettingsChanged.
    """
    if not changes:
        print(USAGE)
        return
    changes = json.loads(json.dumps(changes))  # as it is kept
    with live.shorten_errors(configuration.ConfigError, provenance.SettingsChanged):
        wanted = make_run(
            run.study, name, run.dataset, run.architecture, run.setup, run.seed, changes
        )
        path = wanted.study.folder / "what_if" / name / CHANGES
        known = files.read_json(path)
        provenance.refuse_changes(f"what_if/{name}", known or changes, changes, "take another name")
        files.write_json(path, changes)
    if live.train(wanted, evaluate.evaluate, ANOTHER)["outcome"] == "finished":
        evaluate.complete(wanted)
        print(f"{wanted.name}: {health.summarise(live.check_health(wanted))[1]}.")
        print("Open 40_explore again: it is there beside the runs of the study.")


def make_run(study, name, dataset, architecture, setup, seed, changes):
    """Return the grid.Run of a name and its changes {key: value}. Raises config.ConfigError."""
    where = f"what_if/{name}"
    if not re.fullmatch(r"\w[\w.-]{0,39}", name):
        what = "a name has at most 40 letters, digits, hyphens, dots or underscores"
        raise configuration.ConfigError(f"{where}: {what}")
    sections = configuration.Config.model_fields
    full = {
        key if key.split(".")[0] in sections else f"models.{architecture}.{key}": value
        for key, value in changes.items()
    }
    config = configuration.change(study.config, full, where)
    before, after = (configuration.to_dict(of) for of in (study.config, config))
    for key, _, _ in provenance.find_differences(before, after):
        if not key.startswith(MAY_CHANGE) or key.endswith(("mask_widths", "mask_family")):
            why = "cannot change in a what-if run, which uses the study's data and holes"
            raise configuration.ConfigError(f"{where}: {key}: {why}: write a profile")
    return grid.Run(replace(study, config=config, what_if=name), dataset, architecture, setup, seed)


def describe_changes(run):
    """Return the setup and the changes of a what-if run, in words."""
    changes = files.read_json(run.study.folder / "what_if" / run.study.what_if / CHANGES)
    listed = ", ".join(f"{key} = {value}" for key, value in changes.items())
    return f"{run.setup} with {listed}"


def list_runs(study):
    """Return (the finished what-if runs of a study, {name of another: why it is not shown})."""
    found, lacks = [], {}
    for folder in sorted((study.folder / "what_if").glob("*/*/*/*/seed*")):
        _, name, dataset, architecture, setup, seed = parts = folder.relative_to(study.folder).parts
        try:
            changes = files.read_json(study.folder / "what_if" / name / CHANGES) or {}
            run = make_run(study, name, dataset, architecture, setup, int(seed[4:]), changes)
        except (ValueError, OSError) as error:
            lacks["/".join(parts)] = str(error)
            continue
        if why := identity.find_fault(run):
            lacks["/".join(parts)] = why
        else:
            found.append(run)
    return found, lacks
