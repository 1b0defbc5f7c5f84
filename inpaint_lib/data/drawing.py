"""Integer arithmetic for drawn images: the same pixels on every machine and with every NumPy.

Shares of a colour are 0 to ONE, colours 0 to 4080 (3, 1, 1). Shapes are negative inside.
"""

import numpy as np

ONE, INTEGER = 1024, np.int32
TEST_FROM = 1_000_000_000  # images for testing have numbers that no training image reaches
HUES = "ff0000 ffff00 00ff00 00ffff 0000ff ff00ff ff0000"


def make_random(seed, number):
    """Return r(low, high), which draws integers from low to high, both included."""
    bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(number,))).random_raw(512)
    raw = iter(bits.tolist())
    return lambda low, high: low + ((high - low + 1) * (next(raw) >> 32) >> 32)


def rgb(*values):
    """Return a colour as an array (3, 1, 1)."""
    return np.array(values, INTEGER).reshape(3, 1, 1)


def mix(one, other, share):
    """Return `one` with a share, 0 to ONE, of `other`."""
    return one + ((other - one) * share >> 10)


def pick_colour(palette, t):
    """Return the colour at t in [0, ONE] of a palette of hexadecimal colours."""
    colours = palette.split()
    k, share = divmod(t * (len(colours) - 1), ONE)
    nearest = (colours + colours[-1:])[k : k + 2]
    return mix(*(rgb(*bytes.fromhex(colour)) * 16 for colour in nearest), share)


def draw_colour(r, saturation):
    """Return a random colour whose saturation is at most `saturation`, 0 to ONE."""
    pure = pick_colour(HUES, r(0, ONE))
    return mix(rgb(4080, 4080, 4080), pure, r(0, saturation)) * r(150, 960) >> 10


def square(x):
    """Return x squared, both in units of ONE."""
    return x * x >> 10


def wave(t):
    """Return a smooth wave between -ONE and ONE with a period of 2048, like a sine."""
    t = (t & 2047) - ONE
    return t * (ONE - np.abs(t)) >> 8


def make_axis(n):
    """Return the coordinates of n pixels that span -ONE to ONE."""
    return (2 * np.arange(n, dtype=INTEGER) + 1 - n) * ONE // n


def make_canvas(n):
    """Return black pixels (3, n, n)."""
    return np.zeros((3, n, n), INTEGER)


def to_pixels(image, k):
    """Return a canvas (3, k n, k n), averaged over k x k pixels, as (n, n, 3) uint8."""
    total = sum(image[:, i::k, j::k] for i in range(k) for j in range(k)) // (16 * k * k)
    return np.ascontiguousarray(total.clip(0, 255).astype(np.uint8).transpose(1, 2, 0))
