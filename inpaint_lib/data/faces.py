"""Draw any number of faces: a synthetic data set that replaces CelebA's aligned portraits.

No photograph and no person was used. A face is a stack of shapes, painted back to front on a larger
canvas and averaged down, in integers: the same pixels on every machine.

x points right, y down, the image spans -1024 to 1024. `u, v` are x, y with the head's pose undone
(eyes near v = 0, chin near 700), `f` is u with its turn undone; abs(f) draws on both sides at once.
Shapes are negative inside, shares of a colour 0 to ONE, colours 0 to 4080.
"""

from types import SimpleNamespace

import numpy as np

from .drawing import (
    ONE,
    draw_colour,
    make_axis,
    make_canvas,
    make_random,
    mix,
    pick_colour,
    rgb,
    square,
    to_pixels,
    wave,
)

SKIN = "edccba e8bda3 dba887 c28c69 9c6b4d 754f38 543629"
HAIR = "140f0f 291c14 452b1c 613d24 75331a 9e4a1f 9e7340 cca161 e6cc99"
IRIS = "381f0f 5c361a 735726 547340 45759e 738c99"
STYLES = ("bald", "buzz", "short", "short", "curly", "bob", "long", "short", "long", "long")


def _ellipse(x, y, a, b, corners=0):
    """Return (x/a)² + (y/b)² - 1; `corners` below ONE swells the ellipse towards a rectangle."""
    xx, yy = square(x * ONE // a), square(y * ONE // b)
    both = np.minimum(xx, ONE) * np.minimum(yy, ONE) >> 10 if corners else 0
    return xx + yy - ONE - (corners * both >> 10)


def _bump(x, y, a, b):
    """Return a smooth hill of height ONE that ends at 2a and 2b from its middle."""
    hill = np.maximum(ONE - square(x * (ONE // 2) // a) - square(y * (ONE // 2) // b), 0)
    return square(square(hill))


def _soft(shape, width):
    """Return the share of a colour that grows from a shape's edge inwards over `width`."""
    return (-shape * ONE // width).clip(0, ONE)


def _paint(s, where, colour):
    """Paint a colour where a condition holds, or in the share given."""
    if where.dtype == bool:
        np.copyto(s.image, colour, where=where)
    else:
        s.image += (colour - s.image) * where >> 10


def _lit(colour, shade):
    """Return a colour under a shade; red is dimmed least, as in skin, so shadows stay warm."""
    return colour * (ONE + (rgb(880, 1024, 1085) * (shade - ONE) >> 10)) >> 10


def _traits(r):
    """Draw what parts of a face share: pose, light, measures, colours and hair style."""
    p = SimpleNamespace(dx=r(-50, 50), dy=r(-92, 0), scale=r(1290, 1450), tilt=r(-70, 70))
    p.yaw, p.light, p.above, p.contrast = r(-80, 80), r(-800, 800), r(150, 600), r(350, 680)
    she, tone, p.age = r(0, ONE), r(0, ONE), square(r(0, ONE))
    p.skin = pick_colour(SKIN, tone) * (ONE + rgb(26, 0, -50) * r(-10, 10) // 10) >> 10
    p.iris = pick_colour(IRIS, r(0, ONE) if tone < 460 else r(0, 256))
    hair = pick_colour(HAIR, r(0, ONE) if tone < 460 else r(0, 460) * (ONE - tone // 2) >> 10)
    p.hair = mix(hair, rgb(3000, 2960, 2920), min(max(3 * p.age - r(1024, 3072), 0), ONE))
    p.makeup = r(400, 870) if she > 512 and r(0, 9) < 6 else 0
    stick = rgb(r(2400, 3500), r(320, 1100), r(600, 1400))
    p.lips = mix(p.skin * rgb(880, 645, 615) >> 10, stick, p.makeup)
    p.width, p.skull, p.chin = r(425, 481), r(594, 645), r(655, 727) - she // 34
    p.taper, p.corners, p.neck = r(0, 260) + she // 7, r(0, 460), r(215, 276) - she // 28
    p.eye_x, p.eye_y, p.nose_y = r(190, 220), r(-30, 20), r(215, 266)
    p.mouth_y, p.mouth_w, p.smile = p.nose_y + r(159, 195), r(143, 190), max(r(-8, 60), 0)
    p.lip, p.wing = r(29, 47) + tone // 100, r(66, 92) + tone // 80
    p.beard = r(0, ONE) if she < 460 else ONE
    p.style = STYLES[min(r(0, 630) + (380 * square(she) >> 10), ONE - 1) * len(STYLES) >> 10]
    p.volume = {"bald": 10, "buzz": 15, "curly": r(120, 256)}.get(p.style, r(51, 133))
    p.length = {"bob": r(390, 640), "long": r(820, 1330), "curly": r(100, 510)}.get(p.style, 0)
    return p


def _scene(p, n):
    """Return an empty canvas of n x n pixels, its coordinates and the shape of the bald head."""
    x, y = np.meshgrid(make_axis(n), make_axis(n))
    turn, grow = p.tilt * ONE // p.scale, (ONE - p.tilt * p.tilt // 2048) * ONE // p.scale
    u = (x - p.dx) * grow + (y - p.dy) * turn >> 10
    v = (y - p.dy) * grow - (x - p.dx) * turn >> 10
    f = u - (p.yaw * np.maximum(ONE - square(2 * u), 0) >> 10)
    wide = u + (u * (p.taper * square(v.clip(0) * ONE // p.chin) >> 10) >> 10)
    head = _ellipse(wide, np.where(v > 0, v * p.skull // p.chin, v), p.width, p.skull, p.corners)
    return SimpleNamespace(image=make_canvas(n), x=x, y=y, u=u, v=v, f=f, head=head, shade=0 * u)


def _crop(s, p, left, right, top, bottom):
    """Return views of the part of a scene with left < u < right and top < v < bottom."""
    n, turn = s.image.shape[1], p.tilt * p.scale >> 10
    corners = [(u, v) for u in (left, right) for v in (top, bottom)]
    across = [(u * p.scale - v * turn >> 10) + p.dx + ONE for u, v in corners]
    along = [(v * p.scale + u * turn >> 10) + p.dy + ONE for u, v in corners]
    ends = [(min(e) * n // 2048, max(e) * n // 2048 + 1) for e in (along, across)]
    rows, columns = (slice(max(0, low), max(0, high)) for low, high in ends)
    return SimpleNamespace(**{name: grid[..., rows, columns] for name, grid in vars(s).items()})


def _background(s, p, r):
    along = 512 + (s.x * r(-400, 400) + s.y * r(-400, 400) >> 10)
    s.image += mix(draw_colour(r, 560), draw_colour(r, 560), along.clip(0, ONE))
    for _ in range(3):
        x, y, radius = r(-ONE, ONE), r(-ONE, ONE), r(200, 620)
        _paint(s, _bump(s.x - x, s.y - y, radius, radius) * 9 >> 4, draw_colour(r, 610))


def _hair(s, p, r):
    """Return the hair's colour, where there is hair, and where it lies above the hairline."""
    part, cut, high, phase = r(-245, 245), r(1, 3), p.skull + p.volume, r(0, 2047)
    side = np.abs(s.u)
    # strands fan out from the crown and fall straight below it
    u = s.u - part // 4 + (r(0, 36) * wave(3 * s.v + phase) >> 10)
    drop = (s.v + high).clip(0, 620)
    fan = u * (2250 - 2 * drop) >> 10
    strands = (wave(7 * fan + phase) + wave(17 * fan + s.v) + wave(29 * fan)) // 3
    if p.style == "curly":
        curls = wave(12 * s.u + wave(7 * s.v) // 2) * wave(11 * s.v + wave(6 * s.u) // 2)
        strands = strands // 2 + (curls >> 10)
    gloss = r(100, 460) * _bump(drop + side // 4 - 270, 0, 110, 1) >> 10
    facing = (s.u * p.light // 480 - (s.v + 100) * p.above // 640).clip(-ONE, ONE)
    shade = 880 + (350 * facing + r(130, 260) * strands >> 10)
    colour = p.hair * (shade + (shade * gloss >> 10)) // ONE + gloss // 3
    # the outline: half an ellipse above, sides that hang below, roughened by tufts
    tufts = wave(7 * side + phase) + wave(6 * s.v + 3 * side) + wave(15 * s.u - 13 * s.v) // 2
    tufts = tufts * {"curly": 60, "short": 30, "bald": 5, "buzz": 5}.get(p.style, 20) >> 10
    half = p.width + p.volume * 5 // 8 + 8
    flare = r(-80, 140) * (s.v + 80).clip(0, 800) >> 10 if p.length else 0
    above = _ellipse(s.u, s.v + 80, half, high - 80) - 2 * tufts
    outline = np.where(s.v < -80, above, side - half - flare - tufts // 3)
    end = p.length + (wave(10 * s.u + phase) >> 6) - (s.u * s.u >> 12)
    mass = (outline < 0) & (s.v < end)
    # the hairline: parted (cut 1), combed back (2) or bangs (3), lowest at the sides
    part, top = (part if cut == 1 else part // 10), r(-440, -360) + 180 * (cut == 3)
    low = r(0, 120) + {"bob": 120, "long": 200, "curly": 50}.get(p.style, 0)
    rise = np.abs(s.u - part) * ONE // (p.width - 20 + np.where(s.u < part, part, -part))
    for _ in range(cut):
        rise = square(np.minimum(rise, 3 * ONE))
    jags = r(4, 20) * wave(20 * s.u + wave(13 * s.u)) >> 10
    return colour, mass, mass & (s.v < top + ((low - top) * rise >> 10) + jags)


def _body(s, p, r):
    c = _crop(s, p, -1000, 1000, 240, 1100)
    x, y = (c.x - p.dx) * ONE // p.scale, (c.y - p.dy) * ONE // p.scale
    turn = (x * ONE // p.neck).clip(-ONE, ONE)
    shade = 850 + (p.contrast * ((p.light * turn >> 11) - square(turn) // 3) >> 10)
    under_chin = _ellipse(c.u + p.light // 10, c.v - 120, p.width * 9 // 10, p.chin)
    neck = np.abs(x) - p.neck - square(np.maximum(y - 640, 0))
    _paint(c, (neck < 0) & (y > 300), _lit(p.skin, shade * (1640 - _soft(under_chin, 400)) // 1640))
    folds = 1000 + (70 * wave(3 * x + 2 * y) + 60 * wave(5 * x - 3 * y) + p.light * x // 3 >> 10)
    cut = (np.abs(x) * r(2, 4) // 2 + y - r(1060, 1200)) // 2
    shirt = (_ellipse(x, y - 1540, 1100, 800, 300) < 0) & (cut > 0)
    _paint(c, shirt, draw_colour(r, 770) * folds >> 10)
    _paint(c, shirt & (cut < r(0, 60)), draw_colour(r, 510) * folds >> 10)


def _skin(s, p, r):
    """Paint the ears, and the head as an ellipsoid with hills (nose) and hollows (sockets)."""
    c, big = _crop(s, p, -640, 640, -200, 310), r(870, 1180)
    x = np.abs(c.u) - p.width - 12 + np.sign(c.u) * p.yaw // 3
    y, shade = c.v - 40 - x // 4, 870 + (p.contrast * p.light >> 11) * np.sign(c.u)
    _paint(c, _ellipse(x, y, 60 * big >> 10, 125 * big >> 10) < 0, _lit(p.skin, shade))
    _paint(c, np.abs(_ellipse(x - 12, y + 10, 28, 76) + 100) < 250, _lit(p.skin, shade - 300))
    x, y = s.u * ONE // (p.width + 30), (s.v - 20) * ONE // (p.chin + 100)
    facing = x * p.light - y * p.above * 7 // 10 - 420 * (square(x) + square(y)) >> 10
    s.shade += 1060 + (p.contrast * facing >> 10)
    nose, wing, tall, flush = p.nose_y, p.wing, r(500, 1200), r(0, 360)
    middle = (  # x, y, half the width and height, how high, how dark
        (0, nose - 130, 46, 154, tall * 45 // 100, 0),
        (0, nose, 51, 46, tall * 6 // 10, -50),
        (-p.light // 30, nose + 60, wing, 24, 0, 230),
        (0, p.mouth_y + p.lip + 45, 85, 22, 0, 130),
        (0, p.chin - 100, 123, 82, 300, 0),
    )
    pairs = (
        (276, 225, 133, 123, 200, 0),
        (p.eye_x - 30, p.eye_y - 45, 105, 48, 0, 150),
        (wing + 60, nose + 85, 24, 80, 0, 30 + p.age // 10 + p.smile),
        (wing, nose + 22, 10, 28, 0, 170),
        (wing // 2, nose + 48, 20, 12, 0, 560),
    )
    for x, y, a, b, height, dark in (*middle, *pairs, *((-x, *rest) for x, *rest in pairs)):
        c = _crop(s, p, x - 2 * a - 90, x + 2 * a + 90, y - 2 * b, y + 2 * b)
        dx, dy = c.f - x, c.v - y
        slope = (dx * p.light // a - dy * p.above // b) * (height * p.contrast >> 10) >> 10
        c.shade += (slope - dark) * _bump(dx, dy, a, b) >> 10
    c = _crop(s, p, -530, 530, -740, 820)
    flush = flush * _bump(np.abs(c.f) - 256, c.v - 205, 113, 92) >> 10
    _paint(c, c.head < 0, _lit(p.skin, c.shade) * (ONE - (rgb(20, 256, 225) * flush >> 10)) >> 10)


def _eyes(s, p, r):
    c = _crop(s, p, -p.eye_x - 230, p.eye_x + 230, p.eye_y - 270, p.eye_y + 130)
    half, high, lid, lash = r(86, 106), r(40, 62) - p.smile // 6, r(512, 820), r(7, 11)
    side, x = np.sign(c.f), np.abs(c.f) - p.eye_x
    y, w = c.v - p.eye_y + (r(-30, 154) * x >> 10), x * ONE // half
    arch = np.maximum(ONE - square(w), 0)
    arch = arch * (1280 - arch // 4) >> 10
    upper, lower = -high * arch * (ONE - w // 4) >> 20, high * lid * arch >> 20
    hole = (y > upper) & (y < lower)
    _paint(c, _bump(x, y + 35, 70, 34) * p.makeup >> 11, draw_colour(r, 512) // 2)
    _paint(c, (np.abs(y - upper + 24) < 5) * arch * r(300, 800) >> 10, p.skin * 7 >> 4)
    shadow = _bump(y - upper, 0, 22, 1) // 4
    _paint(c, hole, rgb(3800, 3750, 3670) * (ONE - shadow - square(w) // 7) >> 10)
    gx, gy, iris = x - r(-16, 16) * side, y - r(-8, 2), r(41, 48)
    eye = _ellipse(gx, gy, iris, iris)
    _paint(c, hole & (eye < 0), p.iris * 7 >> 4)
    _paint(c, hole & (eye < -330), p.iris * (1230 + gy * 8 - shadow) >> 10)
    _paint(c, hole & (eye < -830), rgb(120, 120, 120))
    glint = _ellipse(gx - (p.light >> 6) * side, gy + 15, 12, 12)
    _paint(c, hole & (glint < 0), rgb(4080, 4080, 4080))
    thick = (lash + p.makeup // 170) * (ONE + w * 4 // 5).clip(300, 1900) >> 10
    _paint(c, (np.abs(y - upper + 2) < thick) & (np.abs(w) < 1090), p.hair // 5 + 120)
    t = ((x - 8) * ONE // r(115, 140)).clip(-ONE, ONE)
    bend = r(4, 25) * (3 * square(t - 60) - ONE) - r(-22, 10) * t >> 10
    thick = r(10, 24) * (1075 - t // 2) * (ONE - square(square(t))) >> 20
    bar = np.abs(c.v - p.eye_y + r(115, 150) - bend) - thick
    _paint(c, _soft(bar, 8) * 9 // 10, p.hair * 5 >> 3)


def _mouth(s, p, r):
    c = _crop(s, p, -310, 310, p.mouth_y - 110, p.mouth_y + 190)
    x, y = c.f * ONE // p.mouth_w, c.v - p.mouth_y
    inside = np.maximum(ONE - square(x), 0)
    full = inside * (1500 - inside * 476 // ONE) >> 10
    opening = r(20, 67) if r(0, 100) < 20 + 7 * p.smile else 0
    middle = 6 * _bump(x, 0, 250, 1) - (p.smile - 4) * (square(x) - 300) >> 10
    bow = ONE - (r(150, 500) * _bump(x, 0, 200, 1) >> 10)
    top, gap = middle - (r(22, 37) * full * bow >> 20), middle + (opening * inside >> 10)
    lips = (y > top) & (y < gap + (p.lip * full >> 10)) & (inside > 0)
    shade = 930 + ((p.contrast * p.light >> 12) * x >> 10) + 140 * (y > middle)
    _paint(c, lips * 960, _lit(p.lips, shade))
    hole = (y > middle) & (y < gap)
    _paint(c, hole, rgb(980, 245, 285))
    teeth = hole & (y < middle + (min(35, opening * 8 // 10) * full >> 10))
    _paint(c, teeth, rgb(3880, 3800, 3600) * (ONE - square(x) // 2) >> 10)
    if not opening:
        _paint(c, (np.abs(y - middle) < 5) * (full * 7 >> 3), p.lips * 7 >> 4)


def _beard(s, p, r):
    c = _crop(s, p, -530, 530, -100, 870)
    x, y, wide = c.f, c.v - p.mouth_y, p.mouth_w * 11 // 10
    grain = 820 + (wave(42 * x + wave(8 * y) // 2) * wave(23 * y + 13 * x) >> 13)
    colour = p.hair * (grain + (p.light * x >> 12)) >> 10
    area = p.mouth_y + r(-50, 55) - 2 * np.maximum(np.abs(x) - 164, 0) - c.v
    lips = _ellipse(x, y - 12, p.mouth_w, p.lip + 40)
    area = np.maximum(np.maximum(area, c.head // 4), -lips // 8)
    _paint(c, _soft(area, 60) * (960 if p.beard < 300 else r(60, 400)) >> 10, colour)
    if p.beard < 430:
        bend = square(x * ONE // wide)
        bar = np.abs(y + 52 - bend // 20) - (27 * (ONE - square(bend)) >> 10)
        _paint(c, _soft(bar, 14) * 15 >> 4, colour)


def _glasses(s, p, r):
    c = _crop(s, p, -610, 610, -220, 270)
    x, y, dark = np.abs(c.f) - p.eye_x - 12, c.v - p.eye_y - 20, r(80, 1400)
    lens = _ellipse(x, y, r(124, 144), r(92, 122), r(0, 950))
    _paint(c, (lens < 0) * (780 if r(0, 9) == 0 else 50), rgb(400, 400, 480))
    bars = (np.abs(y + 30) < 10) & (np.abs(c.u) < p.width + 20) & (lens > 0)
    _paint(c, (np.abs(lens) < r(110, 200)) | bars, rgb(dark + r(0, 1200), dark, dark))


def _face(seed, number, size):
    r = make_random(seed, number)
    k = 3 if size <= 64 else 2  # k x k pixels of the canvas make one
    p = _traits(r)
    s = _scene(p, size * k)
    _background(s, p, r)
    h = _crop(s, p, -870, 870, -1240, p.length + 150)
    colour, mass, front = _hair(h, p, r)
    if p.length:
        _paint(h, mass, colour * 5 >> 3)
    for part in (_body, _skin, _eyes, _mouth):
        part(s, p, r)
    if p.beard < 660:
        _beard(s, p, r)
    if p.style != "bald":
        _paint(h, front, colour)
    if r(0, 9) < 2:
        _glasses(s, p, r)
    return to_pixels(s.image, k)


def draw(numbers, size, seed=0):
    """Yield faces as (size, size, 3) uint8, each a function of (seed, number, size) alone."""
    for number in numbers:
        yield _face(seed, int(number), size)
