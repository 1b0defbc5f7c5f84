"""The training step: uint8 images and unit variates in, updated networks and summed terms out.

Shapes are fixed, the host never waits for the device, and what a setup changes (the hole's size,
loss weights) is a tensor. So on CUDA the whole step is captured once as a graph and replayed in
every stage. `Options` say how it is computed; the configuration's section machine sets them.
"""

import copy
import ctypes
import os
import sys
from dataclasses import dataclass, replace

import torch

from .. import losses, masks, metrics
from ..data import feed, packs
from ..models import layers

SATURATED = 0.95  # when D is right on this share of patches, G learns little from it
WARM_UP = 3  # steps before the capture: lazy initialisation must be over
MALLOPT = ((-4, 0), (-1, 2**31 - 1), (-2, 64 * 2**20))  # M_MMAP_MAX, M_TRIM_THRESHOLD, M_TOP_PAD


@dataclass(frozen=True)
class Options:
    """How a step is computed on a device. Only `precision` is part of a run's identity."""

    precision: str  # of autocast; losses, norms of gradients and both Adams stay float32
    fused_adam: bool = False  # one kernel for all weights
    keep_memory: bool = False  # freed memory stays with the process (glibc)
    compile: bool = False  # torch.compile of the networks, the perceptual one too
    compile_pieces: bool = False  # only what lies between convolutions
    cuda_graph: bool = False  # the whole step captured
    channels_last: bool = False  # compiled networks compute in that layout throughout
    deterministic: bool = False  # kernels whose sums have a fixed order: equal bytes on CUDA too


def choose_options(config, device, architecture=None):
    """Return the configuration's Options for this device, with every `auto` resolved."""
    cuda = device.type == "cuda"
    auto = {
        "fused_adam": device.type != "mps",
        "keep_memory": device.type == "cpu",
        "compile": cuda,
        "compile_pieces": architecture == "custom",  # the one that takes minutes to compile
        "cuda_graph": cuda,
        "channels_last": cuda and architecture == "free_form",  # the only one it makes faster
        "deterministic": False,
    }
    wanted = {name: getattr(config.machine, name) for name in auto}
    chosen = {name: auto[name] if v == "auto" else v == "on" for name, v in wanted.items()}
    chosen["cuda_graph"] = cuda and chosen["cuda_graph"]
    return Options(choose_precision(config.training.precision, device), **chosen)


