"""Whatever is asked wrongly gets one line that names what is wrong and how to mend it, exit code 2, and nothing changes on
disk.

The commands run in this process; a test at the end asks through run_all.sh and with a real kernel.
"""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import papermill
import pytest
import torch
from PIL import Image

from inpaint_lib import models
from inpaint_lib.photos import inpaint
from inpaint_lib.results import compare
from tests.conftest import repository, smooth
from tests.photos.test_inpaint import GOOD, replaced, saved_weights, spread
from workflow import __main__ as study
from workflow import run_notebook

ROOT = Path(repository())

COMMANDS = {"study": study.main, "compare": compare.main, "inpaint": inpaint.main}
SMOKE = (ROOT / "config" / "smoke.yaml").read_text()
VGG = ["--set", "perceptual_width=64", "--set"]


def of(dataset, root, *more):
    return ["smoke", "--datasets", dataset, "--data-root", root, *more]


STUDY = {
    # the command line
    "unknown profile": (["tyni"], "no profile 'tyni': choose one of medium, paper, small, smoke, tiny"),
    "hypotheses as profile": (["hypotheses"], "no profile 'hypotheses': choose one of"),
    "endless profile": (["x" * 5000], "choose one of medium, paper"),
    "file as profile": (["own.yaml"], "own.yaml: name a profile of config/, not a file"),
    "missing file as profile": (["none.yaml"], "none.yaml: name a profile of config/, not a file"),
    "two profiles": (["smoke", "tiny"], "unrecognized arguments: tiny; see ./run_all.sh --help"),
    "unknown option": (["smoke", "--fast"], "unrecognized arguments: --fast; see ./run_all.sh --help"),
    "option without value": (["smoke", "--seeds"], "argument --seeds: expected one argument; see"),
    "no such choice": (["smoke", "--only", "figures"], "--only: invalid choice: 'figures' (choose from"),
    "jobs of letters": (["smoke", "--jobs", "two"], "--jobs: invalid int value: 'two'; see"),
    "no jobs": (["smoke", "--jobs", "0"], "jobs: must be 1 or more, not 0"),
    "unknown data set": (["smoke", "--datasets", "imagenet"], "datasets: no 'imagenet'; there are: celeba, coco, faces"),
    "no data set": (["smoke", "--datasets", ""], "datasets: no ''; there are: celeba"),
    "trailing comma": (["smoke", "--datasets", "faces,"], "datasets: no ''; there are: celeba"),
    "unknown architecture": (["smoke", "--architectures", "unet"], "architectures: no 'unet'; there are: context_encoder"),
    "unknown setup": (["smoke", "--setups", "fixed,fixd"], "setups: no 'fixd'; there are: adv_ramp"),
    "a setup twice": (["smoke", "--setups", "fixed,fixed"], "setups: give at least one name, each once"),
    "seed of letters": (["smoke", "--seeds", "a"], "--seeds a: give whole numbers separated by commas"),
    "negative seed": (["smoke", "--seeds=-1"], "seeds: must be 0 or more, not -1"),
    "set without value": (["smoke", "--set", "batch_size"], "--set batch_size: write it as KEY=VALUE"),
    "set of an unknown key": (["smoke", "--set", "bach_size=3"], "--set bach_size: there is no such key; here are: arch"),
    "set of an unknown inner key": (["smoke", "--set", "models.custom.lr=1"], "models.custom.lr: there is no such key; here"),
    "set inside a number": (["smoke", "--set", "batch_size.x=1"], "--set batch_size.x: there is no such key"),
    "set of no YAML": (["smoke", "--set", "datasets=[faces"], "--set datasets=[faces: '[faces' is no YAML value; put it in"),
    "set of a day there is not": (["smoke", "--set", "precision=2001-02-30"], "'2001-02-30' is no YAML value; put it in"),
    "nothing to rebuild": (["smoke", "--only", "tables"], "run faces/custom/fixed/seed0 of profile smoke is not finished"),
    "download to nowhere": (["smoke", "--download"], "--download: say where to with --data-root DIR"),
    "download of another": (of("coco", "new", "--download"), "--download: no library offers coco. DIR or DIR/coco must hold"),
    # settings
    "text as number": (["smoke", "--set", "batch_size=many"], "batch_size: expected a whole number, got 'many'"),
    "nothing as number": (["smoke", "--set", "batch_size="], "batch_size: expected a whole number, got None"),
    "number as list": (["smoke", "--set", "models=3"], "models: expected keys and values, got 3"),
    "not finite": (["smoke", "--set", "models.custom.lr_g=.nan"], "models.custom.lr_g: expected a number, got nan"),
    "endless number": (["smoke", "--set", f"jobs=0x{'f' * 5000}"], "smoke.yaml: "),
    "steps that do not divide": (["smoke", "--set", "total_images=328"], "41 steps do not divide into 2 stages of equal"),
    "images that do not divide": (["smoke", "--set", "total_images=321"], "total_images: not a multiple of batch_size"),
    "holes that shrink": (["smoke", "--set", "mask_widths=[16, 8]"], "mask_widths: must grow"),
    "no such device": (["smoke", "--set", "device=tpu"], "device: no 'tpu'; there are: auto, cpu, cuda, mps"),
    "no discriminator": (["smoke", "--set", "models.custom.widths.scales=0"], "scales: must be 1 to 4, not 0"),
    # images
    "no data root": (["paper"], "data set celeba: say where its images are with --data-root DIR. DIR or DIR/celeba must hold"),
    "root that is not": (of("folder", "absent"), "data_root: there is no folder "),
    "root of nobody": (of("folder", "~nobody-of-this-name/x"), "data_root: there is no folder "),
    "root that is a file": (of("folder", "photo.png"), "photo.png. DIR must hold images, at any depth"),
    "root that is a list": (["smoke", "--datasets", "folder", "--set", "data_root=[a, b]"], "data_root: there is no folder "),
    "folder of one image": (of("folder", "one"), "holds 1 images (.bmp, .gif, .jfif, "),
    "folder without images": (of("folder", "texts"), "holds 0 images"),
    "celeba without anything": (of("celeba", "texts"), "list_eval_partition.csv for celeba. DIR or DIR/celeba must hold"),
    "celeba without images": (of("celeba", "listed"), "img_align_celeba.zip for celeba. DIR or DIR/celeba must hold"),
    "celeba with an odd list": (of("celeba", "odd"), "no line like '000001.jpg 0'; get the file from CelebA's site again"),
    "celeba with a cut zip": (of("celeba", "torn"), "has no whole img_align_celeba or img_align_celeba.zip"),
    "coco elsewhere": (of("coco", "texts"), "has no whole train2014 or train2014.zip for coco. DIR or DIR/coco must hold"),
    "coco without images": (of("coco", "bare"), "train2014: no .jpg file in it. DIR or DIR/coco must hold"),
    "coco with a damaged zip": (of("coco", "damaged"), "train2014.zip is damaged ("),
    # weights of others
    "no inception": (["smoke", "--set", "inception_weights=none.pth"], "inception_weights: no file none.pth; name one, or"),
    "another inception": (["smoke", "--set", "inception_weights=photo.png"], "photo.png is not the 2015-12-05 Inception (SHA"),
    "no vgg": (["smoke", *VGG, "perceptual_weights=none.pth"], "perceptual_weights: no file none.pth; name one, or"),
    "vgg of another width": (["smoke", "--set", "perceptual_weights=vgg.pth"], "perceptual_width: only 'random' weights take"),
    "another network as vgg": (["smoke", *VGG, "perceptual_weights=vgg.pth"], "vgg.pth is no VGG-16 state dict; give one or"),
    "no network as vgg": (["smoke", *VGG, "perceptual_weights=photo.png"], "cannot read "),
    "no table as vgg": (["smoke", *VGG, "perceptual_weights=list.pth"], "no attribute 'items'); give a VGG-16 state dict"),
}
COMPARE = {
    "one folder": (["whole"], "the following arguments are required: A B; see ./run_all.sh compare --help"),
    "no run": (["other", "other"], "other: neither a finished run (result.json) nor a report (tables/study.json); name"),
    "no folder": (["absent", "other"], "absent: neither a finished run"),
    "result of other JSON": (["listed_result", "other"], "listed_result: is damaged (TypeError"),
    "run without its table": (["tableless", "other"], "tableless: is damaged (FileNotFoundError"),
    "report of other JSON": (["odd_report", "other"], "odd_report: is damaged (KeyError: 'hypotheses'); make it anew with"),
}
CENTRE = [a.replace("20,12,15,9", "0,0,5,5") for a in replaced("WEIGHTS", "context_encoder")]
INPAINT = {
    "no such photo": (replaced("PHOTO", "absent.png"), "photo absent.png: unreadable (No such file"),
    "no image": (replaced("PHOTO", "text.png"), "photo text.png: format not read"),
    "empty file": (replaced("PHOTO", "nothing.png"), "photo nothing.png: empty"),
    "truncated": (replaced("PHOTO", "cut.png"), "photo cut.png: "),
    "16-bit colour": (replaced("PHOTO", "deep.png"), "photo deep.png: 16-bit RGB pixels would not be kept"),
    "cmyk": (replaced("PHOTO", "cmyk.tif"), "photo cmyk.tif: CMYK pixels would not be kept"),
    "float": (replaced("PHOTO", "float.tif"), "photo float.tif: F pixels would not be kept"),
    "empty folder": (replaced("PHOTO", "other"), "other: holds no image"),
    "no hole": ([a for a in GOOD if a not in ("--box", "20,12,15,9")], "no hole is given"),
    "box outside": (replaced("20,12,15,9", "60,12,15,9"), "--box 60,12,15,9: reaches outside photo photo.png"),
    "box negative": (["--box=-1,0,5,5", *GOOD[:1], *GOOD[3:]], "--box -1,0,5,5: reaches outside"),
    "box without size": (replaced("20,12,15,9", "20,12,0,9"), "--box 20,12,0,9: reaches outside"),
    "box of three": (replaced("20,12,15,9", "20,12,15"), "argument --box: '20,12,15': give x,y,w,h"),
    "box of letters": (replaced("20,12,15,9", "a,b,c,d"), "give x,y,w,h in whole pixels"),
    "invert alone": ([*GOOD, "--invert"], "--invert: there is no mask"),
    "empty mask": ([*GOOD, "--mask", "empty.png"], "mask empty.png: empty, no pixel is brighter than half (0 to 0 of 255)"),
    "mask of ones": ([*GOOD, "--mask", "ones.png"], "(0 to 1 of 255); white must mark the hole"),
    "mask of other size": ([*GOOD, "--mask", "small.png"], "mask small.png: is 70 x 44 pixels, the photo as shown 70 x 45"),
    "transparent mask": ([*GOOD, "--mask", "clear.png"], "mask clear.png: has transparent pixels"),
    "no mask": ([*GOOD, "--mask", "absent.png"], "mask absent.png: unreadable"),
    "folder of masks without it": ([*GOOD, "--mask", "masks"], "--mask masks: holds 0 masks of the stem photo"),
    "output exists": (replaced("out.png", "exists.png"), "-o exists.png: exists; name another file, or add --overwrite"),
    "output is the photo": ([*replaced("out.png", "photo.png"), "--overwrite"], "-o photo.png: is another file"),
    "output is the mask": ([*replaced("out.png", "masked.png"), "--mask", "masked.png", "--overwrite"], "is another file"),
    "output is a folder": (replaced("out.png", "other"), "-o other: the suffix says the format"),
    "output of no format": (replaced("out.png", "out.gif"), "-o out.gif: the suffix says the format; give one of .png"),
    "jpeg without alpha": (["alpha.png", *replaced("out.png", "x/out.jpg")[1:]], "-o x/out.jpg: JPEG cannot hold transparency"),
    "comparison is the output": ([*GOOD, "--compare", "out.png"], "--compare out.png: is another file"),
    "comparison exists": ([*GOOD, "--compare", "exists.png"], "--compare exists.png: exists"),
    "comparison no png": ([*GOOD, "--compare", "pair.jpg"], "--compare pair.jpg: is written as PNG"),
    "no weights": (replaced("WEIGHTS", "absent.safetensors"), "--weights absent.safetensors: no such file; name a finished"),
    "text as weights": (replaced("WEIGHTS", "text.safetensors"), "--weights text.safetensors: no safetensors file"),
    "endless header": (replaced("WEIGHTS", "long.safetensors"), "--weights long.safetensors: no safetensors file"),
    "pickle": (replaced("WEIGHTS", "pickle.safetensors"), "pickles (.pt, .pth) are not opened"),
    "malicious pickle": (replaced("WEIGHTS", "bomb.safetensors"), "pickles (.pt, .pth) are not opened"),
    "no header": (replaced("WEIGHTS", "bare.safetensors"), "its header does not fit its weights (no 'settings' in it)"),
    "header no json": (replaced("WEIGHTS", "json.safetensors"), "its header does not fit its weights"),
    "header no dict": (replaced("WEIGHTS", "list.safetensors"), "its header does not fit its weights"),
    "header lacks a key": (replaced("WEIGHTS", "key.safetensors"), "(no 'image_size' in it)"),
    "unknown architecture": (replaced("WEIGHTS", "unknown.safetensors"), "unknown architecture 'x'"),
    "other widths": (replaced("WEIGHTS", "wider.safetensors"), "its header does not fit its weights"),
    "impossible size": (replaced("WEIGHTS", "size.safetensors"), "takes image sizes 32 to 256"),
    "not finite": (replaced("WEIGHTS", "nan.safetensors"), "holds weights that are not finite"),
    "unfinished run": (replaced("WEIGHTS", "unfinished"), "--weights unfinished: training is not finished"),
    "no run": (replaced("WEIGHTS", "other"), "--weights other: no run's folder"),
    "hole not central": (CENTRE, "hole 0,0,5,5: context_encoder predicts the central half"),
    "unknown option": ([*GOOD, "--blend"], "unrecognized arguments: --blend; see ./run_all.sh inpaint --help"),
    "nothing": ([], "the following arguments are required"),
}
NOTEBOOK = {  # notebook, parameters as JSON, more arguments
    "no such notebook": (["10_train_unet", "{}"], "there is no notebook 10_train_unet; there are: 00_data_prep"),
    "no JSON": (["00_data_prep", "{dataset: faces}"], 'PARAMETERS-AS-JSON must be a JSON object like {"seed": 0} (Expecting'),
    "half of JSON": (["00_data_prep", '{"dataset": '], "PARAMETERS-AS-JSON must be a JSON object"),
    "no object": (["00_data_prep", "[1]"], "PARAMETERS-AS-JSON must be a JSON object"),
    "no study": (["00_data_prep", "{}", "none.json", "run"], "none.json has no parameters 'run' ("),
    "damaged study": (["00_data_prep", "{}", "text.png", "run"], "text.png has no parameters 'run' ("),
    "study of another kind": (["00_data_prep", "{}", "study.json", "ruin"], "study.json has no parameters 'ruin' ("),
    "unknown parameter": (["20_metrics", '{"profle": "smoke"}'], "no parameter 'profle' in its parameters cell, which has"),
    "seed of text": (["10_train_custom", '{"seed": "a"}'], 'parameter seed: must be of the kind of its default, 0, not "a"'),
    "seed of truth": (["10_train_custom", '{"seed": true}'], "parameter seed: must be of the kind of its default, 0, not true"),
    "data set of a number": (["00_data_prep", '{"dataset": 3}'], 'parameter dataset: must be of the kind of its default, "f'),
    "no profile": (["00_data_prep", '{"profile": null}'], 'parameter profile: must be of the kind of its default, "smoke"'),
    "overrides as list": (["00_data_prep", '{"overrides": []}'], "parameter overrides: must be of the kind of its default, {}"),
    "unknown profile": (["00_data_prep", '{"profile": "tyni"}'], "no profile 'tyni': choose one of"),
    "unknown data set": (["00_data_prep", '{"dataset": "../x"}'], "dataset: no '../x'; there are: faces, scenes, celeba"),
    "unknown data set of a run": (["10_train_custom", '{"dataset": "x"}'], "dataset: no 'x'; there are: celeba, coco, faces"),
    "unknown setup": (["10_train_custom", '{"setup": "fixd"}'], "setup: no 'fixd'; there are: adv_ramp, fixed"),
    "unknown seed": (["10_train_custom", '{"seed": -1}'], "seed: must be 0 or more, not -1"),
    "unknown key": (["20_metrics", '{"overrides": {"bach_size": 1}}'], "--set bach_size: there is no such key; here are"),
    "no images": (["00_data_prep", '{"dataset": "coco"}'], "data set coco: say where its images are with --data-root DIR"),
}
CASES = {
    f"{kind}: {name}": (kind, *case)
    for kind, cases in (("study", STUDY), ("compare", COMPARE), ("inpaint", INPAINT), ("notebook", NOTEBOOK))
    for name, case in cases.items()
}


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
        spread(place)
        for name in models.ARCHITECTURES:
            saved_weights(f"{name}.safetensors", name)
        for earlier in ("runs/smoke/faces/data/manifest.json", "runs/smoke/study.json", "reports/smoke/index.html",
                        "reports/smoke/tables/results.csv", "notebooks/executed.ipynb", "notebooks/artefact.json"):  # fmt: skip
            written(Path("out", earlier), "precious")
        Path("own.yaml").write_text(SMOKE)
        torch.save({"a": torch.zeros(1)}, "vgg.pth")
        torch.save([torch.zeros(1)], "list.pth")
        written(Path("texts/read.me"), "no image")
        for folder in ("one", "odd/img_align_celeba"):
            Path(folder).mkdir(parents=True)
            Image.fromarray(smooth(40, 40)).save(Path(folder, "000001.jpg"))
        written(Path("odd/list_eval_partition.txt"), "nothing of use")
        written(Path("listed/list_eval_partition.txt"), "000001.jpg 0\n")
        written(Path("torn/list_eval_partition.txt"), "000001.jpg 0\n")
        for folder, keep in (("torn", slice(0, -30)), ("damaged", slice(None))):
            Path(folder).mkdir(exist_ok=True)
            names = ["img_align_celeba.zip"] if folder == "torn" else ["train2014.zip", "val2014.zip"]
            for name in names:
                with zipfile.ZipFile(Path(folder, name), "w") as archive:
                    archive.write("one/000001.jpg")
                content = Path(folder, name).read_bytes()[keep]
                Path(folder, name).write_bytes(content.replace(b"PK\x01\x02", b"PK\x09\x09"))  # the central directory's entry
        for part in ("train2014", "val2014"):
            written(Path("bare", part, "read.me"), "no image")
        written(Path("listed_result/result.json"), "[1]")
        result = {"device": "cpu", "precision": "float32", "seconds": 1, "provenance": {}, "settings": {}}
        written(Path("tableless/result.json"), json.dumps(result))
        written(Path("odd_report/tables/study.json"), '{"config": {}}')
        written(Path("study.json"), '{"parameters": {"run": {}}}')
        yield place


