"""Files from outside can run nothing, write nowhere else and stay text in the pages; what listens is local."""

import ast
import json
import os
import pickle
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from inpaint_lib import losses
from inpaint_lib.data import packs, sources
from inpaint_lib.evaluation import fid, pretrained
from inpaint_lib.photos import image_file, inpaint
from inpaint_lib.results import report
from inpaint_lib.training import loop
from tests.conftest import repository, smooth
from workflow import run_notebook

ROOT = Path(repository())

# --- nothing is unpickled


def code():
    """{name: syntax tree} of every source but the tests."""
    for folder in ("inpaint_lib", "workflow", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text())
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        yield path.name, ast.parse(re.sub(r"^[%!].*$", "", "\n".join(cells), flags=re.M))


def dangers(tree):
    """What could run foreign bytes or text, line by line."""
    for node in ast.walk(tree):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        yield from (n for n in names if n.split(".")[0] in ("pickle", "joblib", "marshal", "shelve", "dill", "cloudpickle"))
        if not isinstance(node, ast.Call):
            continue
        name, keywords = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
        if name in ("eval", "exec", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "pd.read_pickle"):
            yield name
        if name.endswith("torch.load") and keywords.get("weights_only") != "True":
            yield f"{name} without weights_only=True"
        for key in ("shell", "allow_pickle"):
            if keywords.get(key, "False") != "False":
                yield f"{name}({key}=...)"


@pytest.mark.parametrize(
    "text", ["import pickle", "from joblib import load", "torch.load(p)", "np.load(p, allow_pickle=True)", "yaml.load(t)",
             "eval(t)", "exec(t)", "subprocess.run(t, shell=True)"],
)  # fmt: skip
def test_the_scan_sees_what_it_looks_for(text):
    assert list(dangers(ast.parse(text)))


def test_no_source_loads_pickles_or_runs_text():
    assert {name: found for name, tree in code() if (found := list(dangers(tree)))} == {}


class Bomb:
    def __reduce__(self):
        return exec, ("open('unpickled', 'w').close()",)


@pytest.fixture
def bomb(tmp_path, monkeypatch):
    """bomb(path): write a pickle that leaves a file when it is loaded; at the end there must be none."""
    monkeypatch.chdir(tmp_path)

    def write(path, length=0):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(pickle.dumps(Bomb()).ljust(length, b"\0"))
        return path

    pickle.loads(Path(write("proof")).read_bytes())
    assert Path("unpickled").exists(), "the bomb does not work"
    Path("unpickled").unlink()
    yield write
    assert not Path("unpickled").exists()


def test_a_pickle_as_checkpoint_is_not_run(bomb, micro, run_of, capsys):
    run = run_of(micro(mask_widths=[8], total_images=16))
    packs.prepare(run.study, run.dataset)
    bomb(run.folder / "checkpoint.pt")
    loop.fit(run)
    assert (run.folder / "result.json").is_file() and "cannot be read" in capsys.readouterr().out


def test_a_pickle_as_weights_is_refused_in_a_line(bomb, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    for name in ("vgg.pth", "vgg.safetensors"):
        with pytest.raises(ValueError, match="perceptual_weights: cannot read"):
            losses.Perceptual(bomb(name))
    bomb(tmp_path / "hub" / "checkpoints" / "vgg16-397923af.pth")  # in torch hub's cache, where torchvision looks
    with pytest.raises(ValueError, match="VGG-16 weights could not be downloaded or read .Weights only load failed"):
        losses.Perceptual("torchvision")
    for name in pretrained.WEIGHTS:
        bomb(pretrained.cached(name))
        for wanted in ("auto", str(pretrained.cached(name))):
            with pytest.raises(pretrained.NotAvailable, match="is not "):
                pretrained.find(name, wanted)
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):  # past the check of its hash
        fid.inception(bomb("inception.pth"))
    for name in ("model.safetensors", "model.pt"):
        with pytest.raises(ValueError, match="pickles .* are not opened"):
            inpaint.load(bomb(name))


