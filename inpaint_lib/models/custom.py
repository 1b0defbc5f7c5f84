"""The paper's own network (Hedjazi & Genç 2019, Figure 1): custom.

Generator, for base width w and input 4 x H x W (masked image + mask), with instance norm and ELU:

    encoder   gated 5x5 stride 2 ->  w at H/2     decoder   residual, gated        ->  4w at H/4
              gated 3x3 stride 2 -> 2w at H/4               residual, gated        ->  2w at H/4
              residual, gated    -> 4w at H/4               bilinear x2, gated 3x3 ->   w at H/2
              residual, gated    -> 8w at H/4               bilinear x2, gated 3x3 -> w/2 at H
                                                            convolution 3x3, tanh  -> RGB at H

The paper leaves open: the base width, kernel sizes, activation, padding (reflect here) and tanh.
Discriminator: pix2pixHD's kind (Wang et al. 2018), one network for the image at each of `scales`
sizes, each half of the one before. It returns the feature maps of all layers, as the paper says;
the losses that the paper lists use its scores alone.
"""

import torch
import torch.nn.functional as F
from torch import nn

from .. import losses
from .architecture import Architecture, Objective
from .layers import Activate, Conv2d, GatedConv, draw_normal_weights


def _gated(c_in, c_out, **options):
    return GatedConv(c_in, c_out, norm=True, padding_mode="reflect", **options)


class ResidualBlock(nn.Module):
    """Two gated 3x3 convolutions with instance norm, and a 1x1 shortcut around them."""

    def __init__(self, c_in, c_out):
        super().__init__()
        self.conv1 = _gated(c_in, c_out)
        self.conv2 = _gated(c_out, c_out, act=None)
        self.shortcut = nn.Conv2d(c_in, c_out, 1, bias=False)

    def forward(self, x):
        return F.elu(self.shortcut(x) + self.conv2(self.conv1(x)))


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
    """(B,3,H,W) -> a list per scale: five layers' feature maps and, last, the score map (B,1,h,w).

    Five 4x4 convolutions, strides 2,2,2,1,1, filters w, 2w, 4w, 8w, 8w: the last two equal.
    # Differs from paper: a 1x1 convolution reads the score off the fifth layer, because LSGAN needs
    one number per patch (in pix2pixHD the fifth layer itself has a single filter).
    """

    def __init__(self, width=64, scales=2):
        super().__init__()
        self.scales = nn.ModuleList(self._one_scale(width) for _ in range(scales))

    @staticmethod
    def _one_scale(w):
        filters = [3, w, 2 * w, 4 * w, 8 * w, 8 * w]
        layers = []
        for i, stride in enumerate([2, 2, 2, 1, 1]):
            conv = nn.Conv2d(filters[i], filters[i + 1], 4, stride, padding=2)
            layers.append(nn.Sequential(conv, Activate() if i else nn.LeakyReLU(0.2)))
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
    """Build the networks; initial weights as in pix2pixHD.

    Raises ValueError for a number of scales outside 1 .. 4.
    """
    if scales not in range(1, 5):
        raise ValueError(f"scales: must be 1 to 4, not {scales!r}")
    networks = Generator(generator_width), Discriminator(discriminator_width, scales)
    for network in networks:
        draw_normal_weights(network)
    return networks


L1_NORMALISATIONS = {"region": losses.l1_region, "pixels": losses.l1_pixels}


def reconstruct(outputs, real, mask, perceptual, l1_normalisation="region"):
    """Return L1 outside the hole, L1 in the hole and the perceptual loss of the raw output."""
    output, l1 = outputs[-1], L1_NORMALISATIONS[l1_normalisation]
    return {
        "l1_valid": l1(output, real, 1 - mask),
        "l1_hole": l1(output, real, mask),
        "perceptual": perceptual(output, real),
    }


ARCHITECTURE = Architecture(
    about="The paper's own network: a gated encoder-decoder against a multi-scale discriminator.",
    create=create,
    objective=Objective(
        seen=lambda output, real, mask: output,
        adversarial=(losses.lsgan_d, losses.lsgan_g, 0.5),
        reconstruction=reconstruct,
        terms=("l1_valid", "l1_hole", "perceptual"),
        options={"l1_normalisation": lambda value: value in ("region", "pixels")},
    ),
    mask_families=("square", "center", "rectangles", "free_form"),
    accepts=lambda size: size % 4 == 0,
    sizes="multiples of 4",
    paper=(
        ("input: masked RGB image and binary mask", "the four input channels of encoder.0"),
        ("gated convolutions, down to 1/4 of the input's size", "encoder.0 and .1, stride 2 each"),
        ("then two residual blocks", "encoder.2 and .3, gated like all the paper's convolutions"),
        ("filters double after each of them", "w, 2w, 4w, 8w; w, kernels, ELU, padding are ours"),
        ("the decoder mirrors the encoder", "decoder.0 to .3, filters halving"),
        ("bilinear upsampling before each gated convolution", "decoder.2 and .3"),
        ("a last convolution gives RGB", "to_rgb; tanh is ours"),
        ("instance normalisation throughout", "in every gated convolution and residual block"),
        ("discriminator: multi-scale, five convolution layers", "scales.*.0 to .4"),
        ("its filters grow, the last two are equal", "and a 1x1 convolution, ours: the score"),
        ("it returns the feature maps of all layers and scales", "losses use the scores alone"),
        ("it is given the generated image", "objective.seen: the raw output"),
        ("losses: LSGAN", "objective.adversarial, summed over scales"),
        ("L1 on the valid region, L1 in the hole", "means over their region; weights are ours"),
        ("perceptual loss on a pre-trained VGG", "losses.Perceptual, VGG-16; weight ours"),
    ),
)
