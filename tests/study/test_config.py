import json

import pytest
import yaml

from inpaint_lib.data import packs
from inpaint_lib.setups import SETUPS
from inpaint_lib.study import config, grid
from inpaint_lib.study.provenance import flatten


@pytest.fixture
def own(tmp_path):
    """own(text, name) writes a profile and returns its path."""

    def write(text, name="own"):
        path = tmp_path / f"{name}.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def read(name):
    return yaml.safe_load((config.FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))


def test_base_and_hypotheses_are_no_profiles():
    assert {"tiny", "smoke"} < set(
        config.list_profiles()
    ) and "hypotheses" not in config.list_profiles()
    with pytest.raises(config.ConfigError, match="unknown profile 'base'"):
        config.load("base")


def test_base_has_every_key_and_explains_it():
    base = read("base")
    for name, field in config.Config.model_fields.items():
        assert name in base
        if name not in ("models", "extensions", "initial_weights"):
            assert set(base[name]) == set(field.annotation.model_fields)
    lines = (config.FOLDER / "base.yaml").read_text(encoding="utf-8").splitlines()
    values = [line for line in lines if line.strip() and not line.endswith(":")]
    assert sum("#" in line for line in values) > 0.75 * len(values)


@pytest.mark.parametrize("profile", config.list_profiles())
def test_a_profile_loads_and_names_only_what_differs(profile):
    assert config.load(profile).curriculum.steps > 0
    own = read(profile)
    parent = own.pop("extends")
    below = config.validate(config.Config, read("base"), "base")
    below = flatten(config.to_dict(below if parent == "base" else config.load(parent)))
    same = [key for key, value in flatten(own).items() if value == below.get(key)]
    widths = 6  # which belong together and are read together
    assert len(same) <= widths, same


def test_extends_lays_one_profile_over_another(own):
    loaded = config.load(own("extends: tiny\nmodels: {custom: {lr_g: 1e-4}}\n"))
    assert loaded.training.log_every == config.load("tiny").training.log_every
    assert loaded.models["custom"].lr_g == 1e-4
    assert loaded.models["custom"].lr_d == config.load("tiny").models["custom"].lr_d


PATHS = """
extends: smoke
machine: {data_root: photos, masks: ../masks}
training: {perceptual_weights: vgg.pth, perceptual_width: 64}
evaluation: {inception_weights: there.pth}
"""


def test_paths_are_relative_to_the_profiles_folder_and_not_to_the_current_one(
    own, tmp_path, monkeypatch
):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for name in ("vgg.pth", "there.pth", "elsewhere/there.pth", "elsewhere/here.pth"):
        (tmp_path / name).touch()
    loaded = config.load(own(PATHS + "initial_weights: tiny/faces/custom/fixed/seed0\n"))
    folders = loaded.machine.data_root, loaded.machine.masks
    assert folders == (f"{tmp_path}/photos", f"{tmp_path.parent}/masks")
    assert loaded.training.perceptual_weights == f"{tmp_path}/vgg.pth"
    assert loaded.evaluation.inception_weights == f"{tmp_path}/there.pth"
    assert loaded.evaluation.lpips_weights == "none"
    assert loaded.initial_weights == "tiny/faces/custom/fixed/seed0"
    with pytest.raises(config.ConfigError, match=f"unknown '{tmp_path}/here.pth'"):
        config.load(own("extends: smoke\nevaluation: {inception_weights: here.pth}"))


