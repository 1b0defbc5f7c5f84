"""What holds for every architecture, then what its source says about each."""

import inspect

import numpy as np
import pytest
import torch

from inpaint_lib import losses, masks, models, rng
from inpaint_lib.models import free_form, layers

SMALL = {
    "custom": {"generator_width": 8, "discriminator_width": 8},
    "context_encoder": {"generator_width": 8, "discriminator_width": 8, "bottleneck": 32},
    "free_form": {"generator_width": 4, "discriminator_width": 4},
}
every_architecture = pytest.mark.parametrize("name", models.ARCHITECTURES)


def build(name, size=32, seed=0):
    return models.create(name, size, seed, **SMALL[name])


def inputs(size=32, batch=2, hole=8):
    real = torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1
    mask = torch.zeros(batch, 1, size, size)
    start = (size - hole) // 2
    mask[:, :, start : start + hole, start : start + hole] = 1
    return real, mask


@every_architecture
@pytest.mark.parametrize("size", [28, 32, 34, 40, 64, 128, 256, 260])
def test_outputs_have_the_images_shape_at_every_size_accepted(name, size):
    entry = models.ARCHITECTURES[name]
    if not (32 <= size <= 256 and entry.accepts(size)):
        with pytest.raises(ValueError, match=f"{entry.sizes}, not {size}"):
            build(name, size)
        return
    G, D = build(name, size)
    real, mask = inputs(size)
    with torch.inference_mode():
        stages = G(real * (1 - mask), mask)
        scores = losses.get_scores(D(entry.objective.seen(stages[-1], real, mask)))
    assert all(stage.shape == real.shape and stage.abs().max() <= 1 for stage in stages)
    assert all(score.isfinite().all() for score in scores)
    assert {type(stages), type(scores)} == {list}


@every_architecture
def test_every_parameter_gets_a_gradient(name):
    size = 64  # at 32 px the hole touches every patch of free_form's attention: nothing to copy
    (G, D), objective = build(name, size), models.ARCHITECTURES[name].objective
    real, mask = inputs(size)
    stages = G(real * (1 - mask), mask)
    terms = objective.reconstruction(stages, real, mask, losses.Perceptual("random", 4))
    adversarial = objective.adversarial[1](
        losses.get_scores(D(objective.seen(stages[-1], real, mask)))
    )
    (sum(terms.values()) + adversarial).backward()
    for network in (G, D):
        for parameter, p in network.named_parameters():
            assert p.grad is not None and p.grad.isfinite().all(), parameter
            # a bias before instance norm without affine has no effect
            assert p.grad.abs().sum() > 0 or parameter.endswith("bias"), parameter
    assert set(terms) == set(objective.terms)


@every_architecture
@pytest.mark.parametrize("hole", [1, 2, 16, 32])
def test_nothing_becomes_nan_from_one_pixel_to_the_complete_image(name, hole):
    G, _ = build(name)
    real, mask = inputs(hole=hole)
    if models.is_central(name) and hole > 16:
        with pytest.raises(ValueError, match="central holes up to half the image"):
            G(real * (1 - mask), mask)
        return
    stages = G(real * (1 - mask), mask)
    sum(stage.square().mean() for stage in stages).backward()
    assert all(stage.isfinite().all() for stage in stages)
    assert all(p.grad.isfinite().all() for p in G.parameters())


@every_architecture
def test_weights_depend_on_the_seed_alone_and_a_state_dict_restores_them(name):
    before = torch.get_rng_state()
    pair, again, (other, _) = build(name), build(name), build(name, seed=1)
    assert torch.equal(before, torch.get_rng_state())
    for a, b in zip(pair, again, strict=True):
        for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True):
            assert torch.equal(x, y)
    G, (real, mask) = pair[0].eval(), inputs()
    with torch.inference_mode():
        output = G(real, mask)[-1]
        assert torch.equal(output, G(real, mask)[-1])
        assert not torch.equal(output, other.eval()(real, mask)[-1])
        other.load_state_dict(G.state_dict())
        assert torch.equal(output, other(real, mask)[-1])


