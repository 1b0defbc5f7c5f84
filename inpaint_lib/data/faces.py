"""An unlimited data set of drawn faces: a synthetic stand-in for an aligned portrait set such as CelebA.

No photograph and no person is behind these images. Each face is a stack of anti-aliased shapes, painted back to front,
whose colours and measures come from one vector of random numbers keyed by (seed, index). Faces are painted one by one:
a face can then not depend on its batch, not even in the last bit, and the layers it lacks cost nothing.

Coordinates: x to the right, y down, the image spanning [-1, 1]. `u, v` are the same with the head's pose undone (eyes
near v = 0, chin near v = 0.7), and `f` is u with yaw undone too, for what sits on the front of the face; `abs(f)` draws
a feature on both sides at once. Distances are signed, negative inside.
"""

import colorsys
import functools
import math
from types import SimpleNamespace

import numpy as np
import torch

from ..rng import keyed

MIN_CANVAS = 128  # smaller images are painted at this size and averaged down: hair strands would alias
N_VARIATES = 160  # random numbers per face, a few more than are used
SKIN = ((.93, .80, .73), (.91, .74, .64), (.86, .66, .53), (.76, .55, .41), (.61, .42, .30), (.46, .31, .22),
        (.33, .21, .16))
HAIR = ((.08, .06, .06), (.16, .11, .08), (.27, .17, .11), (.38, .24, .14), (.46, .20, .10), (.62, .29, .12),
        (.62, .45, .25), (.80, .63, .38), (.90, .80, .60))
IRIS = ((.22, .12, .06), (.36, .21, .10), (.45, .34, .15), (.33, .45, .25), (.27, .46, .62), (.45, .55, .60))
STYLES = ("bald", "buzz", "short", "short", "curly", "bob", "long", "bun", "long", "long")  # his to hers
RANGES = dict(
    # pose, light, and the latent traits that tie others together
    dx=(-.05, .05), dy=(-.09, .0), scale=(1.26, 1.42), tilt=(-.07, .07), yaw=(-.08, .08), light_x=(-.8, .8),
    light_y=(-.6, -.15), contrast=(.34, .66), feminine=(0, 1), youth=(0, 1), tone=(0, 1), warmth=(-1, 1),
    # head
    width=(.415, .47), skull=(.58, .63), chin=(.64, .71), taper=(.0, .12), square=(.0, .45), cheek=(-.012, .02),
    neck=(.21, .27), ear=(.85, 1.15), blush=(0, .35), freckly=(0, 1), bag=(0, 1),
    # eyes and brows
    eye_x=(.185, .215), eye_y=(-.03, .02), eye_w=(.084, .104), eye_h=(.038, .058), slant=(-.03, .15), lid=(.5, .8),
    iris=(0, 1), iris_r=(.040, .047), gaze_x=(-.016, .016), gaze_y=(-.004, .006), crease=(0, .5), lash=(.006, .010),
    brow_y=(.110, .145), brow_arch=(.004, .024), brow_slant=(-.022, .010), brow_w=(.11, .135), brow_t=(.014, .025),
    # nose, mouth, facial hair
    nose_y=(.21, .26), nose_w=(.064, .09), nose_h=(.5, 1.2), mouth_gap=(.155, .19), mouth_w=(.14, .185),
    upper=(.018, .032), lower=(.028, .046), smile=(-.006, .06), bow=(.15, .5), opening=(.02, .065), opened=(0, 1),
    lipstick=(0, 1), makeup=(.4, .85), beardy=(0, 1), stubble=(.06, .26), beard_line=(.02, .12),
    # hair
    hair=(0, 1), style=(0, .62), fringe=(0, 5), volume=(.05, .13), curls=(.12, .25), length=(0, 1), flare=(-.08, .14),
    ripple=(.3, 1), side=(0, .12), hairline=(-.43, -.35), temple=(0, .07), part=(-1, 1), jag=(.003, .012),
    wave=(0, .035), strands=(.08, .18), gloss=(.1, .45), bun_x=(-.08, .08), bun_r=(.13, .2),
    greying=(0, 1), horseshoe=(0, 1),
    # glasses, clothes and background
    glasses=(0, 1), lens_a=(.118, .138), lens_b=(.085, .115), lens_s=(.0, .97), frame=(.02, .35), frame_t=(.006, .012),
    tint=(0, 1), collar=(0, 4), cloth_rate=(20, 50), cloth_depth=(-.5, .2), angle=(0, 6.28), stripes=(5, 16),
    stripe_angle=(0, 6.28), stripe_depth=(-.15, .08),
)


