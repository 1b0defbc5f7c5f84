"""The shapes of holes: four families of masks, each a pure function of unit variates and a size.

A family maps `(u, extent, size)` to masks (B, 1, size, size) float32, 1 = hole, never empty. `u`,
(B, n) in [0, 1), sets the place and shape of each hole; `extent`, a number or a tensor of one, its
size. `find_extent(family, width, size)` returns the extent at which a hole covers about
(width / size)^2 of the image. Setups that draw the same `u` therefore train on paired masks of
different size. (The extent may be a tensor, so that one captured CUDA graph serves every stage.)

A fifth family, `folder`, draws from the user's own masks, a `Bank`: `extent` is their area in
pixels, `u` picks one of them.

The variates are drawn on the CPU, so masks do not depend on the device; the pixels are computed in
batches on the device of `u`. setups.py says how the width grows.
"""

import math
from typing import NamedTuple

import numpy as np
import torch

from .rng import open_stream

N_RECTANGLES = 4
N_STROKES, N_SEGMENTS = 3, 10  # up to 3 strokes of 4-11 vertices
FOLDER = "folder"  # the family of the user's own masks
NEAR = 0.25  # the area of a mask from a Bank may differ by this share from the nominal one


def _grid(u, size):
    """Return pixel indices as (1, 1, H, 1) rows and (1, 1, 1, W) columns."""
    axis = torch.arange(size, device=u.device, dtype=torch.float32)
    return axis.view(1, 1, -1, 1), axis.view(1, 1, 1, -1)


def _boxes(top, left, height, width, size):
    """Return the union of boxes given as (B, n) tensors of whole pixels: (B, 1, H, W)."""
    rows, cols = _grid(top, size)
    top, left, height, width = (t[:, :, None, None] for t in (top, left, height, width))
    inside = (rows >= top) & (rows < top + height) & (cols >= left) & (cols < left + width)
    return inside.any(dim=1, keepdim=True).float()


def _corner(u, extent, size):
    """Return a whole-pixel corner for a box of `extent` pixels, uniform over where it fits."""
    return torch.floor(u * (size - extent + 1)).clamp(max=size - 1)


def center(u, extent, size):
    """Return one centred square of `extent` pixels."""
    side = torch.ones_like(u[:, :1]) * extent
    corner = torch.floor((size - side) / 2)
    return _boxes(corner, corner, side, side, size)


def square(u, extent, size):
    """Return one square of `extent` pixels at a random place."""
    side = torch.ones_like(u[:, :1]) * extent
    top, left = (_corner(u[:, k : k + 1], side, size) for k in (0, 1))
    return _boxes(top, left, side, side, size)


def rectangles(u, extent, size):
    """Return two to four rectangles, aspect 1:2 to 2:1, areas summing to extent^2.

    Rounding and overlap change that sum.
    """
    count = 2 + torch.floor(u[:, :1] * 3)  # (B, 1)
    used = torch.arange(N_RECTANGLES, device=u.device) < count  # (B, 4)
    top, left, share, aspect = u[:, 1:].view(-1, 4, N_RECTANGLES).unbind(1)
    share = (0.25 + share) * used
    area = share / share.sum(1, keepdim=True) * extent**2
    stretch = 2 ** (aspect - 0.5)  # height = stretch * sqrt(area): height / width in [1/2, 2]
    height = (area.sqrt() * stretch).round().clamp(1, size)
    width = (area / height).round().clamp(1, size)
    top, left = _corner(top, height, size), _corner(left, width, size)
    return _boxes(top, left, height * used, width * used, size)


