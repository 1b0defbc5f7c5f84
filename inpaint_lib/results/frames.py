"""The results of a study as tidy frames, and their files.

collect.py makes them from run folders; tables, figures and reports are functions of them. A saved
study is a folder:

    study.json            configuration, data, protocol
    values/ history/      a shard per training seed: seed0.csv.gz, seed1.csv.gz, ...
    per_image/            a shard per training seed: seed0.npz, with arrays (widths, images)
    fills/                a shard per seed and one of the truth: seed0.npz, truth.npz
    baselines.csv, baseline_images.csv.gz
                          errors of the baselines
    runs.csv              a row per run; written last; runs that it does not list are ignored

Adding a seed therefore adds files and rewrites no shard, and an interrupted `save` leaves the study
as it was. Runs that diverged have a row in `runs` and no values. Only one seed has fills.
"""

import gzip
import io
import json
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from ..data.sources import DATASETS
from ..models import ARCHITECTURES
from ..setups import SETUPS, Schedule
from ..study import files, provenance

RUN = ["dataset", "architecture", "setup", "seed"]
CELL = RUN[:2]
MEASURED = ["stage", "mask_family", "mask_width", "region", "metric", "value", "n_images"]
LOGGED = ["step", "stage", "mask_width", "adversarial_weight", "d_accuracy", "adversarial_share"]
COLUMNS = {
    "runs": [*RUN, "outcome", "why", "step", "images", "seconds", "step_seconds", "device"]
    + ["device_kind", "precision", "protocol", "torch", "commit", "system", "host_memory"]
    + ["device_memory", "parameters_g", "parameters_d", "inception", "alexnet", "warnings"],
    "values": [*RUN, *MEASURED],
    "history": [*RUN, *LOGGED],
    "baselines": ["dataset", "baseline", *MEASURED[1:]],
    "baseline_images": ["dataset", "baseline", "mask_family", "mask_width", "image", "l1", "l2"],
}
WHOLE = ["seed", "stage", "mask_width", "image", "n_images", "step", "images", "protocol"]
TEXT = ["dataset", "architecture", "setup", "mask_family", "region", "metric", "baseline"]
TEXT += ["outcome", "why", "device", "device_kind", "precision", "torch", "commit", "system"]
TEXT += ["inception", "alexnet", "warnings"]
PER_IMAGE = [*RUN, "metric", "mask_width"]  # the index of per_image
SHARDED = ("values", "history")
DAMAGED = (ValueError, BadZipFile, EOFError, FileNotFoundError, gzip.BadGzipFile, zlib.error)
SCIENCE = ("data", "curriculum", "models", "training", "evaluation")  # sections that must agree
# except for these: they decide which metrics there are, not how one is measured
MAY_DIFFER = {"inception_weights", "lpips_weights", "slow_baseline_images"}
MAY_DIFFER |= {"recorded_images", "recorded_points"}
EXTERNAL = " (not trained here)"  # ends the names of other methods' outputs
GRID = dict(zip(("datasets", "architectures", "setups", "seeds"), RUN, strict=True))
REGISTRIES = {"dataset": DATASETS, "architecture": ARCHITECTURES, "setup": SETUPS}


@dataclass(frozen=True)
class Results:
    """The results of a study.

    about: name, profile, protocol, config (nested dict; its grid is that of `runs`), hypotheses
    (a hash), initial_weights (a hash, if runs start from given weights), perceptual_weights (if a
    file is named: identity.name_perceptual), left_out {run: why}, who {run: who published it} (if
    given), data {dataset: about, stands_in_for, images, identity, masks {family_width: hole
    fraction}, own_masks (numbers, if any)}, recorded {dataset: indices of the test images in
    `fills`}. baselines: also other methods' outputs (evaluation/external.py), with
    EXTERNAL in the name. per_image: errors in the hole, last stage, training family: a row per run,
    metric and hole width, a column per test image, float32 (NaN: the data set has fewer images).
    baseline_images: of the baselines that runs are compared with. fills: "<dataset>/truth"
    (R,H,W,3) uint8, "<dataset>/mask/<family>_<width>" (R,H,W) uint8, 1 = hole, and
    "<run>/stage<s>/<family>_<width>" (R,H,W,3) uint8."""

    about: dict
    runs: pd.DataFrame
    values: pd.DataFrame
    history: pd.DataFrame
    per_image: pd.DataFrame
    baselines: pd.DataFrame
    baseline_images: pd.DataFrame
    fills: dict

    @property
    def widths(self):
        """The hole widths, one per stage."""
        return self.about["config"]["curriculum"]["mask_widths"]

    @property
    def schedule(self):
        """The schedule of stages that all setups share."""
        curriculum = self.about["config"]["curriculum"]
        steps = curriculum["total_images"] // curriculum["batch_size"]
        return Schedule(steps, tuple(self.widths))

    def family(self, architecture):
        """Return the mask family an architecture is trained with."""
        return self.about["config"]["models"][architecture]["mask_family"]


