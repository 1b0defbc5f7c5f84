"""The training step: uint8 images and unit variates in, updated networks and summed terms out.

Shapes are fixed, nothing waits for the device, and what the curriculum changes (size of the hole, loss weights) is a tensor. So
on CUDA the whole step is captured once in a graph and replayed whatever the stage. Levers, each a configuration key that `auto`
resolves by device; what they resolved to is provenance, not identity:

- precision: bfloat16 autocast where the hardware has it. Losses, norms of gradients and both Adams stay float32.
- fused_adam: one kernel for all weights.
- keep_memory: freed memory stays with the process (glibc): gradients are not mapped anew in every step.
- compile: torch.compile of the networks, the perceptual one too. cuda_graph: the capture. Both on CUDA only, unless asked for.
- channels_last: compiled networks compute in that layout throughout; torch.compile itself gives it up for a whole network in
  which one convolution has half as many outputs as inputs. `auto`: free_form on CUDA, which alone it was seen to speed up.
- deterministic: not for speed. Kernels whose sums have a fixed order, so that CUDA, too, gives equal bytes for equal runs.

A lever that fails on this device or version is said in one line, and training goes on without it from the state before.
"""

import contextlib
import copy
import ctypes
import ctypes.util
import os
import sys
from dataclasses import dataclass, replace

import torch

from .. import losses, masks, metrics
from ..data import feed

SATURATED = 0.95  # a step is saturated if D judges at least this share of patches rightly: G learns little from it
WARM_UP = 3  # steps before the capture: lazy initialisation must be over


@dataclass(frozen=True)
class Levers:
    """How a device trains fast."""

    precision: torch.dtype
    fused_adam: bool = False
    keep_memory: bool = False
    compile: bool = False
    cuda_graph: bool = False
    channels_last: bool = False
    deterministic: bool = False

    def describe(self):
        """{name: resolved value}, for provenance."""
        return vars(self) | {"precision": str(self.precision).removeprefix("torch.")}


def choose_levers(config, device, architecture=None):
    """What the configuration's `auto` means on this device, for an architecture."""
    cuda = device.type == "cuda"
    native = (
        torch.cuda.is_bf16_supported(including_emulation=False)
        if cuda
        else (device.type == "cpu" and torch.cpu._is_avx512_bf16_supported())  # noqa: SLF001
    )
    auto = {"fused_adam": device.type != "mps", "keep_memory": device.type == "cpu", "compile": cuda, "cuda_graph": cuda,
            "channels_last": cuda and architecture == "free_form", "deterministic": False}  # fmt: skip
    wanted = {name: auto[name] if (value := getattr(config, name)) == "auto" else value == "on" for name in auto}
    precision = {"auto": torch.bfloat16 if native else torch.float32}.get(config.precision)
    return Levers(precision or getattr(torch, config.precision), **wanted | {"cuda_graph": cuda and wanted["cuda_graph"]})


def keep_freed_memory():
    """Tell glibc to keep what is freed and never to map single blocks; elsewhere nothing happens."""
    name = ctypes.util.find_library("c") if sys.platform == "linux" else None
    mallopt = getattr(ctypes.CDLL(name), "mallopt", None) if name else None
    if mallopt:
        for parameter, value in ((-4, 0), (-1, 2**31 - 1), (-2, 64 * 2**20)):  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD
            mallopt(parameter, value)


def fix_order(levers):
    """Let PyTorch use kernels of a fixed order alone, or again all; an operator that has none raises RuntimeError by name."""
    if levers.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    if levers.deterministic != torch.are_deterministic_algorithms_enabled():  # the call imports PyTorch's compiler
        torch.use_deterministic_algorithms(levers.deterministic)
    torch.backends.cudnn.deterministic = levers.deterministic
    torch.backends.cudnn.benchmark = not levers.deterministic  # shapes are fixed: the fastest kernel is found once