def snapshot(place):
    """Every file's content and time; locks are no one's work."""
    return {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in place.rglob("*") if p.is_file() and not p.name.endswith(".lock")}


def in_this_process(notebook, output, parameters, **_):
    """papermill.execute_notebook without a kernel, for notebooks that fail in their first cells."""
    node, names = nbformat.read(notebook, as_version=4), {"display": print}
    nbformat.write(node, output)
    for cell in (cell for cell in node.cells if cell.cell_type == "code"):
        try:
            exec(cell.source, names)
        except Exception as error:
            raise papermill.PapermillExecutionError(0, 1, cell.source, type(error).__name__, str(error), []) from None
        if "parameters" in cell.metadata.get("tags", ()):
            names |= parameters
    raise AssertionError("nothing was wrong")


def run_a_notebook(notebook, parameters, *rest):
    return run_notebook.main(notebook, "out/notebooks/executed.ipynb", "out/notebooks/artefact.json", parameters, *rest)


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line_and_changes_nothing(place, monkeypatch, capfd, case):
    kind, arguments, words = CASES[case]
    monkeypatch.chdir(place)
    monkeypatch.setenv("INPAINT_OUTPUT", str(place / "out"))
    monkeypatch.setattr(papermill, "execute_notebook", in_this_process)
    known = {"PHOTO": "photo.png", "WEIGHTS": "custom.safetensors", "context_encoder": "context_encoder.safetensors"}
    before = snapshot(place)
    if kind == "notebook":
        code = run_a_notebook(*arguments)
    else:
        code = COMMANDS[kind]([known.get(a, a) for a in arguments] if kind == "inpaint" else arguments)
    out, err = capfd.readouterr()
    assert (code, len(err.splitlines())) == (2, 1) and words in err and len(err) < 1200, err
    assert "Traceback" not in err and (not out or (kind == "notebook" and out.startswith("  start ")))
    assert snapshot(place) == before


# --- end to end


def run(output, *command):
    environment = os.environ | {"INPAINT_ENV": "current", "INPAINT_OUTPUT": str(output), "PYTHONPATH": str(ROOT)}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_run_all_says_it_in_one_line(tmp_path):
    done = run(tmp_path, ROOT / "run_all.sh", "tiny", "--jobs", "x")
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1) and "--jobs" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_kernel_says_it_in_one_line_and_the_earlier_result_is_kept(tmp_path):
    for name in ("executed.ipynb", "artefact.json"):
        (tmp_path / name).write_text("precious")
    before = snapshot(tmp_path)
    arguments = ["00_data_prep", tmp_path / "executed.ipynb", tmp_path / "artefact.json", '{"profile": "tyni"}']
    done = run(tmp_path, sys.executable, "-P", "-m", "workflow.run_notebook", *arguments)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert "no profile 'tyni': choose one of" in done.stderr and snapshot(tmp_path) == before
