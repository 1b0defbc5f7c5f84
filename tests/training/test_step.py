"""The training step: what is logged, fixed shapes, no host reads, options that fail. That it equals
the textbook's: tests/science/test_textbook.py.
"""

import contextlib
import copy

import pytest
import torch
from torch._dynamo.utils import counters
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from inpaint_lib import masks, models, setups
from inpaint_lib.data import feed
from inpaint_lib.models import context_encoder, layers
from inpaint_lib.study import grid
from inpaint_lib.training import loop, step, trial

CPU = torch.device("cpu")
PLAIN = step.Options("float32")
FAST = step.Options("float32", fused_adam=True, keep_memory=True)


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()


def run_of(architecture, setup="progressive", overrides=()):
    settings = {
        "grid.datasets": ["faces"],
        "grid.architectures": [architecture],
        "grid.setups": [setup],
        "curriculum.batch_size": 4,
        "curriculum.total_images": 400,
        "curriculum.mask_widths": [4, 8, 12, 16],
        "training.perceptual_width": 4,
        "data.train_images": 64,
        "machine.device": "cpu",
    }
    return grid.open_study("smoke", settings | dict(overrides)).runs()[0]


def make(run, options=PLAIN, device=CPU):
    return step.Step(run, loop.create_state(run, device, options), device, options)


def batches(run, steps, seed=0):
    """(images, variates, phase) of each step."""
    size, g = run.config.curriculum.batch_size, torch.Generator().manual_seed(seed)
    coarse = torch.rand(64, 4, 4, 3, generator=g).repeat_interleave(8, 1).repeat_interleave(8, 2)
    images = (coarse * 255).byte()
    for k in range(steps):
        picked = torch.randint(0, 64, (size,), generator=g)
        yield images[picked], loop.draw_hole_variates(run, k), run.phase(k)


def trained(fast, run, steps):
    """The logged terms of each step."""
    found = []
    for inputs in batches(run, steps):
        fast(*inputs)
        found.append(fast.read())
    return found


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_logged_means_do_not_depend_on_how_often_they_are_read(architecture):
    run = run_of(architecture)
    one, other = make(run), make(run)
    single = trained(one, run, 4)
    for inputs in batches(run, 4):
        other(*inputs)
    assert other.count == 4
    means = other.read()
    assert other.count == 0 and list(means) == list(single[0])
    for name, value in means.items():
        assert value == pytest.approx(sum(s[name] for s in single) / 4, rel=1e-4, abs=1e-6)


def test_the_weights_of_a_setup_reach_g_alone():
    run = run_of("custom")
    silent, full = make(run), make(run)
    (images, u, phase), *_ = batches(run, 1)
    silent(images, u, setups.Phase(0, 8, 1.0, 0.0))
    full(images, u, setups.Phase(0, 8, 1.0, 1.0))
    for name in ("D", "G"):
        pair = [getattr(fast.state, name).parameters() for fast in (silent, full)]
        equal = all(torch.equal(a, b) for a, b in zip(*pair, strict=True))
        assert equal == (name == "D")
    read = silent.read()
    terms = ("l1_valid", "l1_hole", "perceptual")
    assert read["total_g"] == pytest.approx(sum(run.model.loss_weights[t] * read[t] for t in terms))


class NoHostReads(TorchDispatchMode):
    """Fails where the host would wait for a value of the device; notes operations and shapes."""

    forbidden = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal")

    def __enter__(self):
        self.shapes = []
        return super().__enter__()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name().removeprefix("aten::").split(".")[0]
        assert name not in self.forbidden, f"the host reads a tensor: {name}"
        found = function(*args, **kwargs or {})
        self.shapes.append((name, tuple(getattr(found, "shape", ()))))
        return found


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_a_step_reads_nothing_from_the_device_and_all_shapes_are_fixed(architecture, monkeypatch):
    # the check is made on the CPU alone, where it costs no wait
    monkeypatch.setattr(context_encoder.Generator, "_check", lambda *_: None)
    run = run_of(architecture)
    fast, shapes = make(run, FAST), []
    for images, u, phase in list(batches(run, 100))[::25]:  # one step of every stage
        fast(images, u, phase)  # controls are set outside the mode: from the host to the device
        with NoHostReads() as mode:
            fast._compute(images, u)
        shapes.append(mode.shapes)
    assert shapes[0] == shapes[1] == shapes[2] == shapes[3] and len(shapes[0]) > 100


