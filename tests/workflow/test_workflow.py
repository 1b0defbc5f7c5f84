"""The study end to end through run_all.sh, on the smallest grid: complete, killed, continued."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import nbformat
import pytest

from inpaint_lib.results import frames
from inpaint_lib.study import files, grid
from inpaint_lib.training import loop
from tests.conftest import MICRO
from tests.data.test_sources import celeba_tree, folder_tree
from tests.workflow.commands import ROOT, SETTINGS, is_refusal, run, start, tables
from tests.workflow.test_surroundings import hostile
from workflow import __main__ as command
from workflow import graph, run_notebook, snakemake, status

RUN = "runs/smoke/scenes/custom/progressive/seed0"
pytestmark = pytest.mark.slow


@pytest.fixture
def here(monkeypatch, capfd):
    """here(output, *arguments) -> what `run` gives, without another process that imports torch."""

    def asked(output, *arguments, main=command.main):
        monkeypatch.setenv("INPAINT_OUTPUT", str(output))
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        capfd.readouterr()
        code = main([*arguments])
        return code, *capfd.readouterr()

    return asked


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The micro study, run once: (its output root, what run_all.sh printed)."""
    output = tmp_path_factory.mktemp("study")
    code, out, err = run("smoke", *SETTINGS, INPAINT_OUTPUT=str(output))
    assert code == 0, out + err
    return output, out


def started(out):
    return re.findall(r"start +(\S+)", out)


def snapshot(output):
    return {p: p.stat().st_mtime_ns for p in output.rglob("*") if p.is_file()}


# --- what a study leaves


def test_the_study_ends_with_the_table_and_the_report(study):
    output, out = study
    row = r"^\| fixed \|.*^\| progressive \|.*^\| nearest"
    assert "### scenes, custom" in out and re.search(row, out, re.M | re.S), out
    assert out.strip().splitlines()[-1].endswith("reports/smoke/index.html")
    results = frames.load(output / "reports/smoke/results")
    assert set(results.runs.setup) == {"fixed", "progressive"}
    assert results.values.value.notna().all() and set(results.values.stage) == {1, 2}


def test_a_run_folder_holds_what_the_readme_says(study):
    names = {p.name for p in (study[0] / RUN).iterdir() if not p.name.startswith(".")}
    files = "run.json history.csv probe.csv checkpoint.pt result.json done.json notebook.ipynb"
    assert names == {*files.split(), "stages", "model", "evaluation"}


def test_every_page_is_small_offline_and_describes_its_pictures(study):
    report = study[0] / "reports/smoke"
    pages = sorted(report.rglob("*.html"))
    assert len(pages) == 1 + 1 + 2 + 2 and (report / "index.html").stat().st_size < 3e6
    for page in pages:
        text = page.read_text()
        assert "<script" not in text and "prefers-color-scheme: dark" in text, page.name
        assert str(study[0]) not in text and str(ROOT) not in text, page.name
        pictures = re.findall(r"<img [^>]*>", text)
        assert page.stem == "metrics" or pictures, page.name  # that notebook is tables alone
        assert all(re.search(r'alt="(?!No description)[^"]{8,}"', p) for p in pictures), page.name
        tags = r"<(?:script|img|link|iframe|source|video|audio|embed|object)\b[^>]*?"
        loading = re.findall(tags + r"(?:src|href|data)=[\"']?([^\"'\s>]+)", text)
        assert not [a for a in loading if re.match(r"(https?:)?//", a)], page.name
        outside = r"@import\s|url\(\s*[\"']?(https?:)?//|fetch\(\s*[\"']http"
        assert not re.search(outside, text), page.name
        links = re.findall(r"<a [^>]*href=\"([^\"#][^\"]*)\"", text)
        for link in links + re.findall(r"<img [^>]*src=\"([^\"]+)\"", text):
            if not re.match(r"https?:|data:|#|mailto:", link):
                assert (page.parent / link.split("#")[0]).exists(), f"{page.name}: {link}"


