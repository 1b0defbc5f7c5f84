"""Context encoder (Pathak et al. 2016, arXiv 1604.07379): an auto-encoder for a central hole.

The generator always predicts the central half of the image (64x64 of 128) and pastes it into
`masked`. While the hole is smaller, losses and composite use only the part that is hole, so one
network serves every stage. The discriminator sees only the central half. At 128 px both networks
have as many parameters as the authors': generator 71.12 M, discriminator 2.77 M.
# Differs from source: their code fills the centre with an overlap of 4 px; here the hole is the
registered half of the image, and `overlap` is an option of the loss.
"""

import torch
import torch.nn.functional as F
from torch import nn

from .. import losses
from .architecture import Architecture, Objective
from .layers import draw_normal_weights

MEAN_COLOUR = (117, 104, 123)  # what the authors fill the hole with, of 255


def _filters(width, n):
    """Return the filters of n stride-2 convolutions: 8w last, half of it before, at least w."""
    return [width * max(1, 8 // 2 ** (n - 1 - k)) for k in range(n)]


def _down(c_in, c_out, norm=True):
    norm = [nn.BatchNorm2d(c_out)] if norm else []
    return nn.Sequential(nn.Conv2d(c_in, c_out, 4, 2, 1, bias=False), *norm, nn.LeakyReLU(0.2))


def _downs(filters):
    """Return one layer per entry of `filters`, from RGB; the first has no norm."""
    pairs = zip([3, *filters], filters, strict=False)
    return [_down(c_in, c_out, norm=k > 0) for k, (c_in, c_out) in enumerate(pairs)]


def _up(c_in, c_out, stride=2):
    conv = nn.ConvTranspose2d(c_in, c_out, 4, stride, 1 if stride == 2 else 0, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU())


def _crop_centre(image):
    """Return the central half (B,C,H/2,W/2) of square images (B,C,H,W)."""
    quarter = image.shape[-1] // 4
    return image[:, :, quarter:-quarter, quarter:-quarter]


class Generator(nn.Module):
    """(masked (B,3,H,W), mask (B,1,H,W)) -> [output (B,3,H,W)]: `masked` with a new centre.

    Raises ValueError for a hole that reaches outside the central half. This is checked in eval mode
    and on the CPU, not in a training step on a GPU, which would have to wait for the answer, nor in
    a compiled or exported network.
    """

    def __init__(self, size=128, width=64, bottleneck=4000):
        super().__init__()
        self.size = size
        down = size.bit_length() - 3  # stride-2 layers from the image to 4x4
        filters = _filters(width, down)
        middle = nn.Sequential(
            nn.Conv2d(filters[-1], bottleneck, 4, bias=False),
            nn.BatchNorm2d(bottleneck),
            nn.LeakyReLU(0.2),
        )
        self.encoder = nn.Sequential(*_downs(filters), middle)
        filters = _filters(width, down - 1)[::-1]  # from 4x4 to half the centre's size
        ups = [_up(a, b) for a, b in zip(filters, filters[1:], strict=False)]
        self.decoder = nn.Sequential(_up(bottleneck, filters[0], stride=1), *ups)
        self.to_rgb = nn.ConvTranspose2d(filters[-1], 3, 4, 2, 1, bias=False)
        # on the CPU even for a network built on "meta": it is in no file of weights
        mean = torch.tensor([c / 127.5 - 1 for c in MEAN_COLOUR], device="cpu")
        self.register_buffer("mean_colour", mean.view(1, 3, 1, 1), persistent=False)

    def forward(self, masked, mask):
        checked = not self.training or mask.device.type == "cpu"
        if checked and not torch.compiler.is_compiling():
            self._check(mask)
        centre = self.to_rgb(self.decoder(self.encoder(masked + mask * self.mean_colour))).tanh()
        border = [self.size // 4] * 4
        inside = F.pad(torch.ones_like(_crop_centre(mask)), border)
        return [masked * (1 - inside) + F.pad(centre, border)]

    def _check(self, mask):
        if mask.shape[-2:] != (self.size, self.size):
            raise ValueError(
                f"context_encoder was built for {self.size} px, not {tuple(mask.shape[-2:])}"
            )
        if mask.sum() > _crop_centre(mask).sum():
            raise ValueError(
                f"context_encoder fills central holes up to half the image ({self.size // 2} px of "
                f"{self.size}), and this hole reaches outside: use custom or free_form for it"
            )


class Discriminator(nn.Module):
    """Central half of the image (B,3,H/2,W/2) -> [[score (B,1,1,1), a logit]]."""

    def __init__(self, size=128, width=64):
        super().__init__()
        filters = _filters(width, size.bit_length() - 4)
        last = nn.Conv2d(filters[-1], 1, 4, bias=False)
        self.layers = nn.Sequential(*_downs(filters), last)

    def forward(self, x):
        return [[self.layers(x)]]


def create(image_size=128, generator_width=64, discriminator_width=64, bottleneck=4000):
    """Build the networks, of the authors' sizes by default; initial weights as in their code."""
    networks = (
        Generator(image_size, generator_width, bottleneck),
        Discriminator(image_size, discriminator_width),
    )
    for network in networks:
        draw_normal_weights(network)
    return networks


def reconstruct(outputs, real, mask, perceptual, overlap=0):
    """Return the mean squared error over the hole and `overlap` px around it (weighted x10).

    What lies outside the central half, which alone is predicted, does not count."""
    region = mask
    if overlap:
        inside = F.pad(torch.ones_like(_crop_centre(mask)), [mask.shape[-1] // 4] * 4)
        region = F.max_pool2d(mask, 2 * overlap + 1, 1, overlap) * inside
    weight = 10 * (region - mask) + mask
    return {"mse": ((outputs[-1] - real).square() * weight).sum() / (3 * region.sum())}


ARCHITECTURE = Architecture(
    about="The context encoder (Pathak et al. 2016): an auto-encoder that predicts the centre.",
    create=create,
    objective=Objective(
        seen=lambda output, real, mask: _crop_centre(losses.composite(output, real, mask)),
        adversarial=(losses.bce_d, losses.bce_g, 0.0),
        reconstruction=reconstruct,
        terms=("mse",),
        options={"overlap": lambda value: isinstance(value, int) and 0 <= value <= 16},
    ),
    mask_families=("center",),
    accepts=lambda size: size & (size - 1) == 0,
    sizes="powers of two",
    paper=(
        ("an auto-encoder for a central rectangle", "encoder, one bottleneck vector, decoder"),
        ("the discriminator sees the centre patch only", "objective.seen"),
        ("losses: pixel-wise L2 and adversarial (BCE)", "objective; 0.999 : 0.001 at the authors'"),
        ("the rectangle starts small and grows to half", "losses and composite inside it only"),
        ("Pathak et al.: the hole holds the mean colour", "MEAN_COLOUR"),
        ("Pathak et al.: 4 px around the hole count x10", "option `overlap`; 0 by default"),
        ("Pathak et al.: batch norm", "in every layer but the first and the last"),
    ),
)
