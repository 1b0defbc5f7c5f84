"""Saved results: equal after a round trip, complete after an interruption, merged if they fit."""

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest

from inpaint_lib.evaluation import evaluate
from inpaint_lib.results import collect, frames, select, tables
from inpaint_lib.study import files
from tests.results import synthetic

SMALL = {"architectures": ["custom"], "setups": ["fixed", "progressive"], "diverged": ()}


def same(one, other):
    assert one.about == other.about and one.fills.keys() == other.fills.keys()
    for name in frames.COLUMNS:
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name))
    pd.testing.assert_frame_equal(one.per_image, other.per_image)
    assert all(np.array_equal(one.fills[key], other.fills[key]) for key in one.fills)


def content(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_study_is_the_same_after_a_round_trip_and_so_are_its_files_and_tables(tmp_path):
    results = synthetic.study(architectures=["custom", "free_form"], seeds=[0, 1])
    frames.save(results, tmp_path / "one")
    loaded = frames.load(tmp_path / "one")
    same(results, loaded)
    frames.save(loaded, tmp_path / "other")
    assert content(tmp_path / "one") == content(tmp_path / "other")
    tables.write(results, tmp_path / "tables")
    tables.write(loaded, tmp_path / "again")
    assert content(tmp_path / "tables") == content(tmp_path / "again")


def test_a_text_that_looks_like_a_number_or_like_nothing_stays_a_text(tmp_path):
    texts = {"commit": "001e5", "torch": "2.10", "why": "NA"}
    results = synthetic.study(**SMALL, seeds=[0])
    frames.save(synthetic.with_rows(results, "runs", "seed == 0", **texts), tmp_path)
    assert frames.load(tmp_path).runs[[*texts]].drop_duplicates().to_dict("records") == [texts]


def test_a_seed_added_adds_files_and_rewrites_no_finished_shard(tmp_path):
    frames.save(synthetic.study(seeds=[0, 1]), tmp_path)
    shards = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.glob("*/*")}
    frames.save(frames.merge(frames.load(tmp_path), synthetic.study(seeds=[2])), tmp_path)
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in shards} == shards
    added = {p.relative_to(tmp_path).as_posix() for p in set(tmp_path.glob("*/*")) - set(shards)}
    assert {f"{name}/seed2.csv.gz" for name in frames.SHARDED} | {"per_image/seed2.npz"} <= added
    assert set(frames.load(tmp_path).runs.seed) == {0, 1, 2}


def test_an_interrupted_save_leaves_the_old_study_at_every_step(tmp_path, monkeypatch):
    old = synthetic.study(**SMALL, datasets=["faces"], seeds=[0])
    new = frames.merge(old, synthetic.study(**SMALL, seeds=[0, 1]))
    for k in range(100):
        folder = tmp_path / str(k)
        frames.save(old, folder)
        if not synthetic.interrupted(monkeypatch, k, frames.save, new, folder):
            break
        same(old, frames.load(folder))
        frames.save(new, folder)
        same(new, frames.load(folder))
    same(new, frames.load(folder))
    assert k > 8 and not list(tmp_path.rglob(".*tmp*"))


def test_a_study_of_two_halves_is_the_study_of_the_whole_in_either_order():
    whole = synthetic.study(seeds=range(3))
    halves = [synthetic.study(seeds=[0, 1], datasets=["faces"]), synthetic.study(seeds=range(3))]
    for pair in (halves, halves[::-1]):
        same(whole, frames.merge(*pair))


@pytest.mark.parametrize(
    ("key", "value"),
    [("curriculum.batch_size", 4), ("models.custom.lr_g", 0.5), ("training.log_every", 10)]
    + [("data.mask_seed", 7), ("evaluation.images_elsewhere", 3)],
)
def test_studies_of_other_settings_are_refused_by_name(key, value):
    one = synthetic.study(**SMALL, seeds=[0])
    other = synthetic.study(**SMALL, seeds=[1], overrides={key: value})
    with pytest.raises(ValueError, match=f"does not fit synthetic: {key}: .* and {value}"):
        frames.merge(one, other)


def test_a_shard_without_a_metric_or_of_another_machine_joins():
    more = {"machine.threads": 7, "evaluation.lpips_weights": "auto"}
    more |= {"evaluation.recorded_images": 3, "evaluation.slow_baseline_images": 2}
    one, other = synthetic.study(**SMALL, seeds=[0]), synthetic.study(**SMALL, seeds=[1])
    other = synthetic.with_rows(other, "values", "metric == 'ssim'", metric="lpips_vgg")
    config = synthetic.study(**SMALL, seeds=[1], overrides=more).about["config"]
    recorded = {"faces": [0, 5], "clutter": other.about["recorded"]["clutter"]}
    about = other.about | {"config": config, "recorded": recorded}
    merged = frames.merge(one, dataclasses.replace(other, about=about))
    assert len(merged.runs) == 8 and {"ssim", "lpips_vgg"} <= set(merged.values.metric)
    assert merged.about["recorded"] == one.about["recorded"]
    with_fills = {key.split("/")[0] for key in merged.fills if "seed1/stage" in key}
    assert with_fills == {"clutter"}  # of faces, fills of other images