def test_every_figure_is_there_as_vectors_and_in_the_report(study):
    report = study[0] / "reports/smoke"
    names = set(json.loads((report / "figures/captions.json").read_text()))
    kinds = "answer schedules stages curves heat grid evolution masks"
    assert {name.split("_")[0] for name in names} == set(kinds.split())
    found = {f"{name}{suffix}" for name in names for suffix in (".png", ".pdf")}
    assert {p.name for p in (report / "figures").iterdir()} == {"captions.json"} | found
    text = (report / "index.html").read_text()
    assert all(f"figures/{name}.pdf" in text for name in names)
    for word in ("MSCOCO", "notebooks/scenes_custom_progressive_seed0.html"):
        assert word in text


# --- what is done again, and what is not


def test_a_second_run_does_nothing(study):
    before = snapshot(study[0] / "reports")
    code, out, _ = run("smoke", *SETTINGS, INPAINT_OUTPUT=str(study[0]))
    assert code == 0 and not started(out) and snapshot(study[0] / "reports") == before


def test_tables_alone_are_rebuilt_from_the_runs(study, tmp_path, here):
    output = shutil.copytree(study[0], tmp_path / "output", symlinks=True)
    shutil.rmtree(output / "reports/smoke/tables")
    code, out, err = here(output, "smoke", *SETTINGS, "--only", "tables")
    assert code == 0 and "### scenes, custom" in out and not started(out), err
    before = tables(study[0])
    assert tables(output) == {n: b for n, b in before.items() if n != "done.json"}
    (output / "reports/smoke/index.html").unlink()
    code, out, err = here(output, "smoke", *SETTINGS, "--only", "report")
    assert code == 0 and (output / "reports/smoke/index.html").is_file(), err


def test_work_of_other_settings_is_refused_until_force_new(study, here):
    output, other = study[0], "--set=models.custom.lr_g=1e-3"
    before = snapshot(output)
    found = here(output, "smoke", *SETTINGS, other)
    assert snapshot(output) == before and is_refusal(*found)
    for words in ("scenes/custom/fixed/seed0", "lr_g=0.0005, now 0.001", "--force-new", "2 runs"):
        assert words in found[2]
    assert here(output, "smoke", *SETTINGS, other, "--force-new", "--dry-run")[0] == 0
    changed = {p for p in before if p.stat().st_mtime_ns != before[p]}
    assert changed <= {output / f"runs/smoke/{n}" for n in (".study.lock", "study.json")}


def test_force_new_deletes_what_was_made_with_other_settings(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("INPAINT_OUTPUT", str(tmp_path))
    micro = grid.open_study("smoke", MICRO)
    for training in micro.runs():
        loop.fit(training, lambda *_: None)
    monkeypatch.setattr(snakemake, "run", lambda *_: 1)
    assert command.main(["smoke", *SETTINGS, "--set=models.custom.lr_g=1e-3", "--force-new"]) == 1
    assert capsys.readouterr().out.count("deleting scenes/custom/") == 2
    left = [p for run in micro.runs() for p in run.folder.rglob("*") if p.is_file()]
    assert {p.name for p in left} <= {".lock"}
    assert (micro.folder / "scenes/data/manifest.json").exists()


def test_a_clock_that_was_set_back_has_nothing_done_again(study, tmp_path, here):
    output = shutil.copytree(study[0], tmp_path / "output", symlinks=True)
    for path in output.rglob("*"):  # as if all was written on a day that is still to come
        stat = path.stat()
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 86400 * 10**9))
    code, out, err = here(output, "smoke", *SETTINGS)
    assert code == 0 and not started(out), out + err


def test_files_of_the_future_keep_their_order(tmp_path):
    for k in range(3):
        (tmp_path / str(k)).touch()
        os.utime(tmp_path / str(k), ns=(2**62 + k * 10**6,) * 2)
    snakemake.leave_the_future(tmp_path)
    times = [(tmp_path / str(k)).stat().st_mtime for k in range(3)]
    assert times == sorted(set(times)) and times[-1] <= time.time()