def test_a_pickle_in_the_pack_is_no_pack_and_as_a_mask_no_image(bomb, micro):
    study = micro()
    pack = packs.prepare(study, "scenes")
    bomb(pack.folder / "masks.npz", (pack.folder / "masks.npz").stat().st_size)
    with pytest.raises(ValueError, match="pickled"):
        pack.test_masks("square", 8)
    for name in ("train.npy", "test.npy"):
        pack = packs.prepare(study, "scenes")
        bomb(pack.folder / name, (pack.folder / name).stat().st_size)
        with pytest.raises(FileNotFoundError, match="is not prepared"):
            packs.existing(study, "scenes")
    np.save("objects.npy", np.array([Bomb()], object), allow_pickle=True)
    (pack.folder / "train.npy").write_bytes(Path("objects.npy").read_bytes().ljust((pack.folder / "train.npy").stat().st_size))
    with pytest.raises(FileNotFoundError, match="is not prepared"):
        packs.existing(study, "scenes")
    for read in (image_file.read, lambda path: image_file.read_mask(path, (8, 8))):
        with pytest.raises(ValueError, match="format not read"):
            read(bomb("mask.png"))


# --- pages

NASTY = """<script>alert("1")</script>&'<img src=x onerror=alert(1)>"""


def test_names_of_files_stay_text_in_the_pages(tmp_path, monkeypatch):
    """A file that is left out, named like markup, is shown by the data notebook and so on its page."""
    name = NASTY.replace("/", "") + ".png"
    (tmp_path / "images").mkdir()
    for k in range(20):
        Image.fromarray(smooth(40, 40, k)).save(tmp_path / "images" / f"{k}.png")
    (tmp_path / "images" / name).write_bytes(b"")
    overrides = {"data_root": str(tmp_path / "images"), "train_images": 100, "test_images": 8}
    parameters = {"dataset": "folder", "overrides": overrides}
    monkeypatch.setenv("INPAINT_OUTPUT", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    folder = tmp_path / "runs/smoke/folder/data"
    assert run_notebook.main("00_data_prep", folder / "notebook.ipynb", folder / "summary.json", json.dumps(parameters)) == 0
    assert name in (folder / "skipped.csv").read_text().replace('""', '"')
    about = {"run": NASTY, "rows": [(NASTY, NASTY)], "seeds": [(NASTY, NASTY)], "settings": NASTY}
    report.convert(folder / "notebook.ipynb", tmp_path / "page.html", NASTY, about, [(NASTY, (NASTY, NASTY))])
    page = (tmp_path / "page.html").read_text()
    assert "onerror=alert" in page and "<script" not in page and "<img src=x" not in page


def test_names_of_hypotheses_stay_text_in_the_index():
    row = {"hypothesis": f"secondary: {NASTY}", "dataset": "faces", "architecture": "custom", "metric": "l1", "scale": "ratio",
           "effect": 0.1, "ci_low": 0.0, "ci_high": 1.0, "p_value": 0.5, "detectable": 0.1, "n_images": 1, "n_seeds": 3,
           "verdict": "supported", "remark": f"device {NASTY}"}  # fmt: skip
    text = report.verdicts(pd.DataFrame([row]))["secondary"]
    assert "onerror" in text and "<script" not in text and "<img" not in text


def test_what_the_pages_take_as_markup_is_made_here():
    """Everything else is escaped by the templates."""
    template = "".join(path.read_text() for path in (ROOT / "inpaint_lib/results/templates").glob("*.j2"))
    found = re.findall(r"{{ ([^{}]*?) \| safe }}", template)
    assert sorted(set(found)) == [
        """"" if name == "answer" else ' loading="lazy"'""",
        '(verdicts.primary or "<p>No pair of setups that the primary hypothesis names was run.</p>")',
        "averaging", "body", "bootstrap", "cost", "elsewhere", "exposure", "generalisation", "outcomes", "stability",
        "standings", "table", "verdicts.secondary",
    ]  # fmt: skip
    assert len(re.findall(r"\bsafe\b", template)) == len(found)


# --- archives


def nasty_zip(path, content):
    """An archive whose members want to lie elsewhere, one of them through a link."""
    names = ["../../up.png", "/absolute.png", "link/through.png", "good.png"]
    with zipfile.ZipFile(path, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, str(path.parent.parent))
        for name in names:
            archive.writestr(name, content)
    return names


def test_members_of_an_archive_are_written_nowhere_else(tmp_path):
    """Our readers write none at all; torchvision's extraction after --download keeps them inside its folder."""
    from torchvision.datasets.utils import extract_archive

    inside = tmp_path / "outer" / "inner"
    inside.mkdir(parents=True)
    Image.fromarray(smooth(40, 40)).save(tmp_path / "a.png")
    names = nasty_zip(inside / "a.zip", (tmp_path / "a.png").read_bytes())
    before = set(tmp_path.rglob("*"))
    pixels = list(sources._file_pixels([(str(inside / "a.zip"), name) for name in names], 32, 0))
    assert [p.shape for p in pixels] == [(32, 32, 3)] * 4 and set(tmp_path.rglob("*")) == before
    (inside / "to").mkdir()
    try:
        extract_archive(inside / "a.zip", inside / "to")
    except OSError:  # the link is a plain file: there is no way through it
        pass
    new = set(tmp_path.rglob("*")) - before
    assert new and all(inside / "to" in (p, *p.parents) and not p.is_symlink() for p in new)
    assert not Path("/absolute.png").exists()


# --- ports


def lab(*options):
    environment = os.environ | {"INPAINT_ENV": "current"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    command = [ROOT / "run_all.sh", "lab", "--no-browser", "--allow-root", *options]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def listening():
    """{inode: address:port} of all listening TCP sockets, as hexadecimal digits."""
    rows = [line.split() for name in ("tcp", "tcp6") if os.path.exists(f"/proc/net/{name}")
            for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]  # fmt: skip
    return {row[9]: row[1] for row in rows if row[3] == "0A"}


LINUX = pytest.mark.skipif(not os.path.exists("/proc/net/tcp"), reason="reads /proc")


@LINUX
def test_lab_listens_on_localhost_alone_and_wants_its_token():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = lab(f"--port={port}", "--port-retries=0")
    try:
        deadline = time.monotonic() + 60
        while not (found := [a for a in listening().values() if a.endswith(f":{port:04X}")]):
            assert process.poll() is None and time.monotonic() < deadline, "it did not start"
            time.sleep(0.2)
        assert found == [f"0100007F:{port:04X}"]
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/contents", timeout=20)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/lab", timeout=20) as page:
            assert "/login" in page.url
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.mark.parametrize("option", ["--ip=0.0.0.0", "--ServerApp.ip=0.0.0.0"])
def test_lab_on_another_address_is_refused(option):
    process = lab(option)
    try:
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode and "ip only accepts one value" in out


@LINUX
def test_no_port_leads_to_a_notebooks_kernel(tmp_path, monkeypatch):
    """Its channels are files. The one port is ipykernel's own, on localhost, for what forked children print."""
    look = """import os, json, pathlib
sockets = []
for pid in (os.getpid(), os.getppid()):
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            sockets.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except OSError:
            pass
rows = [line.split() for name in ("tcp", "tcp6") if os.path.exists(f"/proc/net/{name}") for line in open(f"/proc/net/{name}")]
ports = [row[1] for row in rows if f"socket:[{row[9]}]" in sockets]
from ipykernel.kernelapp import IPKernelApp
app = IPKernelApp.instance()
pathlib.Path("artefact").write_text(json.dumps([ports, app.iopub_thread._pipe_port, app.transport]))"""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    monkeypatch.setattr(run_notebook, "NOTEBOOKS", tmp_path)
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(look)], metadata=kernel), tmp_path / "look.ipynb")
    assert run_notebook.main("look", tmp_path / "executed.ipynb", tmp_path / "artefact", "{}") == 0
    ports, of_ipykernel, transport = json.loads((tmp_path / "artefact").read_text())
    assert ports == [f"0100007F:{of_ipykernel:04X}"] and transport == "ipc"
