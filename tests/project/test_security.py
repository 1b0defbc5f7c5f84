"""Files from outside run nothing, write nowhere else and stay text; what listens is local."""

import ast
import json
import os
import pickle
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from PIL import Image

from inpaint_lib import losses
from inpaint_lib.data import packs, sources
from inpaint_lib.evaluation import fid, pretrained
from inpaint_lib.photos import image_file, inpaint
from inpaint_lib.results import report
from inpaint_lib.training import loop
from tests.conftest import smooth
from tests.workflow.commands import ROOT, current
from workflow import run_notebook

# --- nothing is unpickled

PICKLES = ("pickle", "joblib", "marshal", "shelve", "dill", "cloudpickle")
RUNNERS = "eval exec os.system os.popen yaml.load yaml.unsafe_load pd.read_pickle".split()


def code():
    """Yield (name, syntax tree) of every source but the tests."""
    for folder in ("inpaint_lib", "workflow", "benchmarks", "examples"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text())
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
        yield path.name, ast.parse(re.sub(r"^[%!].*$", "", "\n".join(cells), flags=re.M))


def dangers(tree):
    """Yield what could run foreign bytes or text."""
    for node in ast.walk(tree):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        yield from (name for name in names if name.split(".")[0] in PICKLES)
        if not isinstance(node, ast.Call):
            continue
        name, keywords = (
            ast.unparse(node.func),
            {k.arg: ast.unparse(k.value) for k in node.keywords},
        )
        if name in RUNNERS:
            yield name
        if name.endswith("torch.load") and keywords.get("weights_only") != "True":
            yield f"{name} without weights_only=True"
        for key in ("shell", "allow_pickle"):
            if keywords.get(key, "False") != "False":
                yield f"{name}({key}=...)"


def test_no_source_loads_pickles_or_runs_text():
    for text in (
        "import pickle; from joblib import load; torch.load(p); np.load(p, allow_pickle=True); "
        "yaml.load(t); eval(t); exec(t); subprocess.run(t, shell=True)"
    ).split("; "):
        assert list(dangers(ast.parse(text))), "the scan sees what it looks for"
    assert {name: found for name, tree in code() if (found := list(dangers(tree)))} == {}


class Bomb:
    def __reduce__(self):
        return exec, ("open('unpickled', 'w').close()",)


@pytest.fixture
def bomb(tmp_path, monkeypatch):
    """bomb(path): write a pickle that leaves a file when it is loaded, which must not happen."""
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
    run = run_of(micro({"curriculum.mask_widths": [8], "curriculum.total_images": 16}))
    packs.prepare(run.study, run.dataset)
    bomb(run.folder / "checkpoint.pt")
    loop.fit(run)
    assert (run.folder / "result.json").is_file() and "cannot be read" in capsys.readouterr().out