def _rgb(*values):
    return np.array(values, np.float32).reshape(3, 1, 1)


def _between(palette, t):
    """The colour at t in [0, 1] along a palette."""
    return _rgb(*(np.interp(t * (len(palette) - 1), range(len(palette)), c) for c in zip(*palette, strict=True)))


def _parameters(seed, index):
    """All that varies between faces, as one namespace of numbers and colours."""
    unit = iter(torch.rand(N_VARIATES, generator=keyed(seed, "faces", index)).tolist())
    p = SimpleNamespace(**{name: low + (high - low) * next(unit) for name, (low, high) in RANGES.items()})

    def paint(saturation, low, high):
        return _rgb(*colorsys.hsv_to_rgb(next(unit), saturation * next(unit), low + (high - low) * next(unit)))

    p.backdrop, p.backdrop2, p.cloth = paint(.55, .2, .95), paint(.55, .2, .95), paint(.75, .1, .9)
    p.inner, p.shadow, p.phase = paint(.5, .1, .97), paint(.5, .2, .6), [6.28 * next(unit) for _ in range(6)]
    p.blobs = [(2 * next(unit) - 1, 2 * next(unit) - 1, .2 + .4 * next(unit), paint(.6, .1, 1)) for _ in range(3)]
    p.light = [e / math.hypot(p.light_x, p.light_y, .75) for e in (p.light_x, p.light_y, .75)]
    p.age, fair, she, grin = (1 - p.youth) ** 1.5, p.tone < .45, p.feminine, max(p.smile, 0)
    p.skin = _between(SKIN, p.tone) * (1 + _rgb(.025, 0, -.05) * p.warmth)
    p.iris = _between(IRIS, p.iris * (1 if fair else .25))
    p.hair = _between(HAIR, p.hair if fair else .45 * p.hair ** (3 * p.tone))
    p.hair = p.hair + (_rgb(.74, .73, .72) - p.hair) * max(0, min(1, 3 * p.age - 2 * p.greying - 1))
    p.makeup *= p.lipstick < .55 and she > .5
    stick = _rgb(.6 + .25 * next(unit), .08 + .2 * next(unit), .15 + .2 * next(unit))
    p.lips = p.skin * _rgb(.86, .63, .60) * (1 - p.makeup) + stick * p.makeup
    p.chin, p.taper, p.neck = p.chin - .03 * she, p.taper + .07 * she, p.neck - .035 * she
    p.nose_w, p.lower, p.upper = p.nose_w + .012 * p.tone, p.lower + .012 * p.tone, p.upper + .01 * p.tone
    p.eye_h, p.brow_t = (p.eye_h + .006 * she) * (1 - 2.5 * grin), p.brow_t - .006 * she
    p.lash += .006 * p.makeup
    p.mouth_y, p.opening = p.nose_y + p.mouth_gap, p.opening * (p.opened < .2 + 6 * grin)
    p.beardy = p.beardy if she < .45 else 1.
    _cut_hair(p)
    return p


