"""A wrong request gets one line that says what to fix, exit code 2, and nothing changes on disk.

The commands run in this process; tests at the end use run_all.sh and a real kernel. A case is a
line: arguments -> words.
"""

import os
import shlex
import shutil
import zipfile
from pathlib import Path

import papermill
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from inpaint_lib import models
from inpaint_lib.photos import inpaint
from tests.conftest import smooth, snapshot
from tests.photos.test_inpaint import saved_weights, spread
from tests.workflow.commands import ROOT, is_refusal, run, run_cells
from workflow import __main__ as command

LONG = "x" * 5000
FROM = "smoke --architectures custom --from"
NARROW = "--set 'models.custom.widths={generator_width: 4, discriminator_width: 4, scales: 2}'"
VGG = "smoke --set training.perceptual_width=64 --set training.perceptual_weights"
INCEPTION = "smoke --set evaluation.inception_weights"
EMPTY = "--datasets faces --architectures custom --setups fixed "
EMPTY += "--set grid.without=[faces/custom/fixed/seed0]"
STUDY = f"""
tyni -> unknown profile 'tyni': choose one of medium, paper, small
{LONG} -> choose one of medium, paper
nowhere.yaml -> unknown profile 'nowhere.yaml': choose one of
smoke tiny -> unrecognized arguments: tiny; see ./run_all.sh --help
notebook -> unknown profile 'notebook'
report -> unknown profile 'report'
notebook 10_train -> unrecognized arguments: 10_train; see ./run_all.sh --help
smoke --set machine.device=cpu --runs-per-gpu 2 -> machine.device=cpu: set machine.device=cuda, or
smoke --fast -> unrecognized arguments: --fast; see ./run_all.sh --help
smoke --seeds -> argument --seeds: expected one argument; see
smoke --only figures -> --only: invalid choice: 'figures' (choose from
smoke --only tables --dry-run -> --only rebuilds at once: leave out --dry-run
smoke --set extensions=[absent.py] -> place0/absent.py
smoke --set extensions=absent.py -> place0/absent.py
smoke {EMPTY} -> grid.without names all runs of the grid: keep one
smoke --jobs two -> --jobs: invalid int value: 'two'; see
smoke --jobs 0 -> machine.jobs:
smoke --datasets imagenet -> no data set 'imagenet': there are
smoke --architectures unet -> unknown 'unet': choose one of custom, context_encoder, free_form
smoke --setups fixed,fixd -> unknown 'fixd': choose one of fixed, progressive
smoke --seeds a -> grid.seeds.0:
smoke --set curriculum.batch_size -> --set curriculum.batch_size: write it as KEY=VALUE
smoke --set grid.datasets=[faces -> '[faces' is not a YAML value: put it in quotes
smoke --only tables -> faces/custom/fixed/seed0
smoke --download -> --download: name the folder with --data-root DIR
smoke --datasets coco --data-root new --download -> --download: no library offers coco
smoke --set models.custom.widths.scales=0 -> scales: must be 1 to 4, not 0
paper -> data set celeba: name its folder with --data-root DIR. DIR or DIR/celeba must hold
smoke --datasets folder --data-root ~nobody-of-this-name/x -> data_root: there is no folder
smoke --data -> argument --data: expected one argument
smoke --data '' -> data set folder: name its folder with --data-root DIR
smoke --data absent -> data_root: there is no folder
smoke --data {LONG} -> data_root: there is no folder
smoke --data photo.png -> photo.png. DIR must hold images, at any depth
smoke --data pipe -> data_root: there is no folder
smoke --data one -> holds 1 images (.bmp, .gif, .jfif,
smoke --data texts -> holds 0 images
smoke --data masks -> holds 0 images
smoke --data split -> are in a folder for training, or all in one for testing: add a folder
smoke --data one --data-root one -> --data DIR names the images: leave out --datasets and --data
smoke --data one --datasets faces -> --data DIR names the images: leave out
smoke --datasets celeba --data-root torn -> img_align_celeba.zip
smoke --datasets coco --data-root damaged -> train2014.zip is damaged (
{INCEPTION}=none.pth -> inception_weights: unknown 'none.pth': choose one of auto, none, or
{VGG}=vgg.pth -> vgg.pth is not a VGG-16 state dict
{VGG}=list.pth -> give a VGG-16 state dict
{FROM} absent -> --from absent does not exist: name a finished run's folder or a .safetensors file
{FROM} {LONG} -> File name too long
{FROM} text.safetensors -> text.safetensors is no safetensors file (
{FROM} nothing.png -> nothing.png is no safetensors file (
{FROM} long.safetensors -> long.safetensors is no safetensors file (
{FROM} cut.safetensors -> cut.safetensors is no safetensors file (
{FROM} pickle.safetensors -> pickles (.pt, .pth) are not opened
{FROM} unfinished -> unfinished is no finished run: finish it
{FROM} pipe -> pipe is not a regular file
{FROM} smoke/faces/custom/fixed/seed0 -> seed0, which does not exist: name a folder
{FROM} small/faces/custom/reversed -> is not published: train it
{FROM} bare.safetensors -> at 32 px: layer encoder.0.conv.weight is 8 x 4 x 5 x 5, here 16 x 4 x
{FROM} context_encoder.safetensors -> does not fit custom at 32 px: it has no layer encoder.0.conv
{FROM} nan.safetensors {NARROW} -> has a weight decoder.0.conv1.conv.bias that is not finite
{FROM} bytes.safetensors {NARROW} -> layer encoder.0.conv.weight has numbers of type U8
{FROM} more.safetensors {NARROW} -> the network has no layer extra
{FROM} part.safetensors {NARROW} -> it has no layer discriminator.scales.0.0.0.
smoke --from custom.safetensors {NARROW} -> fits custom only, the grid has custom, context_encoder,
"""
SHOW = """
-> the following arguments are required: PROFILE; see
tyni -> unknown profile 'tyni': choose one of
smoke --only tables -> unrecognized arguments: --only tables
smoke --set grid.seeds=[] -> grid.seeds:
"""
CLEAN = """
-> the following arguments are required: PROFILE; see
tyni -> unknown profile 'tyni': choose one of
smoke tiny -> unrecognized arguments: tiny
smoke --yes=3 -> argument --yes: ignored explicit argument '3'
"""
PUBLISH = """
smoke -> the following arguments are required: NAME
tyni mine -> unknown profile 'tyni'
--rebuild '' -> '' cannot be the name of a published study
--pages= -> '' cannot be the name of a published study
--rebuild small --pages small -> argument --pages: not allowed with argument --rebuild
--rebuild=absent -> absent holds no published study
smoke mine -> no run of profile smoke is finished
"""
VERIFY = """
-> the following arguments are required: NAME
absent -> absent
"""
# of photographs
B, W, OUT = "--box 20,12,15,9", "--weights custom.safetensors", "-o out.png"
INPAINT = f"""
absent.png {B} {W} {OUT} -> photo absent.png: unreadable (No such file
text.png {B} {W} {OUT} -> photo text.png: format not read
nothing.png {B} {W} {OUT} -> photo nothing.png: empty
cut.png {B} {W} {OUT} -> photo cut.png:
deep.png {B} {W} {OUT} -> photo deep.png: 16-bit RGB pixels would not be kept
float.tif {B} {W} {OUT} -> photo float.tif: F pixels would not be kept
other {B} {W} {OUT} -> other: holds no image
photo.png {W} {OUT} -> no hole is given
photo.png --box 60,12,15,9 {W} {OUT} -> --box 60,12,15,9: reaches outside photo photo.png
photo.png --box=-1,0,5,5 {W} {OUT} -> --box -1,0,5,5: reaches outside
photo.png --box a,b,c,d {W} {OUT} -> give x,y,w,h in whole pixels
photo.png {B} {W} {OUT} --invert -> --invert: there is no mask
photo.png {W} {OUT} --mask empty.png -> mask empty.png: empty, no pixel is brighter than half
photo.png {W} {OUT} --mask small.png -> mask small.png: is 70 x 44 pixels, the photo
photo.png {W} {OUT} --mask clear.png -> mask clear.png: has transparent pixels
photo.png {W} {OUT} --mask absent.png -> mask absent.png: unreadable
photo.png {W} {OUT} --mask masks -> --mask masks: holds 0 masks named photo
photo.png {B} {W} -o exists.png -> -o exists.png: exists: name another file, or add --overwrite
photo.png {B} {W} -o photo.png --overwrite -> -o photo.png: is an input of this command
photo.png {B} {W} -o out.gif -> -o out.gif: unknown suffix: give one of .png
alpha.png {B} {W} -o x/out.jpg -> -o x/out.jpg: JPEG cannot hold transparency
photo.png {B} --weights absent.safetensors {OUT} -> absent.safetensors does not exist: name
photo.png {B} --weights text.safetensors {OUT} -> text.safetensors is no safetensors file
photo.png {B} --weights pickle.safetensors {OUT} -> pickles (.pt, .pth) are not opened
photo.png {B} --weights bare.safetensors {OUT} -> its header does not fit its weights
photo.png {B} --weights unknown.safetensors {OUT} -> unknown architecture 'x'
photo.png {B} --weights wider.safetensors {OUT} -> its header does not fit its weights
photo.png {B} --weights size.safetensors {OUT} -> takes image sizes 32 to 256
photo.png {B} --weights nan.safetensors {OUT} -> holds weights that are not finite
photo.png {B} --weights unfinished {OUT} -> --weights unfinished is no finished run
photo.png --box 0,0,5,5 --weights context_encoder.safetensors {OUT} -> outside the central half
photo.png {B} {W} {OUT} --blend -> unrecognized arguments: --blend; see ./run_all.sh inpaint --help
-> the following arguments are required
"""
NOTEBOOK = """
00_data_prep '{"profile": "tyni"}' -> unknown profile 'tyni': choose one of
00_data_prep '{"dataset": "../x"}' -> '../x'
10_train '{"dataset": "x"}' -> no data set 'x': there are
10_train '{"architecture": "unet"}' -> unknown 'unet': choose one of custom
20_metrics '{"overrides": {"bach_size": 1}}' -> --set bach_size: unknown key
00_data_prep '{"dataset": "coco"}' -> data set coco: name its folder with --data-root DIR
"""
COMMANDS = {
    "": STUDY,
    "show": SHOW,
    "status": SHOW + f"smoke {EMPTY} -> grid.without names all runs",
    "clean": CLEAN,
    "publish": PUBLISH,
    "verify": VERIFY,
    "inpaint": INPAINT,
    "_notebook": NOTEBOOK,
}
CASES = [
    (name, *map(str.strip, line.rsplit("->", 1)))
    for name, lines in COMMANDS.items()
    for line in lines.strip().splitlines()
]


