import functools
import json
import subprocess
import sys
import typing

import jsonschema
import pytest
import yaml

from inpaint_lib.data import sources
from inpaint_lib.study import config
from tests.conftest import repository
from workflow.schema import schema as schema_of


@pytest.mark.parametrize("profile", config.profiles())
def test_every_profile_loads(profile):
    assert config.load(profile).steps > 0


@pytest.mark.parametrize("profile", config.profiles())
def test_every_key_of_a_profile_is_commented_or_plain(profile):
    text = (config.FOLDER / f"{profile}.yaml").read_text()
    assert text.startswith(f"# yaml-language-server: $schema=schema.json\n# {profile}:")
    assert set(yaml.safe_load(text)) == set(config.Config.model_fields) - {"without"}  # no profile needs it


@pytest.fixture
def schema():
    return json.loads((config.FOLDER / "schema.json").read_text())


def test_the_schema_for_editors_is_fresh(schema):
    assert schema == json.loads(json.dumps(schema_of())), "python -m workflow.schema writes it anew"


@pytest.mark.parametrize("profile", config.profiles())
def test_the_schema_takes_every_profile(schema, profile):
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load((config.FOLDER / f"{profile}.yaml").read_text()))


@pytest.mark.parametrize(
    ("key", "value"),
    [("batchsize", 8), ("batch_size", "many"), ("threads", 0), ("setups", ["fixd"]), ("precision", "float16"),
     ("models.custom.loss_weights.mse", 1.0), ("models.custom.loss_weights.l1_hole", -1.0), ("models.custom.widths.depth", 3),
     ("models.context_encoder.mask_family", "square")],
)  # fmt: skip
def test_the_schema_refuses_what_loading_refuses(schema, key, value):
    data = yaml.safe_load((config.FOLDER / "smoke.yaml").read_text())
    *parents, last = key.split(".")
    functools.reduce(dict.__getitem__, parents, data)[last] = value
    assert list(jsonschema.Draft202012Validator(schema).iter_errors(data))
    with pytest.raises(config.ConfigError):
        config.checked(config.Config, data, "smoke.yaml")


def test_the_data_sets_are_those_there_are():
    assert set(typing.get_args(config.Dataset)) == set(sources.DATASETS)


def test_an_unknown_profile_names_the_known_ones():
    with pytest.raises(config.ConfigError, match="no profile 'tny': choose one of .*tiny"):
        config.load("tny")