def _cut_hair(p):
    """How far the hair stands off the head, how low it hangs, and the line it leaves on the face."""
    style = STYLES[min(int((p.style + .38 * p.feminine ** 2) * len(STYLES)), len(STYLES) - 1)]
    p.style = "short" if style in ("bald", "buzz") and p.feminine > .6 else style
    p.volume = {"bald": .01, "buzz": .015, "curly": p.curls}.get(p.style, p.volume)
    p.length = {"bob": .38 + .25 * p.length, "long": .8 + .5 * p.length, "curly": .1 + .4 * p.length}.get(p.style, 0.)
    p.ripple *= {"curly": .028, "bob": .009, "long": .010, "short": .008}.get(p.style, .002)
    p.side += {"bob": .12, "long": .2, "curly": .05}.get(p.style, 0.)
    p.wave *= 1.5 if p.style == "curly" else 1
    p.horseshoe = p.style == "bald" and p.horseshoe < .6
    swept, fringe, p.power = abs(p.part), int(p.fringe), 4 + 2 * abs(p.part)
    if p.style in ("bald", "buzz"):
        p.part, p.jag = 0., .002
    elif fringe == 2:  # parted on one side
        p.part, p.power = math.copysign(.12 + .12 * swept, p.part), 1.6 + .8 * swept
    elif fringe == 3:  # a curtain, parted in the middle
        p.part, p.power, p.hairline = p.part * .05, 1.2 + .8 * swept, p.hairline - .06
    elif fringe == 4:  # bangs
        p.part, p.power, p.hairline, p.jag, p.temple = p.part * .03, 7 + 4 * swept, p.hairline + .17, p.jag + .008, 0.
    else:  # combed back
        p.part *= .1


def _scene(p, canvas):
    """An empty image with its coordinate grids and, in `head`, the distance to the outline of the bald head."""
    x, y = np.meshgrid(*[(np.arange(canvas, dtype=np.float32) + .5) * (2 / canvas) - 1] * 2)
    cos, sin = math.cos(p.tilt) / p.scale, math.sin(p.tilt) / p.scale
    u, v = (x - p.dx) * cos + (y - p.dy) * sin, (y - p.dy) * cos - (x - p.dx) * sin
    f = u - p.yaw * np.maximum(1 - (u * 2) ** 2, 0)
    half = p.width - p.taper * (v / p.chin).clip(0, 1.2) ** 2 + p.cheek * _blob(v - .12, 0, .15, 1)
    head = _ellipse(u, v, half, p.skull + (p.chin - p.skull) * (v > 0).astype(np.float32), p.square)
    image = np.zeros((3, *x.shape), np.float32)
    return SimpleNamespace(image=image, x=x, y=y, u=u, v=v, f=f, head=head, pixel=2 / canvas)


def _crop(s, p, half, top, bottom):
    """The part of a scene with |u| < half and top < v < bottom: views, so that painting on it paints on the scene."""
    cos, sin, n = math.cos(p.tilt) * p.scale, math.sin(p.tilt) * p.scale, len(s.x)
    x = [u * cos - v * sin + p.dx for u in (-half, half) for v in (top, bottom)]
    y = [v * cos + u * sin + p.dy for u in (-half, half) for v in (top, bottom)]
    rows, columns = (slice(max(0, int((min(e) + 1) * n / 2)), max(0, int((max(e) + 1) * n / 2) + 1)) for e in (y, x))
    grids = {name: grid[..., rows, columns] for name, grid in vars(s).items() if name != "pixel"}
    return SimpleNamespace(**grids, pixel=s.pixel)


def _ellipse(x, y, a, b, square=0.):
    """Distance to an ellipse along the ray from its centre; `square` in [0, 1) swells it towards a rectangle."""
    xx, yy = (x / a) ** 2, (y / b) ** 2
    q = xx + yy
    r = np.sqrt((q + np.sqrt(np.maximum(q * q - 4 * square * xx * yy, 0))) / 2 if square else q)
    return (r - 1) * (np.sqrt(x * x + y * y) + 1e-4) / (r + 1e-4)


def _blob(x, y, a, b):
    """A bump of height 1, like exp(-(x/a)^2 - (y/b)^2) but many times cheaper."""
    q = np.maximum(1 - (x * (.5 / a)) ** 2 - (y * (.5 / b)) ** 2, 0)
    q *= q
    return q * q


