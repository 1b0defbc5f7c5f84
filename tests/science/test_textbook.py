"""One training step of examples/textbook.py equals one of the library's."""

import numpy as np
import pytest
import torch

from examples import textbook
from inpaint_lib import models
from inpaint_lib.study import grid
from inpaint_lib.training import loop, step

CPU, SIZE, BATCH = torch.device("cpu"), 32, 2
SETTINGS = {
    "curriculum.batch_size": BATCH,
    "curriculum.total_images": 3 * BATCH,
    "training.perceptual_width": 64,
}


def copied(weights, into):
    """Put weights, in order, into networks that name them otherwise."""
    pairs = zip(weights, into.state_dict().values(), strict=True)
    for value, place in pairs:
        place.copy_(value.view(place.shape))


def converge(network):
    """Let spectral norms converge: the library's D sees real and fake in one pass, the other one in
    two, and each pass is a step of the power method."""
    for module in network.modules():
        if torch.nn.utils.parametrize.is_parametrized(module):
            weight = module.parametrizations.weight
            weight[0]._power_method(weight.original.detach().flatten(1), 10_000)


@pytest.mark.parametrize("name", models.ARCHITECTURES)
def test_a_step_equals_the_librarys(name, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # the library casts to float32
    run = grid.open_study("smoke", SETTINGS | {"grid.architectures": [name]}).runs()[1]
    assert run.setup == "progressive"
    options = step.Options("float32")
    state = loop.create_state(run, CPU, options)
    library = step.Step(run, state, CPU, options)
    for network in (state.G, state.D, library.vgg):
        network and network.double()
    if name == "context_encoder":  # a colour that the library keeps in float32
        state.G.mean_colour[:] = torch.tensor([117, 104, 123]).double().view(1, 3, 1, 1) / 127.5 - 1
    converge(state.D)
    G, D, vgg = (n.double() for n in textbook.create(name, run.model, SIZE))
    copied(state.G.state_dict().values(), G)
    copied(state.D.state_dict().values(), D)
    if library.vgg:
        copied(library.vgg.state_dict().values(), vgg)
    rates = (G, run.model.lr_g), (D, run.model.lr_d)
    optimizers = [torch.optim.Adam(n.parameters(), lr, run.model.betas) for n, lr in rates]

    images = np.random.default_rng(0).integers(0, 256, (BATCH, SIZE, SIZE, 3), np.uint8)
    images = torch.from_numpy(images)
    library(images, loop.draw_hole_variates(run, 0), run.phase(0))
    wanted = library.read()
    real = images.permute(0, 3, 1, 2).double() / 127.5 - 1
    holes = loop.draw_holes(run, 0, run.phase(0).mask_width).double()
    found = textbook.train_step(name, G, D, vgg, *optimizers, real, holes, run.model.loss_weights)
    named = {"d": "adversarial_d", "adversarial": "adversarial_g"}
    assert found == pytest.approx({t: wanted[named.get(t, t)] for t in found}, rel=1e-5)
    for ours, theirs in ((state.G, G), (state.D, D)):
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.allclose(a, b.view(a.shape), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", models.ARCHITECTURES)
def test_it_trains_with_growing_holes(name):
    config = grid.open_study("smoke", SETTINGS).config
    images = torch.rand(4, 3, SIZE, SIZE) * 2 - 1
    seen = [width for _, width, _ in textbook.train(name, config, list(images))]
    assert seen == sorted(seen) and set(seen) == set(config.curriculum.mask_widths)
