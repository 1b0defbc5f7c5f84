import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from inpaint_lib import losses


@pytest.fixture
def images():
    g = torch.Generator().manual_seed(0)
    output, real = (torch.rand(3, 3, 16, 16, generator=g) * 2 - 1 for _ in range(2))
    mask = (torch.rand(3, 1, 16, 16, generator=g) > 0.7).float()
    return output, real, mask


def test_lsgan_matches_numpy():
    real, fake = ([torch.randn(2, 1, n, n) for n in (5, 3)] for _ in range(2))
    expected_d = sum(0.5 * (np.mean((r.numpy() - 1) ** 2) + np.mean(f.numpy() ** 2)) for r, f in zip(real, fake, strict=True))
    expected_g = sum(np.mean((f.numpy() - 1) ** 2) for f in fake)
    assert np.isclose(losses.lsgan_d(real, fake), expected_d, rtol=1e-6)
    assert np.isclose(losses.lsgan_g(fake), expected_g, rtol=1e-6)


def test_a_perfect_discriminator_has_no_loss():
    assert losses.lsgan_d([torch.ones(1, 1, 4, 4)], [torch.zeros(1, 1, 4, 4)]) == 0
    assert losses.lsgan_g([torch.ones(1, 1, 4, 4)]) == 0


def test_hinge_matches_numpy():
    real, fake = ([torch.randn(2, 3, n, n)] for n in (4, 5))
    r, f = real[0].numpy(), fake[0].numpy()
    expected = np.maximum(1 - r, 0).mean() / 2 + np.maximum(1 + f, 0).mean() / 2
    assert np.isclose(losses.hinge_d(real, fake), expected, rtol=1e-6)
    assert np.isclose(losses.hinge_g(fake), -f.mean(), rtol=1e-5)


def test_bce_matches_numpy():
    real, fake = ([torch.randn(8, 1, 1, 1) * 3] for _ in range(2))
    r, f = (1 / (1 + np.exp(-t[0].double().numpy())) for t in (real, fake))
    assert np.isclose(losses.bce_d(real, fake), (-np.log(r).mean() - np.log(1 - f).mean()) / 2, rtol=1e-5)
    assert np.isclose(losses.bce_g(fake), -np.log(f).mean(), rtol=1e-5)


def test_the_context_encoders_loss_matches_numpy_with_and_without_overlap(images):
    output, real, _ = images
    mask = torch.zeros(3, 1, 16, 16)
    mask[:, :, 6:10, 6:10] = 1
    square = (output - real).square().numpy()
    reconstruction = losses.OBJECTIVES["context_encoder"].reconstruction
    assert np.isclose(reconstruction([output], real, mask, None)["mse"], square[:, :, 6:10, 6:10].mean(), rtol=1e-5)
    weighted = 10 * square[:, :, 4:12, 4:12]
    weighted[:, :, 2:6, 2:6] /= 10  # the hole within its ring of 2 px
    assert np.isclose(reconstruction([output], real, mask, None, overlap=2)["mse"], weighted.mean(), rtol=1e-5)


def test_free_forms_loss_is_the_l1_of_both_raw_stages(images):
    coarse, real, mask = images
    refined = coarse * 0.5
    found = losses.OBJECTIVES["free_form"].reconstruction([coarse, refined], real, mask, None)
    assert np.isclose(found["l1_coarse"], np.abs((coarse - real).numpy()).mean(), rtol=1e-5)
    assert np.isclose(found["l1_refined"], np.abs((refined - real).numpy()).mean(), rtol=1e-5)


@pytest.mark.parametrize("architecture", losses.OBJECTIVES)
def test_the_discriminator_is_shown_the_same_of_real_and_output(images, architecture):
    output, real, mask = images
    seen = losses.OBJECTIVES[architecture].seen
    assert seen(output, real, mask).shape == seen(real, real, mask).shape
    expected = {"custom": real, "context_encoder": real[:, :, 4:12, 4:12], "free_form": torch.cat([real, mask], 1)}
    assert torch.equal(seen(real, real, mask), expected[architecture])
    if architecture != "custom":  # composite: known pixels are real
        assert torch.equal(seen(output, real, mask * 0), seen(real, real, mask * 0))