def test_unknown_and_missing_keys_fail_by_name(tmp_path):
    data = yaml.safe_load((config.FOLDER / "smoke.yaml").read_text())
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(data | {"batchsize": 8}))
    with pytest.raises(config.ConfigError, match="own.yaml: unknown key 'batchsize'"):
        config.load(path)
    del data["batch_size"]
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(config.ConfigError, match="own.yaml: key 'batch_size' is missing"):
        config.load(path)
    path.write_text("a: [")
    with pytest.raises(config.ConfigError, match="own.yaml: not valid YAML"):
        config.load(path)
    path.write_text("- 1")
    with pytest.raises(config.ConfigError, match="own.yaml: expected keys and values"):
        config.load(path)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"nonsense": 1}, "there is no such key"),
        ({"models.custom.nonsense": 1}, "models.custom.nonsense"),
        ({"batch_size": "many"}, "batch_size: expected a whole number"),
        ({"batch_size": True}, "batch_size: expected a whole number"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 7}, "total_images: not a multiple of batch_size"),
        ({"mask_widths": [4, 8, 16]}, "do not divide into 3 stages"),
        ({"mask_widths": [16, 8]}, "must grow"),
        ({"mask_widths": [8, 64]}, r"1 \.\. image_size"),
        ({"mask_widths": []}, "stages"),
        ({"setups": ["fixd"]}, "setups: no 'fixd'; there are: adv_ramp, fixed, last_only, mixed, progressive, "
            "recon_first, recon_first_rest, recon_only"),
        ({"setups": []}, "setups: give at least one"),
        ({"datasets": ["celeba", "celeba"]}, "each once"),
        ({"models.custom.betas": [0.5]}, "expected two values"),
        ({"models.custom.mask_family": "circle"}, "mask_family: no 'circle'"),
        ({"models.custom.loss_weights": {"l1_hole": 1}}, "give exactly"),
        ({"models.context_encoder.mask_family": "square"}, "context_encoder.mask_family: no 'square'; there are: center"),
        ({"models.custom.loss_weights.l1_hole": "much"}, "l1_hole: expected a number"),
        ({"models.custom.loss_weights.l1_hole": -1}, "l1_hole: must be 0 or more"),
        ({"models.custom.loss_options.l1_normalisation": "areas"}, "l1_normalisation: 'areas' is not possible"),
        ({"models.context_encoder.loss_options": {"overlp": 4}}, "loss_options: give exactly overlap"),
        ({"mask_widths": [8, 20]}, "context_encoder fills holes up to half the image"),
        ({"image_size": 40}, "context_encoder takes image sizes 32 to 256, powers of two, not 40"),
        ({"models.custom.widths": {"depth": 3}}, "widths: no 'depth'"),
        ({"image_size": 34, "architectures": ["custom"]}, "multiples of 4"),
        ({"device": "tpu"}, "device: no 'tpu'"),
        ({"precision": "float16"}, "precision"),
        ({"seeds": []}, "seeds: give at least one"),
        ({"seeds": [0, 0, 0]}, "seeds: .* each once"),
        ({"data_seed": -1}, "data_seed: must be 0 or more, not -1"),
        ({"device": "cuda:x"}, "device: 'cuda:x' is none"),
        ({"models.custom.lr_g": float("nan")}, "lr_g: expected a number, got nan"),
        ({"models.custom.lr_g": -1}, "models.custom.lr_g: must be above 0, not -1.0"),
        ({"models.custom.betas": [0.5, 2]}, "models.custom.betas: must be below 1, not 2.0"),
        ({"models.custom.widths.generator_width": "abc"}, "models.custom.widths: no network can be built"),
        ({"models.custom.widths.generator_width": 0}, "models.custom.widths: no network can be built"),
        ({"models.free_form.widths.discriminator": "patch7"}, "free_form has no discriminator 'patch7'"),
        ({"perceptual_weights": "torchvision"}, "only 'random' weights take other than 64"),
        ({"perceptual_weights": "vgg.pth", "perceptual_width": 64}, "no file vgg.pth"),
    ],
)
def test_a_wrong_setting_is_named(overrides, message):
    with pytest.raises(config.ConfigError, match=message):
        config.load("smoke", overrides)


def test_an_override_reaches_its_key():
    loaded = config.load("smoke", {"models.custom.lr_g": "1e-4", "models.custom.loss_weights.adversarial": "1e-2"})
    assert loaded.models["custom"].lr_g == 1e-4 and loaded.models["custom"].loss_weights["adversarial"] == 0.01


def test_identity_ignores_what_cannot_change_a_result():
    def settings(**overrides):
        return config.run_settings(config.load("smoke", overrides), "faces", "custom", "fixed", 0)

    machine = {"jobs": 7, "loading": "prefetch", "cuda_graph": "off", "deterministic": "on", "checkpoint_seconds": 1}
    assert settings(**machine, device="cpu") == settings()
    changes = {"threads": 2, "log_every": 3, "precision": "bfloat16", "models.custom.lr_g": 1e-3, "mask_widths": [16]}
    for change in ({key: value} for key, value in changes.items()):
        assert settings(**change) != settings()


def test_checking_a_configuration_does_not_load_torchs_compiler():
    """Two seconds that a notebook which does not train need not spend."""
    code = "import sys; from inpaint_lib.study import config; config.load('smoke'); sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=repository(), check=False).returncode == 0
