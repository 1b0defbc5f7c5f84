"""Measure the explorer in a browser: from a control to the redrawn picture, and the first paint.

    PYTHONPATH=. python benchmarks/explorer.py [--study tiny]

A JupyterLab of its own runs notebook 40 on a finished profile with 12 runs of one data set or more
(in runs/, or under $INPAINT_OUTPUT), in a headless Chromium. Events are those that a hand causes;
time ends when all open panels are drawn and the browser has painted. Every value is visited for the
first time at some point, so kernel and weights count. Writes reports/benchmarks/explorer.md.
"""

import os
import platform
import re
import secrets
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from playwright.sync_api import sync_playwright

from inpaint_lib.study import files
from inpaint_lib.study.command import Parser, say

ROOT = Path(__file__).resolve().parent.parent
REPORT = ROOT / "reports" / "benchmarks" / "explorer.md"
VISITS, GOALS = 24, {4: 100, 12: 250}  # ms
# acts on the k-th visit; `root` is the explorer's element, `host` what its panels draw from
CONTROLS = {
    "drag the time line": "set('.ix-time', (k * 131) % host.meta.steps + 1, 'input')",
    "hover over a curve": """fire('.ix-above', 'pointermove', 60 + (k * 37) % 200, 40)""",
    "another recorded image": """set('[aria-label="recorded images"]',
        host.dataset().recorded[k % host.dataset().recorded.length], 'change')""",
    "another test image": "set('[aria-label=\"test image\"]', (k * 17) % 100, 'input')",
    "another hole": "set('[aria-label=hole]', host.meta.widths[k % host.meta.stages], 'change')",
    "a setup on or off": "root.querySelectorAll('[aria-label=setups] .ix-pill')[1].click()",
    "another panel": "root.querySelectorAll('.ix-tabs button')[k % 7].click()",
    "paint a dot": """(root.querySelector('[data-tab=painter]').click(), k || clear(),
        fire('.ix-easel canvas', 'pointerdown', 30 + k % 6 * 55, 30 + Math.floor(k / 6) * 80),
        fire('.ix-easel canvas', 'pointerup', 30 + k % 6 * 55, 30 + Math.floor(k / 6) * 80))""",
}
MEASURE = """async ([act, visits]) => {
  const root = document.querySelector('.ix'), host = root.host, found = [];
  const set = (where, value, event) => {
    const element = root.querySelector(where);
    element.value = String(value);
    element.dispatchEvent(new Event(event, { bubbles: true }));
  };
  const fire = (where, event, x, y) => {
    const element = root.querySelector(where), box = element.getBoundingClientRect();
    element.dispatchEvent(new PointerEvent(event, { bubbles: true, pointerId: 1, isPrimary: true,
      button: event === 'pointermove' ? -1 : 0, buttons: event === 'pointerdown' ? 1 : 0,
      clientX: box.left + x, clientY: box.top + y }));
  };
  Element.prototype.setPointerCapture = () => {};
  const clear = () => [...root.querySelectorAll('.ix-panel-painter button')]
    .find((button) => button.textContent === 'clear').click();
  const run = new Function('root', 'host', 'set', 'fire', 'clear', 'k', act);
  for (let k = 0; k < visits; k++) {
    const begun = performance.now();
    run(root, host, set, fire, clear, k);
    await host.settled();
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    found.push(performance.now() - begun);
  }
  return found;
}"""
CHOOSE = """([architectures]) => { const { host } = document.querySelector('.ix');
  const steps = host.meta.steps, width = host.meta.widths.at(-1);
  host.select({ architectures, step: steps, hover: null, width, tab: 'health',
    image: host.dataset().recorded[0] });
  return host.settled().then(() => host.chosen().length); }"""