def test_extends_goes_two_levels_deep_and_names_missing_files(own):
    own("extends: tiny\n", "one")
    with pytest.raises(config.ConfigError, match="at most two levels"):
        config.load(own("extends: one\n"))
    with pytest.raises(config.ConfigError, match="own.yaml: extends: 'nothing': unknown profile"):
        config.load(own("extends: nothing\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: smoke\nbatchsize: 8", "own.yaml: batchsize: unknown key"),
        ("extends: smoke\ndata: {imagesize: 8}", "own.yaml: data.imagesize: unknown key"),
        ("grid: {}", "own.yaml: .*this key is missing"),
        ("a: [", "own.yaml is not valid YAML"),
        ("- 1", "own.yaml: expected keys and values"),
    ],
)
def test_unknown_and_missing_keys_fail_by_name(own, text, message):
    with pytest.raises(config.ConfigError, match=message):
        config.load(own(text))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("nonsense", 1, "unknown key"),
        ("log_every", 5, "did you mean training.log_every"),
        ("models.custom.nonsense", 1, "unknown key"),
        ("curriculum.batch_size", "many", "curriculum.batch_size: .*integer, not 'many'"),
        ("curriculum.batch_size", True, "curriculum.batch_size: .*integer"),
        ("curriculum.batch_size", 0, "greater than or equal to 1, not 0"),
        ("curriculum.batch_size", 7, "curriculum: total_images must be a multiple of 21: batch"),
        ("curriculum.mask_widths", [1, 2, 4, 6, 8, 12, 16], "56: batch_size 8 x 7 mask_widths"),
        ("curriculum.mask_widths", [16, 8, 4], "must grow"),
        (
            "curriculum.mask_widths",
            [8, 16, 64],
            "curriculum.mask_widths: at most 32, as data.image_size",
        ),
        ("curriculum.mask_widths", [], "mask_widths: .*at least 1 item"),
        (
            "grid.setups",
            ["fixd"],
            f"grid.setups.0: unknown 'fixd': choose one of {', '.join(SETUPS)}",
        ),
        ("grid.setups", [], "grid.setups: .*at least 1 item"),
        ("grid.datasets", ["celeba", "celeba"], "each only once"),
        ("models.custom.betas", [0.5], "models.custom.betas.1: this key is missing"),
        ("models.custom.betas", [0.5, 2], "models.custom.betas.1: .*less than 1, not 2"),
        ("models.custom.mask_family", "circle", "mask_family: unknown 'circle'"),
        ("models.context_encoder.mask_family", "square", "unknown 'square': choose one of center"),
        ("models.custom.loss_weights", {"l1_hole": 1}, "loss_weights: give exactly"),
        ("models.custom.loss_weights.l1_hole", "much", "l1_hole: .*valid number"),
        ("models.custom.loss_weights.l1_hole", -1, "l1_hole: .*greater than or equal to 0"),
        ("models.custom.loss_options.l1_normalisation", "areas", "'areas' is not allowed"),
        ("models.context_encoder.loss_options", {"overlp": 4}, "give exactly overlap"),
        ("data.test_images", 1, "data.test_images: batch norm of context_encoder needs two images"),
        ("models.custom.widths", {"depth": 3}, "no width 'depth'"),
        ("models.custom.widths.generator_width", "abc", "no network can be built"),
        ("models.custom.widths.generator_width", 0, "no network can be built"),
        ("models.free_form.widths.discriminator", "patch7", "no discriminator 'patch7'"),
        ("models.custom.lr_g", float("nan"), "lr_g: .*finite number"),
        ("models.custom.lr_g", -1, "models.custom.lr_g: .*greater than 0, not -1"),
        ("data.image_size", 40, "context_encoder takes image sizes 32 to 256"),
        ("data.seed", -1, "data.seed: .*greater than or equal to 0, not -1"),
        ("machine.device", "tpu", "machine.device: .*auto.cpu.mps.cuda.*, not 'tpu'"),
        ("machine.device", "cuda:x", "machine.device: .*not 'cuda:x'"),
        ("training.precision", "float16", "training.precision: .*'bfloat16', not 'float16'"),
        ("training.perceptual_weights", "torchvision", "weights need 64"),
        (
            "training.perceptual_weights",
            "vgg.pth",
            "unknown 'vgg.pth': choose one of torchvision, random, or a file",
        ),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(key, value, message):
    with pytest.raises(config.ConfigError, match=message) as raised:
        config.load("smoke", {key: value})
    assert "\n" not in str(raised.value)


def test_an_override_reaches_its_key():
    rates = {"models.custom.lr_g": "1e-4", "models.custom.loss_weights.adversarial": "1e-2"}
    model = config.load("smoke", rates).models["custom"]
    assert (model.lr_g, model.loss_weights["adversarial"]) == (1e-4, 0.01)


def test_a_configuration_survives_json():
    loaded = config.load("smoke")
    again = json.loads(json.dumps(config.to_dict(loaded)))
    assert config.validate(config.Config, again, "json") == loaded


def test_studies_on_a_cpu_name_their_precision():
    for profile in ("smoke", "tiny", "small", "medium"):
        assert config.load(profile).training.precision == "float32"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\nx.nothing\n", "line 2: AttributeError"),
        ("import json\n\njson.loads('{')\n", "line 3: JSONDecodeError"),
        ("x = 1\nx = = 2\n", "line 2: SyntaxError"),
        ("x = 1\nimport other\n", "line 2: SyntaxError"),
        ("x = '\0'\n", "SyntaxError|ValueError"),
    ],
)
def test_an_extension_that_fails_is_named_with_its_line(own, tmp_path, monkeypatch, text, message):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "other.py").write_text("\n\n\nx = = 2\n")
    (tmp_path / "broken.py").write_text(text)
    with pytest.raises(config.ConfigError, match=f"extensions: .*broken.py.*{message}"):
        config.load(own("extends: smoke\nextensions: [broken.py]\n"))


def test_an_extension_that_is_missing_is_named(own):
    with pytest.raises(config.ConfigError, match="extensions: there is no file .*missing.py"):
        config.load(own("extends: smoke\nextensions: [missing.py]\n"))


def test_holes_that_one_architecture_cannot_fill_are_refused_for_its_runs_alone(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("INPAINT_OUTPUT", str(tmp_path))
    few = {"data.train_images": 8, "data.test_images": 2}
    wide = grid.open_study("smoke", {"curriculum.mask_widths": [8, 16, 20]} | few)
    pack = packs.prepare(wide, "faces")  # as 00_data_prep does, which knows nothing of the grid
    assert pack.widths["square"] == [8, 16, 20]
    with pytest.raises(config.ConfigError, match="context_encoder fills holes up to 16 px wide"):
        wide.runs()
    assert grid.Run(wide, "faces", "custom", "fixed", 0).phase(0).mask_width == 20


def test_runs_that_ended_outside_the_grid_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv("INPAINT_OUTPUT", str(tmp_path))
    study = grid.open_study("smoke", {"grid.setups": ["fixed"]})
    for setup in ("mixed", "fixed"):
        folder = study.folder / f"faces/custom/{setup}/seed0"
        folder.mkdir(parents=True)
        (folder / "result.json").write_text("{}")
    assert study.ended_elsewhere() == [study.folder / "faces/custom/mixed/seed0"]
