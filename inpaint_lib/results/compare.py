"""What differs between two runs or two reports: configuration, provenance, paired effects.

./run_all.sh compare runs/tiny/faces/custom/fixed/seed0 runs/tiny/faces/custom/progressive/seed0
./run_all.sh compare reports/tiny OTHER/reports/tiny
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from ..study import command, files
from ..study.provenance import differences
from . import stats, tables

KEYS = ["dataset", "architecture", "setup", "seed", "stage", "mask_family", "mask_width", "region", "metric"]


def read(path):
    """(kind, configuration, provenance, values) of a run's or a report's folder. Raises ValueError."""
    try:
        found = _read(Path(path))
    except Exception as error:  # damaged tables and JSON can fail anywhere in their readers
        raise ValueError(f"{path}: is damaged ({type(error).__name__}: {error}); make it anew with ./run_all.sh") from None
    if not found:
        raise ValueError(f"{path}: neither a finished run (result.json) nor a report (tables/study.json); name one")
    if found == "diverged":
        raise ValueError(f"{path}: this run diverged, so that there is nothing to compare; name another")
    return found


def _read(folder):
    if result := files.read_json(folder / "result.json"):
        provenance = {key: result[key] for key in ("device", "precision", "seconds", "provenance")}
        if result.get("outcome") == "diverged":
            return "diverged"
        values = pd.read_csv(folder / "per_image.csv.gz")
        manifest = files.read_json(folder.resolve().parents[2] / "data" / "manifest.json") or {}
        groups = manifest.get("test_groups") or range(values.image.max() + 1)
        return "run", result["settings"], provenance, values.assign(group=values.image.map(dict(enumerate(groups))))
    if study := files.read_json(folder / "tables" / "study.json"):
        provenance = {"hypotheses": study["hypotheses"], "data": study["data"], "runs": study["runs"]}
        return "report", study["config"], provenance, pd.read_csv(folder / "tables" / "results.csv")
    return None


def effects_of_runs(one, other):
    """Second minus first on the same images and holes, after the last stage: mean and interval (whole photographs)."""
    keys, rows = ["mask_family", "mask_width", "image"], []
    one, other = (t[(t.stage == t.stage.max()) & (t.region == "hole")] for t in (one, other))
    both = one.merge(other, on=keys, suffixes=("", "_b"))
    for (family, width), part in both.groupby(["mask_family", "mask_width"]):
        for metric in ("l1", "psnr"):
            d = (part[f"{metric}_b"] - part[metric]).to_numpy()
            rows.append([family, width, metric, part[metric].mean(), part[f"{metric}_b"].mean(), d.mean(),
                         *stats.bootstrap(d, part.group.to_numpy()), len(d)])  # fmt: skip
    return pd.DataFrame(rows, columns=["mask_family", "mask_width", "metric", "A", "B", "B - A", "ci_low", "ci_high", "images"])


def effects_of_reports(one, other):
    """Second minus first over the seeds both have, after the last stage with the widest hole: mean and t interval."""
    one, other = (t[(t.stage == t.stage.max()) & (t.mask_width == t.mask_width.max())] for t in (one, other))
    both, rows = one.merge(other.drop(columns="stage"), on=[k for k in KEYS if k != "stage"], suffixes=("", "_b")), []
    shown = [pair in tables.SHOWN for pair in zip(both.region, both.metric, strict=True)]
    for key, part in both[shown].groupby([k for k in KEYS if k not in ("seed", "stage", "mask_width")]):
        d = (part.value_b - part.value).to_numpy()
        rows.append([*key, part.value.mean(), part.value_b.mean(), d.mean(), *stats.interval(d), len(d)])
    columns = [k for k in KEYS if k not in ("seed", "stage", "mask_width")]
    return pd.DataFrame(rows, columns=[*columns, "A", "B", "B - A", "ci_low", "ci_high", "seeds"])


def compare(a, b):
    """The comparison as text. Raises ValueError if the folders are none, or not of one kind."""
    (kind, config, provenance, values), (other_kind, other_config, other_provenance, other_values) = read(a), read(b)
    if kind != other_kind:
        raise ValueError(f"{a} is a {kind}, {b} a {other_kind}: give two of a kind")
    lines = [f"A: {a}", f"B: {b}"]
    for title, pair in (("configuration", (config, other_config)), ("provenance", (provenance, other_provenance))):
        found = differences(*pair)
        lines += ["", f"{title}: {f'{len(found)} differ' if found else 'the same'}"]
        lines += [f"  {k}: {_short(x)} | {_short(y)}" for k, x, y in found]
    if kind == "run" and any(config["data"][f] != other_config["data"][f] for f in ("test.npy", "masks.npz")):
        return "\n".join([*lines, "", "effects: none, they were measured on other test images or holes"])
    table = (effects_of_runs if kind == "run" else effects_of_reports)(values, other_values)
    what = "over images: how well these two were measured" if kind == "run" else "over seeds"
    lines += ["", f"effects, B - A, 95 % interval {what}:"]
    same = table.empty or np.allclose(table["B - A"], 0, atol=0)
    if table.empty or same:
        lines.append("  none: " + ("nothing was measured in both" if table.empty else "the last stage's values are equal"))
    else:
        lines.append(table.to_string(index=False, float_format=lambda v: f"{v:.5g}"))
    return "\n".join(lines)


def _short(value):
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def main(argv):
    parser = command.Parser(prog="run_all.sh compare", description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs=2, metavar="A B", help="two runs' folders, or two reports'")
    try:
        command.say(*compare(*parser.parse_args(argv).folders).splitlines())
    except (ValueError, OSError) as error:
        return command.fail(2, error)
    return 0


if __name__ == "__main__":
    command.ended(main, sys.argv[1:])