def _both(*distances):
    """Distance to where all the shapes overlap."""
    return functools.reduce(np.maximum, distances)


def _paint(s, distance, colour, alpha=1., soft=0.):
    """Paint `colour` where the distance is negative, over an edge of one pixel, or a smooth one `soft` wide."""
    cover = (.5 - distance * (1 / (s.pixel + soft))).clip(0, 1)
    s.image += ((cover * cover * (3 - 2 * cover) if soft else cover) * alpha) * (colour - s.image)


def _lit(colour, shade):
    """A colour under a shade: red falls off least, as in skin, so that shadows stay warm."""
    return colour * (1 + _rgb(.86, 1, 1.06) * (shade - 1))


def _backdrop(s, p):
    across = .5 + .4 * (s.x * math.cos(p.angle) + s.y * math.sin(p.angle))
    s.image += p.backdrop + (p.backdrop2 - p.backdrop) * across.clip(0, 1)
    for x, y, radius, colour in p.blobs:
        s.image += _blob(s.x - x, s.y - y, radius, radius) * .55 * (colour - s.image)
    if p.stripe_depth > 0:
        along = s.x * math.cos(p.stripe_angle) + s.y * math.sin(p.stripe_angle)
        s.image *= 1 + p.stripe_depth * np.sin(p.stripes * along)


def _hair(s, p):
    """The hair's colour everywhere, the outline of its whole mass, and its front: that mass above the hairline."""
    a, b, middle, (h0, h1, h2, h3, h4, h5) = p.width + .6 * p.volume + .008, p.skull + p.volume, -.08, p.phase
    # strands fan out from the parting and fall straight below it; a gloss band rings the crown
    u = s.u - p.part + p.wave * (np.sin(9 * s.v + h3) + .6 * np.sin(17 * s.v + 5 * s.u))
    drop = (s.v + b).clip(0, .6)
    t = u / (.45 + drop)
    strands = .5 * np.sin(21 * t + h0 + 2 * s.v) + .6 * np.sin(53 * t + h1 + 2 * np.sin(9 * t + h2))
    strands += .5 * np.sin(89 * t)
    if p.style == "curly":
        curl = np.sin(38 * s.u + 4 * np.sin(19 * s.v + h3)) * np.sin(34 * s.v + 4 * np.sin(21 * s.u + h4))
        strands = .4 * strands + 1.3 * curl
    gloss = p.gloss * _blob(np.sqrt(u * u * .8 + drop * drop) - .27, 0, .1, 1) * (1 + .8 * strands)
    facing = (s.u * (p.light[0] / a) + (s.v + .1) * (p.light[1] / b)).clip(-1, 1)
    colour = p.hair * ((.86 + .34 * facing + p.strands * strands) * (1 + gloss)) + .12 * gloss
    # the outline: half an ellipse above, sides that hang below; tufts follow the angle around the crown
    v, au = s.v - middle, np.abs(s.u)
    around = 3 * s.u / (au + np.abs(v) + .05)
    tufts = np.sin(7 * around + h4 + 9 * v) + .7 * np.sin(17 * around + h5) + .5 * np.sin(29 * around)
    if p.style == "curly":  # rounded locks instead of tufts
        tufts = .6 * tufts + 1.5 * np.abs(np.sin(11 * around + h5 + 2 * np.sin(5 * around)))
    tufts *= p.ripple
    end = s.v - p.length - .008 * np.sin(30 * s.u + h2) - .012 * np.sin(53 * s.u) + (.25 * s.u * s.u if p.length else 0)
    sides = au - a - (p.flare * v.clip(0, .8) if p.length else 0)
    above = v < 0
    outline = _both(above * _ellipse(s.u, v, a, b + middle) + ~above * sides - tufts, end)
    # the hairline: v as a function of u, highest at the parting, lowest at the sides
    half = p.width - .02 - p.part * np.sign(s.u - p.part)
    x, (top, power) = np.abs(s.u - p.part) / half, (-1.6, 14) if p.horseshoe else (p.hairline, p.power)
    steep = power * (p.side - top) * x ** (power - 1)
    line = top + steep * x / power - p.temple * _blob(au - .24, 0, .06, 1)
    line += p.jag * (np.sin(61 * s.u + h0) + np.sin(37 * s.u + h1) + .6 * np.sin(97 * s.u + h2))
    return colour, outline, _both(outline, (s.v - line) / np.sqrt(1 + (steep / half) ** 2))