def free_form(u, extent, size):
    """Return brush strokes with round joints and one box (Yu et al. 2018, arXiv 1806.03589).

    At 256 px: 1-3 strokes of 4-11 vertices, turns of 2pi/5 +- 2pi/15 on alternating sides, lengths
    N(diag/8, diag/16) clipped to [0, diag/4], brush 12-40 px, one box of 96-128 px a side; covers
    about 31 %. All lengths scale with `extent`, which is 256 px there.
    """
    head, per_stroke = u[:, :5], u[:, 5:]
    tall, wide = (
        (extent * (0.5 - 0.125 * v)).round().clamp(1, size) for v in head[:, 3:].split(1, 1)
    )
    top, left = _corner(head[:, 0:1], tall, size), _corner(head[:, 1:2], wide, size)
    box = _boxes(top, left, tall, wide, size)
    n_strokes = 1 + torch.floor(head[:, 2:3] * N_STROKES)  # (B, 1)
    return torch.maximum(box, _strokes(per_stroke, n_strokes, extent, size))


def _strokes(u, n_strokes, extent, size):
    """Return the first `n_strokes` (B, 1) of N_STROKES brush strokes: (B, 1, H, W)."""
    shares = [2 * N_STROKES, 3 * N_STROKES, 2 * N_STROKES * N_SEGMENTS]
    start, shape, moves = u.split(shares, dim=1)
    start = start.view(-1, N_STROKES, 1, 2) * size
    vertices, first_angle, brush = shape.view(-1, 3, N_STROKES).unbind(1)
    turn, length = moves.view(-1, 2, N_STROKES, N_SEGMENTS).unbind(1)

    i = torch.arange(N_SEGMENTS, device=u.device)
    angle = 2 * math.pi / 5 + (2 * turn - 1) * 2 * math.pi / 15
    angle = torch.where(i % 2 == 0, 2 * math.pi - angle, angle)
    angle = angle + 2 * math.pi * first_angle[..., None]
    diagonal = math.sqrt(2) * extent
    normal = math.sqrt(2) * torch.erfinv((2 * length - 1).clamp(-0.999999, 0.999999))
    length = (diagonal / 8 + normal * diagonal / 16).clamp(min=0)
    length = length.minimum(torch.ones_like(length) * (diagonal / 4))
    used = i < 3 + torch.floor(vertices * 8)[..., None]  # segments of a stroke = its vertices - 1
    step = torch.stack([angle.sin(), angle.cos()], -1) * (length * used)[..., None]
    points = torch.cat([start, start + step.cumsum(2)], 2).clamp(0, size)  # (B, strokes, 11, 2)

    a, b = points[:, :, :-1].flatten(1, 2), points[:, :, 1:].flatten(1, 2)  # (B, n, 2)
    radius = extent * (12 + 28 * brush) / 256 / 2
    drawn = torch.arange(N_STROKES, device=u.device) < n_strokes
    reach = torch.where(drawn, radius.square(), -1.0)  # squared; -1: no pixel
    reach = reach[..., None].expand(-1, -1, N_SEGMENTS).flatten(1)[..., None, None]
    return (_squared_distances(a, b, size) <= reach).any(1, keepdim=True).float()


def _squared_distances(a, b, size):
    """Return squared distances in pixels from every pixel centre to segments a-b: (B, n, H, W).

    `a` and `b` are (B, n, 2) as (row, column).
    """
    rows, cols = _grid(a, size)
    (ay, ax), (dy, dx) = (t[..., None, None].unbind(2) for t in (a, b - a))
    length = (dy**2 + dx**2).clamp(min=1e-8)
    py, px = rows + 0.5 - ay, cols + 0.5 - ax  # (B, n, H, 1) and (B, n, 1, W)
    t = (py * (dy / length) + px * (dx / length)).clamp_(0, 1)
    return (py - t * dy).square_().add_((px - t * dx).square_())


# free_form: sqrt(coverage) / scale = A - B * scale, because strokes overlap and leave the image;
# fitted to 4,000 masks of 64 px at each of eleven scales
FREE_FORM_A, FREE_FORM_B = 0.6321, 0.0881


def _free_form_scale(nominal):
    """Return the scale of all lengths at which the mean coverage is nominal^2."""
    root = math.sqrt(max(FREE_FORM_A**2 - 4 * FREE_FORM_B * nominal, 0))
    return (FREE_FORM_A - root) / (2 * FREE_FORM_B)