def choose_precision(wanted, device):
    """Return `wanted`, or for auto "bfloat16" where the hardware computes it, else "float32"."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()  # noqa: SLF001
    return "bfloat16" if native else "float32"


def keep_freed_memory():
    """Tell glibc to keep freed memory and never to map single blocks; do nothing elsewhere."""
    mallopt = sys.platform == "linux" and getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        for parameter, value in MALLOPT:
            mallopt(parameter, value)


def set_deterministic(on):
    """Require deterministic kernels (RuntimeError where there is none), or allow all."""
    if on:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    if on != torch.are_deterministic_algorithms_enabled():  # the call imports PyTorch's compiler
        torch.use_deterministic_algorithms(on)
    torch.backends.cudnn.deterministic = on
    torch.backends.cudnn.benchmark = not on  # shapes are fixed: the fastest kernel is found once


class Step:
    """`step(images, u, phase)` updates D, then G, and adds the logged terms to sums on the device.

    images (B,H,W,3) uint8 and u (B,n), the unit variates of the holes, lie on any device. `state`
    holds G, D, opt_g, opt_d. `read()` returns the means of the terms since the last reading.
    """

    def __init__(self, run, state, device, options):
        training, model = run.config.training, run.model
        self.state, self.device, self.options = state, device, options
        self.objective, self.vgg = run.architecture_entry.objective, None
        if "perceptual" in self.objective.terms:
            vgg = losses.Perceptual(training.perceptual_weights, training.perceptual_width)
            self.vgg = vgg.to(device)
        self.family, self.size = model.mask_family, run.config.data.image_size
        self.draw = masks.get_family(self.family, packs.load_bank(run, self.family, device))
        self.loss_options, self.weights = model.loss_options, dict(model.loss_weights)
        self.adversarial_weight = self.weights.pop("adversarial")
        self.joint = not metrics.find_batch_norms(state.D)  # batch norm must see them apart
        self.names, self.sums, self.count = [], None, 0  # logged terms since the last reading
        self.now = None  # extent, reconstruction and adversarial weight, on the device too:
        self.controls = torch.zeros(3, device=device)
        self.done, self.graph, self.held = 0, None, None
        set_deterministic(options.deterministic)
        if options.keep_memory:
            keep_freed_memory()
        self.G, self.D, self.perceptual = state.G, state.D, self.vgg
        if options.compile:
            self._compile()

    def load(self, images, u, phase):
        """Copy a batch, its hole width and loss weights to the device; return (images, u)."""
        extent = masks.find_extent(self.family, phase.mask_width, self.size)
        controls = (extent, phase.reconstruction, phase.adversarial)
        if controls != self.now:
            self.now = controls
            self.controls.copy_(feed.to_device(torch.tensor(controls), self.device))
        return tuple(feed.to_device(t, self.device) for t in (images, u))

    def __call__(self, images, u, phase):
        batch = self.load(images, u, phase)
        if self.done < WARM_UP and (self.options.compile or self.options.cuda_graph):
            self._warm_up(*batch)
        else:
            self._advance(*batch)
        self.done += 1
        self.count += 1

    def read(self):
        """Return the means since the last reading, as a dict; only this waits for the device."""
        values = (self.sums.cpu().double() / self.count).tolist()
        self.sums.zero_()
        self.count = 0
        return dict(zip(self.names, values, strict=True))

    def inputs(self, images, u):
        """Return the images (B,3,H,W) in [-1, 1] and their holes (B,1,H,W)."""
        mask = self.draw(u, self.controls[0], self.size)
        return metrics.to_float(images, self.device), mask

    def fill(self, G, real, mask):
        """Return G's outputs, float32."""
        with self._autocast():
            return [stage.float() for stage in G(real * (1 - mask), mask)]

    def generator_losses(self, outputs, real, mask, D, perceptual):
        """Return G's adversarial loss and {name: reconstruction loss}, unweighted."""
        adversarial = self.objective.adversarial[1](self._scores(D, outputs[-1], real, mask))
        with self._autocast():
            terms = self.objective.reconstruction(
                outputs, real, mask, perceptual, **self.loss_options
            )
        return adversarial, terms

    def weighed(self, adversarial, terms):
        """Return the two parts of G's loss: the setup scales the weights of the configuration."""
        _, reconstruction_weight, adversarial_weight = self.controls.unbind()
        reconstruction = sum(self.weights[name] * value for name, value in terms.items())
        return (
            adversarial_weight * self.adversarial_weight * adversarial,
            reconstruction_weight * reconstruction,
        )

    def _compute(self, images, u):
        opt_g, opt_d, D = self.state.opt_g, self.state.opt_d, self.state.D
        d_loss, _, boundary = self.objective.adversarial
        real, mask = self.inputs(images, u)
        outputs = self.fill(self.G, real, mask)

        # D: updated at every trained step, in every setup
        real_scores, fake_scores = self._judge(outputs[-1].detach(), real, mask)
        loss_d = d_loss(real_scores, fake_scores)
        opt_d.zero_grad()
        loss_d.backward()
        opt_d.step()

        # G: D's weights are fixed
        D.requires_grad_(False)
        adversarial_g, terms = self.generator_losses(outputs, real, mask, self.D, self.perceptual)
        loss_g = sum(self.weighed(adversarial_g, terms))
        opt_g.zero_grad()
        loss_g.backward()
        opt_g.step()
        D.requires_grad_(True)

        accuracy = _accuracy(real_scores, fake_scores, boundary)
        logged = {
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
            "hole_fraction": mask.mean(),
        }
        self._add(terms | logged)

    def _add(self, logged):
        values = torch.stack([value.detach().float() for value in logged.values()])
        if self.sums is None:
            self.names, self.sums = list(logged), torch.zeros_like(values)
        self.sums.add_(values)

    def _autocast(self):
        dtype = getattr(torch, self.options.precision)
        return torch.autocast(self.device.type, dtype, dtype != torch.float32)

    def _scores(self, D, image, real, mask):
        with self._autocast():
            found = losses.get_scores(D(self.objective.seen(image, real, mask)))
            return [score_map.float() for score_map in found]

    def _judge(self, fake, real, mask):
        """Return D's scores of `real` and `fake`, in one pass if its layers do not mix samples."""
        if not self.joint:
            return tuple(self._scores(self.D, image, real, mask) for image in (real, fake))
        both = (torch.cat(pair) for pair in ((real, fake), (real, real), (mask, mask)))
        halves = [score_map.chunk(2) for score_map in self._scores(self.D, *both)]
        return [half[0] for half in halves], [half[1] for half in halves]

    # --- torch.compile and CUDA graphs

    def _compile(self):
        """Compile the networks, or one version of every piece between convolutions for all sizes.

        Inductor takes time for every graph and kernel. All layers of custom differ in size, so G
        alone has 35 kernels, all pieces together about a dozen (docs/speed.md).
        """
        networks = self.state.G, self.state.D
        if self.options.compile_pieces:
            # sizes that are equal, or of parameters, are no reason to compile again
            torch._dynamo.config.force_parameter_static_shapes = False  # noqa: SLF001
            torch.fx.experimental._config.use_duck_shape = False  # noqa: SLF001
            pieces = {name: torch.compile(f, dynamic=True) for name, f in layers.PIECES.items()}
            self.G, self.D = (layers.exchange(network, pieces) for network in networks)
            return
        layout = {"force_layout_optimization": True} if self.options.channels_last else None
        self.G, self.D, self.perceptual = (
            network and torch.compile(network, dynamic=False, options=layout)
            for network in (*networks, self.vgg)
        )

    def _advance(self, images, u):
        if not self.options.cuda_graph:
            self._compute(images, u)
        elif self.done < WARM_UP - 1:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                self._compute(images, u)
            torch.cuda.current_stream().wait_stream(side)
        else:
            self._replay(images, u)

    def _replay(self, images, u):
        if self.graph is None:
            self.held, self.graph = (images.clone(), u.clone()), torch.cuda.CUDAGraph()
            # thread_local: feed's thread pins memory meanwhile
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
                self._compute(*self.held)
        for held, new in zip(self.held, (images, u), strict=True):
            held.copy_(new)
        self.graph.replay()

    def _warm_up(self, images, u):
        """Advance; where compile or cuda_graph fails, go on without them from the state before."""
        state, before = self.state, copy.deepcopy(self.state.state_dict())
        sums = None if self.sums is None else self.sums.clone()
        try:
            return self._advance(images, u)
        except torch.OutOfMemoryError:  # not an option's fault
            raise
        except RuntimeError as error:  # what PyTorch's compiler and captures raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            remedy = "set machine.compile=off, machine.cuda_graph=off or both"
            what = "training continues without compile and cuda_graph"
            print(f"{what} ({reason}); {remedy}", flush=True)
        self.options, self.graph = replace(self.options, compile=False, cuda_graph=False), None
        self.G, self.D, self.perceptual, self.sums = state.G, state.D, self.vgg, sums
        state.D.requires_grad_(True)
        state.load_state_dict(before)
        return self._compute(images, u)


def _mean(score_maps):
    """Return the mean score over scales and places."""
    return torch.stack([s.mean() for s in score_maps]).mean()


def _accuracy(real_scores, fake_scores, boundary):
    """Return the share of scores on the right side, mean over real and fake and over scales."""
    of_real = _mean([(scores > boundary).float() for scores in real_scores])
    of_fake = _mean([(scores < boundary).float() for scores in fake_scores])
    return (of_real + of_fake) / 2


def _grad_norm(network):
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)