def _body(s, p):
    """Neck, then clothes with their collar; the body follows the head's place but not its roll."""
    x, y = (s.x - p.dx * .8) / p.scale + p.tilt * .4, (s.y - p.dy) / p.scale
    ax, turn, kind = np.abs(x), (x / p.neck).clip(-1, 1), int(p.collar)
    neck = ax - p.neck - .9 * np.maximum(y - .62, 0) ** 2
    _paint(s, _both(neck, .3 - y), _lit(p.skin, .98 + p.contrast * (.5 * p.light[0] * turn - .3 * turn * turn - .15)))
    chin = _ellipse(s.u + p.light[0] * .1, s.v - .12, p.width * .9, p.chin)
    _paint(s, _both(chin, neck), p.skin * _rgb(.42, .32, .30), .6, .14)
    shoulders = _ellipse(x, y - 1.5, 1.08, .78, .3)
    folds = 1 + .07 * np.sin(9 * x + 5 * y) + .06 * np.sin(17 * x - 9 * y) - .5 * shoulders * (ax - .5)
    folds += max(p.cloth_depth, 0) * np.sin(p.cloth_rate * y) + p.light[0] * .3 * x
    if kind == 0:  # round neck with a hem
        cut = _ellipse(x, y - .62, p.neck + .04, .2)
    else:  # a V: plain, a shirt's, or a jacket's with something under it
        cut = _both((ax * (0, 1.5, 1.6, 1.2)[kind] + y - (0, 1.05, .96, 1.25)[kind]) * .55, ax - p.neck - .1)
        if kind == 3:
            _paint(s, _both(shoulders, -_ellipse(x, y - .62, p.neck, .19)), p.inner * folds)
    _paint(s, _both(shoulders, -cut), p.cloth * folds)
    trim, colour = np.abs(cut - .03) - (.02, .015, .035, .05)[kind], p.inner if kind == 2 else p.cloth * .78
    _paint(s, _both(shoulders - .015, trim), colour * folds)


def _ears(s, p):
    c = _crop(s, p, .62, -.2, .3)
    side = np.sign(c.u)
    u = np.abs(c.u) - p.width - .012 + side * (p.yaw * .35)
    v, shade = c.v - .04 - .25 * u, .86 + (p.contrast * .5 * p.light[0]) * side
    _paint(c, _ellipse(u, v, .06 * p.ear, .125 * p.ear), _lit(p.skin * _rgb(1, .95, .94), shade))
    _paint(c, np.abs(_ellipse(u - .012, v + .01, .026, .075)) - .006, _lit(p.skin, .62 * shade), .8, .015)