def measure(page, n_architectures):
    """Return (number of runs, {control: milliseconds})."""
    meta = page.evaluate("document.querySelector('.ix').host.meta.runs.map(r => r.architecture)")
    names = list(dict.fromkeys(meta))[:n_architectures]
    found = {}
    for control, act in CONTROLS.items():
        runs = page.evaluate(CHOOSE, [names])
        found[control] = page.evaluate(MEASURE, [act, VISITS])
    return runs, found


def first_paint(page):
    """Run all cells -> seconds until fills are drawn."""
    begun = time.monotonic()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_selector(".ix-tile canvas", timeout=120_000)
    page.evaluate("document.querySelector('.ix').host.settled()")
    return time.monotonic() - begun


def explore(study, folder):
    """Return (browser's version, first paint in s, [measure of one and of three architectures])."""
    notebook = nbformat.read(ROOT / "notebooks/40_explore.ipynb", 4)
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            cell.source += f"\nprofile = {study!r}"
    nbformat.write(notebook, folder / "40.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    names = ("_CONFIG_DIR", "_DATA_DIR", "_RUNTIME_DIR", "LAB_WORKSPACES_DIR")
    own = {f"JUPYTER{name}": f"{folder}/{name}" for name in names} | {"PYTHONPATH": str(ROOT)}
    options = [f"--port={port}", f"--IdentityProvider.token={token}", "--no-browser"]
    options += ["--allow-root", "--ip=127.0.0.1", f"--ServerApp.root_dir={folder}"]
    command = [sys.executable, "-m", "jupyterlab", *options, "--LabApp.news_url=None"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(command, env=os.environ | own, **quiet)
    try:
        while socket.socket().connect_ex(("127.0.0.1", port)):
            time.sleep(0.2)
        with sync_playwright() as playwright:
            path = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))))
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1440, "height": 1000})
            page.set_default_timeout(180_000)
            page.goto(f"http://127.0.0.1:{port}/lab/tree/40.ipynb?token={token}&reset")
            page.get_by_text("| Idle").wait_for()
            painted = first_paint(page)
            page.get_by_text("| Idle").wait_for()
            return browser.version, painted, [measure(page, n) for n in (1, 3)]
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


def processor():
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    model = re.search("model name\\s*: (.*)", info.read_text()) if info.is_file() else None
    return model[1] if model else platform.machine()


def table(found):
    """Return the rows of the page's table."""
    for runs, by_control in found:
        for control, values in by_control.items():
            middle = statistics.median(values)
            high = statistics.quantiles(values, n=20)[-1]
            goal = GOALS.get(runs)
            met = "" if goal is None else "yes" if high <= goal else "no"
            yield f"| {runs} | {control} | {min(values):.0f} | {middle:.0f} | {high:.0f} | {met} |"


def main():
    parser = Parser(prog="benchmarks/explorer.py", description=__doc__.splitlines()[0])
    parser.add_argument("--study", default="", help="a finished profile; default: the newest one")
    args, load = parser.parse_args(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        version, painted, found = explore(args.study, Path(folder))
    busy = f"{load:.1f} other processes were waiting for a CPU when it began"
    loaded = f"**The machine was loaded: {busy}; times are too long.**"
    state = loaded if load > 0.5 else "The machine was idle."
    lines = [
        "# The explorer in a browser",
        "",
        f"`benchmarks/explorer.py`, {processor()}, {os.cpu_count()} CPU cores, Chromium",
        f"{version}, JupyterLab. {state}",
        "",
        f"The explorer appears {painted:.1f} s after Run All (goal: 5 s). The table has the time",
        f"from using a control until all open panels are redrawn, over {VISITS} uses; goals: 100",
        "ms with 4 runs, 250 ms with 12. A value that is used for the first time takes longer:",
        "weights are read, and for context_encoder batch norm is estimated again.",
        "",
        "| runs | control | fastest (ms) | median (ms) | 95th percentile (ms) | within the goal |",
        "| ---: | --- | ---: | ---: | ---: | --- |",
        *table(found),
    ]
    files.write_text(REPORT, "\n".join(lines) + "\n")
    say(*lines)


if __name__ == "__main__":
    main()