def test_another_protocol_and_other_data_are_refused():
    one, other = synthetic.study(**SMALL, seeds=[0]), synthetic.study(**SMALL, seeds=[1])
    about = other.about | {"protocol": 1}
    with pytest.raises(ValueError, match="protocol: 3 and 1"):
        frames.merge(one, dataclasses.replace(other, about=about))
    faces = other.about["data"]["faces"]
    about = other.about | {"data": {"faces": faces | {"identity": {"test": "0"}}}}
    with pytest.raises(ValueError, match=r"data set.faces.test: bbb.* and 0"):
        frames.merge(one, dataclasses.replace(other, about=about))


def test_seeds_that_some_setups_lack_are_no_property_of_saved_results():
    fewer = {"grid.fewer_seeds": {"fixed": 1}}
    results = synthetic.study(**SMALL, seeds=[0, 1], overrides=fewer)
    assert results.about["config"]["grid"]["fewer_seeds"] == {}


def test_a_run_in_both_stays_that_of_the_first():
    one, other = synthetic.study(**SMALL, seeds=[0]), synthetic.study(**SMALL, seeds=[0, 1])
    changed = synthetic.with_rows(other, "values", "seed == 0", value=9.0)
    merged = frames.merge(one, changed)
    kept = merged.values.query("seed == 0").reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, one.values)
    assert set(merged.runs.seed) == {0, 1}


def test_a_folder_without_results_or_with_a_lost_shard_is_named(tmp_path):
    with pytest.raises(ValueError, match="no results are saved"):
        frames.load(tmp_path)
    frames.save(synthetic.study(**SMALL, seeds=[0, 1]), tmp_path)
    for name, shard in (("per_image", "seed1.npz"), ("values", "seed1.csv.gz")):
        (tmp_path / name / shard).unlink()
        what = f"runs.csv lists faces/custom/fixed/seed1, but {name}/ lacks it"
        with pytest.raises(ValueError, match=what):
            frames.load(tmp_path)


FILES = ["per_image/seed0.npz", "fills/truth.npz", "values/seed0.csv.gz", "history/seed0.csv.gz"]


@pytest.mark.parametrize("name", [*FILES, "baselines.csv", "baseline_images.csv.gz"])
def test_damaged_files_are_named_and_saved_anew(tmp_path, name):
    results, path = synthetic.study(**SMALL, seeds=[0]), tmp_path / name
    frames.save(results, tmp_path)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"no archive", b""):
        path.write_bytes(damaged)
        if name != "baselines.csv" or not damaged:  # a part of a text is a shorter one
            with pytest.raises(ValueError, match=f"{path} is missing or damaged"):
                frames.load(tmp_path)
    path.unlink()
    if name != "fills/truth.npz":
        with pytest.raises(ValueError, match="is missing|lacks it"):
            frames.load(tmp_path)
    frames.save(results, tmp_path)
    assert path.read_bytes() == whole


def test_a_setup_that_is_not_known_here_is_loaded_and_has_its_tables(tmp_path):
    frames.save(synthetic.unknown("someones", seeds=[0]), tmp_path)
    tables.write(frames.load(tmp_path), tmp_path / "tables")
    assert "| someones |" in (tmp_path / "tables/table.md").read_text()


# --- from run folders


@pytest.mark.slow
def test_results_are_those_of_the_run_folders_and_what_does_not_fit_is_named(
    copied, micro, tmp_path
):
    study = micro()
    for run in study.runs():
        evaluate.complete(run)
    results = collect.collect(study)
    frames.save(results, tmp_path / "results")
    loaded = frames.load(tmp_path / "results")
    same(results, loaded)
    assert set(results.values.setup) == {"fixed", "progressive"} and len(results.fills) > 3
    of_images = results.per_image.xs("l1", level="metric").mean(axis="columns")
    l1 = select.get_trained(results).query("region == 'hole' and metric == 'l1'")
    l1 = l1.set_index([*frames.RUN, "mask_width"]).value
    assert l1.sort_index().to_numpy() == pytest.approx(of_images.sort_index().to_numpy(), rel=1e-6)

    with pytest.raises(ValueError, match="lr_g"):
        collect.collect(micro({"models.custom.lr_g": 0.5}))
    longer = micro({"grid.seeds": [0, 1]})
    with pytest.raises(
        FileNotFoundError, match=r"fixed/seed1 of profile smoke is not finished: run \./run"
    ):
        collect.collect(longer)
    assert len(collect.collect(longer, partial=True).runs) == 2
    first, second = study.runs()
    for name in ("result.json", "run.json"):
        stored = files.read_json(first.folder / name)
        stored.get("identity", stored)["protocol"] = 1
        files.write_json(first.folder / name, stored)
    results = collect.collect(study)
    assert frames.name_runs(results.runs) == [second.name]
    assert list(results.about["left_out"]) == [first.name]
    shutil.rmtree(second.folder / "evaluation")
    with pytest.raises(FileNotFoundError, match="progressive/seed0 .* is not evaluated"):
        collect.collect(study)