# --- building them


def order(names, kind="setup"):
    """Return names, each once, in the order of their registry; unknown names last."""
    known = list(REGISTRIES[kind])
    names = dict.fromkeys(names)
    return sorted(names, key=lambda name: known.index(name) if name in known else len(known))


def name_runs(runs):
    """Return the names of the runs of a frame, in its order: "faces/custom/fixed/seed0"."""
    return [f"{r.dataset}/{r.architecture}/{r.setup}/seed{r.seed}" for r in runs.itertuples()]


def split_name(name):
    """Return the data set, architecture, setup and seed of a run's name."""
    *parts, seed = name.split("/")
    return *parts, int(seed.removeprefix("seed"))


def join(name, found):
    """Return frames concatenated, with the columns and types of the frame `name` of Results."""
    frame = pd.concat(found, ignore_index=True) if found else pd.DataFrame()
    columns = list(COLUMNS[name])
    if name == "history":
        columns += [column for column in frame if column not in columns]
    frame = frame.reindex(columns=columns)
    texts = [column for column in columns if column in TEXT]
    frame = frame.assign(**{column: frame[column].astype(object).fillna("") for column in texts})
    kinds = dict.fromkeys(WHOLE, "int64") | dict.fromkeys(TEXT, object)
    kinds |= {"mask_width": "float64"} if name == "history" else {}  # a mean over steps
    return frame.astype({column: kinds.get(column, "float64") for column in columns})


def spread_images(frame, keys):
    """Return {"l1", "l2": errors with a row per keys and a column per test image, float32}.

    frame: columns keys, image, l1 and l2; its order is kept."""
    wide = frame.pivot(index=keys, columns="image", values=["l1", "l2"]).astype("float32")
    wide = wide.loc[frame.set_index(keys).index.unique()]
    return {metric: wide[metric] for metric in ("l1", "l2")}


def join_errors(found):
    """Return the frame per_image of {(*RUN, metric): errors by mask_width and image}."""
    if found:
        return pd.concat(found, names=PER_IMAGE[:-1])
    return pd.DataFrame(index=pd.MultiIndex.from_arrays([[]] * len(PER_IMAGE), names=PER_IMAGE))


def _pick_errors(errors, runs):
    """Return the rows of `errors` (as per_image) of some runs, in the order of the runs."""
    rows = errors.index.to_frame(index=False).assign(row=range(len(errors)))
    return errors.iloc[runs[RUN].merge(rows, on=RUN).row]


def narrow(results):
    """Return Results without rows and fills of runs that `runs` lacks, in registry order."""
    about, runs = results.about, results.runs
    grid = {key: order(runs[kind], kind) for key, kind in GRID.items() if kind in REGISTRIES}
    grid["seeds"] = sorted(set(runs.seed.tolist()))
    runs = runs.sort_values(RUN, key=lambda part: part.map(grid[f"{part.name}s"].index))
    names, datasets = set(name_runs(runs)), grid["datasets"]
    frames = {"runs": runs.reset_index(drop=True)}
    frames |= {name: runs[RUN].merge(getattr(results, name), on=RUN) for name in SHARDED}
    frames["per_image"] = _pick_errors(results.per_image, runs)
    for name in ("baselines", "baseline_images"):
        frame = getattr(results, name)
        frames[name] = join(name, [frame[frame.dataset == dataset] for dataset in datasets])
    fills = {
        key: pixels
        for key, pixels in results.fills.items()
        if _dataset_of(key) in datasets or "/".join(key.split("/")[:4]) in names
    }
    config = about["config"] | {"grid": grid | {"fewer_seeds": {}, "without": []}}
    left_out = {name: why for name, why in about["left_out"].items() if name not in names}
    about = about | {"config": config, "left_out": left_out}
    about |= {key: {name: about[key][name] for name in datasets} for key in ("data", "recorded")}
    return replace(results, about=about, fills=fills, **frames)


