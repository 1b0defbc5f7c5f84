"""The paper's own network (Hedjazi & Genç 2019, Figure 1): gated encoder-decoder and multi-scale discriminator.

Generator, for base width w and input 4 x H x W (masked image + mask), every layer with instance norm and ELU:

    encoder   gated 5x5 stride 2  ->  w  at H/2         decoder   residual -> 4w at H/4
              gated 3x3 stride 2  -> 2w  at H/4                   residual -> 2w at H/4
              residual            -> 4w  at H/4                   bilinear x2, gated 3x3 ->  w   at H/2
              residual            -> 8w  at H/4                   bilinear x2, gated 3x3 ->  w/2 at H
                                                                  convolution 3x3, tanh  ->  RGB at H

The paper fixes: gated convolutions down to 1/4, two residual blocks, filters doubling after each, a mirrored decoder with
bilinear upsampling before each gated convolution, an RGB convolution last, instance norm throughout. It leaves open: the
base width, kernel sizes, activation, padding (reflect here) and tanh.

Discriminator: pix2pixHD's kind (Wang et al. 2018), the same network on the image at `scales` halved sizes.
"""

import torch
import torch.nn.functional as F
from torch import nn

from .layers import Conv2d, GatedConv, ResidualBlock, start_normal

SIZES = "multiples of 4"
MASK_FAMILIES = ("square", "center", "rectangles", "free_form")


def accepts(size):
    return size % 4 == 0


def _gated(c_in, c_out, **options):
    return GatedConv(c_in, c_out, norm=True, padding="reflect", **options)


class Generator(nn.Module):
    """(masked (B,3,H,W), mask (B,1,H,W)) -> [output (B,3,H,W) in [-1, 1]]."""

    def __init__(self, width=64):
        super().__init__()
        w = width
        self.encoder = nn.Sequential(
            _gated(4, w, kernel=5, stride=2),
            _gated(w, 2 * w, stride=2),
            ResidualBlock(2 * w, 4 * w),
            ResidualBlock(4 * w, 8 * w),
        )
        self.decoder = nn.Sequential(
            ResidualBlock(8 * w, 4 * w),
            ResidualBlock(4 * w, 2 * w),
            _gated(2 * w, w, upsample="bilinear"),
            _gated(w, w // 2, upsample="bilinear"),
        )
        self.to_rgb = Conv2d(w // 2, 3, 3, padding=1, padding_mode="reflect")

    def forward(self, masked, mask):
        features = self.decoder(self.encoder(torch.cat([masked, mask], dim=1)))
        return [self.to_rgb(features).tanh()]


class Discriminator(nn.Module):
    """(B,3,H,W) -> one list per scale of the five layers' feature maps and, last, the score map (B,1,h,w).

    Five 4x4 convolutions, strides 2,2,2,1,1, filters w, 2w, 4w, 8w, 8w: the last two equal, as the paper says.
    # Differs from paper: a 1x1 convolution reads the score off the fifth layer, because LSGAN needs one number per patch
    (pix2pixHD lets the fifth layer itself have a single filter).
    """

    def __init__(self, width=64, scales=2):
        super().__init__()
        self.scales = nn.ModuleList(self._one_scale(width) for _ in range(scales))

    @staticmethod
    def _one_scale(w):
        filters = [3, w, 2 * w, 4 * w, 8 * w, 8 * w]
        layers = []
        for i, stride in enumerate([2, 2, 2, 1, 1]):
            norm = [nn.InstanceNorm2d(filters[i + 1])] if i else []
            layers.append(nn.Sequential(nn.Conv2d(filters[i], filters[i + 1], 4, stride, padding=2), *norm, nn.LeakyReLU(0.2)))
        return nn.ModuleList([*layers, nn.Conv2d(8 * w, 1, 1)])

    def forward(self, x):
        outputs = []
        for scale, layers in enumerate(self.scales):
            if scale:
                x = F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)
            features = [x]
            for layer in layers:
                features.append(layer(features[-1]))
            outputs.append(features[1:])
        return outputs


def create(image_size=128, generator_width=64, discriminator_width=64, scales=2):
    """The networks at the paper's sizes by default; narrower for small profiles. Any multiple of 4 from 32 px works.

    Initial weights as in pix2pixHD.
    """
    if scales not in range(1, 5):
        raise ValueError(f"scales: must be 1 to 4, not {scales!r}")
    networks = Generator(generator_width), Discriminator(discriminator_width, scales)
    for network in networks:
        start_normal(network)
    return networks
