"""The notebooks in JupyterLab, in a headless Chromium: sliders, a painted hole, the stop button.

Skipped where there is no Chromium. Server, kernels and browser are this test's own and end with it.
"""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from playwright.sync_api import expect, sync_playwright

from inpaint_lib.study import grid
from inpaint_lib.training import loop
from tests.conftest import MICRO, repository

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no chromium; apt-get install chromium"),
]
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
PATIENCE = 180_000  # ms that a busy machine may take for one thing
LONG = MICRO | {"grid.seeds": [1], "curriculum.total_images": 960}


def copy(name, folder, **parameters):
    """Write a copy of a notebook without outputs, with other parameters."""
    notebook = nbformat.read(Path(repository(), "notebooks", f"{name}.ipynb"), as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
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
            loop.fit(run, lambda *_: None)
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
def page(address, request):
    """A page with the notebook that the test's parameter names, all its cells run."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        page.goto(address.format(request.param))
        # the toolbar says "idle" before there is a kernel, and then Run All drops cells
        expect(page.get_by_text(re.compile(r"\| Idle"))).to_be_visible()
        menu(page, "Run", "Run All Cells")
        yield page
        browser.close()


def menu(page, *names):
    for name in names:
        page.get_by_role("menuitem", name=name, exact=isinstance(name, str)).click()


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE / 1000
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.parametrize("page", ["40_explore"], indirect=True)
def test_a_slider_and_painted_strokes_change_pictures_and_metrics(page):
    text, picture = page.locator(".scrub-text"), page.locator(".scrub-picture")
    expect(text).to_contain_text("stage 2")
    before = picture.get_attribute("src")
    page.locator(".scrub .noUi-handle").first.focus()
    page.keyboard.press("ArrowLeft")
    expect(text).to_contain_text("stage 1")
    wait_until(lambda: picture.get_attribute("src") != before)
    assert re.search(r"custom progressive\s+0\.\d+", text.inner_text())

    canvas, text = page.locator(".paint-canvas"), page.locator(".paint-text")
    page.get_by_role("button", name="clear", exact=True).click()
    expect(text).to_contain_text("no hole")
    seen = []
    for x in (80, 200):
        words = text.inner_text()
        canvas.scroll_into_view_if_needed()
        box = canvas.bounding_box()
        assert (box["width"], box["height"]) == (320, 320)  # or clicks are scaled
        page.mouse.move(box["x"] + x, box["y"] + 80)
        page.mouse.down()
        page.mouse.move(box["x"] + x + 20, box["y"] + 200, steps=8)
        page.mouse.up()
        expect(text).not_to_have_text(words, use_inner_text=True)
        seen.append(int(re.search(r"(\d+) px of hole", text.inner_text())[1]))
    assert 30 < seen[0] < seen[1] < 2.5 * seen[0]
    assert re.search(r"custom fixed\s+0\.\d+", text.inner_text())


@pytest.mark.parametrize("page", ["10_train"], indirect=True)
def test_training_is_seen_live_stopped_saved_and_continued(page, folder):
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
