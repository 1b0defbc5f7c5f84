"""Golden steps: what training computes, guarded by numbers.

Every architecture x setup is trained for a few steps on seeded made-up images, on the CPU in
float32, with a schedule that crosses every stage; the loss terms after each step are compared with
golden.json, to a relative 1e-3 or to 5e-4: processors round differently, and where hinge losses
cancel in the gradient of D's last bias, Adam makes a whole step of 1e-4 out of that.

If numbers change on purpose: raise PROTOCOL, add a line to docs/protocol.md, and remake the file
with

    python -m tests.training.test_golden
"""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from inpaint_lib import models, setups
from inpaint_lib.study import grid
from inpaint_lib.training import loop, step

FILE = Path(__file__).with_name("golden.json")
CPU = torch.device("cpu")
SEED = 5  # with which replay takes a smaller width
WIDTHS = {"generator_width": 4, "discriminator_width": 4}
SETTINGS = {
    "data.image_size": 32,
    "curriculum.batch_size": 4,
    "curriculum.total_images": 24,
    "curriculum.mask_widths": [8, 12, 16],
    "grid.seeds": [SEED],
    "models.custom.widths": WIDTHS | {"scales": 2},
    "models.context_encoder.widths": WIDTHS | {"bottleneck": 16},
    "models.free_form.widths": WIDTHS | {"discriminator": "patch70"},
    "training.precision": "float32",
    "training.perceptual_width": 4,
    "machine.device": "cpu",
}  # six steps, two in each of three stages. With two images a step, batch norm in
# context_encoder's bottleneck would keep only the signs of its two values per channel, and Adam
# would enlarge rounding errors


def terms_of(architecture, setup):
    """Return the logged terms of each step, {name: [value]}; 0 where nothing is trained."""
    grid_of = {"grid.architectures": [architecture], "grid.setups": [setup]}
    run = grid.open_study("smoke", SETTINGS | grid_of).runs()[0]
    options = step.Options("float32")
    fast = step.Step(run, loop.create_state(run, CPU, options), CPU, options)
    coarse = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 4, 3), np.uint8)
    images = torch.from_numpy(coarse.repeat(8, 2).repeat(8, 3))
    names = ("adversarial_d", "adversarial_g", "total_g", *run.architecture_entry.objective.terms)
    found = {name: [] for name in names}
    for k in range(run.config.curriculum.steps):
        phase, terms = run.phase(k), {}
        if phase.trains:
            fast(images[k], loop.draw_hole_variates(run, k), phase)
            terms = fast.read()
        for name in names:
            found[name].append(float(f"{terms[name]:.6g}") if terms else 0.0)
    return found


def differences(found, golden):
    """Return the names of the terms that differ, with the step."""
    assert found.keys() == golden.keys()
    return [
        (k, name)
        for name in found
        for k, (a, b) in enumerate(zip(found[name], golden[name], strict=True))
        if a != pytest.approx(b, rel=1e-3, abs=5e-4)
    ]


@pytest.fixture(scope="module")
def golden():
    return json.loads(FILE.read_text())


@pytest.mark.parametrize("setup", setups.SETUPS)
@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_training_computes_the_golden_numbers(golden, architecture, setup):
    assert differences(terms_of(architecture, setup), golden[architecture][setup]) == []


def test_golden_steps_are_those_of_every_architecture_and_setup(golden):
    """Nothing in the file is constant, and setups differ where their schedules do."""
    assert golden.keys() == models.ARCHITECTURES.keys()
    for by_setup in golden.values():
        assert by_setup.keys() == setups.SETUPS.keys()
        totals = [terms["total_g"] for terms in by_setup.values()]
        assert len({*map(str, totals)}) == len(setups.SETUPS), "no two setups are alike"
        assert all(len({*values}) == 6 for values in by_setup["fixed"].values())


@pytest.mark.parametrize("term", ["adversarial_g", "adversarial_d"])
def test_a_wrong_sign_in_a_loss_is_found(golden, monkeypatch, term):
    entry = models.ARCHITECTURES["custom"]
    d_loss, g_loss, boundary = entry.objective.adversarial
    wrong = {
        "adversarial_d": (lambda *s: -d_loss(*s), g_loss, boundary),
        "adversarial_g": (d_loss, lambda *s: -g_loss(*s), boundary),
    }[term]
    planted = dataclasses.replace(entry, objective=entry.objective._replace(adversarial=wrong))
    monkeypatch.setitem(models.ARCHITECTURES, "custom", planted)
    found = differences(terms_of("custom", "fixed"), golden["custom"]["fixed"])
    assert (0, term) in found and (1, "total_g") in found


def make():
    """Write golden.json anew, a setup a line."""
    torch.set_num_threads(1)
    parts = []
    for architecture in models.ARCHITECTURES:
        lines = (f'  "{s}": {json.dumps(terms_of(architecture, s))}' for s in setups.SETUPS)
        parts.append(f' "{architecture}": {{\n' + ",\n".join(lines) + "\n }")
    FILE.write_text("{\n" + ",\n".join(parts) + "\n}\n")


if __name__ == "__main__":
    make()
