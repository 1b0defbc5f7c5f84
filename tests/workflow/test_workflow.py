"""The study end to end through run_all.sh, on the smallest grid: whole, killed and gone on with, and asked wrongly."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from inpaint_lib.study import grid
from inpaint_lib.training import loop
from tests.conftest import MICRO, repository
from tests.data.test_sources import celeba_tree, folder_tree
from tests.workflow.test_surroundings import hostile
from workflow import __main__ as command
from workflow import graph, run_notebook, snakemake

ROOT = Path(repository())
SETTINGS = [f"--set={key}={json.dumps(value)}" for key, value in MICRO.items()]


def start(output, *arguments, **surroundings):
    environment = os.environ | {"INPAINT_ENV": "current", "INPAINT_OUTPUT": str(output)} | surroundings
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    return subprocess.Popen(
        [ROOT / "run_all.sh", *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(output, *arguments, **surroundings):
    process = start(output, *arguments, **surroundings)
    out, err = process.communicate()
    return process.returncode, out, err


def tables(output, profile="smoke"):
    return {p.name: p.read_bytes() for p in (output / "reports" / profile / "tables").iterdir()}


@pytest.fixture
def here(monkeypatch, capfd):
    """here(output, *arguments) -> what `run` gives, without another process that imports torch."""

    def asked(output, *arguments):
        monkeypatch.setenv("INPAINT_OUTPUT", str(output))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))))
        capfd.readouterr()
        code = command.main([*arguments])
        return code, *capfd.readouterr()

    return asked


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The micro study, run once."""
    output = tmp_path_factory.mktemp("study")
    code, out, err = run(output, "smoke", *SETTINGS)
    assert code == 0, out + err
    return output, out


def test_the_study_ends_with_the_table_and_the_report(study):
    output, out = study
    assert "### scenes, custom" in out and re.search(r"^\| fixed \|.*^\| progressive \|.*^\| nearest \|", out, re.M | re.S)
    assert "FID (random features)" in out and "not available" in out
    assert out.strip().splitlines()[-1].endswith("reports/smoke/index.html")
    results = pd.read_csv(output / "reports" / "smoke" / "tables" / "results.csv")
    identity = ["dataset", "architecture", "setup", "seed", "stage", "mask_family", "mask_width", "region"]
    assert list(results.columns) == [*identity, "metric", "value", "n_images"]
    assert results.value.notna().all() and set(results.setup) == {"fixed", "progressive"}


def test_a_run_folder_holds_what_the_readme_says(study):
    folder = study[0] / "runs/smoke/scenes/custom/progressive/seed0"
    assert {p.name for p in folder.iterdir() if not p.name.startswith(".")} == {
        "config.json", "history.csv", "probe.csv", "stages.csv", "per_image.csv.gz", "checkpoint.pt", "stages", "model",
        "result.json", "evaluation.csv", "evaluation.json", "notebook.ipynb",
    }  # fmt: skip


SECTIONS = ("results", "dynamics", "heat", "pictures", "cost", "choices", "notebooks", "provenance")


def test_pages_need_no_script_are_small_and_describe_every_picture(study):
    report = study[0] / "reports" / "smoke"
    assert (report / "index.html").stat().st_size < 3e6
    for page in report.rglob("*.html"):
        text = page.read_text()
        assert "<script" not in text and "prefers-color-scheme: dark" in text and "@media print" in text
        pictures = re.findall(r"<img [^>]*>", text)
        assert page.stem == "metrics" or pictures, page.name  # that notebook is tables alone
        assert all(re.search(r'alt="(?!No description)[^"]{8,}"', p) for p in pictures), page.name


def test_every_figure_is_there_as_vectors_and_every_page_leads_back(study):
    report = study[0] / "reports" / "smoke"
    names = set(json.loads((report / "figures" / "captions.json").read_text()))
    kinds = ("answer", "schedules", "stages_scenes_custom", "curves_scenes_custom", "heat_scenes_custom", "grid_scenes_custom",
             "evolution_scenes_custom", "masks_scenes")  # fmt: skip
    assert names == set(kinds)
    files = {f"{name}{suffix}" for name in names for suffix in (".png", ".pdf")}
    assert {p.name for p in (report / "figures").iterdir()} == {"captions.json"} | files
    text = (report / "index.html").read_text()
    assert all(f'<figure id="{n}">' in text and f'href="figures/{n}.pdf"' in text for n in names)
    pages = list((report / "notebooks").iterdir())
    assert all('href="../index.html#notebooks"' in page.read_text() for page in pages)