@every_architecture
def test_a_complete_network_moves_to_double_precision_and_to_another_device(name):
    """On the shapes-only device an operation with a tensor left behind on the CPU would fail."""
    (G, D), (real, mask) = build(name), inputs()
    assert G.double()(real.double(), mask.double())[-1].dtype == torch.float64
    G, D, real, mask = (x.to("meta", torch.float32) for x in (G, D, real, mask))
    G._check = lambda mask: None  # of context_encoder: reads values
    output = G(real, mask)[-1]
    scores = losses.get_scores(D(models.ARCHITECTURES[name].objective.seen(output, real, mask)))
    assert {output.device.type, scores[0].device.type} == {"meta"} and output.shape == real.shape


@every_architecture
def test_the_layer_table_accounts_for_every_parameter(name):
    G, D = build(name, 64)
    seen = models.ARCHITECTURES[name].objective.seen(*inputs(64)[:1] * 2, inputs(64)[1])
    for network, side in ((G, 64), (D, seen.shape[-1])):
        table = models.layer_table(network, side)
        assert table.parameters.sum() == models.n_parameters(network)
        assert network.training and (table.output != "").all()


@every_architecture
def test_an_entry_names_its_options_widths_and_the_mask_families_it_fills(name):
    entry, (G, _) = models.ARCHITECTURES[name], build(name)
    parameters = list(inspect.signature(entry.objective.reconstruction).parameters)
    assert parameters[4:] == list(entry.objective.options)
    assert set(SMALL[name]) <= set(models.list_widths(name))
    assert entry.about and all(sentence and place for sentence, place in entry.paper)
    for family in entry.mask_families:
        mask = masks.generate(family, 2, 16, 32, rng.open_stream(0))
        assert G(torch.zeros(2, 3, 32, 32), mask)[-1].isfinite().all()


@every_architecture
def test_the_discriminator_is_given_the_same_of_real_image_and_output(name):
    real, mask = inputs()
    seen, output = models.ARCHITECTURES[name].objective.seen, -real
    shown = seen(real, real, mask)
    assert seen(output, real, mask).shape == shown.shape
    expected = {
        "custom": real,
        "context_encoder": real[:, :, 8:24, 8:24],
        "free_form": torch.cat([real, mask], 1),
    }
    assert torch.equal(shown, expected[name])


def test_wrong_requests_are_named():
    for name, widths, message in (
        ("unet", {}, "unknown architecture 'unet'"),
        ("custom", {"depth": 3}, "custom has no width 'depth'"),
        ("custom", {"scales": 5}, "scales: must be 1 to 4, not 5"),
        ("free_form", {"discriminator": "patch7"}, "free_form has no discriminator 'patch7'"),
    ):
        with pytest.raises(ValueError, match=message):
            models.create(name, 64, **widths)


def test_parameter_counts_are_the_references():
    """Yu et al.: 4,052,478 less the input channel of ones. Pathak et al.: 71.12 M and 2.77 M."""
    counts = {
        name: [models.n_parameters(network) for network in models.create(name, 128)]
        for name in ("free_form", "context_encoder")
    }
    assert counts["free_form"] == [4_052_478 - 5 * 5 * 48, 5_946_816]
    assert [round(n / 1e6, 2) for n in counts["context_encoder"]] == [71.12, 2.77]