def test_l1_matches_numpy(images):
    output, real, mask = images
    error, region = np.abs((output - real).numpy()), np.broadcast_to(mask.numpy(), output.shape) > 0
    assert np.isclose(losses.l1_region(output, real, mask), error[region].mean(), rtol=1e-5)
    assert np.isclose(losses.l1_region(output, real, 1 - mask), error[~region].mean(), rtol=1e-5)
    assert np.isclose(losses.l1_pixels(output, real, mask), (error * region).mean(), rtol=1e-5)


def test_region_weights_equal_the_partial_convolution_weights_at_the_final_hole(images):
    """Protocol: 2 : 1 over regions is 6 : 1 over pixels when the hole covers a quarter."""
    output, real, _ = images
    mask = torch.zeros(3, 1, 16, 16)
    mask[:, :, :8, :8] = 1
    by_region = 2 * losses.l1_region(output, real, mask) + losses.l1_region(output, real, 1 - mask)
    by_pixels = 6 * losses.l1_pixels(output, real, mask) + losses.l1_pixels(output, real, 1 - mask)
    assert torch.isclose(by_region, by_pixels / 0.75)


def test_an_empty_region_costs_nothing(images):
    output, real, mask = images
    assert losses.l1_region(output, real, torch.zeros_like(mask)) == 0


def test_composite_changes_the_hole_alone(images):
    output, real, mask = images
    found = losses.composite(output, real, mask)
    assert torch.equal(found * (1 - mask), real * (1 - mask))
    assert torch.allclose(found * mask, output * mask)


def test_perceptual_matches_torchvisions_vgg16(images, tmp_path):
    from torchvision.models.vgg import cfgs, make_layers

    torch.manual_seed(0)
    vgg = torch.nn.ModuleDict({"features": make_layers(cfgs["D"])})
    torch.save(vgg.state_dict(), tmp_path / "vgg.pth")
    save_file({k: v.half() for k, v in vgg.state_dict().items() if k.startswith("features.")}, tmp_path / "vgg.safetensors")
    output, real, _ = images
    mean, std = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    x, y, expected = (output / 2 + 0.5 - mean) / std, (real / 2 + 0.5 - mean) / std, 0.0
    for block in (vgg["features"][:5], vgg["features"][5:10], vgg["features"][10:17]):
        x, y = block(x), block(y)
        expected += (x - y).abs().mean()
    assert torch.isclose(losses.Perceptual(str(tmp_path / "vgg.pth"))(output, real), expected, rtol=1e-4)
    assert torch.isclose(losses.Perceptual(str(tmp_path / "vgg.safetensors"))(output, real), expected, rtol=1e-2)


def test_random_perceptual_weights_are_the_same_every_time_and_frozen(images):
    output, real, _ = images
    a, b = (losses.Perceptual("random", 8) for _ in range(2))
    assert a(output, real) == b(output, real) > 0
    assert a(real, real) == 0
    assert not any(p.requires_grad for p in a.parameters())


def test_wrong_perceptual_weights_are_refused_by_name(tmp_path):
    (tmp_path / "broken.pth").write_bytes(b"junk")
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="perceptual_weights: cannot read .*missing.pth"):
        losses.Perceptual(str(tmp_path / "missing.pth"))
    with pytest.raises(ValueError, match="cannot read .*broken.pth"):
        losses.Perceptual(str(tmp_path / "broken.pth"))
    with pytest.raises(ValueError, match="other.pth is no VGG-16 state dict"):
        losses.Perceptual(str(tmp_path / "other.pth"))
    with pytest.raises(ValueError, match="perceptual_width is 8"):
        losses.Perceptual(str(tmp_path / "other.pth"), width=8)
