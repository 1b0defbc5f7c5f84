"""Probes and recordings describe the networks of training and change nothing."""

import copy

import numpy as np
import pytest
import torch

from inpaint_lib import losses, masks, metrics, models, setups
from inpaint_lib.data import packs
from inpaint_lib.training import artifacts, loop, probe, recording
from tests.training.test_step import CPU, PLAIN, batches, make
from tests.training.test_step import run_of as step_run

every_architecture = pytest.mark.parametrize("architecture", models.ARCHITECTURES)


# --- gradients of the two parts of G's loss


@every_architecture
def test_gradients_are_those_of_the_two_parts_and_change_nothing(architecture):
    run = step_run(architecture)
    fast = make(run)
    *_, (images, u, _) = batches(run, 2)
    phase = setups.Phase(0, 8, 0.5, 0.25)
    for _ in range(2):
        fast(images, u, phase)
    state, model = fast.state, run.model
    networks = copy.deepcopy((state.G, state.D))
    before, rng = copy.deepcopy(state.state_dict()), torch.get_rng_state()
    grads = [p.grad.clone() for p in state.G.parameters()]
    found = probe.measure_gradients(fast, images, u, phase)
    assert torch.equal(rng, torch.get_rng_state()) and state.G.training and state.D.training
    assert all(torch.equal(p.grad, g) for p, g in zip(state.G.parameters(), grads, strict=True))
    for name in ("G", "D"):
        saved = before[name]
        assert all(torch.equal(v, saved[k]) for k, v in getattr(state, name).state_dict().items())
    assert str(state.opt_g.state_dict()) == str(before["opt_g"])

    def gradient(weights):
        """The gradient of a weighted sum of losses, by `backward` on a copy."""
        G, D = copy.deepcopy(networks)
        G.zero_grad()
        real = metrics.to_float(images)
        extent = masks.find_extent(model.mask_family, 8, 32)
        mask = masks.FAMILIES[model.mask_family](u, extent, 32)
        stages, objective = G(real * (1 - mask), mask), fast.objective
        values = objective.reconstruction(stages, real, mask, fast.vgg, **model.loss_options)
        seen = objective.seen(stages[-1], real, mask)
        values["adversarial"] = objective.adversarial[1](losses.get_scores(D(seen)))
        sum(weights[name] * values[name] for name in weights).backward()
        return np.concatenate([p.grad.double().flatten().numpy() for p in G.parameters()])

    weights = dict(model.loss_weights)
    a = 0.25 * gradient({"adversarial": weights.pop("adversarial")})
    b = 0.5 * gradient(weights)
    norms = np.linalg.norm(a), np.linalg.norm(b)
    assert found == pytest.approx(
        {
            "grad_norm_adversarial": norms[0],
            "grad_norm_reconstruction": norms[1],
            "adversarial_share": norms[0] / norms[1],
            "gradient_cosine": a @ b / (norms[0] * norms[1]),
        },
        rel=1e-3,
        abs=1e-4,
    )


def test_without_adversarial_loss_its_share_is_0_and_there_is_no_cosine():
    run = step_run("custom", "recon_only")
    fast = make(run)
    found = probe.measure_gradients(fast, *next(batches(run, 1)))
    assert found["adversarial_share"] == 0 and np.isnan(found["gradient_cosine"])


# --- recording.npz


@pytest.mark.parametrize(
    ("wanted", "expected"), [(64, [3, 6, 8, 9, 12, 15, 16]), (3, [3, 9, 16]), (1, [3])]
)
def test_points_are_log_points_evenly_chosen(micro, wanted, expected):
    config = micro({"evaluation.recorded_points": wanted}).config
    assert sorted(recording.choose_points(config)) == expected