def _skin(s, p):
    """The head, shaded by the normals of an ellipsoid plus the relief of nose, cheeks, chin, sockets and folds."""
    c = _crop(s, p, .52, -.72, .8)
    u, v, f, (lx, ly, lz), nose, mouth = c.u, c.v, c.f, p.light, p.nose_y, p.mouth_y
    nx, ny, af = u / (p.width + .03), (v - .02) / (p.chin + .1), np.abs(f)
    nz = np.sqrt(np.maximum(1 - nx * nx - ny * ny, .02))
    shade = .99 + p.contrast * (nx * lx + ny * (ly * .7) + nz * lz - .72)
    for x, y, a, b, height in ((0, nose - .13, .045, .15, .45 * p.nose_h), (0, nose, .05, .045, .6 * p.nose_h),
                               (0, nose + .01, p.nose_w, .04, .4), (-.27, .22, .13, .12, .2), (.27, .22, .13, .12, .2),
                               (0, p.chin - .1, .12, .08, .3), (0, -.13, .3, .05, .12), (0, mouth, .16, .09, .15)):
        dx, dy = f - x, v - y
        shade += (dx * (lx / a) + dy * (ly / b)) * _blob(dx, dy, a, b) * (height * p.contrast)
    for x, y, a, b, depth in ((af - p.eye_x + .03, v - p.eye_y + .045, .10, .045, .15),  # socket
                              (af - p.eye_x, v - p.eye_y - .085, .07, .022, .04 + .08 * p.bag),  # below the eye
                              (af - p.nose_w - .045 - (v - nose) * .5, v - nose - .08, .021, .07,
                               .03 + .1 * p.age + 1. * max(p.smile, 0)),  # fold from nose to mouth
                              (f + lx * .03, v - nose - .058, p.nose_w, .022, .22),  # under the nose
                              (f, v - mouth - p.lower - p.opening - .03, .08, .02, .13),  # under the lip
                              (f, v - nose + .012, .02, .018, -.17), (f, v - .05, .014, .1, -.05),  # shine on the nose
                              (f - lx * .2, v + .3, .16, .1, -.09)):  # and on the forehead
        shade -= depth * _blob(x, y, a, b)
    shade -= .07 * p.age * np.maximum(np.sin(62 * v + 2 * np.cos(4 * f)), 0) * _blob(f, v + .25, .17, .07)
    flush = p.blush * (_blob(af - .25, v - .2, .11, .09) + .6 * _blob(f, v - nose, .06, .05))
    if p.freckly < .25 and p.tone < .45:
        dots = np.sin(71 * f + 3 * np.sin(40 * v)) * np.sin(67 * v + 3 * np.sin(37 * f))
        flush += np.maximum(dots - .45, 0) * _blob(f, v - .16, .25, .1)
    _paint(c, c.head, _lit(p.skin, shade) * (1 - flush * _rgb(.02, .25, .22)))


def _eyes(s, p):
    c = _crop(s, p, p.eye_x + .22, p.eye_y - .13, p.eye_y + .12)
    side, x = np.sign(c.f), np.abs(c.f) - p.eye_x
    y, w = c.v - p.eye_y + p.slant * x, x * (1 / p.eye_w)
    arch = 1 - w * w
    ends, arch = np.maximum(1 - (w * w * .7) ** 2, 0), arch * (1.25 - .25 * np.abs(arch))
    upper, lower, past = -p.eye_h * arch * (1 - .25 * w), p.eye_h * p.lid * arch, np.abs(x) - p.eye_w
    hole, lid_shade = _both((upper - y) * .8, (y - lower) * .8, past), _blob(y - upper, 0, .022, 1)
    if p.makeup:
        _paint(c, _ellipse(x, y + .02, .13, .06), p.shadow, .45 * p.makeup, .06)
    _paint(c, np.abs(y - upper * 1.15 + .026) - .002, p.skin * _rgb(.5, .42, .4), (.3 + p.crease) * ends, .012)
    _paint(c, hole, _rgb(.93, .92, .90) * (1 - .3 * lid_shade - .15 * w * w))
    gx, gy = x - p.gaze_x * side, y - p.gaze_y + .004
    radius = np.sqrt(gx * gx + gy * gy)
    iris = 1.2 - .75 * _blob(radius - p.iris_r, 0, .011, 1) + gy * (.5 / p.iris_r) - .25 * lid_shade
    _paint(c, _both(hole, radius - p.iris_r), p.iris * iris)
    _paint(c, _both(hole, radius - .43 * p.iris_r), _rgb(.03, .03, .03))
    _paint(c, _both(hole, _ellipse(gx - p.light[0] * .016 * side, gy + .015, .011, .011)), _rgb(1, 1, 1), .95)
    _paint(c, _both(np.abs(y - lower - .003) - .004, past), p.skin * _rgb(.6, .42, .4), .55, .008)
    lash = np.abs(y - upper + .002) - p.lash * (1 + .8 * w).clip(.3, 1.9)
    _paint(c, _both(lash, past - .006), p.hair * .2 + .03, .92 * np.minimum(3 * ends, 1))