def test_pages_load_nothing_from_outside_and_every_link_leads_somewhere(study):
    report = study[0] / "reports" / "smoke"
    pages = sorted(report.rglob("*.html"))
    assert len(pages) == 1 + 1 + 2 + 2
    for page in pages:
        text = page.read_text()
        loading = re.findall(
            r"<(?:script|img|link|iframe|source|video|audio|embed|object)\b[^>]*?(?:src|href|data)=[\"']?([^\"'\s>]+)", text
        )
        assert not [a for a in loading if re.match(r"(https?:)?//", a)], page.name
        assert not re.search(r"@import\s|url\(\s*[\"']?(https?:)?//|import\s*\(?\s*[\"']https?:|fetch\(\s*[\"']http", text), (
            page.name
        )
        for link in re.findall(r"<a [^>]*href=\"([^\"#][^\"]*)\"", text) + re.findall(r"<img [^>]*src=\"([^\"]+)\"", text):
            if not re.match(r"https?:|data:|#|mailto:", link):
                assert (page.parent / link.split("#")[0]).exists(), f"{page.name}: {link}"


def test_no_page_shows_a_machine_path(study):
    for page in (study[0] / "reports").rglob("*.html"):
        text = page.read_text()
        assert str(study[0]) not in text and str(ROOT) not in text, page.name


def test_the_index_warns_of_what_is_a_stand_in(study):
    text = (study[0] / "reports" / "smoke" / "index.html").read_text()
    for words in ("stand-in for MSCOCO", "random weights", "one seed", "to a ninth"):
        assert words in text
    assert text.index("<table") < text.index("<figure")


def test_the_first_screen_is_the_verdict_and_every_cell_leads_to_its_run(study):
    report = study[0] / "reports" / "smoke"
    text = (report / "index.html").read_text()
    answers = ["<h1", "0 have learnt", ">not answered: the networks have not learnt<", 'id="answer"']
    order = [*answers, *(f'id="{name}"' for name in SECTIONS)]
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    table = text[text.index("<h3>scenes, custom</h3>") :]
    row = re.search(r"<th>progressive</th>(.*?)</tr>", table, re.S)[1]
    links = re.findall(r'<td><a href="(notebooks/[^"]+)">', row)
    assert len(links) == row.count("<td>") and set(links) == {"notebooks/scenes_custom_progressive_seed0.html"}
    page = (report / links[0]).read_text()
    masks = json.loads((study[0] / "runs/smoke/scenes/data/manifest.json").read_text())["masks"]["square_16"]["sha256"]
    for words in ("configuration</th>", "commit</th>", "device</th>", "wall time of training</th>", masks[:16]):
        assert words in page
    differs = text[text.index("What differs from the paper") :]
    for key, here in (("image_size", "32"), ("datasets", "scenes"), ("perceptual_weights", "random")):
        assert re.search(rf"{key}</th>.*?{here}</td></tr>", differs)


def test_tables_alone_are_rebuilt_from_the_runs(study, here):
    output, _ = study
    before = tables(output)
    shutil.rmtree(output / "reports" / "smoke" / "tables")
    code, out, err = here(output, "smoke", *SETTINGS, "--only", "tables")
    assert code == 0 and "### scenes, custom" in out and "start" not in out, err
    assert tables(output) == before


LISTS = (".study.lock", "study.json")  # what a dry run writes


