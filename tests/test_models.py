import pytest
import torch

from inpaint_lib import losses, models

SMALL = {"custom": {"generator_width": 8, "discriminator_width": 8}}
ARCHITECTURES = list(models.ARCHITECTURES)


def build(architecture, size=32, seed=0):
    return models.create(architecture, size, seed, **SMALL[architecture])


def inputs(size=32, batch=2, hole=8):
    real = torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    mask = torch.zeros(batch, 1, size, size)
    start = (size - hole) // 2
    mask[:, :, start : start + hole, start : start + hole] = 1
    return real, mask


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("size", [32, 36, 64, 128, 256])
def test_outputs_have_the_images_shape(architecture, size):
    G, D = build(architecture, size)
    real, mask = inputs(size, batch=1)
    with torch.inference_mode():
        stages = G(real * (1 - mask), mask)
        scores = losses.scores(D(losses.OBJECTIVES[architecture].seen(stages[-1], real, mask)))
    assert all(stage.shape == real.shape and stage.abs().max() <= 1 for stage in stages)
    assert all(score.shape[:2] == (1, 1) and score.isfinite().all() for score in scores)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_parameter_gets_a_gradient(architecture):
    G, D = build(architecture)
    real, mask = inputs()
    objective = losses.OBJECTIVES[architecture]
    stages = G(real * (1 - mask), mask)
    terms = objective.reconstruction(stages, real, mask, losses.Perceptual("random", 4), losses.l1_region)
    adversarial = objective.adversarial[1](losses.scores(D(objective.seen(stages[-1], real, mask))))
    (sum(terms.values()) + adversarial).backward()
    for network in (G, D):
        for name, p in network.named_parameters():
            assert p.grad is not None and p.grad.isfinite().all(), name
            # a bias before instance norm without affine has no effect
            assert p.grad.abs().sum() > 0 or name.endswith("bias"), name
    assert set(terms) == set(objective.terms)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("hole", [1, 16, 32])
def test_no_nan_at_any_hole_size(architecture, hole):
    G, _ = build(architecture)
    real, mask = inputs(hole=hole)
    assert all(stage.isfinite().all() for stage in G(real * (1 - mask), mask))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_state_dict_round_trip_and_eval_determinism(architecture):
    (G, _), (other, _) = build(architecture), build(architecture, seed=1)
    real, mask = inputs()
    other.load_state_dict(G.state_dict())
    with torch.inference_mode():
        assert torch.equal(G.eval()(real, mask)[-1], other.eval()(real, mask)[-1])
        assert torch.equal(G(real, mask)[-1], G(real, mask)[-1])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_double_precision_works(architecture):
    G, _ = build(architecture)
    real, mask = inputs()
    assert G.double()(real.double(), mask.double())[-1].dtype == torch.float64


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_weights_depend_on_the_seed_alone(architecture):
    before = torch.get_rng_state()
    (a, d), (b, e), (c, _) = build(architecture), build(architecture), build(architecture, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert all(torch.equal(x, y) for x, y in zip(d.parameters(), e.parameters(), strict=True))
    assert any(not torch.equal(x, y) for x, y in zip(a.parameters(), c.parameters(), strict=True))


def test_wrong_requests_are_named():
    with pytest.raises(ValueError, match="unknown architecture 'unet'"):
        models.create("unet")
    with pytest.raises(ValueError, match="custom has no width 'depth'"):
        models.create("custom", depth=3)
    for size in (28, 34, 260):
        with pytest.raises(ValueError, match=f"multiples of 4, not {size}"):
            models.create("custom", size)


def test_custom_is_the_network_of_figure_1():
    """Down to a quarter, two residual blocks, filters doubling each time; mirrored; bilinear; instance norm throughout."""
    G, D = models.create("custom", 128)
    table = models.layer_table(G, 128)
    assert list(table.layer) == [f"encoder.{i}" for i in range(4)] + [f"decoder.{i}" for i in range(4)] + ["to_rgb"]
    assert list(table.kind) == ["GatedConv"] * 2 + ["ResidualBlock"] * 4 + ["GatedConv"] * 2 + ["Conv2d"]
    assert list(table.output) == [
        "64 x 64 x 64", "128 x 32 x 32", "256 x 32 x 32", "512 x 32 x 32",
        "256 x 32 x 32", "128 x 32 x 32", "64 x 64 x 64", "32 x 128 x 128", "3 x 128 x 128",
    ]  # fmt: skip
    kinds = {type(m).__name__ for m in (*G.modules(), *D.modules())}
    assert "InstanceNorm2d" in kinds and not {"BatchNorm2d", "ConvTranspose2d"} & kinds


def test_customs_discriminator_returns_the_features_of_five_layers_at_every_scale():
    _, D = models.create("custom", 128, scales=3)
    outputs = D(torch.zeros(1, 3, 128, 128))
    assert len(outputs) == 3
    for features in outputs:
        assert [f.shape[1] for f in features] == [64, 128, 256, 512, 512, 1]