def _dataset_of(key):
    """Return the data set of a key of `fills` for truth or masks; None for a run's fills."""
    dataset, kind, *_ = key.split("/")
    return dataset if kind in ("truth", "mask") else None


# --- in a folder


def save(results, folder):
    """Write a study into a folder; unchanged files are not touched.

    If it is interrupted, the folder still holds the earlier study."""
    folder, written = Path(folder), set()
    for name in SHARDED:
        for seed, part in getattr(results, name).groupby("seed"):
            written.add(_write(folder / name / f"seed{seed}.csv.gz", files.format_csv(part)))
    shards = {}
    for (*run, metric), errors in results.per_image.groupby(level=PER_IMAGE[:-1], sort=False):
        of_run = shards.setdefault(folder / "per_image" / f"seed{run[-1]}.npz", {})
        array = errors.dropna(axis="columns", how="all").to_numpy()
        of_run["{}/{}/{}/seed{}/{}".format(*run, metric)] = array
    for key, pixels in sorted(results.fills.items()):
        name = "truth" if _dataset_of(key) else key.split("/")[3]
        shards.setdefault(folder / "fills" / f"{name}.npz", {})[key] = pixels
    for path, arrays in shards.items():
        np.savez(held := io.BytesIO(), **arrays)  # compressing would save a tenth
        written.add(_write(path, held.getvalue()))
    _write(folder / "baselines.csv", files.format_csv(results.baselines))
    _write(folder / "baseline_images.csv.gz", files.format_csv(results.baseline_images))
    _write(folder / "study.json", (json.dumps(results.about, indent=1) + "\n").encode())
    _write(folder / "runs.csv", files.format_csv(results.runs))
    for name in (*SHARDED, "per_image", "fills"):
        for path in set((folder / name).glob("*seed*")) - written:
            path.unlink()


def _write(path, content):
    """Write bytes, gzipped if the name ends in .gz, unless they are there; return the path."""
    if not path.is_file() or _bytes(path) != content:
        with files.replace(path) as temporary:
            temporary.write_bytes(files.compress(content) if path.suffix == ".gz" else content)
    return path


def _bytes(path):
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def load(folder):
    """Return the Results that `save` wrote. Raises ValueError if they are missing or damaged."""
    folder = Path(folder)
    about = files.read_json(folder / "study.json")
    if about is None or not (folder / "runs.csv").is_file():
        raise ValueError(
            f"{folder}: study.json or runs.csv is missing, so no results are saved here"
        )
    runs = join("runs", [_read(folder / "runs.csv")])
    seeds = sorted(set(runs.seed))
    paths = {name: [folder / name / f"seed{seed}.csv.gz" for seed in seeds] for name in SHARDED}
    paths["baselines"] = [folder / "baselines.csv"]
    paths["baseline_images"] = [folder / "baseline_images.csv.gz"]
    frames = {
        n: join(n, [_read(p) for p in of if n not in SHARDED or p.is_file()])
        for n, of in paths.items()
    }
    widths = pd.Index(about["config"]["curriculum"]["mask_widths"], name="mask_width")
    errors = {}
    for key, array in _read_arrays(folder / "per_image").items():
        run, _, metric = key.rpartition("/")
        images = pd.RangeIndex(array.shape[1], name="image")
        errors[*split_name(run), metric] = pd.DataFrame(array, widths, images)
    frames["per_image"] = join_errors(errors)
    found = narrow(Results(about, runs, **frames, fills=_read_arrays(folder / "fills")))
    finished = name_runs(runs[runs.outcome == "finished"])
    rows = {"values": found.values, "history": found.history}
    rows |= {"per_image": found.per_image.index.to_frame(index=False)}
    for name, frame in rows.items():
        measured = set(name_runs(frame[RUN].drop_duplicates()))
        if lacking := [run for run in finished if run not in measured]:
            raise ValueError(f"{folder}: runs.csv lists {lacking[0]}, but {name}/ lacks it")
    return found