@contextlib.contextmanager
def _cuda_autocast():
    """What torch.autocast sets on CUDA; itself it does nothing where there is no such device."""
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", False)


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_the_step_runs_on_a_fake_cuda_device(architecture, monkeypatch):
    """Fake tensors on a CUDA device carry shapes, types and places: an operand on the wrong device
    fails here, also one that the step makes on the CPU. Differentiation and optimisers need the
    device itself."""
    run, device = run_of(architecture), torch.device("cuda")
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, _: self)  # weights are made in place
    monkeypatch.setattr(loop, "AveragedModel", lambda *_, **__: None)  # fake tensors copy badly
    with FakeTensorMode(allow_non_fake_inputs=True):
        with device:
            fast = make(run, PLAIN, device)
        for module in fast.state.G.modules():  # buffers made on the CPU would be moved by `to`
            for name, buffer in module.named_buffers(recurse=False):
                setattr(module, name, buffer.to(device))
        monkeypatch.setattr(fast, "_autocast", _cuda_autocast)
        monkeypatch.setattr(torch.Tensor, "backward", lambda _: None)
        for name in ("opt_g", "opt_d"):
            monkeypatch.setattr(getattr(fast.state, name), "step", lambda: None)
        monkeypatch.setattr(step, "_grad_norm", lambda network: next(network.parameters()).norm())
        size = run.config.curriculum.batch_size
        images = torch.empty(size, 32, 32, 3, dtype=torch.uint8, device=device)
        u = torch.empty(size, masks.N_VARIATES[run.model.mask_family], device=device)
        seen = []
        first = next(m for m in fast.state.G.modules() if isinstance(m, layers.CONVOLUTIONS))
        first.register_forward_hook(lambda _, inputs, output: seen.append(output.dtype))
        fast._compute(images, u)
        assert fast.sums.device.type == "cuda" and {*seen} == {torch.bfloat16}


@pytest.mark.parametrize(
    ("architecture", "pieces"),
    [*((name, False) for name in models.ARCHITECTURES), ("custom", True)],
)
def test_compiled_networks_train_as_eager_ones_and_a_stage_recompiles_nothing(
    architecture, pieces, monkeypatch
):
    """The graphs are captured and differentiated as on CUDA, and then run by the eager backend."""
    compile_, run, found = torch.compile, run_of(architecture), ([], [])
    monkeypatch.setattr(
        torch, "compile", lambda f, dynamic, **_: compile_(f, backend="aot_eager", dynamic=dynamic)
    )
    options = step.Options("float32", compile=True, compile_pieces=pieces)
    pair = make(run, options), make(run)
    counters.clear()
    for k, inputs in enumerate(list(batches(run, 100))[::25]):
        with torch._dynamo.config.patch(error_on_recompile=k > 0):
            for fast, terms in zip(pair, found, strict=True):
                fast(*inputs)
                terms.append(fast.read())
    assert pair[0].options.compile, "it must not have fallen back"
    # a piece is compiled once for all layers, sizes and batches
    assert counters["stats"]["unique_graphs"] == (6 if pieces else 4 if pair[0].vgg else 3)
    for a, b in zip(*found, strict=True):
        assert a == pytest.approx(b, rel=1e-2, abs=1e-3)


# G, D for itself, D for G: which by then has been trained; the perceptual one
@pytest.mark.parametrize("calls", [0, 1, 2, 3])
def test_a_failed_compilation_is_reported_and_training_continues_from_the_state_before(
    monkeypatch, capsys, calls
):
    run, done = run_of("custom"), []

    def broken(network, **_):
        def call(*inputs):
            if len(done) == calls:
                raise RuntimeError("no compiler\nhere")
            done.append(network)
            return network(*inputs)

        return call

    monkeypatch.setattr(torch, "compile", broken)
    fast, plain = make(run, step.Options("float32", compile=True)), make(run)
    assert trained(fast, run, 3) == trained(plain, run, 3)
    out = capsys.readouterr().out
    assert "without compile and cuda_graph (RuntimeError: no compiler here); set machine.c" in out
    assert out.count("\n") == 1