def test_work_of_other_settings_is_refused_until_force_new(study, here):
    output, _ = study
    before = {p: p.stat().st_mtime_ns for p in output.rglob("*") if p.is_file()}
    code, out, err = here(output, "smoke", *SETTINGS, "--set", "models.custom.lr_g=1e-3")
    assert {p: p.stat().st_mtime_ns for p in output.rglob("*") if p.is_file()} == before
    assert code == 2 and not out and len(err.strip().splitlines()) == 1
    for words in ("run scenes/custom/fixed/seed0", "lr_g 0.0005 -> 0.001", "--force-new", "2 runs are concerned"):
        assert words in err
    code, out, _ = here(output, "smoke", *SETTINGS, "--set", "models.custom.lr_g=1e-3", "--force-new", "--dry-run")
    assert code == 0
    assert {p for p in before if p.stat().st_mtime_ns != before[p]} <= {output / f"runs/smoke/{n}" for n in LISTS}


def test_compare_prints_what_differs(study):
    output, _ = study
    code, out, _ = run(output, "compare", *(output / f"runs/smoke/scenes/custom/{s}/seed0" for s in ("fixed", "progressive")))
    assert code == 0 and "setup: fixed | progressive" in out and "B - A" in out
    code, out, err = run(output, "compare", output, output)
    assert code == 2 and "neither a finished run" in err and len(err.strip().splitlines()) == 1


def test_a_second_run_does_nothing(study):
    before = tables(study[0])
    code, out, _ = run(study[0], "smoke", *SETTINGS)
    assert code == 0 and "start" not in out and tables(study[0]) == before


def test_a_part_that_is_missing_is_done_again_and_a_clock_that_was_set_back_has_nothing_else_done(study, tmp_path, here):
    output = shutil.copytree(study[0], tmp_path / "output", symlinks=True)
    for path in output.rglob("*"):  # as if all was written on a day that is still to come
        stat = path.stat()
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 86400 * 10**9))
    code, out, err = here(output, "smoke", *SETTINGS)
    assert code == 0 and "start" not in out, out + err
    (output / "reports/smoke/figures/captions.json").unlink()
    code, out, err = run(output, "smoke", *SETTINGS)
    assert code == 0 and re.findall(r"start +(\S+)", out) == ["30_figures"], out + err
    assert tables(output) == tables(study[0])


def test_a_full_disk_ends_the_study_in_a_line_and_with_room_it_goes_on_to_the_same_tables(study, disk):
    output = disk(100 * 2**20)
    shutil.copytree(study[0], output, symlinks=True, dirs_exist_ok=True)
    shutil.rmtree(output / "reports")
    disk(shutil.disk_usage(output).used + 1_100_000)  # enough for the tables, not for the figures
    code, out, err = run(output, "smoke", *SETTINGS, "--jobs", "1")
    assert code == 1 and re.findall(r"(?:start|done) +(\S+)", out) == ["20_metrics", "20_metrics", "30_figures"], out + err
    failed, last = err.strip().splitlines()
    assert f"30_figures: OutputError: {output}/reports/smoke/figures: the disk is full; make room" in failed
    assert "not all was done; what is finished is kept" in last
    assert not list(output.rglob("*.tmp*")) and all(json.loads(p.read_text()) for p in output.rglob("*.ipynb"))
    disk(100 * 2**20)
    code, out, err = run(output, "smoke", *SETTINGS)
    assert code == 0 and re.findall(r"start +(\S+)", out) == ["30_figures"], out + err
    found, before = tables(output), tables(study[0])
    assert found.pop("study.json") != before.pop("study.json")  # jobs
    assert found == before and (output / "reports/smoke/index.html").stat().st_size > 10_000


def test_figures_are_the_same_in_hostile_surroundings(study, tmp_path):
    """Everything at once that test_surroundings.py knows of, braces in the place of output included."""
    output = shutil.copytree(study[0], tmp_path / "out{a}put é", symlinks=True)
    shutil.rmtree(output / "reports/smoke/figures")
    (output / "reports/smoke/index.html").unlink()
    code, out, err = run(output, "smoke", *SETTINGS, **hostile(tmp_path / "hostile"))
    assert code == 0 and not err and re.findall(r"start +(\S+)", out) == ["30_figures"], out + err
    assert (tmp_path / "hostile/bashes").read_text() == "\n", "no shell but the user's own has read BASH_ENV"
    assert tables(output) == tables(study[0])
    pages = [place / "runs/smoke/figures.ipynb" for place in (output, study[0])]
    pictures = [page.read_text(encoding="utf-8").count("image/png") for page in pages]
    assert pictures[0] == pictures[1] > 4
    for path in (study[0] / "reports/smoke/figures").glob("*.png"):
        assert (output / "reports/smoke/figures" / path.name).read_bytes() == path.read_bytes(), "the user's style is seen"