def _brows(s, p):
    c = _crop(s, p, p.eye_x + .24, p.eye_y - .26, p.eye_y - .03)
    x, y = np.abs(c.f) - p.eye_x - .008, c.v - p.eye_y + p.brow_y
    t = (x / p.brow_w).clip(-1, 1)
    bar = np.abs(y - p.brow_arch * (3 * (t - .2) ** 2 - 1) + p.brow_slant * t) - p.brow_t * (1.05 - .5 * t)
    colour = p.hair * (.62 + .1 * np.sin(150 * (x + .6 * y)))
    _paint(c, _both(bar, np.abs(x) - p.brow_w), colour, .88 * np.sqrt(np.sqrt(1 - t * t)), .012)


def _nose(s, p):
    c = _crop(s, p, .24, p.nose_y - .1, p.nose_y + .1)
    x, y, w = np.abs(c.f - p.yaw * .15), c.v - p.nose_y, p.nose_w
    _paint(c, _ellipse(x - w * .5, y - .048 + .15 * x, w * .3, .012), p.skin * _rgb(.32, .22, .2), .75, .014)
    wing = np.abs(_ellipse(x - w * .68, y - .022, w * .4, .038)) - .002
    _paint(c, _both(wing, w * .85 - x, -.014 - y), p.skin * _rgb(.5, .4, .38), .5, .018)


def _facial_hair(s, p):
    """A shadow of stubble, a beard or a goatee, and perhaps a moustache."""
    c = _crop(s, p, .52, -.1, .85)
    x, y, ax, wide = c.f, c.v - p.mouth_y, np.abs(c.f), p.mouth_w * 1.1
    grain = .8 + .13 * np.sin(130 * x + 5 * np.sin(23 * y)) * np.sin(70 * y + 40 * x) + .08 * np.sin(61 * x + 9 * y)
    lips = _ellipse(x, y - .01 - p.opening * .5, p.mouth_w * .98, p.upper + p.lower + p.opening * .5)
    area = _both(p.mouth_y - .07 + p.beard_line - 1.9 * np.maximum(ax - .16, 0) - c.v, -lips)
    if p.beardy < .3:
        area = _both(area, _ellipse(x, y - .12, .15, .17)) if p.beardy < .1 else area
        _paint(c, _both(area, c.head - .03), p.hair * grain * (1 + .4 * p.light[0] * x), .93, .045)
    else:
        _paint(c, _both(area, c.head), p.hair * .75 + .03, p.stubble, .16)
    if p.beardy < .42:
        t = (x / wide).clip(-1, 1)
        bar = np.abs(y + p.upper + .024 - .05 * t * t - .012 * _blob(x, 0, .02, 1)) - .024 * (1 - .6 * t * t)
        _paint(c, _both(bar, ax - wide), p.hair * grain * .9, .93 * np.sqrt(1 - t ** 4), .02)


