"""Context encoder (Pathak et al. 2016, arXiv 1604.07379) for a central hole: encoder, bottleneck, decoder; D sees the centre.

The generator always predicts the central half of the image (64x64 of 128) and pastes it into `masked`. For the growing
central rectangle losses and composite use the part of it that is hole, so one network serves every stage. At 128 px the
parameters are the authors': generator 71.12 M, discriminator 2.77 M.
# Differs from source: their code fills the centre with an overlap of 4 px; here the hole is the registered half of the image,
and `overlap` is an option of the loss.
"""

import torch
import torch.nn.functional as F
from torch import nn

from .layers import start_normal

SIZES = "powers of two"
MASK_FAMILIES = ("center",)
MEAN_COLOUR = (117, 104, 123)  # what the authors fill the hole with, of 255


def accepts(size):
    return size & (size - 1) == 0


def _filters(width, n):
    """Filters of n stride-2 convolutions: w, w, 2w, 4w, 8w and on; fewer layers leave out the first ones."""
    return [width * max(1, 8 // 2 ** (n - 1 - k)) for k in range(n)]


def _down(c_in, c_out, norm=True):
    norm = [nn.BatchNorm2d(c_out)] if norm else []
    return nn.Sequential(nn.Conv2d(c_in, c_out, 4, 2, 1, bias=False), *norm, nn.LeakyReLU(0.2))


def _up(c_in, c_out, stride=2):
    pad = 1 if stride == 2 else 0
    return nn.Sequential(nn.ConvTranspose2d(c_in, c_out, 4, stride, pad, bias=False), nn.BatchNorm2d(c_out), nn.ReLU())


class Generator(nn.Module):
    """(masked (B,3,H,W), mask (B,1,H,W)) -> [output (B,3,H,W)]: `masked` with the predicted centre pasted in.

    Raises ValueError for a hole that leaves the central half (looked at in eval mode and on the CPU, where it costs no wait).
    """

    def __init__(self, size=128, width=64, bottleneck=4000):
        super().__init__()
        self.size = size
        down, up = size.bit_length() - 3, size.bit_length() - 4  # stride-2 layers between the image / the centre and 4x4
        filters = _filters(width, down)
        encoder = [_down(c_in, c_out, norm=k > 0) for k, (c_in, c_out) in enumerate(zip([3, *filters], filters, strict=False))]
        middle = nn.Sequential(nn.Conv2d(filters[-1], bottleneck, 4, bias=False), nn.BatchNorm2d(bottleneck), nn.LeakyReLU(0.2))
        self.encoder = nn.Sequential(*encoder, middle)
        filters = _filters(width, up)[::-1]
        decoder = [_up(bottleneck, filters[0], stride=1)] + [_up(a, b) for a, b in zip(filters, filters[1:], strict=False)]
        self.decoder = nn.Sequential(*decoder)
        self.to_rgb = nn.ConvTranspose2d(filters[-1], 3, 4, 2, 1, bias=False)
        place = torch.get_default_device()
        place = "cpu" if place.type == "meta" else place  # no weights file has it
        mean = torch.tensor([c / 127.5 - 1 for c in MEAN_COLOUR], device=place)
        self.register_buffer("mean_colour", mean.view(1, 3, 1, 1), persistent=False)

    def forward(self, masked, mask):
        quarter = self.size // 4
        if not self.training or mask.device.type == "cpu":
            self._check(mask, quarter)
        centre = self.to_rgb(self.decoder(self.encoder(masked + mask * self.mean_colour))).tanh()
        inside = F.pad(torch.ones_like(mask[:, :, quarter:-quarter, quarter:-quarter]), [quarter] * 4)
        return [masked * (1 - inside) + F.pad(centre, [quarter] * 4)]

    def _check(self, mask, quarter):
        if mask.shape[-2:] != (self.size, self.size):
            raise ValueError(f"context_encoder was built for {self.size} px, not {tuple(mask.shape[-2:])}")
        outside = mask.sum() - mask[:, :, quarter:-quarter, quarter:-quarter].sum()
        if outside > 0:
            raise ValueError(
                f"context_encoder fills central holes up to half the image ({self.size // 2} px of {self.size}) only; "
                "this hole reaches outside: use custom or free_form for it"
            )


class Discriminator(nn.Module):
    """Central half of the image (B,3,H/2,W/2) -> [[score (B,1,1,1), a logit]]."""

    def __init__(self, size=128, width=64):
        super().__init__()
        filters = _filters(width, size.bit_length() - 4)
        layers = [_down(a, b, norm=k > 0) for k, (a, b) in enumerate(zip([3, *filters], filters, strict=False))]
        self.layers = nn.Sequential(*layers, nn.Conv2d(filters[-1], 1, 4, bias=False))

    def forward(self, x):
        return [[self.layers(x)]]


def create(image_size=128, generator_width=64, discriminator_width=64, bottleneck=4000):
    """The authors' sizes by default; initial weights N(0, 0.02), batch norm scales N(1, 0.02)."""
    networks = Generator(image_size, generator_width, bottleneck), Discriminator(image_size, discriminator_width)
    for network in networks:
        start_normal(network)
    return networks