@pytest.fixture
def own_repository(tmp_path, monkeypatch):
    """A copy of the repository whose notebooks and library may be edited."""
    for name in ("workflow", "inpaint_lib", "notebooks", "config"):
        ignored = shutil.ignore_patterns("__pycache__")
        target = tmp_path / "repository" / name
        shutil.copytree(ROOT / name, target, ignore=ignored)
    shutil.copy(ROOT / "run_all.sh", tmp_path / "repository")
    return tmp_path / "repository"


def edit(path, kind, change):
    """Add a line to the last cell of a kind."""
    notebook = nbformat.read(path, 4)
    [cell for cell in notebook.cells if cell.cell_type == kind][-1].source += change
    nbformat.write(notebook, path)


def planned(output, root):
    """Return the steps that a dry run lists."""
    options = ["smoke", *SETTINGS, "--dry-run"]
    code, out, err = run(*options, root=root, cwd=root, INPAINT_OUTPUT=str(output))
    assert code == 0, out + err
    return set(re.findall(r"^(?:local)?rule (\w+):", out, re.M)) or set(
        re.findall(r"^(prepare|train|tables|figures|report) +\d", out, re.M)
    )


def test_prose_and_the_library_retrain_nothing_and_code_cells_do(study, own_repository):
    output = study[0]
    training = own_repository / "notebooks/10_train.ipynb"
    edit(training, "markdown", "\n\nAnother sentence.")
    assert planned(output, own_repository) == set()
    with (own_repository / "inpaint_lib/losses.py").open("a") as source:
        source.write("\n\ndef another():\n    return 0\n")
    assert planned(output, own_repository) == {"tables", "figures", "report"}
    edit(training, "code", "\nprint('by hand')")
    assert planned(output, own_repository) == {"train", "tables", "figures", "report"}


def test_an_edited_notebook_runs_again_with_what_depends_on_it(study, own_repository, tmp_path):
    output = shutil.copytree(study[0], tmp_path / "output", symlinks=True)
    edit(own_repository / "notebooks/30_figures.ipynb", "code", "\nprint('by hand')")
    options = {"root": own_repository, "cwd": own_repository, "INPAINT_OUTPUT": str(output)}
    code, out, err = run("smoke", *SETTINGS, **options)
    assert code == 0 and "10_train" not in started(out) and "30_figures" in started(out), out + err
    assert "by hand" in (output / "reports/smoke/notebooks/figures.html").read_text()
    assert tables(output) == tables(study[0])