@pytest.mark.parametrize("name", ["custom", "free_form"])
@pytest.mark.parametrize("size", [32, 128])
def test_at_the_start_two_images_lead_to_different_outputs(name, size):
    """Otherwise gradients vanish too: with PyTorch's initial weights free_form's differ by 1e-8."""
    G, _ = build(name, size)
    real, mask = inputs(size, hole=size // 2)
    with torch.inference_mode():
        outputs = G(real * (1 - mask), mask)
    assert all((output[0] - output[1]).abs().mean() > 0.01 for output in outputs)


@every_architecture
def test_exchanged_pieces_are_called_by_a_network_of_the_same_weights(name):
    used, (real, mask) = [], inputs()
    wrap = lambda piece, f: lambda *given: used.append(piece) or f(*given)  # noqa: E731
    pieces = {piece: wrap(piece, f) for piece, f in layers.PIECES.items()}
    G, D = build(name)
    twin, twin_of_d = (layers.exchange(network, pieces) for network in (G, D))
    for a, b in ((G, twin), (D, twin_of_d)):
        assert all(p is q for p, q in zip(a.parameters(), b.parameters(), strict=True))
        assert [*a.state_dict()] == [*b.state_dict()]
    expected = G(real * (1 - mask), mask)[-1]
    assert not used and torch.equal(twin(real * (1 - mask), mask)[-1], expected)
    known = {"custom": {"pad", "upscale", "gate"}, "free_form": {"upscale", "gate"}}
    assert {*used} == known.get(name, set())


# --- custom


def test_custom_is_the_network_of_figure_1():
    """To a quarter, two residual blocks, filters doubling; mirrored; bilinear; instance norm."""
    G, D = models.create("custom", 128, scales=3)
    table = models.layer_table(G, 128)
    sizes = ((64, 64), (128, 32), (256, 32), (512, 32), (256, 32), (128, 32), (64, 64), (32, 128))
    assert list(table.output) == [f"{c} x {n} x {n}" for c, n in (*sizes, (3, 128))]
    kinds = ["GatedConv"] * 2 + ["ResidualBlock"] * 4 + ["GatedConv"] * 2 + ["Conv2d"]
    assert list(table.kind) == kinds
    assert [layer.upsample for layer in G.decoder[2:]] == ["bilinear"] * 2
    assert [[f.shape[1] for f in scale] for scale in D(torch.zeros(1, 3, 128, 128))] == [
        [64, 128, 256, 512, 512, 1]
    ] * 3
    modules = {type(m).__name__ for m in (*G.modules(), *D.modules())}
    assert "InstanceNorm2d" in modules and not {"BatchNorm2d", "ConvTranspose2d"} & modules


@pytest.mark.parametrize("name", ["custom", "context_encoder"])
def test_initial_weights_are_those_of_the_authors_codes(name):
    """Convolutions N(0, 0.02), scales of norms N(1, 0.02): pix2pixHD and Pathak et al."""
    modules = [m for network in build(name, 64) for m in network.modules()]
    for m in modules:
        if isinstance(m, layers.CONVOLUTIONS) and m.weight.numel() >= 1000:
            assert abs(m.weight.mean()) < 0.003 and 0.018 < m.weight.std() < 0.022
    norms = [m.weight for m in modules if isinstance(m, layers.NORMS) and m.weight is not None]
    assert 0.01 < (torch.cat(norms) - 1).square().mean().sqrt() < 0.03


# --- context_encoder


def test_the_context_encoder_changes_the_centre_alone_and_does_not_depend_on_its_batch():
    G, _ = build("context_encoder")
    real, mask = inputs(batch=4)
    with torch.inference_mode():
        G(real * (1 - mask), mask)  # batch norm sees a batch
        together = G.eval()(real * (1 - mask), mask)[-1]
        alone = G(real[:1] * (1 - mask[:1]), mask[:1])[-1]
    outside = torch.ones_like(mask)
    outside[:, :, 8:24, 8:24] = 0
    assert torch.equal(together * outside, real * outside)
    assert torch.allclose(together[:1], alone, atol=1e-5)


def test_the_context_encoder_fills_the_hole_with_the_mean_colour():
    G, _ = build("context_encoder")
    real, mask = inputs()
    seen = []
    G.encoder.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    G(real * (1 - mask), mask)
    inside = (seen[0].permute(0, 2, 3, 1)[mask[:, 0] > 0] + 1) * 127.5
    assert torch.allclose(inside, torch.tensor([117.0, 104.0, 123.0]).expand_as(inside), atol=1e-4)


# --- free_form


def test_free_forms_discriminators_have_the_published_maps_and_receptive_fields():
    image = torch.zeros(1, 4, 128, 128, requires_grad=True)
    _, D = models.create("free_form", 128)
    assert losses.get_scores(D(image))[0].shape == (1, 256, 2, 2)
    _, D = models.create("free_form", 128, discriminator="patch70", discriminator_width=4)
    score = losses.get_scores(D(image + torch.randn(1, 4, 128, 128)))[0]
    assert score.shape == (1, 1, 14, 14)
    touched = torch.autograd.grad(score[0, 0, 7, 7], image)[0][0].abs().sum(0) > 0
    assert touched.any(0).sum() == 70 == touched.any(1).sum()


def slow_attention(features, mask):
    """Contextual attention (Yu et al. 2018) of one sample (C,h,w), (h,w), with loops."""
    channels, height, width = features.shape
    rows, cols = height // 2, width // 2
    cells = [(i, j) for i in range(rows) for j in range(cols)]
    small = np.pad(features[:, ::2, ::2], ((0, 0), (1, 1), (1, 1)))
    holes = np.pad(mask.reshape(rows, 2, cols, 2).max((1, 3)), 1)
    patch = {(i, j): small[:, i : i + 3, j : j + 3].ravel() for i, j in cells}
    norm = {k: max(np.linalg.norm(patch[k]), 1e-4) for k in cells}
    score = np.array([[patch[k] @ patch[q] / norm[k] for q in cells] for k in cells])
    by_column = sorted(cells, key=lambda cell: cell[::-1])
    for order in (cells, by_column):  # neighbours along rows, then along columns
        at = [cells.index(c) for c in order]
        padded = np.pad(score[np.ix_(at, at)], 1)
        fused = padded[:-2, :-2] + padded[1:-1, 1:-1] + padded[2:, 2:]
        back = np.argsort(at)
        score = fused[np.ix_(back, back)]
    known = np.array([[holes[i : i + 3, j : j + 3].max() == 0.0] for i, j in cells], float)
    weight = np.exp(10 * score * known - (10 * score * known).max(0))
    weight = weight / weight.sum(0) * known
    padded = np.pad(features, ((0, 0), (1, 1), (1, 1)))
    out = np.zeros((channels, height + 2, width + 2))
    for q, (i, j) in enumerate(cells):
        for k, (y, x) in enumerate(cells):
            copied = padded[:, 2 * y : 2 * y + 4, 2 * x : 2 * x + 4]
            out[:, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += weight[k, q] * copied
    return out[:, 1:-1, 1:-1] / 4


def test_contextual_attention_matches_a_slow_loop_with_each_samples_own_mask():
    features = torch.rand(3, 4, 8, 12, generator=torch.Generator().manual_seed(0)) - 0.3
    mask = torch.zeros(3, 1, 8, 12)
    mask[0, :, 2:4, 2:6] = 1
    mask[1, :, 5:8, 7:] = 1
    mask[2] = 1  # nothing to copy from
    found = free_form.ContextualAttention()(features, mask).numpy()
    for k in range(3):
        expected = slow_attention(features[k].double().numpy(), mask[k, 0].numpy())
        assert np.allclose(found[k], expected, atol=1e-4)
    assert np.abs(found[0]).max() > 0 == np.abs(found[2]).max()


def test_free_forms_gated_layers_keep_the_signals_size():
    """Thirty in a row, without borders: the root mean square changes less than fourfold."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torch.nn.Sequential(*(layers.GatedConv(64, 64, kernel=1) for _ in range(30)))
        free_form._draw_gated_weights(network)
        x = torch.randn(4, 64, 8, 8) / free_form.GATED_GAIN
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


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("shape", [(2, 3, 8, 6), (1, 2, 1, 5), (2, 1, 16, 16)])
def test_doubling_by_copies_and_sums_is_interpolation(mode, shape):
    batch, channels, height, width = shape
    x = torch.randn(shape, requires_grad=True)
    weights = torch.randn(batch, channels, 2 * height, 2 * width)
    plain = torch.nn.functional.interpolate(x, scale_factor=2, mode=mode)
    own = layers._double_by_copies(x, mode)
    assert own.is_contiguous() and torch.allclose(own, plain, atol=1e-6)
    gradients = [torch.autograd.grad((y * weights).sum(), x)[0] for y in (plain, own)]
    assert torch.allclose(*gradients, atol=1e-5)
    assert torch.equal(layers.double(x, mode), plain)  # on the CPU: interpolation, to the bit
