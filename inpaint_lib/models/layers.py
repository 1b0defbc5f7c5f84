"""Layers that more than one network uses."""

import torch
import torch.nn.functional as F
from torch import nn

CONVOLUTIONS = nn.Conv2d | nn.ConvTranspose2d
NORMS = nn.BatchNorm2d | nn.InstanceNorm2d


def start_normal(network):
    """Draw initial weights: convolutions N(0, 0.02), scales of norms N(1, 0.02); biases of norms are 0 already, those of
    convolutions stay PyTorch's. Source: the code of pix2pixHD (Wang et al. 2018) and of Pathak et al. 2016."""
    for module in network.modules():
        if getattr(module, "weight", None) is None or module.weight.is_meta:
            continue  # on meta nothing is computed: shapes alone
        if isinstance(module, CONVOLUTIONS | NORMS):
            nn.init.normal_(module.weight, 0.0 if isinstance(module, CONVOLUTIONS) else 1.0, 0.02)


def start_glorot(network):
    """Draw initial weights: convolutions Glorot uniform, biases 0. Source: tf.layers' default, which Yu et al.'s code keeps."""
    for module in network.modules():
        if isinstance(module, CONVOLUTIONS) and not module.weight.is_meta:
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)


GATED_GAIN = 2.3  # for f and g from N(0, 1), (elu(f) * sigmoid(g))^2 is 1 / 2.3^2 on average


def start_gated(network):
    """Draw initial weights with which a network of gated convolutions keeps its signal's size: normal, variance gain^2 / fan-in
    (He et al. 2015), gain GATED_GAIN for gated convolutions and 1 for others, biases 0.
    # Differs from source: under Glorot's weights each gated layer passes on a third of the signal. After 17 of them two images
    differ by 1e-7 and the first layers' gradients lie below Adam's epsilon (Yu et al. train for a million steps).
    """
    gated = {module.conv for module in network.modules() if isinstance(module, GatedConv)}
    for module in network.modules():
        if isinstance(module, CONVOLUTIONS) and not module.weight.is_meta:
            gain = GATED_GAIN if module in gated else 1.0
            nn.init.normal_(module.weight, 0.0, gain * module.weight[0].numel() ** -0.5)
            nn.init.zeros_(module.bias)


class Conv2d(nn.Conv2d):
    """nn.Conv2d, whose reflection padding has a deterministic gradient where that is asked for: CUDA's own kernel has none."""

    def forward(self, x):
        if self.padding_mode != "reflect" or not torch.are_deterministic_algorithms_enabled():
            return super().forward(x)
        for dim, pad in ((2, self.padding[0]), (3, self.padding[1])):
            n = x.shape[dim]
            x = x.index_select(dim, (n - 1 - (torch.arange(-pad, n + pad, device=x.device).abs() - (n - 1)).abs()))
        return F.conv2d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def doubled(x, mode):
    """Images (B,C,H,W) at twice the size, (B,C,2H,2W): F.interpolate's "nearest", or its "bilinear" (corners not aligned).

    On CUDA by copies and sums: interpolate's gradient there is a scatter of atomic additions, slow and in no fixed order.
    """
    return _doubled(x, mode) if x.is_cuda else F.interpolate(x, scale_factor=2, mode=mode)


def _doubled(x, mode):
    for dim in (2, 3):
        even = odd = x
        if mode == "bilinear":  # between a pixel and its neighbour, a quarter and three quarters of the way; edges repeat
            n = x.shape[dim]
            before = torch.cat([x.narrow(dim, 0, 1), x.narrow(dim, 0, n - 1)], dim)
            after = torch.cat([x.narrow(dim, 1, n - 1), x.narrow(dim, n - 1, 1)], dim)
            even, odd = 0.25 * before + 0.75 * x, 0.75 * x + 0.25 * after
        x = torch.stack([even, odd], dim + 1).flatten(dim, dim + 1)
    return x


class GatedConv(nn.Module):
    """Gated convolution (Yu et al. 2018): activation(norm(feature)) * sigmoid(gate).

    One convolution emits feature and gate together (2 x `c_out` channels), which is faster than two. `upsample` ("bilinear" or
    "nearest") doubles the input's size first, so no transposed convolution is needed. `norm` is instance norm with affine.
    """

    def __init__(self, c_in, c_out, kernel=3, stride=1, dilation=1, upsample=None, norm=False, padding="zeros", act=F.elu):
        super().__init__()
        pad = dilation * (kernel // 2)
        self.conv = Conv2d(c_in, 2 * c_out, kernel, stride, pad, dilation, padding_mode=padding)
        self.norm = nn.InstanceNorm2d(c_out, affine=True) if norm else nn.Identity()
        self.upsample, self.act = upsample, act

    def forward(self, x):
        if self.upsample:
            x = doubled(x, self.upsample)
        feature, gate = self.conv(x).chunk(2, dim=1)
        return self.act(self.norm(feature)) * gate.sigmoid()


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with instance norm around a 1x1 shortcut that changes the number of channels."""

    def __init__(self, c_in, c_out):
        super().__init__()
        self.conv1 = Conv2d(c_in, c_out, 3, padding=1, padding_mode="reflect", bias=False)
        self.norm1 = nn.InstanceNorm2d(c_out, affine=True)
        self.conv2 = Conv2d(c_out, c_out, 3, padding=1, padding_mode="reflect", bias=False)
        self.norm2 = nn.InstanceNorm2d(c_out, affine=True)
        self.shortcut = nn.Conv2d(c_in, c_out, 1, bias=False)

    def forward(self, x):
        y = F.elu(self.norm1(self.conv1(x)))
        return F.elu(self.shortcut(x) + self.norm2(self.conv2(y)))
