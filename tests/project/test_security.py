"""Files from outside run nothing, write nowhere else and stay text; no port leads to a kernel."""

import json
import pickle
import zipfile
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from inpaint_lib import losses
from inpaint_lib.data import packs
from inpaint_lib.evaluation import fid, pretrained
from inpaint_lib.photos import image_file, inpaint
from inpaint_lib.results import executed, findings
from inpaint_lib.training import loop
from tests.conftest import smooth
from tests.results import synthetic
from tests.workflow.commands import write_notebook
from workflow import __main__ as command

# --- nothing is unpickled; ruff's rules S... in pyproject.toml find sources that would


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
    assert (run.folder / "result.json").is_file() and "is damaged" in capsys.readouterr().out


def test_a_text_of_a_contributed_study_runs_no_code():
    results = synthetic.study(["faces"], ["custom"], seeds=range(2))
    for text, why in (
        ("{{ lower.__func__.__globals__ }}", "unsafe"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ range(10 ** 9) }}", "too big"),
        ("{{ 1 / 0 }}", "division"),
    ):
        with pytest.raises(ValueError, match=why):
            findings.fill_surprises(results, text)


def test_a_pickle_as_weights_is_refused_in_a_line(bomb, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    for name in ("vgg.pth", "vgg.safetensors"):
        with pytest.raises(ValueError, match="perceptual_weights=.* cannot be read"):
            losses.Perceptual(bomb(name))
    bomb(tmp_path / "hub/checkpoints/vgg16-397923af.pth")  # where torchvision looks
    with pytest.raises(ValueError, match="Weights only load failed"):
        losses.Perceptual("torchvision")
    for name in pretrained.WEIGHTS:
        bomb(pretrained.locate_cached(name))
        with pytest.raises(pretrained.NotAvailable, match="is not "):
            pretrained.find(name)
        with pytest.raises(ValueError, match="is not |cannot be read"):
            pretrained.fetch(name, str(pretrained.locate_cached(name)))
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        fid.load(bomb("inception.pth"))  # past the check of its hash
    for name in ("model.safetensors", "model.pt"):
        with pytest.raises(ValueError, match="pickles .* are not opened"):
            inpaint.load(bomb(name))


def test_a_pickle_in_the_pack_is_no_pack_and_as_a_mask_no_image(bomb, micro):
    study = micro()
    pack = packs.prepare(study, "clutter")
    bomb(pack.folder / "masks.npz", (pack.folder / "masks.npz").stat().st_size)
    with pytest.raises(ValueError, match="pickled"):
        pack.test_masks("square", 8)
    for name in ("train.npy", "test.npy"):
        pack = packs.prepare(study, "clutter")
        bomb(pack.folder / name, (pack.folder / name).stat().st_size)
        with pytest.raises(FileNotFoundError, match="is not prepared"):
            packs.open_pack(study, "clutter")
    np.save("objects.npy", np.array([Bomb()], object), allow_pickle=True)
    size = (pack.folder / "train.npy").stat().st_size
    (pack.folder / "train.npy").write_bytes(Path("objects.npy").read_bytes().ljust(size))
    with pytest.raises(FileNotFoundError, match="is not prepared"):
        packs.open_pack(study, "clutter")
    for read in (image_file.read_photo, lambda path: image_file.read_hole(path, (8, 8))):
        with pytest.raises(ValueError, match="format not read"):
            read(bomb("mask.png"))


# --- pages

NASTY = """<script>alert("1")</script>&'<img src=x onerror=alert(1)>"""


def test_names_of_files_stay_text_in_the_pages(tmp_path):
    """The data notebook shows names of files that are left out; titles and rows are ours."""
    cell = nbformat.v4.new_code_cell("...")
    html = pd.DataFrame({"first": [NASTY]}).to_html()
    cell.outputs = [
        nbformat.v4.new_output("stream", text=NASTY),
        nbformat.v4.new_output("display_data", {"text/html": html, "text/plain": NASTY}),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "n.ipynb")
    nav = [(NASTY, NASTY, NASTY)]
    executed.convert(tmp_path / "n.ipynb", tmp_path / "page.html", NASTY, nav, NASTY)
    page = (tmp_path / "page.html").read_text()
    assert "onerror=alert" in page and "<script>alert" not in page and "<img src=x" not in page


# --- archives


def test_members_of_an_archive_are_written_nowhere_else(tmp_path):
    """Our readers write none (test_sources.py); torchvision's extraction after --download stays in
    its folder."""
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
    (inside / "to").mkdir()
    try:
        extract_archive(inside / "a.zip", inside / "to")
    except OSError:  # the link is a plain file: there is no way through it
        pass
    new = set(tmp_path.rglob("*")) - before
    assert new and all(inside / "to" in (p, *p.parents) and not p.is_symlink() for p in new)
    assert not Path("/absolute.png").exists()


# --- ports


LOOK = """
import json, pathlib, psutil
from ipykernel.kernelapp import IPKernelApp
app = IPKernelApp.instance()
found = [c.laddr for c in psutil.Process().net_connections("tcp") if c.status == "LISTEN"]
artefact = [found, app.iopub_thread._pipe_port, app.transport]
pathlib.Path("artefact").write_text(json.dumps(artefact))
"""


@pytest.mark.slow
def test_no_port_leads_to_a_notebooks_kernel(tmp_path, monkeypatch):
    """Its channels are files. The one port is ipykernel's own, on localhost, for its forks."""
    monkeypatch.setattr(command, "NOTEBOOKS", tmp_path)
    write_notebook(tmp_path / "look.ipynb", LOOK)
    paths = map(str, (tmp_path / "executed.ipynb", tmp_path / "artefact"))
    assert command.main(["_notebook", "look", *paths]) == 0
    ports, of_ipykernel, transport = json.loads((tmp_path / "artefact").read_text())
    assert ports == [["127.0.0.1", of_ipykernel]] and transport == "ipc"
