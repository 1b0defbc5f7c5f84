"""Masks of one's own: read once, split, refused in a line, measured and trained on."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from inpaint_lib import masks
from inpaint_lib.data import own_masks, packing, packs
from inpaint_lib.data.sources import SourceError
from inpaint_lib.evaluation import evaluate, measures
from inpaint_lib.study import config
from inpaint_lib.study.provenance import SettingsChanged
from inpaint_lib.training import identity, loop
from tests.conftest import MICRO, smooth
from workflow import __main__ as command
from workflow import estimate

FOLDER = {"models.custom.mask_family": "folder"}
CENTRAL = {"grid.architectures": ["context_encoder"]}
TURNED = {"machine.turn_masks": "on"}
WIDE = [8, 12]  # px, of 32: 6 and 14 % of the image


def boxes(root, sides=range(20, 48), each=6, size=96):
    """Write `each` masks with a box of every side at other places, as PNG."""
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for side in sides:
        for k in range(each):
            top, left = rng.integers(0, size - side, 2)
            hole = np.zeros((size, size), np.uint8)
            hole[top : top + side, left : left + side - 2] = 255
            Image.fromarray(hole).save(root / f"box {side:03d}\n{k} \u00e9.png")
    return root


@pytest.fixture
def own(tmp_path, micro):
    """own({"dotted.key": value}) -> a study with masks of 168 boxes."""
    root = boxes(tmp_path / "my masks")
    settings = {"machine.masks": str(root), "curriculum.mask_widths": WIDE}
    return lambda overrides=None: micro(settings | (overrides or {}))


def test_training_on_masks_is_estimated_as_on_another_family(own, monkeypatch):
    monkeypatch.setattr(estimate, "SECONDS", 0.1)
    run = own(FOLDER).runs()[0]
    assert estimate.time_run(run).training > 0


def test_masks_are_read_once_and_no_test_mask_is_trained_on_even_turned(own, tmp_path, monkeypatch):
    study = own()
    twin = next((tmp_path / "my masks").iterdir())
    Image.open(twin).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "my masks" / "twin.png")
    found = own_masks.prepare(study)
    sets = [
        {min(turn.tobytes() for turn in turns(mask)) for mask in unpacked(bank)} for bank in found
    ]
    assert not sets[0] & sets[1] and len(found.test.areas) == 169 // 5
    assert list(found.train.areas) == sorted(found.train.areas)
    with monkeypatch.context() as patch:
        patch.setattr(own_masks, "_read", lambda *_: pytest.fail("they were read again"))
        assert torch.equal(own_masks.prepare(study).train.bits, found.train.bits)
    (study.folder / "masks.npz").write_bytes(b"damaged")
    assert torch.equal(own_masks.prepare(study).train.bits, found.train.bits)
    listed = (study.folder / "skipped_masks.csv").read_text()
    Image.new("L", (96, 96)).save(black := tmp_path / "my masks" / "black.png")
    own_masks.prepare(study)
    black.unlink()
    own_masks.prepare(study)
    assert (study.folder / "skipped_masks.csv").read_text() == listed, "not the list of before"


def unpacked(bank):
    return np.unpackbits(bank.bits.numpy(), axis=1).reshape(-1, 32, 32)


def turns(mask):
    return [np.rot90(m, k) for m in (mask, mask.T) for k in range(4)]


def test_a_mask_is_cut_to_its_central_square_and_resized_to_the_nearest_pixel(tmp_path, micro):
    (root := tmp_path / "masks").mkdir()
    hole = np.zeros((64, 100), bool)
    hole[10:30, 30:70] = True
    for k, kind in enumerate(("L", "RGB", "1", "P", "RGBA")):
        Image.fromarray(np.roll(hole, 2 * k, 0)).convert(kind).save(root / f"{kind}.png")
    found = own_masks.prepare(micro({"machine.masks": str(root)}))
    expected = [np.roll(hole, 2 * k, 0)[1::2, 19:82:2].tobytes() for k in range(5)]
    read = [mask.astype(bool).tobytes() for bank in found[:2] for mask in unpacked(bank)]
    assert sorted(read) == sorted(expected)


def test_what_is_no_mask_is_listed_with_its_reason(own, tmp_path):
    root, black = tmp_path / "my masks", np.zeros((96, 96), np.uint8)
    Image.fromarray(smooth(96, 96)).save(root / "photo.png")
    Image.fromarray(black).save(root / "black.png")
    Image.fromarray(black + 255).save(root / "white.png")
    (root / "torn.png").write_bytes((root / "white.png").read_bytes()[:60])
    (root / "notes.txt").write_text("about the masks")
    study = own()
    own_masks.prepare(study)
    listed = pd.read_csv(study.folder / "skipped_masks.csv", index_col="file").reason.to_dict()
    assert listed.pop("torn.png") in ("truncated", "damaged", "not an image")
    assert {name: why for name, why in listed.items() if not name.startswith("box")} == {
        "photo.png": "not a mask",
        "black.png": "no hole",
        "white.png": "all hole",
        "notes.txt": "format not read",
    }


BAD = {  # kind: (what is written into the folder, words of the line)
    "absent": (None, "there is no folder"),
    "one": (["mask"], "holds 1 images"),
    "black": (["black"] * 3, "3 no hole.*at most 10%"),
    "white": (["white"] * 3, "3 all hole"),
    "photographs": (["photo"] * 3, "3 not a mask.*grey or coloured"),
    "transparent": (["clear"] * 3, "transparent pixels: save it without transparency"),
    "damaged": (["torn"] * 3, "at most 10% may be unusable"),
    "tiny": (["small"] * 3, "3 too small"),
    "huge": (["huge"] * 2, "2 decompression bomb"),
    "one in three bad": (["mask", "mask", "black"], "a b\\\\x0a\u00e9"),
    "equal": (["equal"] * 4, "0 images for training and 1 for testing"),
    "too few": (
        ["mask"] * 30,
        r"a stage with 8 px holes .* 20 are needed, .*: 3 of 0-10 %, .*: add masks",
    ),
}


def write(root, k, content):
    """Write file number k of a folder of masks."""
    path, hole = root / f"a b\n\u00e9 {k}.png", np.zeros((96, 96), np.uint8)
    hole[5 + k : 40, 5:40] = 255
    if content == "photo":
        Image.fromarray(smooth(96, 96, k)).save(path)
    elif content == "clear":
        Image.fromarray(np.stack([hole] * 4, -1)).save(path)
    elif content == "huge":
        path.write_bytes(b"P5 60000 60000 255\n")
    else:
        small, whole = hole[:4, :4], np.full_like(hole, 255)
        corner = np.rot90(np.pad(whole[:30, :20], ((0, 30), (0, 40))), k)
        other = {"black": whole * 0, "white": whole, "small": small, "equal": corner}
        Image.fromarray(other.get(content, hole)).save(path)
    if content == "torn":
        path.write_bytes(path.read_bytes()[:50])


@pytest.mark.parametrize("kind", BAD)
def test_bad_masks_are_refused_in_one_line_and_nothing_is_written(kind, tmp_path, output, capsys):
    root, (contents, words) = tmp_path / f"my masks {kind}", BAD[kind]
    if contents is not None:
        root.mkdir()
        for k, content in enumerate(contents):
            write(root, k, content)
    output = tmp_path / "output"
    settings = MICRO | FOLDER | {"curriculum.mask_widths": WIDE, "grid.setups": ["fixed"]}
    given = [f"--set={key}={json.dumps(value)}" for key, value in settings.items()]
    assert command.main(["smoke", "--masks", str(root), *given]) == 2
    out, err = capsys.readouterr()
    assert (
        not out
        and "Traceback" not in err
        and err.startswith("run_all.sh: --masks: ")
        and err.count("\n") == 1
    )
    assert re.search(words, err), err
    assert not [path for path in output.rglob("*") if path.is_file()]


def test_a_family_of_masks_needs_its_folder_and_a_network_that_fills_any_hole(own, micro, tmp_path):
    with pytest.raises(
        SourceError, match="models.custom.mask_family is folder: name .* --masks DIR"
    ):
        own_masks.check_widths(micro(FOLDER), None)
    with pytest.raises(config.ConfigError, match="models.context_encoder.mask_family: .* center"):
        own(CENTRAL | {"models.context_encoder.mask_family": "folder"})
    with pytest.raises(SourceError, match="context_encoder takes central squares only"):
        packs.prepare(own(CENTRAL), "clutter")


def test_without_masks_nothing_of_them_is_in_a_pack_or_in_an_identity(micro, own):
    study = micro()
    pack = packs.prepare(study, "clutter")
    settings = {"dataset", "source", "protocol", "data", "mask_widths"}
    assert set(pack.manifest["settings"]) == settings and packing.OWN not in pack.manifest["masks"]
    assert masks.FOLDER not in pack.widths and packs.load_bank(study.runs()[0], "square") is None
    plain = identity.identify(study.runs()[0], pack, "cpu")
    wanted = json.dumps(identity.identify(own().runs()[0], None, "cpu")["settings"])
    assert "turn_masks" not in json.dumps(plain) + wanted


def test_other_masks_make_another_run_and_turning_them_does_too(own):
    found = []
    for turned in ("off", "on"):
        study = own(FOLDER | {"machine.turn_masks": turned})
        pack = packs.prepare(study, "clutter")
        found.append(identity.identify(study.runs()[0], pack, "cpu")["data"])
    differing = [key for key in found[0] if found[0][key] != found[1][key]]
    assert differing == ["masks"] and packs.load_bank(study.runs()[0], "folder").turned


def test_masks_are_not_added_to_runs_or_taken_from_them(own, micro):
    for study, other in ((own(), micro({"curriculum.mask_widths": WIDE})), (own(), own(TURNED))):
        pack = packs.prepare(study, "clutter")
        (work := study.runs()[0].folder).mkdir(parents=True, exist_ok=True)
        (work / "checkpoint.pt").touch()
        with pytest.raises(SettingsChanged, match="on which runs were trained, .*masks="):
            packs.prepare(other, "clutter")
        assert packs.open_pack(study, "clutter").manifest == pack.manifest


def test_a_setup_that_uses_other_widths_needs_masks_for_them(own):
    wide = {"curriculum.mask_widths": [8, 10, 12], "curriculum.total_images": 48}
    own_masks.check_widths(study := own(FOLDER | wide), own_masks.prepare(study))
    few = own(FOLDER | {"curriculum.mask_widths": [8, 18]})
    match = (
        "a stage with 18 px holes .* 23.7% to 39.6% of .* work: 8, 9, .* 16; for example .*=.8,16"
    )
    with pytest.raises(SourceError, match=match):
        own_masks.check_widths(few, own_masks.prepare(few))


def trained(study):
    """Train and evaluate a study's runs; return {run's name: values}."""
    for run in study.runs():
        loop.fit(run, lambda *_: None, evaluate.evaluate)
    return {run.name: evaluate.read_values(run) for run in study.runs()}


def test_networks_trained_on_masks_are_measured_by_width_and_by_area(own, run_of):
    found = trained(study := own(FOLDER | TURNED))
    pack = packs.open_pack(study, "clutter")
    assert pack.widths["folder"] == [0, *WIDE]
    for values in found.values():
        last = values[(values.stage == 2) & (values.mask_family == "folder")]
        assert {*last[last.region == "hole"].mask_width} == {*WIDE}
        areas = last[last.mask_width == 0]
        assert {*areas.region} <= {*measures.AREAS} and not areas.duplicated(
            "metric region".split()
        ).any()
        holes = pack.test_masks("folder", 0).mean((1, 2))
        small = areas[(areas.region == "area_0_10") & (areas.metric == "l1")]
        assert small.n_images.item() == (holes <= 0.1).sum()
    for width in WIDE:
        hole = pack.test_masks("folder", width).sum((1, 2))
        assert (abs(hole / width**2 - 1) <= 0.25).all()
    holes = [loop.draw_holes(run_of(study, setup), 0, 12) for setup in ("fixed", "progressive")]
    assert torch.equal(*holes)
    baselines = evaluate.measure_baselines(study, "clutter")
    of_own = baselines[baselines.mask_family == "folder"]
    assert set(of_own[of_own.region == "hole"].mask_width) == {*WIDE}
    assert {0, *WIDE} == set(of_own.mask_width)


def test_from_the_command_line_to_the_table(own, tmp_path, output, capsys):
    grid = {"grid.architectures": ["custom", "context_encoder"], "grid.setups": ["fixed"]}
    trained(own(grid))
    settings = MICRO | grid | {"curriculum.mask_widths": WIDE}
    given = [f"--set={key}={json.dumps(value)}" for key, value in settings.items()]
    masks_given = ["--masks", str(tmp_path / "my masks")]
    assert not command.main(["smoke", *masks_given, *given, "--only", "tables"])
    said = capsys.readouterr().out
    assert re.search("clutter, folder: your own masks, 1.. for training.* and 33 others", said)
    assert re.search(r"own masks\n\n\| setup \| 0-10 % \| .* folder 0-10 % .*\n.*\n\| fixed", said)
    assert said.count("own masks\n\n") == 1
    table = pd.read_csv(output / "reports/smoke/tables/table.csv")
    rows = table[table.region.str.startswith("folder_area_")]
    assert {*rows.architecture} == {"custom"} and {"fixed", "Telea"} < {*rows.setup}
    assert not rows.duplicated("setup region metric".split()).any()
