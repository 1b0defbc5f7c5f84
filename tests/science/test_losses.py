import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from inpaint_lib import losses, models


@pytest.fixture
def images():
    g = torch.Generator().manual_seed(0)
    output, real = (torch.rand(3, 3, 16, 16, generator=g) * 2 - 1 for _ in range(2))
    return output, real, (torch.rand(3, 1, 16, 16, generator=g) > 0.7).float()


def reconstruction(architecture, *arguments, **options):
    return models.ARCHITECTURES[architecture].objective.reconstruction(*arguments, **options)


# D's and G's loss of score arrays, per scale
EXPECTED = {
    "lsgan": (
        lambda r, f: (np.mean((r - 1) ** 2) + np.mean(f**2)) / 2,
        lambda f: np.mean((f - 1) ** 2),
    ),
    "hinge": (
        lambda r, f: (np.maximum(1 - r, 0).mean() + np.maximum(1 + f, 0).mean()) / 2,
        lambda f: -f.mean(),
    ),
    "bce": (
        lambda r, f: (np.log1p(np.exp(-r)).mean() + np.log1p(np.exp(f)).mean()) / 2,
        lambda f: -np.log(1 / (1 + np.exp(-f))).mean(),
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_adversarial_losses_match_numpy_and_are_summed_over_scales(name):
    real, fake = ([torch.randn(2, 3, n, n).double() * 3 for n in (5, 4)] for _ in range(2))
    d_loss, g_loss = (getattr(losses, f"{name}_{network}") for network in "dg")
    expected_d, expected_g = EXPECTED[name]
    pairs = [(r.numpy(), f.numpy()) for r, f in zip(real, fake, strict=True)]
    assert np.isclose(d_loss(real, fake), sum(expected_d(r, f) for r, f in pairs))
    assert np.isclose(g_loss(fake), sum(expected_g(f) for _, f in pairs))


def test_the_context_encoders_loss_matches_numpy_with_and_without_overlap(images):
    output, real, _ = images
    mask = torch.zeros(3, 1, 16, 16)
    mask[:, :, 6:10, 6:10] = 1
    square = (output - real).square().numpy()
    found = reconstruction("context_encoder", [output], real, mask, None)
    assert np.isclose(found["mse"], square[:, :, 6:10, 6:10].mean())
    weighted = 10 * square[:, :, 4:12, 4:12]
    weighted[:, :, 2:6, 2:6] /= 10  # the hole within its ring of 2 px
    found = reconstruction("context_encoder", [output], real, mask, None, overlap=2)
    assert np.isclose(found["mse"], weighted.mean())
    mask[:, :, 4:12, 4:12] = 1  # the central half: nothing is predicted around it
    found = reconstruction("context_encoder", [output], real, mask, None, overlap=2)
    assert np.isclose(found["mse"], square[:, :, 4:12, 4:12].mean())


def test_free_forms_loss_is_the_l1_of_both_raw_stages(images):
    coarse, real, mask = images
    found = reconstruction("free_form", [coarse, coarse / 2], real, mask, None)
    assert np.isclose(found["l1_coarse"], np.abs((coarse - real).numpy()).mean())
    assert np.isclose(found["l1_refined"], np.abs((coarse / 2 - real).numpy()).mean())


def test_l1_matches_numpy_and_an_empty_region_costs_nothing(images):
    output, real, mask = images
    error, region = np.abs((output - real).numpy()), np.broadcast_to(mask.numpy(), output.shape) > 0
    assert np.isclose(losses.l1_region(output, real, mask), error[region].mean())
    assert np.isclose(losses.l1_region(output, real, 1 - mask), error[~region].mean())
    assert np.isclose(losses.l1_pixels(output, real, mask), (error * region).mean())
    assert losses.l1_region(output, real, torch.zeros_like(mask)) == 0


def test_customs_l1_is_of_regions_or_as_liu_et_als_of_pixels(images):
    """Protocol: 2 : 1 over regions is 6 : 1 over pixels when the hole covers a quarter."""
    output, real, _ = images
    mask = torch.zeros(3, 1, 16, 16)
    mask[:, :, :8, :8] = 1
    region, pixels = (
        reconstruction("custom", [output], real, mask, torch.sub, l1_normalisation=name)
        for name in ("region", "pixels")
    )
    by_region, by_pixels = (
        weight * terms["l1_hole"] + terms["l1_valid"]
        for weight, terms in ((2, region), (6, pixels))
    )
    assert torch.isclose(by_region, by_pixels / 0.75)
    assert torch.equal(region["perceptual"], output - real)  # of the raw output


def test_composite_changes_the_hole_alone(images):
    output, real, mask = images
    found = losses.composite(output, real, mask)
    assert torch.equal(found * (1 - mask), real * (1 - mask))
    assert torch.allclose(found * mask, output * mask)


def test_perceptual_matches_torchvisions_vgg16(images, tmp_path):
    from torchvision.models.vgg import cfgs, make_layers

    torch.manual_seed(0)
    vgg = torch.nn.ModuleDict({"features": make_layers(cfgs["D"])})
    state = vgg.state_dict()
    torch.save(state, tmp_path / "vgg.pth")
    half = {k: v.half() for k, v in state.items() if k.startswith("features.")}
    save_file(half, tmp_path / "vgg.safetensors")
    output, real, _ = images
    mean, std = (
        torch.tensor(values)[:, None, None]
        for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    )
    x, y, expected = (output / 2 + 0.5 - mean) / std, (real / 2 + 0.5 - mean) / std, 0.0
    for block in (vgg["features"][:5], vgg["features"][5:10], vgg["features"][10:17]):
        x, y = block(x), block(y)
        expected += (x - y).abs().mean()
    for file, tolerance in (("vgg.pth", 1e-4), ("vgg.safetensors", 1e-2)):
        found = losses.Perceptual(str(tmp_path / file))(output, real)
        assert torch.isclose(found, expected, rtol=tolerance)


def test_random_perceptual_weights_are_the_same_every_time_and_frozen(images):
    output, real, _ = images
    before = torch.get_rng_state()
    a, b = (losses.Perceptual("random", 8) for _ in range(2))
    assert a(output, real) == b(output, real) > 0 == a(real, real)
    assert not any(p.requires_grad for p in a.parameters())
    assert torch.equal(before, torch.get_rng_state())


def test_wrong_perceptual_weights_are_refused_by_name(tmp_path):
    (tmp_path / "broken.pth").write_bytes(b"junk")
    (tmp_path / "broken.safetensors").write_bytes(b"junk")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    for name, message in {
        "missing.pth": "perceptual_weights=.*missing.pth cannot be read",
        "broken.pth": "broken.pth cannot be read",
        "broken.safetensors": "broken.safetensors cannot be read",
        "other.pth": "other.pth is not a VGG-16 state dict",
    }.items():
        with pytest.raises(losses.WeightsError, match=message):
            losses.Perceptual(str(tmp_path / name))
    with pytest.raises(losses.WeightsError, match="perceptual_width is 8"):
        losses.Perceptual(str(tmp_path / "other.pth"), width=8)
