"""The notebooks in JupyterLab, in a headless Chromium: explorer, painter, stop button.

Skipped where there is no Chromium. Server, kernels and browser are this test's own and end with it.
"""

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import psutil
import pytest
from playwright.sync_api import expect

from inpaint_lib.evaluation import evaluate
from inpaint_lib.study import grid
from inpaint_lib.training import loop
from tests import browsers
from tests.browsers import PATIENCE
from tests.conftest import MICRO, photograph, repository

pytestmark, browser = browsers.MARKS, browsers.browser
WHAT_IF = {"lr_d": 1e-3, "curriculum.total_images": MICRO["curriculum.total_images"]}
LONG = MICRO | {"grid.seeds": [1], "curriculum.total_images": 960}


def copy(name, folder, **parameters):
    """Write a copy of a notebook without outputs, with other parameters."""
    notebook = nbformat.read(Path(repository(), "notebooks", f"{name}.ipynb"), as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.source = cell.source.replace("changes = {}", f"changes = {WHAT_IF}")
        if "parameters" in cell.metadata.get("tags", []):
            cell.source += "".join(f"\n{key} = {value!r}" for key, value in parameters.items())
    nbformat.write(notebook, folder / f"{name}.ipynb")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with two notebooks and finished runs for the explorer."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "notebooks").mkdir()
    copy("40_explore", folder / "notebooks", overrides=MICRO)
    where = dict(dataset="clutter", architecture="custom", setup="progressive", seed=1)
    copy("10_train", folder / "notebooks", overrides=LONG, **where)
    settings = folder / "settings/@jupyterlab/notebook-extension/tracker.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"windowingMode": "none"}')  # cells out of sight are in the page, too
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INPAINT_OUTPUT", str(folder / "output"))
        for run in grid.open_study("smoke", MICRO).runs():
            loop.fit(run, lambda *_: None, after_stage=evaluate.evaluate)
            history = pd.read_csv(run.folder / "history.csv")
            history.assign(d_accuracy=0.5).to_csv(run.folder / "history.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def address(folder):
    """The address of a JupyterLab, without the notebook's name."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = ("_CONFIG_DIR", "_DATA_DIR", "_RUNTIME_DIR", "LAB_WORKSPACES_DIR")
    environment = os.environ | {f"JUPYTER{name}": f"{folder}/{name}" for name in own}
    environment |= {"HOME": f"{folder}/home", "JUPYTERLAB_SETTINGS_DIR": f"{folder}/settings"}
    environment |= {"INPAINT_OUTPUT": f"{folder}/output", "PYTHONPATH": repository()}
    token, options = secrets.token_hex(16), ["--no-browser", "--allow-root", "--ip=127.0.0.1"]
    options += [f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"]
    options += [f"--ServerApp.root_dir={folder}/notebooks", "--LabApp.news_url=None"]
    with open(folder / "lab.log", "w") as log:
        command = [sys.executable, "-m", "jupyterlab", *options]
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
    try:
        deadline = time.monotonic() + PATIENCE / 1000
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert server.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/lab/tree/{{}}.ipynb?token={token}&reset"
    finally:
        kernels = psutil.Process(server.pid).children(recursive=True)
        server.send_signal(signal.SIGTERM)  # it ends its kernels
        server.wait(30)
        left = psutil.wait_procs(kernels, 10)[1]
        for process in left:
            process.kill()
    assert not left, "kernels outlived JupyterLab"


@pytest.fixture
def page(browser, address, request):
    """A page with the notebook that the test's parameter names, all its cells run."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE)
    page.goto(address.format(request.param))
    # the toolbar says "idle" before there is a kernel, and then Run All drops cells
    expect(page.get_by_text(re.compile(r"\| Idle"))).to_be_visible()
    menu(page, "Run", "Run All Cells")
    yield page
    page.close()


def menu(page, *names):
    for name in names:
        page.get_by_role("menuitem", name=name, exact=isinstance(name, str)).click()


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE / 1000
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def settled(page):
    """Wait until no panel of the explorer is busy, and return the selection."""
    root = page.locator(".ix")
    root.evaluate("root => root.host.settled()")
    return root.evaluate("root => root.host.selection")


def shown(page, place):
    """Return the pixels of a canvas as one string."""
    return page.locator(place).first.evaluate("canvas => canvas.toDataURL()")


@pytest.mark.parametrize("page", ["40_explore"], indirect=True)
def test_one_cursor_moves_curves_fills_and_maps(page):
    away = []
    page.on("request", lambda request: away.append(request.url))
    when, fill = page.locator(".ix-when"), ".ix-tile:nth-child(2) canvas"
    expect(when).to_contain_text("step 16 of 16, in stage 2")
    expect(page.locator(".ix-panel-health")).to_contain_text("D hardly tells")
    settled(page)
    last = shown(page, fill)

    plot = page.locator(".ix-above").first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    inside = box["width"] - 52  # of the axes
    page.mouse.move(box["x"] + 44 + 3 / 16 * inside, box["y"] + 60)
    expect(when).to_contain_text("step 3 of 16, in stage 1")
    expect(page.locator(".ix-tip").first).to_contain_text("progressive:")
    settled(page)
    assert shown(page, fill) != last
    page.mouse.move(box["x"] + 100, box["y"] - 40)  # only a click keeps the step
    expect(when).to_contain_text("step 16")
    settled(page)
    assert shown(page, fill) == last
    page.mouse.click(box["x"] + 44 + 9 / 16 * inside, box["y"] + 60)
    assert settled(page)["step"] == 9

    page.mouse.move(box["x"] + 44 + 0.5 * inside, box["y"] + 60)  # zoom
    page.mouse.down()
    page.mouse.move(box["x"] + 44 + 0.9 * inside, box["y"] + 60, steps=5)
    page.mouse.up()
    page.get_by_role("button", name="whole range").click()

    page.locator(".ix").focus()
    page.keyboard.press("ArrowRight")
    assert settled(page)["step"] == 12
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert settled(page)["step"] == 8
    page.get_by_label("test image", exact=True).focus()  # there, keys move within the number
    page.keyboard.press("ArrowRight")
    assert settled(page)["step"] == 8
    page.keyboard.press("Escape")
    assert page.evaluate("!document.activeElement.closest('.ix')")
    page.get_by_role("button", name="▶ play").click()
    wait_until(lambda: settled(page)["step"] == 16 and not settled(page)["playing"])
    local = re.compile(r"(https?|wss?)://127\.0\.0\.1[:/]|data:|blob:")
    assert not [url for url in away if not local.match(url)]


@pytest.mark.parametrize("page", ["40_explore"], indirect=True)
def test_choices_reach_every_panel_and_nothing_vanishes_silently(page):
    lacks, names = page.locator(".ix-lacks"), page.locator(".ix-fills .ix-name, .ix-tiles .ix-name")
    expect(lacks).to_contain_text("2 runs chosen")
    setups = page.get_by_role("group", name="setups")  # the curves' legend has such buttons, too
    setups.get_by_role("button", name="fixed", exact=True).click()
    expect(lacks).to_contain_text("1 run chosen")
    settled(page)
    assert "fixed" not in names.all_inner_texts()
    setups.get_by_role("button", name="progressive", exact=True).click()
    expect(page.locator(".ix-message").first).to_contain_text("No finished run matches")
    expect(page.locator(".ix-tile canvas").first).to_be_hidden()  # no stale picture
    setups.get_by_role("button", name="fixed", exact=True).click()
    setups.get_by_role("button", name="progressive", exact=True).click()
    expect(page.locator(".ix-tile canvas").first).to_be_visible()

    page.get_by_label("test image", exact=True).fill("1")  # not recorded: the kernel fills
    expect(page.locator(".ix-when")).to_contain_text("end of stage 2")
    for tab in ("Game", "Stages × widths", "Images", "D's gradient", "Attention", "Wipe"):
        page.get_by_role("tab", name=tab).click()
        settled(page)
    failed = page.locator(".ix-failed > .ix-message").all_inner_texts()
    assert ["recorded images" in failed[0], "free_form" in failed[1]] == [True, True], failed
    page.get_by_role("tab", name="Stages × widths").click()
    page.get_by_role("button", name=re.compile("stage 1, hole 8 px")).first.click()
    chosen = settled(page)
    assert (chosen["step"], chosen["width"]) == (8, 8)

    page.locator(".ix-frame[type=button]").first.click()  # a fill: compare it
    expect(page.get_by_role("tab", name="Wipe")).to_have_attribute("aria-selected", "true")
    settled(page)
    slider, seen = page.get_by_label("where the two pictures"), set()
    for share in ("0", "100"):  # all of one, all of the other
        slider.fill(share)
        settled(page)
        seen.add(shown(page, ".ix-zoomed canvas"))
    assert len(seen) == 2


@pytest.mark.parametrize("page", ["40_explore"], indirect=True)
def test_a_published_study_shows_every_fill_that_it_keeps(page):
    page.get_by_label("study", exact=True).select_option("small (published)")
    expect(page.locator(".ix-when")).to_contain_text("step 2560 of 2560")
    settled(page)
    numbers = page.locator(".ix-tile .ix-number").all_inner_texts()[1:-1]
    assert len(numbers) == 4 and all(number.startswith("L1 0.") for number in numbers), numbers
    page.get_by_label("training step").fill("640")  # of two setups, the last fills alone are kept
    settled(page)
    numbers = page.locator(".ix-tile .ix-number").all_inner_texts()[1:-1]
    assert [number == "not recorded" for number in numbers] == [False, False, True, True]


@pytest.mark.parametrize("page", ["40_explore"], indirect=True)
def test_the_painter_takes_20_mb_and_keeps_its_keys(page, tmp_path):
    page.locator("[data-tab=painter]").click()
    panel, cells = page.locator(".ix-panel-painter"), page.locator(".jp-Cell").count()
    expect(panel).to_contain_text("Paint a hole")
    canvas = panel.locator(".ix-easel canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    x, y, step = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, box["width"] / 4
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + step, y, steps=3)
    page.mouse.up()
    expect(panel).to_contain_text(re.compile(r"[1-9]\d* px of hole"))
    expect(panel.locator(".ix-number").first).to_have_text(re.compile(r"hole L1 0\.\d"))
    for key, words in (("z", "Paint a hole"), ("y", "px of hole"), ("b", ""), ("e", ""), ("r", "")):
        page.keyboard.press(key)
        expect(panel).to_contain_text(words)
    assert page.locator(".jp-Cell").count() == cells, "b inserts a cell in the notebook"
    file = panel.locator("input[type=file]")
    large = photograph(tmp_path / "large.png", 2700)
    assert large.stat().st_size > 20 * 2**20
    file.set_input_files(large)
    expect(panel).to_contain_text("large.png: its central square at 32 px")


@pytest.mark.parametrize("page", ["10_train"], indirect=True)
def test_training_is_seen_live_stopped_continued_and_repeated_with_other_settings(
    page, folder, address
):
    run = folder / "output/runs/smoke/clutter/custom/progressive/seed1"
    cell = page.locator(".jp-CodeCell", has_text="live.train(run")
    live = cell.locator(".jp-OutputArea-output img")
    expect(live).to_be_visible()
    assert not (run / "result.json").exists(), "the picture is there only when training is over"
    menu(page, "Kernel", re.compile("^Interrupt Kernel"))  # as the stop button does
    expect(cell).to_contain_text(re.compile(r"\S+ is saved at step \d+ of 240"))
    expect(cell).not_to_contain_text("Traceback")
    assert (run / "checkpoint.pt").exists() and not (run / "result.json").exists()
    cell.locator(".jp-InputArea-editor").click()
    page.keyboard.press("Shift+Enter")
    wait_until((run / "result.json").exists)
    sittings = json.loads((run / "result.json").read_text())["sittings"]
    assert len(sittings) == 2 and 0 < sittings[1]["from_step"] < 240

    cell = page.locator(".jp-CodeCell", has_text="what_if.train(run")
    cell.locator(".jp-InputArea-editor").click()
    page.keyboard.press("Shift+Enter")
    expect(cell).to_contain_text("Open 40_explore again")
    page.goto(address.format("40_explore"))
    expect(page.get_by_text(re.compile(r"\| Idle"))).to_be_visible()
    menu(page, "Run", "Run All Cells")
    expect(page.get_by_role("button", name="what_if/mine: progressive")).to_be_visible()