def test_a_failed_capture_is_reported_and_training_continues(monkeypatch, capsys):
    run, modes = run_of("context_encoder"), []

    @contextlib.contextmanager
    def capture(_, capture_error_mode="global"):
        modes.append(capture_error_mode)
        yield
        raise RuntimeError("capture failed")

    monkeypatch.setattr(torch.cuda, "graph", capture)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(step, "WARM_UP", 1)  # the first step is captured
    fast, plain = make(run), make(run)
    fast.options = step.Options("float32", cuda_graph=True)
    assert trained(fast, run, 3) == trained(plain, run, 3)
    assert "cuda_graph (RuntimeError: capture failed); set" in capsys.readouterr().out
    assert modes == ["thread_local"]  # or another thread, which pins memory, would break it


def test_what_goes_to_cuda_goes_from_pinned_memory(monkeypatch):
    """Else the host waits there for the work that is queued."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: Pinned(self))

    class Pinned:
        def __init__(self, tensor):
            self.tensor = tensor

        def to(self, device, non_blocking):
            return device, non_blocking, self.tensor

    given = torch.arange(3)
    assert feed.to_device(given, torch.device("cuda")) == (torch.device("cuda"), True, given)
    assert feed.to_device(given, CPU) is given


def test_options_resolve_by_device_and_configuration():
    config = run_of("custom", overrides={"training.precision": "float32"}).study.config
    cpu = step.choose_options(config, CPU)
    assert cpu.fused_adam and cpu.keep_memory and not cpu.compile and not cpu.cuda_graph
    assert cpu.precision == "float32"
    asked = {"fused_adam": "off", "keep_memory": "off", "compile": "on", "cuda_graph": "on"}
    asked = {f"machine.{name}": value for name, value in asked.items()}
    off = step.choose_options(run_of("custom", overrides=asked).study.config, CPU)
    assert off.compile and not (off.fused_adam or off.keep_memory or off.cuda_graph)
    cuda = [
        step.choose_options(config, torch.device("cuda"), name) for name in models.ARCHITECTURES
    ]
    assert all(options.compile and options.cuda_graph for options in cuda)
    assert [options.channels_last for options in cuda] == [False, False, True]  # free_form's
    assert [options.compile_pieces for options in cuda] == [True, False, False]  # custom's


@pytest.mark.parametrize("architecture", models.ARCHITECTURES)
def test_deterministic_kernels_train_every_architecture_to_the_same_numbers(architecture):
    run = run_of(architecture, overrides={"machine.deterministic": "on"})
    assert step.choose_options(run.config, CPU).deterministic
    try:
        choices = [step.Options("float32", deterministic=on) for on in (True, True, False)]
        fixed, again, plain = (trained(make(run, options), run, 3)[-1] for options in choices)
    finally:
        step.set_deterministic(False)
    assert fixed == again
    assert all(fixed[name] == pytest.approx(plain[name], rel=1e-3, abs=1e-5) for name in plain)


def test_a_resumed_checkpoint_uses_the_options_of_this_machine():
    run = run_of("custom")
    one = make(run, step.Options("float32", fused_adam=True))
    trained(one, run, 2)
    saved = copy.deepcopy(one.state.state_dict())
    other = make(run, PLAIN)
    other.state.load_state_dict(saved)
    groups = saved["opt_g"]["param_groups"] + other.state.opt_g.param_groups
    assert [bool(group["fused"]) for group in groups] == [True, False]
    rest = list(batches(run, 4))[2:]
    for fast in (one, other):
        for inputs in rest:
            fast(*inputs)
    assert one.read()["l1_hole"] == pytest.approx(other.read()["l1_hole"], rel=1e-3)


def test_a_timed_step_is_a_training_step():
    run, options = run_of("custom"), step.Options("float32")
    timed = trial.create_stepper(run, CPU, options)
    before = [p.clone() for p in timed.fast.state.G.parameters()]
    timed()
    pairs = zip(timed.fast.state.G.parameters(), before, strict=True)
    assert any(not torch.equal(p, kept) for p, kept in pairs)
    assert timed.fast.count == 1 and {*timed.fast.read()} > {"adversarial_g", "l1_hole"}