BROKEN = {
    "broken JSON": lambda path: path.write_text(path.read_text()[:500]),
    "renamed": lambda path: path.rename(path.with_name("30_pictures.ipynb")),
    "no parameters cell": lambda path: path.write_text(
        path.read_text().replace('"parameters"', '"others"')
    ),
    "a syntax error": lambda path: edit(path, "code", "\na b c"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_notebook_is_named_with_the_fix(own_repository, monkeypatch, how, study, here):
    monkeypatch.setattr(graph, "ROOT", own_repository)
    graph.code_of("30_figures")
    BROKEN[how](own_repository / "notebooks/30_figures.ipynb")
    found, before = here(study[0], "smoke", *SETTINGS), tables(study[0])
    assert is_refusal(*found) and "notebooks/30_figures.ipynb" in found[2], found
    assert "git checkout -- notebooks/30_figures.ipynb restores it" in found[2]
    assert tables(study[0]) == before


def test_dry_run_says_what_it_would_do_and_does_nothing(tmp_path, here):
    code, out, err = here(tmp_path, "smoke", "--dry-run", *SETTINGS)
    assert code == 0 and "train" in out + err
    assert not list(tmp_path.rglob("*.npy")) and not (tmp_path / "reports").exists()


def test_an_estimate_prints_hours_and_keeps_nothing(tmp_path, here, monkeypatch):
    from workflow import estimate

    monkeypatch.setattr(estimate, "SECONDS", 0.0)
    code, out, err = here(tmp_path, "smoke", *SETTINGS, "--estimate")
    assert code == 0 and "custom: 2 runs of" in out and "hours one after another" in out, err
    assert not list(tmp_path.iterdir()) and os.environ["INPAINT_OUTPUT"] == str(tmp_path)


# --- status


def statuses(here, output):
    before = snapshot(output)
    code, out, err = here(output, "smoke", *SETTINGS, main=status.main)
    assert code == 0 and snapshot(output) == before, err
    return dict(re.findall(r"^(\S+seed\d) +(.*)$", out, re.M)), out


HOLD = """
import sys, time, pathlib
from inpaint_lib.study import files
with files.locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_status_tells_finished_running_interrupted_diverged_and_missing_runs(
    study, tmp_path, here, monkeypatch
):
    output = shutil.copytree(study[0], tmp_path / "output", symlinks=True)
    fixed, progressive = "scenes/custom/fixed/seed0", "scenes/custom/progressive/seed0"
    found, out = statuses(here, output)
    assert found == {fixed: "finished", progressive: "finished"} and "2 finished, 0 running" in out
    shutil.rmtree(output / "runs/smoke" / fixed)
    folder = output / RUN
    for name in ("result.json", "done.json"):
        (folder / name).unlink()
    found, _ = statuses(here, output)
    assert found[fixed] == "missing" and found[progressive].startswith("interrupted ")
    assert re.search(r"stage 2 of 2, step 16 of 16, checkpoint .* old", found[progressive])
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, folder],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
    )
    try:
        holder.stdout.readline()
        assert statuses(here, output)[0][progressive].startswith("running ")
    finally:
        holder.kill()
        holder.communicate()
    assert statuses(here, output)[0][progressive].startswith("interrupted ")
    files.write_json(folder / "result.json", {"outcome": "diverged", "why": "a loss became nan"})
    assert statuses(here, output)[0][progressive] == "diverged     a loss became nan"


def test_status_of_a_study_that_was_never_started_creates_nothing(tmp_path, here):
    found, out = statuses(here, tmp_path)
    assert set(found.values()) == {"missing"} and not list(tmp_path.iterdir())


# --- interrupted, killed, without room


def kill_and_continue(output, seconds, signals):
    """Start a study, send it signals after some seconds each, and then let it end."""
    for number, wait in zip(signals, seconds, strict=True):
        process = start("smoke", *SETTINGS, INPAINT_OUTPUT=str(output))
        time.sleep(wait)
        process.send_signal(number)
        process.communicate(timeout=30)  # ends when the last process that holds its output ends
    return run("smoke", *SETTINGS, INPAINT_OUTPUT=str(output))


def test_killed_it_continues_to_the_same_tables(study, tmp_path):
    """Once by SIGKILL and once by Ctrl-C; `-m drill --kills N` does it many times."""
    code, out, err = kill_and_continue(tmp_path, (14, 16), (signal.SIGKILL, signal.SIGINT))
    assert code == 0, out + err
    assert tables(tmp_path) == tables(study[0])
    assert not [p for p in tmp_path.rglob("*.tmp*")], "a temporary file was left behind"


@pytest.mark.drill
def test_killed_at_random_moments_it_continues_to_the_same_tables(study, tmp_path, kills):
    """A study, one training notebook's kernel, or its runner; by SIGKILL, SIGTERM or Ctrl-C."""
    chance, seconds = random.Random(0), 60.0
    for k in range(kills):
        output = tmp_path / str(k // 3)  # three kills, then it may end
        began = time.monotonic()
        process = start("smoke", *SETTINGS, INPAINT_OUTPUT=str(output))
        time.sleep(chance.uniform(0, seconds))
        victims = [process.pid, *processes_of(output, chance.choice(["run_notebook", "ipykernel"]))]
        number = chance.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
        victim = chance.choice(victims)
        if process.poll() is None:
            os.kill(victim, number)
        out, err = process.communicate(timeout=300)
        if process.returncode == 0:
            seconds = min(seconds, time.monotonic() - began)
        if k % 3 == 2 or k == kills - 1:
            code, out, err = run("smoke", *SETTINGS, INPAINT_OUTPUT=str(output))
            assert code == 0 and tables(output) == tables(study[0]), (k, out + err)
            assert not [p for p in output.rglob("*.tmp*")], (k, "a temporary file was left")
            shutil.rmtree(output)


def processes_of(output, word):
    """Return the ids of processes of a study whose command line holds a word."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if word in " ".join(process.cmdline()):
                if process.environ().get("INPAINT_OUTPUT") == str(output.resolve()):
                    found.append(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            pass
    return found


def test_a_full_disk_ends_the_study_in_a_line_and_with_room_it_continues_to_the_same_tables(
    study, disk
):
    output = disk(100 * 2**20)
    shutil.copytree(study[0], output, symlinks=True, dirs_exist_ok=True)
    shutil.rmtree(output / "reports/smoke/figures")
    disk(shutil.disk_usage(output).used + 1_100_000)  # not enough for the figures
    code, out, err = run("smoke", *SETTINGS, INPAINT_OUTPUT=str(output))
    assert code == 1 and started(out) == ["30_figures"], out + err
    failed, last = err.strip().splitlines()
    place = f"30_figures: OutputError: {output}/reports/smoke/figures"
    assert f"{place}: the disk is full; free some space" in failed, err
    assert "not all was done; what is finished is kept" in last
    assert not list(output.rglob("*.tmp*"))
    assert all(json.loads(p.read_text()) for p in output.rglob("*.ipynb"))
    disk(100 * 2**20)
    code, out, err = run("smoke", *SETTINGS, INPAINT_OUTPUT=str(output))
    assert code == 0 and started(out) == ["30_figures"], out + err
    assert tables(output) == tables(study[0])


def test_figures_are_the_same_in_hostile_surroundings(study, tmp_path):
    """Everything at once that test_surroundings.py knows of, and braces in the place of output."""
    output = shutil.copytree(study[0], tmp_path / "out{a}put é", symlinks=True)
    shutil.rmtree(output / "reports/smoke/figures")
    (output / "reports/smoke/index.html").unlink()
    surroundings = hostile(tmp_path / "hostile") | {"INPAINT_OUTPUT": str(output)}
    code, out, err = run("smoke", *SETTINGS, **surroundings)
    assert code == 0 and not err and started(out) == ["30_figures"], out + err
    bashes = (tmp_path / "hostile/bashes").read_text()
    assert bashes == "\n", "no shell but the user's own has read BASH_ENV"
    pages = [place / "runs/smoke/figures.ipynb" for place in (output, study[0])]
    pictures = [page.read_text(encoding="utf-8").count("image/png") for page in pages]
    assert pictures[0] == pictures[1] > 4
    for path in (study[0] / "reports/smoke/figures").glob("*.png"):
        other = output / "reports/smoke/figures" / path.name
        assert other.read_bytes() == path.read_bytes(), "the user's style is seen"


# --- the runner


def execute(output, name, artefact, parameters):
    arguments = [name, output / "executed.ipynb", artefact, json.dumps(parameters)]
    return subprocess.run(
        [sys.executable, "-P", "-m", "workflow.run_notebook", *arguments],
        env=os.environ | {"INPAINT_OUTPUT": str(output), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_data_notebook_shows_real_images_and_what_was_left_out(tmp_path):
    celeba_tree(tmp_path / "source")
    (tmp_path / "source/celeba/img_align_celeba/000001.jpg").write_bytes(b"")
    overrides = {"machine.data_root": str(tmp_path / "source")}
    parameters = {"profile": "smoke", "dataset": "celeba", "overrides": overrides}
    made = tmp_path / "runs/smoke/celeba/data/summary.json"
    done = execute(tmp_path, "00_data_prep", made, parameters)
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "executed.ipynb").read_text()
    assert "1 files left out, 59 images kept" in text and "000001.jpg" in text
    assert text.count("image/png") > 4


def test_two_photos_are_trained_on_shown_and_measured(tmp_path):
    folder_tree(tmp_path / "photos", 2)
    overrides = MICRO | {"machine.data_root": str(tmp_path / "photos")}
    parameters = {"profile": "smoke", "dataset": "folder", "setup": "fixed"}
    made = tmp_path / "runs/smoke/folder/custom/fixed/seed0/done.json"
    done = execute(tmp_path, "10_train", made, parameters | {"overrides": overrides})
    assert done.returncode == 0 and made.is_file(), done.stderr


def test_a_run_that_diverges_is_done_and_its_page_ends_there(tmp_path):
    overrides = MICRO | {"models.custom.lr_g": 1e30}
    parameters = {"dataset": "scenes", "setup": "fixed", "overrides": overrides}
    folder = tmp_path / "runs/smoke/scenes/custom/fixed/seed0"
    done = execute(tmp_path, "10_train", folder / "done.json", parameters)
    assert done.returncode == 0 and "diverged: " in done.stdout, done.stderr
    assert json.loads((folder / "result.json").read_text())["outcome"] == "diverged"
    assert json.loads((folder / "done.json").read_text())["outcome"] == "diverged"
    assert "Diverged" in (tmp_path / "executed.ipynb").read_text()


@pytest.mark.parametrize("cause", ["os.kill(os.getpid(), 9)", "1 / 0", "pass"])
def test_a_dead_kernel_an_error_and_a_missing_artefact_are_failures(
    tmp_path, monkeypatch, capsys, cause
):
    """papermill calls the cells after a kernel's death completed; the missing artefact tells."""
    monkeypatch.setattr(run_notebook, "NOTEBOOKS", tmp_path)
    monkeypatch.setenv("INPAINT_OUTPUT", str(tmp_path))
    cells = [nbformat.v4.new_code_cell(f"import os\n{cause}")]
    if cause != "pass":
        cells.append(nbformat.v4.new_code_cell("open('artefact', 'w').write('done')"))
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "dies.ipynb")
    (tmp_path / "artefact").write_text("of an earlier run")
    assert run_notebook.main("dies", tmp_path / "executed.ipynb", tmp_path / "artefact", "{}") == 1
    said = {"pass": "ended without writing artefact", "1 / 0": "division by zero (cell 1; see"}
    assert said.get(cause, "Kernel died") in capsys.readouterr().err
    assert not (tmp_path / "executed.ipynb").exists() and not (tmp_path / "artefact").exists()
    assert (tmp_path / "executed.failed.ipynb").exists() and not list(tmp_path.glob(".*.tmp*"))


def test_a_study_whose_runs_are_all_published_trains_only_without_skip_published(
    tmp_path, monkeypatch, here
):
    """A profile that is named runs, whatever is published; --skip-published leaves that out."""
    from workflow import checks

    asked = []
    monkeypatch.setattr(snakemake, "run", lambda study, *_: asked.append(study.runs()) or 130)
    published = {"scenes/custom/fixed/seed0"}
    monkeypatch.setattr(checks.published, "names", lambda config, protocol: published)
    assert here(tmp_path, "smoke", *SETTINGS)[0] == 130
    code, out, _ = here(tmp_path, "smoke", *SETTINGS, "--skip-published")
    assert code == 130 and "1 runs are published and left out" in out
    assert [[run.setup for run in runs] for runs in asked] == [
        ["fixed", "progressive"],
        ["progressive"],
    ]