@every_architecture
def test_what_is_recorded_is_what_the_networks_compute(micro, run_of, architecture):
    settings = {"evaluation.recorded_points": 3, "evaluation.recorded_images": 2}
    run = run_of(micro(settings | {"grid.architectures": [architecture]}))
    result = loop.fit(run)
    with np.load(run.folder / "recording.npz") as stored:
        found = dict(stored)
    assert list(found["steps"]) == [3, 9, 16] and list(found["stages"]) == [1, 2, 2]
    n_scales = len([name for name in found if name.startswith("scores_")])
    ends = [f"end_{name}_{width}" for name in ("fills", "gradients", "scales") for width in (8, 16)]
    ends += [f"end_scores_{width}_{k}" for width in (8, 16) for k in range(n_scales)]
    points = ["steps", "stages", "fills", *(f"scores_{k}" for k in range(n_scales))]
    assert set(found) == {"images", *points, *ends} and list(found["images"]) == [0, 7]
    assert [found[name].dtype for name in ("fills", "scores_0")] == [np.uint8, np.float16]
    assert found["fills"].shape == (3, 2, 32, 32, 3)
    assert all(found[name].shape[:2] == (2, 2) for name in ends)

    # a second time, in float64, from the weights that were saved
    pack, objective = packs.open_pack(run.study, "clutter"), run.architecture_entry.objective
    chosen = recording.choose_images(run.config, len(pack.test))
    assert list(chosen) == [0, 7]
    G, D = (network.double().train() for network in artifacts.load_networks(run, 2))
    real = metrics.to_float(pack.test[chosen]).double()
    holes = pack.test_masks(run.model.mask_family, 16, chosen)
    mask = torch.from_numpy(holes)[:, None].double()
    with torch.no_grad():
        output = G(real * (1 - mask), mask)[-1]
        fills = metrics.to_uint8(losses.composite(output, real, mask)).astype(int)

        def loss(image):  # spectral norm changes with every pass
            return objective.adversarial[1](losses.get_scores(copy.deepcopy(D)(seen(image))))

        def seen(image):
            return objective.seen(image, real, mask)

        direction = torch.randn(output.shape, generator=torch.Generator().manual_seed(0)).double()
        change = float(loss(output + 1e-6 * direction) - loss(output - 1e-6 * direction)) / 2e-6
        scores = losses.get_scores(copy.deepcopy(D)(seen(output)))
    assert np.abs(found["end_fills_16"][1] - fills).max() <= 1
    assert (found["end_fills_16"][1] == found["fills"][2]).all(), "the last log point ends it"
    for k, score in enumerate(scores):
        assert np.allclose(found[f"end_scores_16_{k}"][1], score[:, 0], rtol=1e-2, atol=1e-3)
    levels, scales = found["end_gradients_16"][1], found["end_scales_16"][1]
    gradient = levels.astype(float) * scales[:, None, None, None]
    assert np.abs(levels).max() == 127
    along = (gradient * direction.permute(0, 2, 3, 1).numpy()).sum()
    assert along == pytest.approx(change, abs=0.02 * np.linalg.norm(gradient))
    assert result["outcome"] == "finished"


@every_architecture
def test_recording_changes_nothing_else_and_a_resumed_run_keeps_its_images(
    micro, run_of, architecture
):
    settings = {"grid.architectures": [architecture]}
    run, other = (run_of(micro(settings | {"evaluation.recorded_images": n})) for n in (2, 3))
    pack, state = packs.prepare(run.study, "clutter"), loop.create_state(run, CPU, PLAIN)
    before, state.step = copy.deepcopy(state.state_dict()), 3
    recorder = recording.Recorder(run, pack, state, CPU)
    recorder.at_log_point(1)
    recorder.at_end_of_stage()
    assert torch.equal(before["rng"], torch.get_rng_state())
    for name in ("G", "D", "average"):
        network = getattr(state, name)
        assert all(module.training for module in network.modules())
        assert all(p.grad is None for p in network.parameters())
        assert all(torch.equal(v, before[name][k]) for k, v in network.state_dict().items())
    recorder = recording.Recorder(other, pack, state, CPU)
    recorder.at_log_point(1)
    assert [int(k) for k in state.recording["images"]] == [0, 7]
    assert [len(fills) for fills in state.recording["fills"]] == [2, 2]
    del state.recording["images"]  # as earlier versions saved it
    recorder = recording.Recorder(other, pack, state, CPU)
    recorder.at_log_point(1)
    assert [len(fills) for fills in state.recording["fills"]] == [3]


def test_a_recording_that_does_not_name_its_images_is_that_of_as_many_images():
    kept = {"steps": np.array([3, 6]), "fills": np.arange(4).reshape(2, 2)}
    assert recording.take_image(kept, 7, [0, 7])["fills"].tolist() == [1, 3]
    assert recording.take_image(kept, 7, [0, 4, 7]) == {}
    named = kept | {"images": np.array([0, 7])}
    assert recording.take_image(named, 7, [0, 4, 7])["fills"].tolist() == [1, 3]
    assert recording.take_image(named, 4, [0, 4, 7]) == {}
