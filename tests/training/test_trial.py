"""The step that the estimate and the benchmark time."""

import torch

from inpaint_lib.training import trial
from inpaint_lib.training.step import choose_levers


def test_a_timed_step_is_a_training_step(micro):
    study = micro(setups=["fixed"])
    run, device = study.runs()[0], torch.device("cpu")
    levers = choose_levers(study.config, device)
    step = trial.stepper(run, device, levers)
    before = {k: v.clone() for k, v in step.fast.state.G.state_dict().items()}
    step()
    assert any(not torch.equal(v, before[k]) for k, v in step.fast.state.G.state_dict().items())
    assert step.fast.count == 1 and set(step.fast.read()) > {"adversarial_g", "l1_hole"}
