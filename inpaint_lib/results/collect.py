"""The study's numbers, read from the files of its runs: one tidy frame, and the selections that every table is made from."""

import functools
import itertools

import numpy as np
import pandas as pd

from .. import metrics, models, setups
from ..data import packs
from ..evaluation import baselines, evaluate
from ..study import files, provenance
from ..training import jobs, loop
from . import stats

TYPES = {"dataset": str, "architecture": str, "setup": str, "seed": int, "stage": int, "mask_family": str, "mask_width": int,
         "region": str, "metric": str, "value": float, "n_images": int}  # fmt: skip
COLUMNS = list(TYPES)
STAGES = {name: TYPES[name] for name in COLUMNS[:5]} | {"step": int} | {name: TYPES[name] for name in COLUMNS[5:8]} | {
    **dict.fromkeys(metrics.METRICS, float), "n_images": int, "n_psnr_capped": int, "hole_fraction": float}  # fmt: skip


def stages(study):
    """stages.csv of every finished run of the grid in one frame, with dataset, architecture, setup and seed before it: STAGES,
    without rows if all diverged. Raises as `finished`."""
    found = [named(run, pd.read_csv(run.folder / "stages.csv")) for run in finished(study)]
    return pd.concat([no_rows(STAGES), *found], ignore_index=True)


def no_rows(types):
    """A frame without rows: {name of a column: its type}."""
    return pd.DataFrame(columns=[*types]).astype(types)


def finished(study):
    """The runs of the grid but those that diverged. Raises FileNotFoundError naming the first that has not come to its end."""
    return [run for run in study.runs() if result_of(run)["outcome"] == "finished"]


def result_of(run):
    """The run's result.json. Raises FileNotFoundError for a run that is not finished."""
    if (result := files.read_json(run.folder / "result.json")) is None:
        profile = run.study.profile
        raise FileNotFoundError(f"run {run.name} of profile {profile} is not finished: ./run_all.sh {profile}")
    return result


def of_runs(study):
    """{name of a run: its result.json} of the grid. Raises as `result_of`."""
    return {run.name: result_of(run) for run in study.runs()}


def named(run, frame):
    for k, name in enumerate(COLUMNS[:4]):
        frame.insert(k, name, getattr(run, name))
    return frame


def check(study):
    """Raise FileNotFoundError or ValueError, naming run and keys, unless runs/ holds this very study, trained and evaluated."""
    for run in study.runs():
        result, pack = result_of(run), packs.existing(study, run.dataset)
        provenance.refuse_other(f"run {run.name}", result["settings"], jobs.resolve(run, pack).settings)
        if evaluate.kept(run)[1]["settings"] != evaluate.settings_of(run, pack):
            profile = run.study.profile
            raise ValueError(f"run {run.name} was evaluated with other settings: mend that with ./run_all.sh {profile}")
    measure_fillings(study)


def complete(study, watch=None):
    """Train and evaluate whatever the grid still lacks (nothing, after ./run_all.sh), so that every notebook runs by itself."""
    for run in study.runs():
        loop.fit(run, watch)
        evaluate.evaluate(run)
    measure_fillings(study)


def measure_fillings(study, datasets=None):
    """Measure the fillings without training wherever that is not done; on all data sets, unless some are named."""
    for dataset in study.config.datasets if datasets is None else datasets:
        evaluate.baselines(study, dataset)


def fillings_of(folder):
    """What `measure_fillings` left in a data folder: a frame as of evaluate.baselines. Raises FileNotFoundError."""
    values = [pd.read_csv(folder / f"baseline_{name}.csv").assign(baseline=name) for name in baselines.BASELINES]
    return pd.concat(values, ignore_index=True)


def tidy(stage_table, evaluations=()):
    """One value a row, the columns of results.csv. Holds nothing that depends on time or machine.

    `evaluations` are the frames of evaluation.csv with the run's names before them: what stages.csv also has is left out.
    """
    frame = stage_table.melt(id_vars=[c for c in COLUMNS if c in stage_table], value_vars=list(metrics.METRICS),
                             var_name="metric")  # fmt: skip
    frame = frame[~((frame.region == "whole_raw") & frame.architecture.map(models.central).astype(bool))]
    frame = pd.concat([frame[COLUMNS], *(e[COLUMNS] for e in evaluations)], ignore_index=True)
    frame = frame.drop_duplicates(COLUMNS[:9], keep="first")
    return frame.sort_values(COLUMNS[:9], kind="stable").reset_index(drop=True)


def results(study):
    """results.csv as a frame, from the files of the runs. Raises FileNotFoundError for a run not finished or not evaluated."""
    table = stages(study)
    return tidy(table, [named(run, evaluate.kept(run)[0]) for run in finished(study)])