class Bank(NamedTuple):
    """The user's own masks, by growing area."""

    bits: torch.Tensor  # (N, size^2 / 8, rounded up) uint8
    areas: torch.Tensor  # (N,) float32, pixels
    turned: bool = False  # draw also their flips and quarter turns

    @classmethod
    def of(cls, bits, turned=False):
        """Return the bank of masks (N, n) uint8, packed by NumPy and by growing area."""
        areas = np.bitwise_count(bits).sum(1, dtype=np.float32)
        return cls(torch.from_numpy(bits), torch.from_numpy(areas), turned)

    def near(self, area):
        """Return (first, end) of the masks within NEAR of `area` pixels; of all for area 0."""
        area = torch.as_tensor(area, dtype=torch.float32, device=self.areas.device)
        first = torch.searchsorted(self.areas, (1 - NEAR) * area)
        end = torch.searchsorted(self.areas, (1 + NEAR) * area, right=True)
        return first, end + (area == 0) * len(self.areas)

    def number(self, width):
        """Return how many masks have about the area of a nominal width in pixels."""
        first, end = self.near(width**2)
        return max(0, int(end - first))

    def draw(self, u, extent, size):
        """Return masks (B, 1, size, size) near an extent; `u` picks by rank in area."""
        first, end = self.near(extent)
        picked = torch.minimum(first + (u[:, 0] * (end - first)).long(), end - 1)
        shifts = torch.arange(7, -1, -1, dtype=torch.uint8, device=u.device)
        bits = (self.bits[picked][..., None] >> shifts) & 1
        mask = bits.flatten(1)[:, : size**2].reshape(-1, 1, size, size).float()
        if not self.turned:
            return mask
        turns = torch.stack([m.rot90(k, (2, 3)) for m in (mask, mask.flip(3)) for k in range(4)])
        which = (u[:, 1] * len(turns)).long().clamp(max=len(turns) - 1)
        return turns[which, torch.arange(len(u), device=u.device)]


FAMILIES = {"center": center, "square": square, "rectangles": rectangles, "free_form": free_form}
N_VARIATES = {
    "center": 1,
    "square": 2,
    "rectangles": 1 + 4 * N_RECTANGLES,
    "free_form": 5 + N_STROKES * (2 + 3 + 2 * N_SEGMENTS),
    FOLDER: 2,
}


def get_family(name, bank=None):
    """Return the function (u, extent, size) -> masks of a family; `folder` draws from `bank`."""
    return bank.draw if name == FOLDER else FAMILIES[name]


def draw_variates(family, batch, rng):
    """Return the unit variates of `batch` holes: (batch, n) float32 in [0, 1), on the CPU."""
    return torch.rand(batch, N_VARIATES[family], generator=rng)


def find_extent(family, width, size):
    """Return the extent of a family at a nominal width in pixels.

    Raises ValueError for an unknown family or a width outside 1 .. size.
    """
    if family == FOLDER:
        return float(width**2)
    if family not in FAMILIES:
        raise ValueError(f"unknown mask family {family!r}: choose one of {', '.join(FAMILIES)}")
    if not 1 <= width <= size:
        raise ValueError(f"mask width {width} is outside 1 .. {size} (the image size)")
    return _free_form_scale(width / size) * size if family == "free_form" else float(width)


def generate(name, batch, width, size, rng, bank=None):
    """Return `batch` masks (batch, 1, size, size) of a nominal width, reproducible from `rng`.

    Raises ValueError as `find_extent` does.
    """
    scale = find_extent(name, width, size)
    return get_family(name, bank)(draw_variates(name, batch, rng), scale, size)


def draw_test_masks(name, count, width, size, seed, bank=None):
    """Return the test masks of images 0 .. count-1: (count, size, size) uint8.

    Every image has its own random stream, the same for all widths.
    """
    scale, draw, found = find_extent(name, width, size), get_family(name, bank), []
    for i in range(count):  # one at a time fits the CPU's caches
        u = draw_variates(name, 1, open_stream(seed, "test masks", name, i))
        found.append(draw(u, scale, size)[:, 0].to(torch.uint8))
    return torch.cat(found).numpy()
