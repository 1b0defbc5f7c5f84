"""Code that computes to the bit what older code did is known as such; published studies can be continued with today's."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from inpaint_lib.evaluation import evaluate
from inpaint_lib.results import published
from inpaint_lib.study import files, provenance
from inpaint_lib.training import jobs
from tests.conftest import repository

sys.path.insert(0, str(Path(repository(), "benchmarks")))
import same_numbers  # noqa: E402

STUDIES = sorted(path.parent.name for path in published.FOLDER.glob("*/study.json"))


@pytest.mark.parametrize("name", STUDIES)
def test_what_this_repository_publishes_can_be_continued(name):
    """If this fails, code of training or evaluation was changed, and no run can join the published ones any more. Where the
    numbers should be the same, show it, with the commit before: `PYTHONPATH=. python benchmarks/same_numbers.py COMMIT`."""
    base = published.FOLDER / name
    for run in sorted(published.names(base)):
        settings, evaluated = (files.read_json(base / "runs" / run / f)["settings"] for f in ("result.json", "evaluation.json"))
        assert provenance.code_digest(*jobs.SOURCES, f"inpaint_lib/models/{settings['architecture']}.py") == settings["code"]
        assert provenance.code_digest(*evaluate.CODE) == evaluated["code"]


def test_a_digest_that_stands_for_an_older_one_is_given_as_that(tmp_path, monkeypatch):
    own = provenance.own_digest("inpaint_lib/rng.py")
    monkeypatch.setattr(provenance, "SAME", tmp_path / "same.json")
    assert provenance.code_digest("inpaint_lib/rng.py") == own
    files.write_json(tmp_path / "same.json", {own: "older"})
    assert provenance.code_digest("inpaint_lib/rng.py") == "older"
    assert provenance.code_digest("inpaint_lib/masks.py") == provenance.own_digest("inpaint_lib/masks.py")


@pytest.fixture
def two(tmp_path):
    """Two equal folders of what is compared."""
    one = tmp_path / "one" / "faces" / "custom"
    (one / "stages").mkdir(parents=True)
    save_file({"w": np.array([1.0, np.nan])}, one / "stages" / "1.safetensors")
    files.write_csv(one / "history.csv", pd.DataFrame({"l1": [0.5], "images_per_second": [3.0]}))
    files.write_csv(one / "per_image.csv.gz", pd.DataFrame({"l1": [0.25]}))
    np.save(one / "train.npy", np.arange(3))
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    return tmp_path / "one", tmp_path / "other"


def test_equal_runs_are_equal_whatever_their_speed_and_header(two):
    folder = two[1] / "faces" / "custom"
    save_file({"w": np.array([1.0, np.nan])}, folder / "stages" / "1.safetensors", metadata={"code": "another"})
    files.write_csv(folder / "history.csv", pd.DataFrame({"l1": [0.5], "images_per_second": [4.0]}))
    parts = [files.as_gzip(pd.DataFrame({"l1": values}), header=not k) for k, values in enumerate([[0.25], []])]
    (folder / "per_image.csv.gz").write_bytes(b"".join(parts))
    assert same_numbers.differences(*two) == []


@pytest.mark.parametrize("name", ["stages/1.safetensors", "history.csv", "per_image.csv.gz"])
def test_a_last_bit_that_differs_is_named(two, name):
    path, more = two[1] / "faces" / "custom" / name, np.nextafter(0.5, 1)
    if path.suffix == ".safetensors":
        save_file({"w": np.array([np.nextafter(1.0, 2), np.nan])}, path)
    else:
        path.write_bytes(pd.DataFrame({"l1": [more]}).to_csv(index=False).encode())
        if path.suffix == ".gz":
            pd.DataFrame({"l1": [more]}).to_csv(path, index=False)
    assert same_numbers.differences(*two) == [f"faces/custom/{name}"]


def test_a_file_that_is_missing_is_named(two):
    (two[0] / "faces" / "custom" / "history.csv").unlink()
    assert same_numbers.differences(*two) == ["faces/custom/history.csv"]