def adam(network, lr, betas, levers):
    return torch.optim.Adam(network.parameters(), lr, betas, fused=levers.fused_adam or None, capturable=levers.cuda_graph)


class Step:
    """`step(images, u, phase)` updates D, then G, and adds what is logged to sums on the device; `read()` gives the means.

    images (B,H,W,3) uint8 and u (B,n), the unit variates of the holes, lie on any device. `state` holds G, D, opt_g, opt_d.
    """

    def __init__(self, run, state, device, levers):
        config, self.state, self.device, self.levers = run.config, state, device, levers
        self.objective, self.vgg = losses.OBJECTIVES[run.architecture], None
        if "perceptual" in self.objective.terms:
            self.vgg = losses.Perceptual(config.perceptual_weights, config.perceptual_width).to(device)
        self.family, self.size, self.options = run.model.mask_family, config.image_size, run.model.loss_options
        self.weights = dict(run.model.loss_weights)
        self.adversarial_weight = self.weights.pop("adversarial")
        self.joint = not metrics.batch_norms(state.D)  # batch norm must see them apart
        self.names, self.sums, self.count = [], None, 0
        self.now, self.controls = None, torch.zeros(3, device=device)  # extent, reconstruction and adversarial weight
        self.done, self.graph, self.inputs = 0, None, None
        self.trains_d = True
        self.G, self.D, self.perceptual = state.G, state.D, self.vgg
        fix_order(levers)
        if levers.keep_memory:
            keep_freed_memory()
        if levers.compile:
            options = {"force_layout_optimization": True} if levers.channels_last else None
            self.G, self.D, self.perceptual = (
                network and torch.compile(network, dynamic=False, options=options) for network in (state.G, state.D, self.vgg)
            )

    def __call__(self, images, u, phase):
        controls = masks.extent(self.family, phase.mask_width, self.size), phase.reconstruction, phase.adversarial
        if controls != self.now:
            self.now = controls
            self.controls.copy_(feed.to_device(torch.tensor(controls), self.device))
        if phase.discriminator != self.trains_d:  # another computation, to be captured anew
            self.trains_d, self.graph, self.done = phase.discriminator, None, 0
        images, u = (feed.to_device(t, self.device) for t in (images, u))
        if self.done >= WARM_UP or not (self.levers.compile or self.levers.cuda_graph):
            self._advance(images, u)
        else:  # the first steps show whether the levers work here
            self._try(images, u)
        self.done += 1
        self.count += 1

    def _try(self, images, u):
        """Advance, without the levers that fail, from the state there was."""
        before, sums = copy.deepcopy(self.state.state_dict()), None if self.sums is None else self.sums.clone()
        while self.levers.compile or self.levers.cuda_graph:
            try:
                return self._advance(images, u)
            except torch.OutOfMemoryError:  # no lever's fault
                raise
            except Exception as error:
                self._fall_back(error)
                self.state.D.requires_grad_(True)
                self.state.load_state_dict(copy.deepcopy(before))
                self.sums = sums
        return self._advance(images, u)

    def read(self):
        """The means since the last reading, as a dict; the only wait for the device."""
        values = (self.sums.cpu().double() / self.count).tolist()
        self.sums.zero_()
        self.count = 0
        return dict(zip(self.names, values, strict=True))

    def _fall_back(self, error):
        captured = self.graph is not None
        while captured and error.__context__:  # the end of a failed capture says no more than that it failed
            error = error.__context__
        lever = "compile" if self.levers.compile and not captured else "cuda_graph"
        reason = " ".join(str(error).split())[:200]
        print(f"{lever} does not work here ({type(error).__name__}: {reason}); going on without (set {lever}=off)", flush=True)
        self.levers, self.graph = replace(self.levers, **{lever: False}), None
        if lever == "compile":
            self.G, self.D, self.perceptual = self.state.G, self.state.D, self.vgg

    def _advance(self, images, u):
        if not self.levers.cuda_graph:
            return self._compute(images, u)
        if self.graph is None and self.done < WARM_UP - 1:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                self._compute(images, u)
            torch.cuda.current_stream().wait_stream(side)
            return None
        if self.graph is None:
            self.inputs, self.graph = (images.clone(), u.clone()), torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):  # feed's thread pins memory meanwhile
                self._compute(*self.inputs)
        for held, new in zip(self.inputs, (images, u), strict=True):
            held.copy_(new)
        self.graph.replay()
        return None

    def _autocast(self):
        if self.levers.precision == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.levers.precision)

    def _scores(self, image, real, mask):
        with self._autocast():
            return [s.float() for s in losses.scores(self.D(self.objective.seen(image, real, mask)))]

    def _judge(self, fake, real, mask):
        """D's scores of `real` and of `fake`, in one pass where its layers do not mix samples."""
        if not self.joint:
            return self._scores(real, real, mask), self._scores(fake, real, mask)
        pairs = [s.chunk(2) for s in self._scores(*(torch.cat(p) for p in ((real, fake), (real, real), (mask, mask))))]
        return tuple(map(list, zip(*pairs, strict=True)))

    def _compute(self, images, u):
        extent, reconstruction_weight, adversarial_weight = self.controls.unbind()
        d_loss, g_loss, boundary = self.objective.adversarial
        opt_g, opt_d, D = self.state.opt_g, self.state.opt_d, self.state.D
        real = metrics.to_float(images, self.device)
        mask = masks.FAMILIES[self.family](u, extent, self.size)
        with self._autocast():
            stages = self.G(real * (1 - mask), mask)
        stages = [stage.float() for stage in stages]

        # D: every step, in every setup of the paper's
        real_scores, fake_scores = self._judge(stages[-1].detach(), real, mask)
        loss_d = d_loss(real_scores, fake_scores)
        opt_d.zero_grad()
        loss_d.backward()
        if self.trains_d:
            opt_d.step()

        # G: the setup scales the adversarial and the reconstruction weights, nothing else; D stands still
        D.requires_grad_(False)
        adversarial_g = g_loss(self._scores(stages[-1], real, mask))
        with self._autocast():
            terms = self.objective.reconstruction(stages, real, mask, self.perceptual, **self.options)
        reconstruction = sum(self.weights[name] * value for name, value in terms.items())
        loss_g = reconstruction_weight * reconstruction + adversarial_weight * self.adversarial_weight * adversarial_g
        opt_g.zero_grad()
        loss_g.backward()
        opt_g.step()
        D.requires_grad_(True)

        accuracy = _accuracy(real_scores, fake_scores, boundary)
        self._add(terms | {
            "adversarial_g": adversarial_g,
            "adversarial_d": loss_d,
            "total_g": loss_g,
            "adversarial_g_square": adversarial_g.square(),
            "adversarial_d_square": loss_d.square(),
            "d_real": _mean(real_scores),
            "d_fake": _mean(fake_scores),
            "d_accuracy": accuracy,
            "unsaturated": accuracy < SATURATED,
            "grad_norm_g": _grad_norm(self.state.G),
            "grad_norm_d": _grad_norm(D),
        })  # fmt: skip

    def _add(self, logged):
        values = torch.stack([value.detach().float() for value in logged.values()])
        if self.sums is None:
            self.names, self.sums = list(logged), torch.zeros_like(values)
        self.sums.add_(values)


def _mean(score_maps):
    """Mean score over scales and places."""
    return torch.stack([s.mean() for s in score_maps]).mean()


def _accuracy(real_scores, fake_scores, boundary):
    """Share of scores on the right side of the boundary, real and fake weighing the same, mean over scales."""
    right = [
        (r > boundary).float().mean() + (f < boundary).float().mean() for r, f in zip(real_scores, fake_scores, strict=True)
    ]
    return torch.stack(right).mean() / 2


def _grad_norm(network):
    return torch.nn.utils.get_total_norm([p.grad for p in network.parameters() if p.grad is not None])
