"""The study end to end through run_all.sh, on the smallest grid: complete, killed, continued."""

import json
import re
import shutil
import signal
import time
from types import SimpleNamespace

import cv2
import nbformat
import pandas as pd
import psutil
import pytest

from inpaint_lib.results import frames
from inpaint_lib.study import files, grid
from tests.conftest import MICRO, snapshot
from tests.data.test_sources import celeba_tree, folder_tree
from tests.results import pages
from tests.workflow import refusing
from tests.workflow.commands import (
    ROOT,
    SETTINGS,
    is_refusal,
    run,
    run_cells,
    start,
    tables,
    write_notebook,
)
from tests.workflow.test_surroundings import hostile
from workflow import __main__ as command
from workflow import checks, estimate, graph, room

DATA = MICRO["grid.datasets"][0]
FIXED, PROGRESSIVE = (f"{DATA}/custom/{setup}/seed0" for setup in ("fixed", "progressive"))
RUN = f"runs/smoke/{PROGRESSIVE}"
pytestmark = pytest.mark.slow


@pytest.fixture
def here(monkeypatch, asked):
    """here(output, *arguments) -> what `run` gives, without another process that imports torch."""

    def ask(output, *arguments):
        monkeypatch.setenv("INPAINT_OUTPUT", str(output))
        monkeypatch.setenv("PYTHONPATH", str(ROOT))
        return asked(*arguments)

    return ask


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The micro study, run once: (its output root, what run_all.sh printed)."""
    output = tmp_path_factory.mktemp("study")
    code, out, err = run("smoke", *SETTINGS, INPAINT_OUTPUT=str(output))
    assert code == 0, out + err
    return output, out


@pytest.fixture(scope="module")
def continued(tmp_path_factory):
    """The micro study, killed, interrupted and continued: output, exit code, stdout, stderr, and
    {pid: whether it ignored SIGHUP} of the processes of the last start.

    The last two starts have around them everything that test_surroundings.py knows of, calls that
    file systems refuse, and braces in the place of output; the last one ignores SIGHUP, as under
    nohup.
    """
    folder = tmp_path_factory.mktemp("continued")
    output, place = folder / "out{a}put é", {"INPAINT_OUTPUT": str(folder / "out{a}put é")}
    (folder / "site").mkdir()
    few = set(refusing.REFUSALS) - {"fork", "sockets"}  # Snakemake's and ZeroMQ's own
    around = hostile(folder / "hostile") | refusing.everywhere(folder / "site", few) | place

    stops = [(place, f"runs/smoke/{DATA}/data/manifest.json", signal.SIGKILL)]
    stops += [(around, f"{RUN}/run.json", signal.SIGINT)]
    for environment, made, number in stops:
        process = start("smoke", *SETTINGS, **environment)
        while not (output / made).exists():
            assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        process.send_signal(number)
        process.communicate(timeout=30)  # ends when the last process that holds its output ends
    assert not (output / RUN / "result.json").exists(), "it was too late to interrupt"
    (output / RUN / "notebook.failed.ipynb").touch()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = start("smoke", *SETTINGS, **around)
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    seen = {}
    while process.poll() is None:
        for child in (p for p in tree(process.pid) if p.pid not in seen):
            seen[child.pid] = ignored(child.pid)
            if len(seen) in (2, 6):
                child.send_signal(signal.SIGHUP)
        time.sleep(0.5)
    out, err = process.communicate()
    return SimpleNamespace(output=output, code=process.returncode, out=out, err=err, seen=seen)


def tree(pid):
    try:
        return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def ignored(pid, number=signal.SIGHUP):
    """Return whether a process ignores a signal, or is gone."""
    try:
        with open(f"/proc/{pid}/status") as status:
            mask = next(int(line.split()[1], 16) for line in status if line.startswith("SigIgn"))
    except (OSError, StopIteration):
        return True
    return bool(mask >> (number - 1) & 1)


def started(out):
    return re.findall(r"start +(\S+)", out)


# --- what a study leaves


def test_the_study_ends_with_the_table_and_the_report(study):
    output, out = study
    row = r"^\| fixed \|.*^\| progressive \|.*^\| nearest"
    assert f"### {DATA}, custom" in out and re.search(row, out, re.M | re.S), out
    assert out.strip().splitlines()[-1].endswith("reports/smoke/index.html")
    results = frames.load(output / "reports/smoke/results")
    assert set(results.runs.setup) == {"fixed", "progressive"}
    assert results.values.value.notna().all() and set(results.values.stage) == {1, 2}


def test_a_run_folder_holds_what_the_readme_says(study):
    names = {p.name for p in (study[0] / RUN).iterdir() if not p.name.startswith(".")}
    records = "run.json history.csv probe.csv recording.npz result.json done.json notebook.ipynb"
    assert names == {*records.split(), "checkpoint.pt", "stages", "model", "evaluation"}


def test_every_page_is_small_offline_and_describes_its_pictures(study):
    report = study[0] / "reports/smoke"
    assert len(list(report.glob("runs/*.html"))) == 2
    assert list(report.glob("images/*.html")) and list(report.glob("notebooks/*.html"))
    assert (report / "index.html").stat().st_size < 3e6
    style = "".join(path.read_text() for path in report.rglob("*.css"))
    for page in report.rglob("*.html"):
        pages.check(page)
        text = page.read_text()
        assert "prefers-color-scheme: dark" in text + style, page.name
        assert str(study[0]) not in text and str(ROOT) not in text, page.name
        if page.parent.name == "notebooks":
            assert page.stem == "metrics" or "<img " in text, page.name  # that one is tables alone


def test_every_figure_is_there_as_vectors_and_in_the_report(study):
    report = study[0] / "reports/smoke"
    names = set(json.loads((report / "figures/captions.json").read_text()))
    kinds = "answer schedules stages curves heat grid sizes games forgetting masks"
    assert {name.split("_")[0] for name in names} == set(kinds.split())
    found = {f"{name}{suffix}" for name in names for suffix in (".png", ".pdf")}
    assert {p.name for p in (report / "figures").iterdir()} == {"captions.json"} | found
    text = (report / "index.html").read_text()
    assert all(f"figures/{name}.pdf" in text for name in names)
    for word in ("MSCOCO", f"runs/{PROGRESSIVE.replace('/', '_')}.html"):
        assert word in text


# --- outputs that are made elsewhere


def test_outputs_become_a_row_of_tables_and_report(study, tmp_path, here):
    """Telea's algorithm, run by hand on exported files alone, is the table's own to every digit."""
    output, export = (
        shutil.copytree(study[0], tmp_path / "o", symlinks=True),
        tmp_path / "my export",
    )
    code, out, err = here(output, "export", "smoke", DATA, str(export))
    assert code == 0 and "manifest.json" in out and not err, err
    for path in export.glob("inputs/*/*.png"):
        image = cv2.copyMakeBorder(cv2.imread(str(path)), *[4] * 4, cv2.BORDER_CONSTANT)
        hole = cv2.imread(str(export / "masks" / path.parent.name / path.name), 0)
        hole = cv2.copyMakeBorder(hole, *[4] * 4, cv2.BORDER_CONSTANT, value=255)
        filled = cv2.inpaint(image, hole, 3, cv2.INPAINT_TELEA)[4:-4, 4:-4]
        (export / "by hand" / path.parent.name).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(export / "by hand" / path.parent.name / path.name), filled)
    code, out, err = here(output, "score", str(export / "by hand"), "--name", "mine")
    assert code == 0 and "square_16: hole L1 0." in out and not err, err
    report, name = output / "reports/smoke", "mine (not trained here)"
    assert out.splitlines()[-1] == f"{report / 'index.html'} and the tables have a row of mine"
    table = pd.read_csv(report / "tables/table.csv").query("region != 'visible'").set_index("setup")
    ours = table.loc["Telea"].query("metric != 'overfitting'").reset_index(drop=True)
    assert ours.equals(table.loc[name].reset_index(drop=True)) and len(ours) > 12
    page = (report / "index.html").read_text()
    assert all(f">{name}</{cell}>" in page for cell in ("th", "td"))
    assert f"| {name} |" in (report / "tables/table.md").read_text()
    code, out, err = here(output, "smoke", *SETTINGS)
    assert code == 0 and not started(out) and f"| {name} |" in out


# --- what is done again, and what is not


def test_a_second_run_does_nothing(study, here):
    before = snapshot(study[0] / "reports")
    code, out, _ = here(study[0], "smoke", *SETTINGS)
    assert code == 0 and not started(out) and snapshot(study[0] / "reports") == before


def test_tables_alone_are_rebuilt_from_the_runs(study, tmp_path, here):
    output = shutil.copytree(study[0], tmp_path / "output", symlinks=True)
    shutil.rmtree(output / "reports/smoke/tables")
    code, out, err = here(output, "smoke", *SETTINGS, "--only", "tables")
    assert code == 0 and f"### {DATA}, custom" in out and not started(out), err
    before = tables(study[0])
    assert tables(output) == {n: b for n, b in before.items() if n != "done.json"}
    (output / "reports/smoke/index.html").unlink()
    code, out, err = here(output, "smoke", *SETTINGS, "--only", "report")
    assert code == 0 and (output / "reports/smoke/index.html").is_file(), err


def test_tables_alone_of_another_grid_do_not_pass_for_the_studys(study, tmp_path, here):
    output = shutil.copytree(study[0], tmp_path / "output", symlinks=True)
    only = "--only", "tables", "--setups", "fixed"
    with files.lock(output / "runs/smoke", ".study.lock"):
        assert "another run_all.sh works on" in here(output, "smoke", *SETTINGS, *only)[2]
    code, out, err = here(output, "smoke", *SETTINGS, *only)
    assert code == 0 and "| progressive |" not in out, err
    out = here(output, "smoke", *SETTINGS, "--dry-run")[1]
    assert out.splitlines()[-1] == "dry run: 1 tables, 1 figures, 1 report"


def test_work_of_other_settings_is_refused_until_force_new(study, here):
    output, other = study[0], "--set=models.custom.lr_g=1e-3"
    before = snapshot(output)
    found = here(output, "smoke", *SETTINGS, other)
    assert snapshot(output) == before and is_refusal(*found)
    for words in (FIXED, "lr_g=0.0005, now 0.001", "--force-new", "2 runs"):
        assert words in found[2]
    assert here(output, "smoke", *SETTINGS, other, "--force-new", "--dry-run")[0] == 0
    after = snapshot(output)
    changed = {path for path in before if after[path] != before[path]}
    assert changed <= {output / "runs/smoke/.snakemake/dry_run.json"}


def test_force_new_deletes_what_was_made_with_other_settings(copied, monkeypatch, capsys):
    micro = grid.open_study("smoke", MICRO)
    monkeypatch.setattr(command, "run_snakemake", lambda *_: 1)
    assert command.main(["smoke", *SETTINGS, "--set=models.custom.lr_g=1e-3", "--force-new"]) == 1
    assert capsys.readouterr().out.count(f"deleting {DATA}/custom/") == 2
    left = [p for run in micro.runs() for p in run.folder.rglob("*") if p.is_file()]
    assert {p.name for p in left} <= {".lock"}
    assert (micro.folder / DATA / "data/manifest.json").exists()


def edit(path, kind, change):
    """Add a line to the last cell of a kind."""
    notebook = nbformat.read(path, 4)
    [cell for cell in notebook.cells if cell.cell_type == kind][-1].source += change
    nbformat.write(notebook, path)


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """A copy of notebooks and library that may be edited, of which the graph is made."""
    for name in ("inpaint_lib", "notebooks", "config"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / "sources" / name, ignore=ignored)
    monkeypatch.setattr(graph, "ROOT", tmp_path / "sources")
    return tmp_path / "sources"


def test_prose_retrains_nothing_the_library_redraws_and_code_cells_run_again(study, sources, here):
    def planned():
        code, out, err = here(study[0], "smoke", *SETTINGS, "--dry-run")
        assert code == 0, out + err
        assert out.splitlines()[-1].startswith("dry run: ")
        return set(re.findall(r"\d+ (\w+)", out.splitlines()[-1]))

    training = sources / "notebooks/10_train.ipynb"
    edit(training, "markdown", "\n\nAnother sentence.")
    assert planned() == set()
    edit(sources / "notebooks/30_figures.ipynb", "code", "\nprint('by hand')")
    assert planned() == {"figures", "report"}
    with (sources / "inpaint_lib/losses.py").open("a") as source:
        source.write("\n\ndef another():\n    return 0\n")
    assert planned() == {"tables", "figures", "report"}
    edit(training, "code", "\nprint('by hand')")
    assert planned() == {"train", "tables", "figures", "report"}


BROKEN = {
    "broken JSON": lambda path: path.write_text(path.read_text()[:500]),
    "renamed": lambda path: path.rename(path.with_name("30_pictures.ipynb")),
    "no parameters cell": lambda path: path.write_text(
        path.read_text().replace('"parameters"', '"others"')
    ),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_notebook_is_named_with_the_fix(sources, how):
    graph.hash_code("30_figures")
    BROKEN[how](sources / "notebooks/30_figures.ipynb")
    with pytest.raises(
        ValueError, match=r"^notebooks/30_figures.ipynb is missing, .*: git checkout"
    ):
        graph.hash_code("30_figures")


def test_a_job_is_configured_for_the_requested_architectures_whatever_the_seeds(output):
    given = MICRO | {"data.image_size": 48, "curriculum.mask_widths": [8, 24]}
    for seeds in ([0], [0, 1]):  # context_encoder, in the profile, takes no 48 px
        more = given | {"grid.seeds": seeds, "grid.without": [FIXED]}
        described = graph.describe(grid.open_study("smoke", more), more, [], False)
        of_run = described["parameters"]["run"]
        job = grid.open_study(**of_run).config.grid
        assert (job.architectures, job.setups) == (("custom",), ("fixed", "progressive"))
        assert of_run["overrides"] == {k: v for k, v in given.items() if k != "grid.datasets"}


def test_dry_run_says_what_it_would_do_and_does_nothing(tmp_path, here):
    code, out, err = here(tmp_path, "smoke", "--dry-run", *SETTINGS)
    assert code == 0 and not err
    assert out.splitlines()[1:] == ["dry run: 1 prepare, 2 train, 1 tables, 1 figures, 1 report"]
    assert not list(tmp_path.rglob("*.npy")) and not (tmp_path / "reports").exists()


def test_an_estimate_prints_hours_and_keeps_nothing(tmp_path, here, monkeypatch):
    monkeypatch.setattr(estimate, "SECONDS", 0.1)
    code, out, err = here(tmp_path, "smoke", *SETTINGS, "--estimate")
    assert code == 0 and not list(tmp_path.iterdir()), err
    training, evaluation, total = map(float, re.findall(r"([\d.e-]+) (?:hours|of eval)", out))
    assert total == pytest.approx(2 * (training + evaluation), rel=0.02) and total > 0
    assert re.search(r"timed with batches of \d and \d test images", out)
    assert "assumed: hours grow with the number of images" in out


def test_hours_of_an_evaluation_lie_on_a_line_through_two_sizes():
    assert estimate.extrapolate({16: 5.0, 4: 2.0})(100) == pytest.approx(26.0)
    assert estimate.extrapolate({2: 3.0})(10) == pytest.approx(15.0)


# --- status


def statuses(here, output):
    before = snapshot(output)
    code, out, err = here(output, "status", "smoke", *SETTINGS)
    assert code == 0 and snapshot(output) == before, err
    return dict(re.findall(r"^(\S+seed\d) +(.*)$", out, re.M)), out


def test_status_tells_finished_running_interrupted_diverged_and_missing_runs(study, tmp_path, here):
    output = shutil.copytree(study[0], tmp_path / "output", symlinks=True)
    found, out = statuses(here, output)
    assert found == {FIXED: "finished", PROGRESSIVE: "finished"} and "2 finished, 0 running" in out
    shutil.rmtree(output / "runs/smoke" / FIXED)
    folder = output / RUN
    for name in ("result.json", "done.json"):
        (folder / name).unlink()
    found, _ = statuses(here, output)
    assert found[FIXED] == "missing" and found[PROGRESSIVE].startswith("interrupted ")
    assert re.search(r"stage 2 of 2, step 16 of 16, checkpoint .* old", found[PROGRESSIVE])
    with files.lock(folder):
        assert statuses(here, output)[0][PROGRESSIVE].startswith("running ")
    assert statuses(here, output)[0][PROGRESSIVE].startswith("interrupted ")
    files.write_json(folder / "result.json", {"outcome": "diverged", "why": "a loss became nan"})
    assert statuses(here, output)[0][PROGRESSIVE] == "diverged     a loss became nan"


def test_status_of_a_study_that_was_never_started_creates_nothing(tmp_path, here):
    found, out = statuses(here, tmp_path)
    assert set(found.values()) == {"missing"} and not list(tmp_path.iterdir())


# --- room on disk


def test_the_forecast_of_disk_is_within_half_of_what_a_study_takes(study, monkeypatch):
    output, out = study
    monkeypatch.setenv("INPAINT_OUTPUT", str(output))
    parts, missing, more = room.forecast(grid.open_study("smoke", MICRO), {}, 2)
    assert missing == more == 0
    everything = [path for path in output.rglob("*") if path.is_file()]
    taken = sum(path.stat().st_blocks * 512 for path in everything)
    assert 1 / 1.5 < parts.total() / taken < 1.5
    for part, names in (("weights", "stages model"), ("checkpoints", "checkpoint.pt")):
        there = [p for p in everything if {*p.parts} & {*names.split()}]
        assert 0.9 < parts[part] / sum(path.stat().st_size for path in there) < 1.1, part
    words = room.format_bytes(parts.total())
    assert f"; {words} of disk, {words} of it still to come" in out.splitlines()[0]


def test_what_clean_removes_is_missed_by_nothing(study, tmp_path, here):
    output = shutil.copytree(study[0], tmp_path / "output", symlinks=True)
    shutil.rmtree(output / "runs/smoke" / FIXED / "stages")  # no longer finished
    before = snapshot(output)
    code, out, _ = here(output, "clean", "smoke", *SETTINGS)
    assert code == 0 and "with --yes; 1 unfinished runs: left alone" in out
    assert snapshot(output) == before and f"{RUN}/checkpoint.pt  " in out and FIXED not in out
    output = shutil.copytree(study[0], tmp_path / "another", symlinks=True)
    code, out, _ = here(output, "clean", "smoke", *SETTINGS, "--yes")
    assert code == 0 and not list(output.rglob("checkpoint*")), out
    assert set(statuses(here, output)[0].values()) == {"finished"}
    code, out, _ = here(output, "smoke", *SETTINGS)
    assert code == 0 and not started(out) and " 0.0 MB of it still to come" in out
    code, out, err = here(output, "smoke", *SETTINGS, "--only", "tables")
    assert code == 0 and tables(output)["table.csv"] == tables(study[0])["table.csv"], err


# --- interrupted, killed, without room


def test_killed_it_continues_to_the_same_tables(study, continued):
    """Once by SIGKILL and once by Ctrl-C; the drill (project/test_drill.py) does it many times."""
    assert tables(continued.output) == tables(study[0]), continued.out + continued.err
    left = [p for p in continued.output.rglob("*") if ".tmp" in p.name or ".failed." in p.name]
    assert not left, "a temporary file or a failed notebook was left behind"


def test_a_study_needs_no_call_that_may_be_refused_and_an_ignored_hangup_stays_ignored(continued):
    assert continued.code == 0 and not continued.err, continued.out + continued.err
    assert (continued.output / "reports/smoke/index.html").exists()
    assert len(continued.seen) > 5 and all(continued.seen.values()), continued.seen


def test_figures_are_the_same_in_hostile_surroundings(study, continued):
    output = continued.output
    assert "30_figures" in started(continued.out), continued.out
    bashes = (output.parent / "hostile/bashes").read_text()
    assert bashes == "\n\n", "no shell but the user's own, twice, has read BASH_ENV"
    executed = [place / "runs/smoke/figures.ipynb" for place in (output, study[0])]
    pictures = [path.read_text(encoding="utf-8").count("image/png") for path in executed]
    assert pictures[0] == pictures[1] > 4
    for path in (study[0] / "reports/smoke/figures").glob("*.png"):
        other = output / "reports/smoke/figures" / path.name
        assert other.read_bytes() == path.read_bytes(), "the user's style is seen"


def test_a_full_disk_ends_the_study_in_a_line_and_with_room_it_would_go_on(
    study, disk, tmp_path, here
):
    """Where free space can be asked for, it does not even begin."""
    output = disk(100 * 2**20)
    shutil.copytree(study[0], output, symlinks=True, dirs_exist_ok=True)
    shutil.rmtree(output / RUN)
    disk(shutil.disk_usage(output).used + 1_100_000)  # not enough for networks
    before = snapshot(output)
    found = here(output, "smoke", *SETTINGS)
    assert is_refusal(*found) and snapshot(output) == before
    assert f"{output}/runs/smoke: 1." in found[2] and " more (complete: weights " in found[2]
    unasked = refusing.everywhere(tmp_path, ["asking for free space"])
    code, out, err = run("smoke", *SETTINGS, INPAINT_OUTPUT=str(output), **unasked)
    assert code == 1 and started(out) == ["10_train"], out + err
    failed, last = err.strip().splitlines()
    assert f"OutputError: the disk is full at {output / RUN}" in failed, err
    assert "free some space and run the same command" in failed, err
    assert "some steps failed; finished work is kept" in last
    assert not list(output.rglob("*.tmp*"))
    assert all(json.loads(p.read_text()) for p in output.rglob("*.ipynb"))
    disk(100 * 2**20)
    code, out, err = here(output, "smoke", *SETTINGS, "--dry-run")
    assert code == 0 and "1 train" in out, out + err


# --- the runner


@pytest.fixture
def execute(tmp_path, here):
    """execute(name, artefact, parameters) -> what `here` gives of the notebook, in tmp_path."""

    def asked(name, artefact, parameters):
        paths = str(tmp_path / "executed.ipynb"), str(tmp_path / artefact)
        return here(tmp_path, "_notebook", name, *paths, json.dumps(parameters))

    return asked


def test_the_data_notebook_shows_real_images_and_what_was_left_out(tmp_path, execute):
    celeba_tree(tmp_path / "source")
    (tmp_path / "source/celeba/img_align_celeba/000001.jpg").write_bytes(b"")
    overrides = {"machine.data_root": str(tmp_path / "source")}
    parameters = {"profile": "smoke", "dataset": "celeba", "overrides": overrides}
    code, _, err = execute("00_data_prep", "runs/smoke/celeba/data/summary.json", parameters)
    assert code == 0, err
    text = (tmp_path / "executed.ipynb").read_text()
    assert "1 files left out, 59 images kept" in text and "000001.jpg" in text
    assert text.count("image/png") > 4


def test_two_photos_are_trained_on_shown_and_measured(tmp_path, output):
    folder_tree(tmp_path / "photos", 2)
    overrides = MICRO | {"machine.data_root": str(tmp_path / "photos")}
    parameters = {"dataset": "folder", "setup": "fixed", "overrides": overrides}
    run_cells(ROOT / "notebooks/10_train.ipynb", parameters)
    assert (output / "runs/smoke/folder/custom/fixed/seed0/done.json").is_file()


def test_a_run_that_diverges_is_done_and_its_page_ends_there(tmp_path, execute):
    overrides = MICRO | {"models.custom.lr_g": 1e30}
    parameters = {"dataset": DATA, "setup": "fixed", "overrides": overrides}
    code, out, err = execute("10_train", f"runs/smoke/{FIXED}/done.json", parameters)
    assert code == 0 and "diverged: " in out, err
    for name in ("result.json", "done.json"):
        text = (tmp_path / "runs/smoke" / FIXED / name).read_text()
        assert json.loads(text)["outcome"] == "diverged"
    assert "Diverged" in (tmp_path / "executed.ipynb").read_text()


@pytest.mark.parametrize("cause", ["os.kill(os.getpid(), 9)", "1 / 0", "pass"])
def test_a_dead_kernel_an_error_and_a_missing_artefact_are_failures(
    tmp_path, monkeypatch, capsys, cause
):
    """papermill calls the cells after a kernel's death completed; the missing artefact tells."""
    monkeypatch.setattr(command, "NOTEBOOKS", tmp_path)
    monkeypatch.setenv("INPAINT_OUTPUT", str(tmp_path))
    cells = [f"import os\n{cause}"]
    if cause != "pass":
        cells.append("open('artefact', 'w').write('done')")
    write_notebook(tmp_path / "dies.ipynb", *cells)
    (tmp_path / "artefact").write_text("of an earlier run")
    paths = tmp_path / "executed.ipynb", tmp_path / "artefact"
    assert command.main(["_notebook", "dies", *map(str, paths)]) == 2
    said = {"pass": "ended without writing artefact", "1 / 0": "division by zero (cell 1; see"}
    err = capsys.readouterr().err
    assert err.startswith("  FAILED: dies: ") and said.get(cause, "Kernel died") in err
    assert not (tmp_path / "executed.ipynb").exists()
    assert (tmp_path / "executed.failed.ipynb").exists() and not list(tmp_path.glob(".*.tmp*"))


def test_a_study_whose_runs_are_all_published_trains_only_without_skip_published(
    tmp_path, monkeypatch, here
):
    """A profile that is named runs, whatever is published; --skip-published leaves that out."""
    asked = []
    monkeypatch.setattr(
        command, "run_snakemake", lambda study, *_: asked.append(study.runs()) or 130
    )
    monkeypatch.setattr(checks.published, "find_published", lambda config, protocol: {FIXED})
    assert here(tmp_path, "smoke", *SETTINGS)[0] == 130
    code, out, _ = here(tmp_path, "smoke", *SETTINGS, "--skip-published")
    assert code == 130 and "1 runs are published and not trained again" in out
    assert [[run.name for run in runs] for runs in asked] == [[FIXED, PROGRESSIVE], [PROGRESSIVE]]
    code, out, err = here(tmp_path, "smoke", *SETTINGS, "--skip-published", "--setups", "fixed")
    assert (code, out, err) == (0, "nothing to train: all 1 runs are published\n", "")