def test_a_pickle_as_weights_is_refused_in_a_line(bomb, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    for name in ("vgg.pth", "vgg.safetensors"):
        with pytest.raises(ValueError, match="perceptual_weights: cannot read"):
            losses.Perceptual(bomb(name))
    bomb(tmp_path / "hub/checkpoints/vgg16-397923af.pth")  # where torchvision looks
    with pytest.raises(ValueError, match="Weights only load failed"):
        losses.Perceptual("torchvision")
    for name in pretrained.WEIGHTS:
        bomb(pretrained.cached(name))
        for wanted in ("auto", str(pretrained.cached(name))):
            with pytest.raises(pretrained.NotAvailable, match="is not "):
                pretrained.find(name, wanted)
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        fid.load(bomb("inception.pth"))  # past the check of its hash
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
    size = (pack.folder / "train.npy").stat().st_size
    (pack.folder / "train.npy").write_bytes(Path("objects.npy").read_bytes().ljust(size))
    with pytest.raises(FileNotFoundError, match="is not prepared"):
        packs.existing(study, "scenes")
    for read in (image_file.read, lambda path: image_file.read_mask(path, (8, 8))):
        with pytest.raises(ValueError, match="format not read"):
            read(bomb("mask.png"))


# --- pages

NASTY = """<script>alert("1")</script>&'<img src=x onerror=alert(1)>"""


@pytest.mark.slow
def test_names_of_files_stay_text_in_the_pages(tmp_path, monkeypatch):
    """A file named like markup that is left out is shown by the data notebook, on its page."""
    name = NASTY.replace("/", "") + ".png"
    (tmp_path / "images").mkdir()
    for k in range(20):
        Image.fromarray(smooth(40, 40, k)).save(tmp_path / "images" / f"{k}.png")
    (tmp_path / "images" / name).write_bytes(b"")
    overrides = {"machine.data_root": str(tmp_path / "images"), "data.train_images": 100}
    parameters = json.dumps({"dataset": "folder", "overrides": overrides | {"data.test_images": 8}})
    monkeypatch.setenv("INPAINT_OUTPUT", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    folder = tmp_path / "runs/smoke/folder/data"
    paths = folder / "notebook.ipynb", folder / "summary.json"
    assert run_notebook.main("00_data_prep", *paths, parameters) == 0
    assert name in (folder / "skipped.csv").read_text().replace('""', '"')
    about = {"run": NASTY, "rows": [(NASTY, NASTY)], "seeds": [(NASTY, NASTY)], "settings": NASTY}
    report.convert(paths[0], tmp_path / "page.html", NASTY, about, [(NASTY, NASTY, NASTY)])
    page = (tmp_path / "page.html").read_text()
    assert "onerror=alert" in page and "<script" not in page and "<img src=x" not in page


MADE_HERE = """body cost standings table verdicts.secondary
(verdicts.primary or "<p>This study has no pair of setups that the primary hypothesis names.</p>")
"" if name == "answer" else ' loading="lazy"'"""


def test_what_the_pages_take_as_markup_is_made_here():
    """Everything else is escaped by the templates."""
    templates = (ROOT / "inpaint_lib/results/templates").glob("*.j2")
    text = "".join(path.read_text() for path in templates)
    found = re.findall(r"{{ ([^{}]*?) \| safe }}", text)
    first, *others = MADE_HERE.splitlines()
    assert set(found) == {*first.split(), *others}
    assert len(re.findall(r"\bsafe\b", text)) == len(found)


# --- archives


def test_members_of_an_archive_are_written_nowhere_else(tmp_path):
    """Our readers write none; torchvision's extraction after --download stays in its folder."""
    from torchvision.datasets.utils import extract_archive

    inside = tmp_path / "outer" / "inner"
    inside.mkdir(parents=True)
    Image.fromarray(smooth(40, 40)).save(tmp_path / "a.png")
    names = ["../../up.png", "/absolute.png", "link/through.png", "good.png"]
    with zipfile.ZipFile(inside / "a.zip", "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, str(tmp_path))
        for name in names:
            archive.writestr(name, (tmp_path / "a.png").read_bytes())
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


def listening():
    """Return {inode: address:port} of all listening TCP sockets, as hexadecimal digits."""
    tables = [Path(f"/proc/net/{name}") for name in ("tcp", "tcp6")]
    lines = [line for t in tables if t.exists() for line in t.read_text().splitlines()[1:]]
    return {row[9]: row[1] for row in map(str.split, lines) if row[3] == "0A"}


LINUX = pytest.mark.skipif(not os.path.exists("/proc/net/tcp"), reason="reads /proc")


@LINUX
@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "address"), [("", "0100007F"), ("--ip=0.0.0.0", "00000000")], ids=["local", "asked"]
)
def test_lab_listens_on_localhost_unless_asked_and_needs_its_token(tmp_path, option, address):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--no-browser", "--allow-root", f"--port={port}", "--port-retries=0"]
    process = subprocess.Popen(
        [ROOT / "run_all.sh", "lab", *options, *filter(None, [option])],
        env=current(INPAINT_OUTPUT=str(tmp_path)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while not (found := [a for a in listening().values() if a.endswith(f":{port:04X}")]):
            assert process.poll() is None and time.monotonic() < deadline, "it did not start"
            time.sleep(0.2)
        assert found == [f"{address}:{port:04X}"]
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/contents", timeout=20)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/lab", timeout=20) as page:
            assert "/login" in page.url
    finally:
        process.terminate()
        process.communicate(timeout=30)


LOOK = """
import os, json, pathlib
sockets = []
for fd in os.listdir("/proc/self/fd"):
    try:
        sockets.append(os.readlink(f"/proc/self/fd/{fd}"))
    except OSError:
        pass
tables = [pathlib.Path(f"/proc/net/{name}") for name in ("tcp", "tcp6")]
rows = [line.split() for table in tables if table.exists() for line in table.open()]
ports = [row[1] for row in rows if f"socket:[{row[9]}]" in sockets]
from ipykernel.kernelapp import IPKernelApp
app = IPKernelApp.instance()
found = [ports, app.iopub_thread._pipe_port, app.transport]
pathlib.Path("artefact").write_text(json.dumps(found))
"""


@LINUX
@pytest.mark.slow
def test_no_port_leads_to_a_notebooks_kernel(tmp_path, monkeypatch):
    """Its channels are files. The one port is ipykernel's own, on localhost, for its forks."""
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    monkeypatch.setattr(run_notebook, "NOTEBOOKS", tmp_path)
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(LOOK)], metadata=kernel)
    nbformat.write(book, tmp_path / "look.ipynb")
    assert run_notebook.main("look", tmp_path / "executed.ipynb", tmp_path / "artefact", "{}") == 0
    ports, of_ipykernel, transport = json.loads((tmp_path / "artefact").read_text())
    assert ports == [f"0100007F:{of_ipykernel:04X}"] and transport == "ipc"