def trained(study, table):
    """The rows after the last stage of the family each network was trained with, in the order of the configuration."""
    return ordered(
        study, table[(table.stage == len(study.config.mask_widths)) & (table.mask_family == trained_with(study, table))]
    )


def ordered(study, table):
    """Rows by data set, architecture and setup in the order of the configuration and of setups.SETUPS."""
    rank = {name: k for k, name in enumerate([*study.config.datasets, *study.config.architectures, *setups.SETUPS])}
    return table.sort_values(["dataset", "architecture", "setup"], key=lambda names: names.map(rank), kind="stable")


def final(study, table):
    """The rows that answer the question: as `trained`, with the full-size hole."""
    return trained(study, table)[lambda t: t.mask_width == study.config.mask_widths[-1]]


def trained_with(study, table):
    """Of every row the family its network was trained with."""
    return table.architecture.map({name: model.mask_family for name, model in study.config.models.items()})


def plain(study):
    """The baselines on all data sets: baselines.csv, a value a row. A slow one measured on a part of the images says so."""
    frames = [fillings_of(study.data_folder(d)).assign(dataset=d) for d in study.config.datasets]
    found = pd.concat(frames, ignore_index=True)[["dataset", "baseline", *COLUMNS[5:]]]
    of = found[found.metric == "l1"].groupby(["dataset", "baseline"]).n_images.first()
    most = of.groupby("dataset").max()
    names = {(d, b): b if n == most[d] else f"{b} (first {n})" for (d, b), n in of.items()}
    return found.assign(baseline=[names[key] for key in zip(found.dataset, found.baseline, strict=True)])


def bootstrap(study):
    """How well the trained networks were measured: progressive - fixed, hole L1, full-size holes, mean over seeds, with its
    95 % interval over test images drawn anew (scenes: whole photographs). It says nothing about other trainings: no verdict."""
    config, rows = study.config, []
    for dataset, architecture in itertools.product(config.datasets, config.architectures):
        pair, ends = ("progressive", "fixed"), finished(study)
        seeds = set.intersection(*({r.seed for r in ends if (r.dataset, r.architecture, r.setup) == (dataset, architecture, s)}
                                   for s in pair))  # fmt: skip
        found = [_of_images(study, dataset, architecture, setup, seeds) for setup in pair]
        if seeds:
            d, groups = found[0] - found[1], files.read_json(study.data_folder(dataset) / "manifest.json")["test_groups"]
            rows.append([dataset, architecture, d.mean(), *stats.bootstrap(d, groups), len(d), len(set(groups))])
    return pd.DataFrame(rows, columns=["dataset", "architecture", "effect", "ci_low", "ci_high", "n_images", "n_groups"])


def ranked(study, dataset, architecture):
    """{"best", "median", "worst"}: the test images an architecture fills so, by hole L1 with full-size holes after the last
    stage, averaged over its setups and seeds."""
    found = [_of_images(study, dataset, architecture, setup) for setup in study.config.setups]
    order = np.argsort(np.mean([values for values in found if values is not None], 0), kind="stable")
    return {"best": int(order[0]), "median": int(order[len(order) // 2]), "worst": int(order[-1])}


def _of_images(study, dataset, architecture, setup, seeds=None):
    """Hole L1 of every test image after the last stage with the full-size hole, mean over seeds; None if it was not run."""
    found = [r for r in finished(study) if (r.dataset, r.architecture, r.setup) == (dataset, architecture, setup)]
    found = [r for r in found if seeds is None or r.seed in seeds]
    return np.mean([last_hole(run, "l1") for run in found], 0) if found else None


def last_hole(run, metric):
    """A metric in the full-size hole of every test image after a finished run's last stage: (N,) array."""
    path = run.folder / "per_image.csv.gz"
    return _last_hole(path, path.stat().st_mtime_ns)[metric].to_numpy()


@functools.lru_cache(maxsize=512)
def _last_hole(path, _):
    table = pd.read_csv(path)
    last = (table.stage == table.stage.max()) & (table.mask_width == table.mask_width.max())
    return table[last & (table.region == "hole")].sort_values("image")


def effects(study, table):
    """Hole L1 with full-size holes of every run over that of its twin in the setup fixed, less one: dataset, architecture,
    setup, seed, effect. Empty without fixed."""
    rows = final(study, table)[lambda t: (t.region == "hole") & (t.metric == "l1")]
    wide = rows.pivot_table("value", ["dataset", "architecture", "seed"], "setup", sort=False)
    wide = (wide.div(wide["fixed"], axis=0) - 1).drop(columns="fixed") if "fixed" in wide else wide.iloc[:, :0]
    return wide.stack().rename("effect").reset_index().dropna()