@pytest.fixture
def own_repository(tmp_path, monkeypatch):
    """A copy of the repository whose notebooks may be edited."""
    for name in ("workflow", "inpaint_lib", "notebooks", "config"):
        shutil.copytree(ROOT / name, tmp_path / "repository" / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "run_all.sh", tmp_path / "repository")
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path / "repository")
    return tmp_path / "repository"


def test_an_edited_notebook_runs_again_with_what_depends_on_it(study, own_repository):
    output, path = study[0], own_repository / "notebooks/30_figures.ipynb"
    before, notebook = tables(output), nbformat.read(path, 4)
    notebook.cells.append(nbformat.v4.new_code_cell("print('by hand')"))
    nbformat.write(notebook, path)
    code, out, err = run(output, "smoke", *SETTINGS)
    assert code == 0 and re.findall(r"start +(\S+)", out) == ["30_figures"], out + err
    assert "by hand" in (output / "reports/smoke/notebooks/figures.html").read_text()
    assert tables(output) == before


def with_cells(notebook, cells):
    return nbformat.from_dict(notebook | {"cells": cells})


BROKEN = {
    "broken JSON": lambda path, notebook: path.write_text(path.read_text()[:500]),
    "empty": lambda path, notebook: path.write_text(""),
    "renamed": lambda path, notebook: path.rename(path.with_name("30_pictures.ipynb")),
    "no parameters cell": lambda path, notebook: nbformat.write(
        with_cells(notebook, [c for c in notebook.cells if "parameters" not in c.metadata.get("tags", [])]), path
    ),
    "a syntax error": lambda path, notebook: nbformat.write(
        with_cells(notebook, [*notebook.cells, nbformat.v4.new_code_cell("a b c")]), path
    ),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_notebook_is_named_with_the_cure(own_repository, monkeypatch, how):
    monkeypatch.setattr(graph, "ROOT", own_repository)
    graph.check_notebook("notebooks/30_figures.ipynb")
    path = own_repository / "notebooks/30_figures.ipynb"
    BROKEN[how](path, nbformat.read(path, 4))
    with pytest.raises(ValueError, match=r"^notebooks/30_figures.ipynb.*git checkout -- notebooks/30_figures.ipynb$"):
        graph.check_notebook("notebooks/30_figures.ipynb")


def test_with_a_broken_notebook_nothing_is_started_and_results_are_kept(study, own_repository, monkeypatch, here):
    before, path = tables(study[0]), own_repository / "notebooks/30_figures.ipynb"
    path.write_text("{")
    monkeypatch.setattr(graph, "ROOT", own_repository)
    code, out, err = here(study[0], "smoke", *SETTINGS)
    assert code == 2 and not out and len(err.strip().splitlines()) == 1 and "30_figures" in err, out + err
    assert tables(study[0]) == before


def test_killed_it_goes_on_to_the_same_tables(study, tmp_path):
    """Once by SIGKILL and once by Ctrl-C; benchmarks/reliability.py does it hundreds of times."""
    for sig, seconds in ((signal.SIGKILL, 12), (signal.SIGINT, 14)):
        process = start(tmp_path, "smoke", *SETTINGS)
        time.sleep(seconds)
        process.send_signal(sig)
        process.communicate(timeout=20)  # ends when the last process that holds its output ends
    code, out, err = run(tmp_path, "smoke", *SETTINGS)
    assert code == 0, out + err
    assert tables(tmp_path) == tables(study[0])
    assert not [p for p in tmp_path.rglob("*.tmp*")], "a temporary file was left behind"


def test_force_new_deletes_what_was_made_with_other_settings(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("INPAINT_OUTPUT", str(tmp_path))
    micro = grid.open_study("smoke", MICRO)
    for training in micro.runs():
        loop.fit(training, lambda *_: None)
    monkeypatch.setattr(snakemake, "run", lambda *_: 1)
    assert command.main(["smoke", *SETTINGS, "--set=models.custom.lr_g=1e-3", "--force-new"]) == 1
    assert capsys.readouterr().out.count("deleting scenes/custom/") == 2
    assert [p for p in micro.folder.rglob("*") if p.is_file() and "seed0" in p.parts and p.name != ".lock"] == []
    assert (micro.folder / "scenes/data/manifest.json").exists()


def test_dry_run_says_what_it_would_do_and_does_nothing(tmp_path, here):
    code, out, err = here(tmp_path, "smoke", "--dry-run", *SETTINGS)
    assert code == 0 and "train" in out + err
    assert not list(tmp_path.rglob("*.npy")) and not (tmp_path / "reports").exists()


def test_help_lists_profiles_and_options(tmp_path):
    code, out, _ = run(tmp_path, "--help")
    assert code == 0
    for word in (
        "paper, small, smoke, tiny",
        "--datasets",
        "--architectures",
        "--setups",
        "--seeds",
        "--jobs",
        "--set",
        "--only",
        "--dry-run",
        "compare A B",
        "inpaint PHOTO",
    ):
        assert word in out


# --- the runner


def execute(output, name, artefact, parameters):
    environment = os.environ | {"INPAINT_OUTPUT": str(output), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-P", "-m", "workflow.run_notebook", name, output / "executed.ipynb", artefact,
         json.dumps(parameters)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_data_notebook_shows_real_images_and_what_was_left_out(tmp_path):
    celeba_tree(tmp_path / "source")
    (tmp_path / "source/celeba/img_align_celeba/000001.jpg").write_bytes(b"")
    parameters = {"profile": "smoke", "dataset": "celeba", "overrides": {"data_root": str(tmp_path / "source")}}
    done = execute(tmp_path, "00_data_prep", tmp_path / "runs/smoke/celeba/data/summary.json", parameters)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "executed.ipynb").read_text()
    assert "1 files left out, 59 images kept" in text and "000001.jpg" in text and text.count("image/png") > 4


@pytest.mark.parametrize("n", [2, 9])
def test_a_few_photos_are_trained_on_shown_and_measured(tmp_path, n):
    folder_tree(tmp_path / "photos", n)
    overrides = MICRO | {"data_root": str(tmp_path / "photos"), "datasets": ["folder"]}
    parameters = {"profile": "smoke", "dataset": "folder", "setup": "fixed", "seed": 0, "overrides": overrides}
    made = tmp_path / "runs/smoke/folder/custom/fixed/seed0/result.json"
    done = execute(tmp_path, "10_train_custom", made, parameters)
    assert done.returncode == 0 and made.is_file(), done.stderr


@pytest.mark.parametrize("cause", ["os.kill(os.getpid(), 9)", "1 / 0"])
def test_a_dead_kernel_and_an_error_are_failures(tmp_path, monkeypatch, capsys, cause):
    """papermill calls the cells after a kernel's death completed; the missing artefact tells."""
    monkeypatch.setattr(run_notebook, "NOTEBOOKS", tmp_path)
    monkeypatch.setenv("INPAINT_OUTPUT", str(tmp_path))
    kill = nbformat.v4.new_code_cell(f"import os\n{cause}")
    write = nbformat.v4.new_code_cell("open('artefact', 'w').write('done')")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[kill, write], metadata=kernel), tmp_path / "dies.ipynb")
    (tmp_path / "artefact").write_text("of an earlier run")
    assert run_notebook.main("dies", tmp_path / "executed.ipynb", tmp_path / "artefact", "{}") == 1
    assert ("Kernel died" if "kill" in cause else "ZeroDivisionError: division by zero (cell 1; see") in capsys.readouterr().err
    assert not (tmp_path / "executed.ipynb").exists() and not (tmp_path / "artefact").exists()
    assert (tmp_path / "executed.failed.ipynb").exists() and not list(tmp_path.glob(".*.tmp*"))
