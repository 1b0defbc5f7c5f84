import numpy as np
import pytest
import torch

from inpaint_lib import losses, models
from inpaint_lib.models import free_form, layers

SMALL = {
    "custom": {"generator_width": 8, "discriminator_width": 8},
    "context_encoder": {"generator_width": 8, "discriminator_width": 8, "bottleneck": 32},
    "free_form": {"generator_width": 4, "discriminator_width": 4},
}
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
@pytest.mark.parametrize("size", [32, 40, 64, 128, 256])
def test_outputs_have_the_images_shape(architecture, size):
    if not models.ARCHITECTURES[architecture].accepts(size):
        with pytest.raises(ValueError, match=models.ARCHITECTURES[architecture].SIZES):
            build(architecture, size)
        return
    G, D = build(architecture, size)
    real, mask = inputs(size)
    with torch.inference_mode():
        stages = G(real * (1 - mask), mask)
        scores = losses.scores(D(losses.OBJECTIVES[architecture].seen(stages[-1], real, mask)))
    assert all(stage.shape == real.shape and stage.abs().max() <= 1 for stage in stages)
    assert all(score.isfinite().all() for score in scores)
    assert {type(stages), type(scores)} == {list}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_parameter_gets_a_gradient(architecture):
    size = 64  # at 32 px every patch of free_form's attention touches this hole, and nothing can be copied
    G, D = build(architecture, size)
    real, mask = inputs(size)
    objective = losses.OBJECTIVES[architecture]
    stages = G(real * (1 - mask), mask)
    terms = objective.reconstruction(stages, real, mask, losses.Perceptual("random", 4))
    adversarial = objective.adversarial[1](losses.scores(D(objective.seen(stages[-1], real, mask))))
    (sum(terms.values()) + adversarial).backward()
    for network in (G, D):
        for name, p in network.named_parameters():
            assert p.grad is not None and p.grad.isfinite().all(), name
            # a bias before instance norm without affine has no effect
            assert p.grad.abs().sum() > 0 or name.endswith("bias"), name
    assert set(terms) == set(objective.terms)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("hole", [1, 2, 16, 32])
def test_nothing_becomes_nan_at_any_hole_size(architecture, hole):
    """One pixel to the whole image, forward and backward; the context encoder takes no more than the central half."""
    G, _ = build(architecture)
    real, mask = inputs(hole=hole)
    if architecture == "context_encoder" and hole > 16:
        with pytest.raises(ValueError, match="central holes up to half the image"):
            G(real * (1 - mask), mask)
        return
    stages = G(real * (1 - mask), mask)
    sum(stage.square().mean() for stage in stages).backward()
    assert all(stage.isfinite().all() for stage in stages)
    assert all(p.grad.isfinite().all() for p in G.parameters())


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
def test_a_network_moves_to_another_device_whole(architecture):
    """On the shapes-only device an operation with a tensor left behind on the CPU would fail."""
    G, D = (network.to("meta") for network in build(architecture))
    real, mask = (t.to("meta") for t in inputs())
    stages = G.train()(real, mask) if architecture == "context_encoder" else G(real, mask)
    assert stages[-1].device.type == "meta" and stages[-1].shape == real.shape
    assert losses.scores(D(losses.OBJECTIVES[architecture].seen(stages[-1], real, mask)))[0].device.type == "meta"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_weights_depend_on_the_seed_alone(architecture):
    before = torch.get_rng_state()
    (a, d), (b, e), (c, _) = build(architecture), build(architecture), build(architecture, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))
    assert all(torch.equal(x, y) for x, y in zip(d.state_dict().values(), e.state_dict().values(), strict=True))
    assert any(not torch.equal(x, y) for x, y in zip(a.parameters(), c.parameters(), strict=True))


def test_wrong_requests_are_named():
    with pytest.raises(ValueError, match="unknown architecture 'unet'"):
        models.create("unet")
    with pytest.raises(ValueError, match="custom has no width 'depth'"):
        models.create("custom", depth=3)
    for size in (28, 34, 260):
        with pytest.raises(ValueError, match=f"multiples of 4, not {size}"):
            models.create("custom", size)
    with pytest.raises(ValueError, match="free_form has no discriminator 'patch7'"):
        models.create("free_form", 64, discriminator="patch7")


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


