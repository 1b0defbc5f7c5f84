"""The notebooks as a person uses them: JupyterLab in a headless Chromium, sliders, a painted hole, the stop button.

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
import urllib.request
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import expect, sync_playwright

from tests.conftest import MICRO, repository

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="no chromium; apt-get install chromium")
FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update"
PATIENCE = 180_000  # ms that a busy machine may take for one thing
SETTINGS = {
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},  # cells out of sight are there, too
}


def copy(name, folder, **parameters):
    """A notebook without outputs whose parameters cell has these lines instead."""
    notebook = nbformat.read(Path(repository(), "notebooks", f"{name}.ipynb"), as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            for key, value in parameters.items() if "parameters" in cell.metadata.get("tags", []) else ():
                cell.source = re.sub(rf"^{key} = .*$", lambda _, k=key, v=value: f"{k} = {v!r}", cell.source, flags=re.M)
    nbformat.write(notebook, folder / f"{name}.ipynb")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    (folder / "notebooks").mkdir()
    copy("40_explore", folder / "notebooks", overrides=MICRO)
    long = MICRO | {"total_images": 960, "datasets": ["faces"], "log_every": 2, "checkpoint_seconds": 1000}  # 240 steps
    copy("10_train_custom", folder / "notebooks", overrides=long)
    for name, values in SETTINGS.items():
        path = folder / "settings" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    return folder


@pytest.fixture(scope="module")
def lab(folder):
    """The address of a JupyterLab, as a function of the notebook's name."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    own = {key: str(folder / name) for key, name in {
        "HOME": "home", "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces", "IPYTHONDIR": "ipython",
        "INPAINT_OUTPUT": "output",
    }.items()}  # fmt: skip
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])
    library = os.pathsep.join([repository(), os.environ.get("PYTHONPATH", "")])
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder / 'notebooks'}",
        "--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]  # fmt: skip
    with open(folder / "lab.log", "w") as log:
        environment = os.environ | own | {"PATH": path, "PYTHONPATH": library}
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder, start_new_session=True)
    try:
        deadline = time.monotonic() + PATIENCE / 1000
        while not answers(f"http://127.0.0.1:{port}/api/status?token={token}"):
            assert server.poll() is None and time.monotonic() < deadline, (folder / "lab.log").read_text()[-3000:]
            time.sleep(0.2)
        yield lambda name: f"http://127.0.0.1:{port}/lab/tree/{name}.ipynb?token={token}&reset"
    finally:
        server.terminate()  # it ends its kernels
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        left = processes_of(folder)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
    assert not left, "processes outlived JupyterLab"


def answers(address):
    try:
        return urllib.request.urlopen(address, timeout=2).status == 200
    except OSError:
        return False


def processes_of(folder):
    """Processes that name the folder in their command line (kernels do), on Linux."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        if os.fsencode(folder) in command and int(path.parent.name) != os.getpid():
            found.append(int(path.parent.name))
    return found


@pytest.fixture
def page(lab, request):
    """A page with the notebook that the test's parameter names, its kernel ready."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS.split())
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        page.goto(lab(request.param))
        # the toolbar says "idle" before there is a kernel, and then Run All drops cells: ask the status bar
        expect(page.get_by_text(re.compile(r"\| Idle"))).to_be_visible()
        yield page
        browser.close()


def menu(page, *names):
    for name in names:
        page.get_by_role("menuitem", name=name, exact=isinstance(name, str)).click()


def shown(locator):
    locator.scroll_into_view_if_needed()
    return locator.screenshot()


def wait_for_change(look, before):
    """Until look() gives something else."""
    deadline = time.monotonic() + PATIENCE / 1000
    while look() == before:
        assert time.monotonic() < deadline, "nothing changed"
        time.sleep(0.2)


@pytest.mark.parametrize("page", ["40_explore"], indirect=True)
def test_a_slider_and_a_painted_stroke_change_pictures_and_metrics(page):
    menu(page, "Run", "Run All Cells")
    expect(page.get_by_text(re.compile("runs are the best on at least one"))).to_be_visible()

    picture, text = page.locator(".scrub-picture"), page.locator(".scrub-text")
    before, words = shown(picture), text.inner_text()
    stage = page.locator(".scrub .noUi-handle").first
    stage.focus()
    page.keyboard.press("ArrowLeft")
    expect(text).not_to_have_text(words, use_inner_text=True)
    wait_for_change(lambda: shown(picture), before)
    assert "the end of stage 1 (iteration 8)" in text.inner_text()
    assert re.search(r"custom progressive\s+0\.\d+", text.inner_text())

    canvas, picture, text = (page.locator(f".paint-{name}") for name in ("canvas", "picture", "text"))
    page.get_by_role("button", name="clear", exact=True).click()
    expect(text).to_contain_text("no hole")
    side = canvas.bounding_box()
    assert (side["width"], side["height"]) == (320, 320), "clicks are scaled unless the canvas is as large as it says"
    holes = []
    for x in (80, 200):
        before, words = shown(canvas), text.inner_text()
        box = canvas.bounding_box()
        page.mouse.move(box["x"] + x, box["y"] + 80)
        page.mouse.down()
        page.mouse.move(box["x"] + x + 20, box["y"] + 200, steps=8)
        page.mouse.up()
        expect(text).not_to_have_text(words, use_inner_text=True)
        wait_for_change(lambda: shown(canvas), before)  # noqa: B023
        holes.append((int(re.search(r"(\d+) px of hole", text.inner_text())[1]), shown(picture), text.inner_text()))
    (few, *one), (many, *other) = holes
    assert 30 < few < many < 2.5 * few and one[0] != other[0] and one[1] != other[1]
    assert re.search(r"custom fixed\s+0\.\d+", other[1])


@pytest.mark.parametrize("page", ["10_train_custom"], indirect=True)
def test_training_is_seen_live_stopped_saved_and_gone_on_with(page, folder):
    run = folder / "output/runs/smoke/faces/custom/progressive/seed0"
    menu(page, "Run", "Run All Cells")
    cell = page.locator(".jp-CodeCell", has_text="loop.fit(run")
    live = cell.locator(".jp-OutputArea-output img")
    expect(live).to_be_visible()
    first = live.get_attribute("src")
    assert not (run / "result.json").exists(), "the picture is there only when training is over"
    menu(page, "Kernel", re.compile("^Interrupt Kernel"))  # as the stop button does
    expect(cell).to_contain_text(re.compile(r"KeyboardInterrupt: \S+ is saved at step \d+ of 240; run it again"))
    assert (run / "checkpoint.pt").exists() and not (run / "result.json").exists()

    cell.locator(".jp-InputArea-editor").click()
    page.keyboard.press("Shift+Enter")
    deadline = time.monotonic() + PATIENCE / 1000
    while not (run / "result.json").exists():
        assert time.monotonic() < deadline, "training did not go on"
        time.sleep(0.2)
    wait_for_change(lambda: live.get_attribute("src"), first)
    sittings = json.loads((run / "result.json").read_text())["sittings"]
    assert len(sittings) == 2 and 0 < sittings[1]["from_step"] < 240
    expect(cell).not_to_contain_text("KeyboardInterrupt")
