"""Free-form inpainting with gated convolution (Yu et al. 2018, arXiv 1806.03589, "DeepFillv2").

A coarse-to-fine generator with contextual attention (Yu et al. 2018, arXiv 1801.07892) against a
patch discriminator with spectral norm. No normalisation, no residual connections. At the default
width the generator has the 4,052,478 parameters of the authors' code less the 1,200 weights that
read its extra input channel of ones; SN-PatchGAN has 5,946,816.
"""

import contextlib

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from .. import losses
from .architecture import Architecture, Objective
from .layers import CONVOLUTIONS, GatedConv, find_weighted

# found out here: a call in `forward` would break the graph of torch.compile
AUTOCAST = {name for name in ("cpu", "cuda", "mps", "xpu") if torch.amp.is_autocast_available(name)}
GATED_GAIN = 2.3  # for f and g from N(0, 1), (elu(f) * sigmoid(g))^2 is 1 / 2.3^2 on average


def _draw_gated_weights(network):
    """Draw initial weights that keep the size of the signal in a network of gated convolutions.

    Normal, variance gain^2 / fan-in (He et al. 2015), gain GATED_GAIN for gated convolutions and 1
    for others, biases 0.
    # Differs from source: with Glorot's weights each gated layer passes on a third of the signal.
    After 17 of them two images differ by 1e-7, and the gradients of the first layers are below
    Adam's epsilon (Yu et al. train for a million steps).
    """
    gated = {module.conv for module in network.modules() if isinstance(module, GatedConv)}
    for module in find_weighted(network, CONVOLUTIONS):
        gain = GATED_GAIN if module in gated else 1.0
        nn.init.normal_(module.weight, 0.0, gain * module.weight[0].numel() ** -0.5)
        nn.init.zeros_(module.bias)


def _dilated(w):
    return [GatedConv(4 * w, 4 * w, dilation=d) for d in (2, 4, 8, 16)]