def _read_arrays(folder):
    """Return {key: array} of all .npz files of a folder."""
    found = {}
    for path in sorted(folder.glob("*.npz")):
        try:
            with np.load(path, allow_pickle=False) as stored:
                found |= dict(stored.items())
        except DAMAGED as error:
            raise _damaged(path, error) from None
    return found


def _damaged(path, error):
    return ValueError(f"{path} is missing or damaged ({error}): restore it or make it again")


def _read(path):
    kinds = dict.fromkeys(TEXT, object)  # a commit may look like a number
    try:
        content = io.BytesIO(_bytes(path))
        return pd.read_csv(content, dtype=kinds, keep_default_na=False, na_values=[""])
    except DAMAGED as error:
        raise _damaged(path, error) from None


# --- merging two studies


def merge(one, other):
    """Return Results with the runs of both; of a run in both, that of `one`.

    Raises ValueError that names the settings or data that differ."""
    if found := compare_studies(one.about, other.about):
        listed = "; ".join(f"{key}: {a} and {b}" for key, a, b in found[:6])
        raise ValueError(f"{other.about['name']} does not fit {one.about['name']}: {listed}")
    new = other.runs[[name not in set(name_runs(one.runs)) for name in name_runs(other.runs)]]
    added = {"runs": new}
    added |= {name: new[RUN].merge(getattr(other, name), on=RUN) for name in SHARDED}
    for name in ("baselines", "baseline_images"):
        frame = getattr(other, name)
        keys = [
            pd.MultiIndex.from_frame(t[CELL[:1] + ["baseline"]])
            for t in (frame, getattr(one, name))
        ]
        added[name] = frame[~keys[0].isin(keys[1])]
    frames = {name: join(name, [getattr(one, name), part]) for name, part in added.items()}
    frames["per_image"] = pd.concat([one.per_image, _pick_errors(other.per_image, new)])
    recorded = other.about["recorded"] | one.about["recorded"]
    alike = [name for name, images in other.about["recorded"].items() if images == recorded[name]]
    fills = {k: pixels for k, pixels in other.fills.items() if k.split("/")[0] in alike}
    models = other.about["config"]["models"] | one.about["config"]["models"]
    about = one.about | {"config": one.about["config"] | {"models": models}}
    about |= {key: other.about[key] | one.about[key] for key in ("data", "recorded", "left_out")}
    named = {name: of for name, of in other.about.get("who", {}).items() if name in name_runs(new)}
    about |= {"who": one.about.get("who", {}) | named} if named else {}
    return narrow(replace(one, about=about, fills=fills | one.fills, **frames))


def get_settings(about):
    """Return the configuration in Results.about; a file of perceptual weights has its content's
    name (identity.name_perceptual) in place of its path."""
    training = about["config"]["training"]
    named = about.get("perceptual_weights", training["perceptual_weights"])
    return about["config"] | {"training": training | {"perceptual_weights": named}}


def compare_studies(one, other):
    """Return a list of (key, one, other): settings and data for which two studies differ.

    one, other: Results.about; models and data sets that only one has are not compared."""
    parts = []
    for about, beside in ((one, other), (other, one)):
        config = get_settings(about)
        part = {"protocol": about["protocol"], **{key: config[key] for key in SCIENCE}}
        part["initial weights"] = about.get("initial_weights")
        part["evaluation"] = {k: v for k, v in part["evaluation"].items() if k not in MAY_DIFFER}
        there = beside["config"]["models"]
        part["models"] = {name: of for name, of in config["models"].items() if name in there}
        data = {name: of for name, of in about["data"].items() if name in beside["data"]}
        parts.append(part | {"data set": {name: of["identity"] for name, of in data.items()}})
    return provenance.find_differences(*parts)
