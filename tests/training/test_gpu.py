"""Training on a CUDA device against training on the CPU: the same step, the same batches."""

import pytest
import torch

from inpaint_lib import models
from inpaint_lib.training import step
from tests.training.test_step import PLAIN, make, run_of, trained

pytestmark = pytest.mark.gpu
CUDA = torch.device("cuda")


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_cuda_has_the_losses_of_the_cpu(architecture):
    run = run_of(architecture)
    cuda, cpu = trained(make(run, PLAIN, CUDA), run, 3), trained(make(run), run, 3)
    for a, b in zip(cuda, cpu, strict=True):
        assert a == pytest.approx(b, rel=2e-2, abs=1e-3)


@pytest.mark.parametrize(
    "options", ["fused_adam", "compile", "compile compile_pieces", "cuda_graph"]
)
@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_an_option_works_and_changes_rounding_alone(architecture, options):
    run = run_of(architecture)
    fast = make(run, step.Options("float32", **dict.fromkeys(options.split(), True)), CUDA)
    found, plain = trained(fast, run, 6), trained(make(run, PLAIN, CUDA), run, 6)
    assert getattr(fast.options, options.split()[0]), "it must not have fallen back"
    for a, b in zip(found, plain, strict=True):
        assert a == pytest.approx(b, rel=5e-2, abs=5e-3)


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_kernels_of_a_fixed_order_give_equal_numbers(architecture):
    run, options = run_of(architecture), step.Options("float32", deterministic=True)
    try:
        assert trained(make(run, options, CUDA), run, 3) == trained(
            make(run, options, CUDA), run, 3
        )
    finally:
        step.set_deterministic(False)
