"""Layers and initial weights that more than one network uses."""

import torch
import torch.nn.functional as F
from torch import nn

CONVOLUTIONS = nn.Conv2d | nn.ConvTranspose2d
NORMS = nn.BatchNorm2d | nn.InstanceNorm2d


def find_weighted(network, kinds):
    """Yield the modules of these kinds that have weights to draw.

    Skips the "meta" device, which has shapes and no values: drawing there does nothing but make
    PyTorch import its compiler, which takes seconds.
    """
    for module in network.modules():
        weight = getattr(module, "weight", None)
        if isinstance(module, kinds) and weight is not None and not weight.is_meta:
            yield module


def draw_normal_weights(network):
    """Draw initial weights: convolutions N(0, 0.02), scales of norms N(1, 0.02), biases PyTorch's.

    Source: the code of pix2pixHD (Wang et al. 2018) and of Pathak et al. 2016.
    """
    for module in find_weighted(network, CONVOLUTIONS | NORMS):
        mean = 0.0 if isinstance(module, CONVOLUTIONS) else 1.0
        nn.init.normal_(module.weight, mean, 0.02)


def pad_reflecting(x, padding):
    """Return images (B,C,H,W) with reflected borders; the gradient can be deterministic on CUDA."""
    if not torch.are_deterministic_algorithms_enabled():
        return F.pad(x, (padding[1], padding[1], padding[0], padding[0]), mode="reflect")
    for dim, pad in ((2, padding[0]), (3, padding[1])):
        last = x.shape[dim] - 1
        index = torch.arange(-pad, last + pad + 1, device=x.device).abs()
        x = x.index_select(dim, last - (index - last).abs())
    return x


def double(x, mode):
    """Return images (B,C,H,W) at twice the size: F.interpolate's "nearest" or "bilinear".

    On CUDA by copies and sums: the gradient of interpolate uses atomic additions there, which are
    slow and have no fixed order.
    """
    return _double_by_copies(x, mode) if x.is_cuda else F.interpolate(x, scale_factor=2, mode=mode)


def _double_by_copies(x, mode):
    for dim in (2, 3):
        even = odd = x
        if mode == "bilinear":  # a quarter of the way to each neighbour; edges repeat
            n = x.shape[dim]
            before = torch.cat([x.narrow(dim, 0, 1), x.narrow(dim, 0, n - 1)], dim)
            after = torch.cat([x.narrow(dim, 1, n - 1), x.narrow(dim, n - 1, 1)], dim)
            even, odd = 0.25 * before + 0.75 * x, 0.75 * x + 0.25 * after
        x = torch.stack([even, odd], dim + 1).flatten(dim, dim + 1)
    return x


def gate(x, weight, bias, act):
    """Return act(norm(feature)) * sigmoid(gate) of x, which holds both (B,2C,H,W).

    weight, bias (C): of instance norm; None: no norm. act None: none.
    """
    feature, gates = x.chunk(2, dim=1)
    if weight is not None:
        feature = F.instance_norm(feature, weight=weight, bias=bias)
    return (act(feature) if act else feature) * gates.sigmoid()


def activate(x):
    """Return instance norm without weights, then LeakyReLU 0.2."""
    return F.leaky_relu(F.instance_norm(x), 0.2)


# What lies between convolutions: functions that modules call by these names, so that `exchange`
# can put compiled ones in their place.
PIECES = {"pad": pad_reflecting, "upscale": double, "gate": gate, "activate": activate}


def exchange(network, pieces):
    """Return a network of the same parameters and buffers that calls other PIECES."""
    twin = object.__new__(type(network))  # copy.copy refuses layers with spectral norm
    vars(twin).update(vars(network))
    twin._modules = {name: exchange(child, pieces) for name, child in network._modules.items()}  # noqa: SLF001
    vars(twin).update((name, f) for name, f in pieces.items() if hasattr(type(twin), name))
    return twin


class Conv2d(nn.Conv2d):
    """nn.Conv2d whose reflection padding is a piece."""

    pad = staticmethod(pad_reflecting)

    def forward(self, x):
        if self.padding_mode != "reflect":
            return super().forward(x)
        x = self.pad(x, self.padding)
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


class Activate(nn.Module):
    """Instance norm without weights, then LeakyReLU 0.2: (B,C,H,W) -> (B,C,H,W)."""

    activate = staticmethod(activate)

    def forward(self, x):
        return self.activate(x)


class GatedConv(nn.Module):
    """Gated convolution (Yu et al. 2018): activation(norm(feature)) * sigmoid(gate).

    One convolution emits feature and gate together (2 * `c_out` channels), which is faster than
    two. `upsample` ("bilinear" or "nearest") doubles the size of the input first. `norm` adds
    instance norm with affine. `act` None: none. `options`, as of nn.Conv2d: stride, dilation,
    padding_mode.
    """

    upscale, gate = staticmethod(double), staticmethod(gate)

    def __init__(self, c_in, c_out, kernel=3, upsample=None, norm=False, act=F.elu, **options):
        super().__init__()
        padding = options.get("dilation", 1) * (kernel // 2)
        self.conv = Conv2d(c_in, 2 * c_out, kernel, padding=padding, **options)
        self.norm = nn.InstanceNorm2d(c_out, affine=True) if norm else None
        self.upsample, self.act = upsample, act

    def forward(self, x):
        if self.upsample:
            x = self.upscale(x, self.upsample)
        scale, shift = (self.norm.weight, self.norm.bias) if self.norm else (None, None)
        return self.gate(self.conv(x), scale, shift, self.act)