def test_parameter_counts_are_the_references():
    """Yu et al.: 4,052,478 less the input channel of ones (5 x 5 x 48), and 5,946,816. Pathak et al.: 71.12 M, 2.77 M."""
    G, D = models.create("free_form", 128)
    assert models.n_parameters(G) == 4_052_478 - 5 * 5 * 48
    assert models.n_parameters(D) == 5_946_816
    G, D = models.create("context_encoder", 128)
    assert round(models.n_parameters(G) / 1e6, 2) == 71.12 and round(models.n_parameters(D) / 1e6, 2) == 2.77


def test_free_forms_discriminators_have_the_published_maps_and_receptive_fields():
    image = torch.zeros(1, 4, 128, 128, requires_grad=True)
    _, D = models.create("free_form", 128)
    assert losses.scores(D(image))[0].shape == (1, 256, 2, 2)
    _, D = models.create("free_form", 128, discriminator="patch70", discriminator_width=4)
    score = losses.scores(D(image + torch.randn(1, 4, 128, 128)))[0]
    assert score.shape == (1, 1, 14, 14)
    touched = torch.autograd.grad(score[0, 0, 7, 7], image)[0][0].abs().sum(0) > 0
    assert touched.any(0).sum() == 70 == touched.any(1).sum()


def slow_attention(features, mask):
    """Contextual attention of one sample as written down in Yu et al. 2018, with loops and its own mask: (C,h,w), (h,w)."""
    channels, height, width = features.shape
    rows, cols = height // 2, width // 2
    cells = [(i, j) for i in range(rows) for j in range(cols)]
    small = np.pad(features[:, ::2, ::2], ((0, 0), (1, 1), (1, 1)))
    holes = np.pad(mask.reshape(rows, 2, cols, 2).max((1, 3)), 1)
    patch = {(i, j): small[:, i : i + 3, j : j + 3].ravel() for i, j in cells}
    valid = {(i, j): holes[i : i + 3, j : j + 3].max() == 0 for i, j in cells}
    score = np.array([[patch[k] @ patch[q] / max(np.linalg.norm(patch[k]), 1e-4) for q in cells] for k in cells])
    for order in (cells, sorted(cells, key=lambda c: (c[1], c[0]))):  # neighbours along rows, then along columns
        at = [cells.index(c) for c in order]
        padded = np.pad(score[np.ix_(at, at)], 1)
        fused = padded[:-2, :-2] + padded[1:-1, 1:-1] + padded[2:, 2:]
        back = np.argsort(at)
        score = fused[np.ix_(back, back)]
    known = np.array([valid[c] for c in cells], float)[:, None]
    weight = np.exp(10 * score * known - (10 * score * known).max(0))
    weight = weight / weight.sum(0) * known
    padded, out = np.pad(features, ((0, 0), (1, 1), (1, 1))), np.zeros((channels, height + 2, width + 2))
    for q, (i, j) in enumerate(cells):
        for k, (y, x) in enumerate(cells):
            out[:, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += weight[k, q] * padded[:, 2 * y : 2 * y + 4, 2 * x : 2 * x + 4]
    return out[:, 1:-1, 1:-1] / 4


def test_contextual_attention_matches_a_slow_loop_with_each_samples_own_mask():
    g = torch.Generator().manual_seed(0)
    features = torch.rand(3, 4, 8, 12, generator=g) - 0.3
    mask = torch.zeros(3, 1, 8, 12)
    mask[0, :, 2:4, 2:6] = 1
    mask[1, :, 5:8, 7:] = 1
    mask[2] = 1  # nothing to copy from
    found = free_form.ContextualAttention()(features, mask).numpy()
    for k in range(3):
        expected = slow_attention(features[k].double().numpy(), mask[k, 0].numpy())
        assert np.allclose(found[k], expected, atol=1e-4)
    assert np.abs(found[2]).max() == 0


def test_a_sample_does_not_see_its_neighbours_mask():
    G, _ = build("free_form")
    real, mask = inputs()
    other = mask.clone()
    other[1] = 1
    with torch.inference_mode():
        a, b = (G(real * (1 - m), m)[-1][0] for m in (mask, other))
    assert torch.allclose(a, b, atol=1e-6)


def test_the_context_encoder_changes_the_centre_alone_and_does_not_depend_on_its_batch():
    G, _ = build("context_encoder")
    real, mask = inputs(batch=4)
    with torch.inference_mode():
        G(real * (1 - mask), mask)  # batch norm sees a batch
        whole = G.eval()(real * (1 - mask), mask)[-1]
        alone = G(real[:1] * (1 - mask[:1]), mask[:1])[-1]
    centre = torch.zeros_like(mask)
    centre[:, :, 8:24, 8:24] = 1
    assert torch.equal(whole * (1 - centre), real * (1 - centre))
    assert torch.allclose(whole[:1], alone, atol=1e-5)


def test_the_context_encoder_fills_the_hole_with_the_mean_colour():
    G, _ = build("context_encoder")
    real, mask = inputs()
    seen = []
    G.encoder.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    G(real * (1 - mask), mask)
    inside = seen[0].permute(0, 2, 3, 1)[mask[:, 0] > 0]
    assert torch.allclose((inside + 1) * 127.5, torch.tensor([117.0, 104.0, 123.0]).expand_as(inside), atol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_layer_table_accounts_for_every_parameter(architecture):
    size = 64
    G, D = build(architecture, size)
    for network, side in ((G, size), (D, size // 2 if architecture == "context_encoder" else size)):
        assert models.layer_table(network, side).parameters.sum() == models.n_parameters(network)
        assert network.training


@pytest.mark.parametrize("architecture", ["custom", "free_form"])
@pytest.mark.parametrize("size", [32, 128])
def test_at_the_start_two_images_lead_to_outputs_that_differ(architecture, size):
    """Else gradients vanish too: under PyTorch's own initial weights free_form's outputs differ by 1e-8, and hardly anything is
    learnt in a short training."""
    G, _ = build(architecture, size)
    real, mask = inputs(size, hole=size // 2)
    with torch.inference_mode():
        outputs = G(real * (1 - mask), mask)
    for output in outputs:
        assert (output[0] - output[1]).abs().mean() > 0.01


@pytest.mark.parametrize("architecture", ["custom", "context_encoder"])
def test_initial_weights_are_those_of_the_authors_codes(architecture):
    """Convolutions N(0, 0.02), scales of norms N(1, 0.02): pix2pixHD and Pathak et al."""
    for network in build(architecture, 64):
        for module in network.modules():
            weight = getattr(module, "weight", None)
            if weight is not None and weight.numel() >= 1000:
                assert abs(float(weight.detach().mean())) < 0.003 and 0.018 < float(weight.detach().std()) < 0.022
        scales = [m.weight.detach() for m in network.modules() if isinstance(m, layers.NORMS) and m.weight is not None]
        assert not scales or 0.01 < float((torch.cat(scales) - 1).square().mean().sqrt()) < 0.03


def test_free_forms_gated_layers_keep_the_signals_size():
    """Thirty in a row, without the loss that padding brings: the root of the mean square changes less than fourfold."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torch.nn.Sequential(*(layers.GatedConv(64, 64, kernel=1) for _ in range(30)))
        layers.start_gated(network)
        x = torch.randn(4, 64, 8, 8) / layers.GATED_GAIN
    with torch.inference_mode():
        kept = network(x).square().mean().sqrt() / x.square().mean().sqrt()
    assert 0.25 < float(kept) < 4


def test_free_forms_discriminator_starts_from_glorots_weights():
    """Uniform within sqrt(6 / (fan in + fan out)), biases 0: tf.layers' default."""
    _, D = models.create("free_form", 32, discriminator_width=8)
    for module in D.modules():
        if isinstance(module, torch.nn.Conv2d):
            weight = module.parametrizations.weight.original.detach()
            bound = (6 / (25 * (weight.shape[0] + weight.shape[1]))) ** 0.5
            assert 0.9 * bound < float(weight.abs().max()) <= bound and not module.bias.any()