def written(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A working folder with earlier results in out/, and everything bad."""
    place = tmp_path_factory.mktemp("place")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("INPAINT_OUTPUT", str(place / "out"))
        spread()
        for name in models.ARCHITECTURES:
            saved_weights(f"{name}.safetensors", name)
        for earlier in (
            "runs/smoke/faces/data/manifest.json",
            "runs/smoke/study.json",
            "reports/smoke/index.html",
            "reports/smoke/tables/results.csv",
            "notebooks/executed.ipynb",
            "notebooks/artefact.json",
        ):
            written(Path("out", earlier), "precious")
        given_weights()
        torch.save({"a": torch.zeros(1)}, "vgg.pth")
        torch.save([torch.zeros(1)], "list.pth")
        written(Path("texts/read.me"), "no image")
        for folder in ("one", "split/train/a", "split/train/b"):
            Path(folder).mkdir(parents=True)
            Image.fromarray(smooth(40, 40)).save(Path(folder, "000001.jpg"))
        written(Path("torn/list_eval_partition.txt"), "000001.jpg 0\n")
        broken_zip(Path("torn/img_align_celeba.zip"), -30)
        for part in ("train2014", "val2014"):
            broken_zip(Path("damaged", f"{part}.zip"), None)
        yield place


def given_weights():
    """Write files that are nearly the weights of a custom."""
    state = load_file("custom.safetensors")
    named = state | {"discriminator.scales.0.0.1.x": torch.zeros(1)}
    save_file(named, "part.safetensors")
    save_file(state | {"extra": torch.zeros(1)}, "more.safetensors")
    save_file({name: value.byte() for name, value in state.items()}, "bytes.safetensors")
    Path("cut.safetensors").write_bytes(Path("custom.safetensors").read_bytes()[:-9])
    os.mkfifo("pipe")


def broken_zip(path, end):
    """Write an archive of an image whose central directory is damaged, cut at `end`."""
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.write("one/000001.jpg")
    path.write_bytes(path.read_bytes()[:end].replace(b"PK\x01\x02", b"PK\x09\x09"))


def in_this_process(notebook, output, parameters, **_):
    """Execute notebooks that fail in their first cells as papermill does, without a kernel."""
    shutil.copyfile(notebook, output)
    try:
        run_cells(notebook, parameters)
    except Exception as error:
        what = type(error).__name__, str(error), []
        raise papermill.PapermillExecutionError(0, 1, "", *what) from None
    raise AssertionError("nothing was wrong")


@pytest.mark.parametrize(
    ("name", "arguments", "words"), CASES, ids=[f"{name}: {a[:60]}" for name, a, _ in CASES]
)
def test_bad_input_is_one_line_and_changes_nothing(
    place, monkeypatch, capfd, name, arguments, words
):
    monkeypatch.chdir(place)
    monkeypatch.setenv("INPAINT_OUTPUT", str(place / "out"))
    monkeypatch.setattr(papermill, "execute_notebook", in_this_process)
    arguments, before = shlex.split(arguments), snapshot(place)
    if name == "_notebook":
        arguments[1:1] = "out/notebooks/executed.ipynb", "out/notebooks/artefact.json"
    if name == "inpaint":
        code = inpaint.main(arguments)
    else:
        code = command.main([*filter(None, [name]), *arguments])
    out, err = capfd.readouterr()
    if name == "_notebook" and out.startswith("  start "):
        out = ""
    assert is_refusal(code, out, err) and words in err and len(err) < 1200, (code, out, err)
    assert snapshot(place) == before


# --- end to end


def test_run_all_says_it_in_one_line(tmp_path):
    found = run("tiny", "--jobs", "x", INPAINT_OUTPUT=str(tmp_path))
    assert is_refusal(*found) and "--jobs" in found[2] and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_kernel_says_it_in_one_line_and_the_earlier_result_is_kept(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("INPAINT_OUTPUT", str(tmp_path))
    for name in ("executed.ipynb", "artefact.json"):
        (tmp_path / name).write_text("precious")
    before = snapshot(tmp_path)
    paths = [str(tmp_path / name) for name in ("executed.ipynb", "artefact.json")]
    code = command.main(["_notebook", "00_data_prep", *paths, '{"profile": "tyni"}'])
    err = capfd.readouterr().err
    assert (code, len(err.splitlines())) == (2, 1), err
    assert "unknown profile 'tyni': choose one of" in err and snapshot(tmp_path) == before