def _decoder(w, c_in):
    """Two plain layers, up to full size, RGB. The last convolution is not gated."""
    return [
        GatedConv(c_in, 4 * w),
        GatedConv(4 * w, 4 * w),
        GatedConv(4 * w, 2 * w, upsample="nearest"),
        GatedConv(2 * w, 2 * w),
        GatedConv(2 * w, w, upsample="nearest"),
        GatedConv(w, w // 2),
        nn.Conv2d(w // 2, 3, 3, padding=1),
        nn.Tanh(),
    ]


class ContextualAttention(nn.Module):
    """Fill the hole's features with a softmax mixture of known 3x3 patches, by cosine similarity.

    features (B,C,h,w), mask (B,1,h,w) with 1 = hole -> (B,C,h,w). Every sample uses its own mask.
    If the hole touches every patch, nothing can be copied and the result is zero.
    Works at half the features' size ("downscale rate 2"); neighbours vote for consistent offsets
    ("fuse"). Matching and pasting are two matrix products per sample.
    # Differs from source: a cell is hole if any of its pixels is (max pooling; the authors sample
    one pixel).
    """

    softmax_scale = 10.0

    def forward(self, features, mask):
        device = features.device.type
        full_precision = contextlib.nullcontext()
        if device in AUTOCAST:
            full_precision = torch.autocast(device, enabled=False)
        with full_precision:  # scores are sums over many channels and go through an exponential
            return self._attend(features.to(mask.dtype), mask).to(features.dtype)

    def _attend(self, features, mask):
        attention, _ = self.weights(features, mask)
        raw = F.unfold(features, 4, stride=2, padding=1)  # (B, 16C, L): patches at full resolution
        return F.fold(raw @ attention, features.shape[2:], 4, stride=2, padding=1) / 4

    def weights(self, features, mask):
        """Return (share of each key in every query (B, L key, L query), known keys (B, L)).

        L counts the patches of (h/2) x (w/2).
        """
        height, width = features.shape[2] // 2, features.shape[3] // 2
        small = features[:, :, ::2, ::2]  # (B, C, h/2, w/2)
        patches = F.unfold(small, 3, padding=1)  # (B, 9C, L): what is sought, what may be copied
        keys = patches / patches.norm(dim=1, keepdim=True).clamp(min=1e-4)
        touched = F.max_pool2d(F.max_pool2d(mask, 2), 3, 1, 1).flatten(1)
        valid = 1 - touched  # (B, L): patches the hole does not touch

        scores = keys.transpose(1, 2) @ patches  # (B, L key, L query)
        scores = self._fuse(scores, height, width) * valid[:, :, None]
        return (scores * self.softmax_scale).softmax(dim=1) * valid[:, :, None], valid

    @staticmethod
    def _fuse(scores, height, width):
        """Add the scores of diagonal neighbours, along rows, then along columns."""
        batch, n = scores.shape[0], height * width
        diagonal = torch.eye(3, device=scores.device, dtype=scores.dtype)[None, None]
        scores = F.conv2d(scores[:, None], diagonal, padding=1)
        by_row = scores.view(batch, height, width, height, width)
        by_column = by_row.permute(0, 2, 1, 4, 3).reshape(batch, 1, n, n)
        by_column = F.conv2d(by_column, diagonal, padding=1)
        by_column = by_column.view(batch, width, height, width, height)
        return by_column.permute(0, 2, 1, 4, 3).reshape(batch, n, n)


class Generator(nn.Module):
    """(masked (B,3,H,W), mask (B,1,H,W)) -> [coarse, refined], each (B,3,H,W) in [-1, 1]."""

    def __init__(self, width=24):
        super().__init__()
        w = width
        self.coarse = nn.Sequential(
            GatedConv(4, w, kernel=5),
            GatedConv(w, 2 * w, stride=2),
            GatedConv(2 * w, 2 * w),
            GatedConv(2 * w, 4 * w, stride=2),
            GatedConv(4 * w, 4 * w),
            GatedConv(4 * w, 4 * w),
            *_dilated(w),
            *_decoder(w, 4 * w),
        )
        self.refine_conv = nn.Sequential(
            GatedConv(3, w, kernel=5),
            GatedConv(w, w, stride=2),
            GatedConv(w, 2 * w),
            GatedConv(2 * w, 2 * w, stride=2),
            GatedConv(2 * w, 4 * w),
            GatedConv(4 * w, 4 * w),
            *_dilated(w),
        )
        self.refine_attention = nn.Sequential(
            GatedConv(3, w, kernel=5),
            GatedConv(w, w, stride=2),
            GatedConv(w, 2 * w),
            GatedConv(2 * w, 4 * w, stride=2),
            GatedConv(4 * w, 4 * w),
            GatedConv(4 * w, 4 * w, act=F.relu),
        )
        self.attention = ContextualAttention()
        self.after_attention = nn.Sequential(GatedConv(4 * w, 4 * w), GatedConv(4 * w, 4 * w))
        self.refine_decoder = nn.Sequential(*_decoder(w, 8 * w))
        _draw_gated_weights(self)

    def forward(self, masked, mask):
        coarse = self.coarse(torch.cat([masked, mask], dim=1))
        x = masked + mask * coarse  # stage 2 sees the composite of stage 1
        attended = self.attention(self.refine_attention(x), F.max_pool2d(mask, 4))
        branches = [self.refine_conv(x), self.after_attention(attended)]
        return [coarse, self.refine_decoder(torch.cat(branches, dim=1))]


class Discriminator(nn.Module):
    """Image + mask (B,4,H,W) -> [[score map]].

    "sn_patchgan": six 5x5 stride-2 convolutions, LeakyReLU 0.2 after every one; all channels of the
    last map are scores (receptive field 253 px). "patch70": the 70x70 PatchGAN that Hedjazi
    & Genç name, pix2pix's five 4x4 convolutions (Isola et al. 2017), with spectral norm instead of
    batch norm. Initial weights are Glorot's, biases 0: tf.layers' default, which Yu et al. keep.
    """

    VARIANTS = {  # kernel, [(filters / width, stride), ...], activation after the last
        "sn_patchgan": (5, [(1, 2), (2, 2), (4, 2), (4, 2), (4, 2), (4, 2)], True),
        "patch70": (4, [(1, 2), (2, 2), (4, 2), (8, 1), (None, 1)], False),
    }

    def __init__(self, width=64, variant="sn_patchgan"):
        super().__init__()
        kernel, plan, last_activation = self.VARIANTS[variant]
        layers, c_in = [], 4
        for factor, stride in plan:
            c_out = factor * width if factor else 1
            conv = nn.Conv2d(c_in, c_out, kernel, stride, padding=(kernel - 1) // 2)
            if not conv.weight.is_meta:  # "meta" holds shapes alone, see layers.find_weighted
                nn.init.xavier_uniform_(conv.weight)
                nn.init.zeros_(conv.bias)
                conv = spectral_norm(conv)
            layers += [conv, nn.LeakyReLU(0.2)]
            c_in = c_out
        self.layers = nn.Sequential(*(layers if last_activation else layers[:-1]))

    def forward(self, x):
        return [[self.layers(x)]]


def create(image_size=128, generator_width=24, discriminator_width=64, discriminator="sn_patchgan"):
    """Build the networks, of the authors' sizes by default.

    Raises ValueError for an unknown discriminator.
    """
    if discriminator not in Discriminator.VARIANTS:
        known = ", ".join(Discriminator.VARIANTS)
        raise ValueError(f"free_form has no discriminator {discriminator!r}: choose one of {known}")
    return Generator(generator_width), Discriminator(discriminator_width, discriminator)


def reconstruct(outputs, real, mask, perceptual):
    """Return the L1 of both raw outputs over the whole image."""
    coarse, refined = outputs
    return {"l1_coarse": F.l1_loss(coarse, real), "l1_refined": F.l1_loss(refined, real)}


ARCHITECTURE = Architecture(
    about="DeepFillv2 (Yu et al. 2018): a coarse network, then one with contextual attention.",
    create=create,
    objective=Objective(
        seen=lambda output, real, mask: torch.cat(
            [losses.composite(output, real, mask), mask], dim=1
        ),
        adversarial=(losses.hinge_d, losses.hinge_g, 0.0),
        reconstruction=reconstruct,
        terms=("l1_coarse", "l1_refined"),
        options={},
    ),
    mask_families=("free_form", "square", "center", "rectangles"),
    accepts=lambda size: size % 8 == 0,
    sizes="multiples of 8",
    paper=(
        ("a coarse network and a refinement network", "coarse.*; refine_*, on the composite"),
        ("contextual attention", "refine_attention, attention; cells are hole if any pixel is"),
        ("no normalisation, no residual connections", "GatedConv in sequence, without norm"),
        ("PatchGAN (70 x 70) with spectral norm", "patch70; Yu et al.'s own is sn_patchgan"),
        ("losses: hinge + L1 reconstruction", "objective: L1 of both raw outputs, all pixels"),
        ("no perceptual or style loss", "objective.terms"),
        (
            "no sketch channel: input is image and mask",
            "coarse.0; nor the authors' channel of ones",
        ),
    ),
)