def _mouth(s, p):
    c = _crop(s, p, .3, p.mouth_y - .1, p.mouth_y + .18)
    x, y, opening = c.f / p.mouth_w, c.v - p.mouth_y, p.opening
    k = np.maximum(1 - x * x, 0)
    root, sides = np.sqrt(k), (np.abs(x) - 1) * p.mouth_w
    middle = -p.smile * (x * x - .3) + .006 * _blob(x, 0, .25, 1)
    top = middle - p.upper * root * (.3 + .7 * root) * (1 - p.bow * _blob(x, 0, .2, 1))
    gap = middle + opening * root * (.4 + .6 * k)
    bottom = gap + p.lower * root * (.6 + .4 * k)
    shade = 1 + .25 * p.contrast * p.light[0] * x - .14 * (y < middle).astype(np.float32) + .1 * (y - gap) / p.lower
    _paint(c, _both(top - y, y - bottom, sides), _lit(p.lips, shade), .92, .008)
    c.image += (.10 + .12 * p.makeup) * _blob(x - .2 * p.light[0], y - gap - .45 * p.lower, .35, .35 * p.lower)
    if opening:  # the dark inside, the tongue, the upper teeth
        inside = _both(middle - y, y - gap, sides)
        _paint(c, inside, _rgb(.24, .06, .07))
        tongue = _ellipse(c.f, y - opening * 1.15, p.mouth_w * .5, opening * .55)
        _paint(c, _both(inside, tongue), _rgb(.65, .28, .3), .8)
        teeth = _rgb(.95, .93, .88) * (1 - .45 * x * x - .08 * _blob(np.abs(c.f) % .034 - .034, 0, .003, 1))
        _paint(c, _both(inside, y - middle - min(.034, opening * .8) * root), teeth)
    else:
        _paint(c, _both(np.abs(y - middle) - .004, sides), p.lips * .42, .85 * root, .008)
    c.image *= 1 - .3 * _blob(np.abs(c.f) - p.mouth_w, y + p.smile * .7, .018, .014)


def _glasses(s, p):
    c = _crop(s, p, .6, -.2, .25)
    x, y, frame = np.abs(c.f) - p.eye_x - .012, c.v - p.eye_y - .02, _rgb(p.frame + p.tint * .3, p.frame, p.frame)
    lens, glare = _ellipse(x, y, p.lens_a, p.lens_b, p.lens_s), x * np.sign(c.f) + y - p.light[0] * .05
    _paint(c, lens, _rgb(.1, .1, .12), .78 if p.tint > .9 else .06)
    _paint(c, _both(lens, np.abs(glare) - .02), _rgb(1, 1, 1), .14, .02)
    _paint(c, np.abs(lens) - p.frame_t, frame)
    _paint(c, _both(np.abs(y + .03) - .008, np.abs(c.u) - p.width - .02, -lens), frame)  # bridge and temples


def _face(seed, index, size):
    """Face `index` as (size, size, 3) uint8."""
    p, k = _parameters(seed, index), -(-MIN_CANVAS // size)
    s = _scene(p, size * k)
    _backdrop(s, p)
    h = _crop(s, p, .85, -1.2, p.length + .15)
    colour, outline, front = _hair(h, p)
    if p.style == "bun":
        bun = _ellipse(h.u - p.bun_x, h.v + p.skull + p.volume + p.bun_r * .5, p.bun_r, p.bun_r * .85)
        _paint(h, bun, colour * .9)
    if p.length:
        _paint(h, outline, colour * .62)
    _body(s, p)
    for layer in (_ears, _skin, _eyes, _brows, _nose, *[_facial_hair] * (p.beardy < .65), _mouth):
        layer(s, p)
    if p.style != "bald" or p.horseshoe:
        _paint(h, _both(front - .04, h.head), p.skin * .4, .35, .09)  # the shadow of the hair on the forehead
        _paint(h, front, colour, *((.8, .05) if p.style == "buzz" else (1, .012)))
    if p.glasses < .2:
        _glasses(s, p)
    image = sum(s.image[:, i::k, j::k] for i in range(k) for j in range(k)).transpose(1, 2, 0)
    return np.rint((image * (255 / k ** 2)).clip(0, 255)).astype(np.uint8)


def draw(indices, size, seed=0):
    """Faces number `indices` (any iterable of ints) as (N, size, size, 3) uint8.

    Each is a function of (seed, index, size) alone, and nearly the same picture at every size.
    """
    faces = [_face(seed, int(i), size) for i in indices]
    return np.stack(faces) if faces else np.zeros((0, size, size, 3), np.uint8)
