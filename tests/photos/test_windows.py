"""The windows around holes: what they hold, which holes share one, and how they are shrunk."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from inpaint_lib.photos import windows
from tests.photos.test_inpaint import SIZE, box_hole


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 150), st.integers(1, 150), st.sampled_from([16, 32, 64]), st.integers(0, 999))
def test_windows_hold_their_holes_and_lie_inside_the_photo_if_possible(height, width, size, seed):
    rng = np.random.default_rng(seed)
    hole = rng.random((height, width)) < rng.choice([0, 0.001, 0.05])
    for _ in range(rng.integers(1, 6)):
        y, x = rng.integers(height), rng.integers(width)
        hole[y : y + rng.integers(1, 40), x : x + rng.integers(1, 40)] = True
    number, boxes = windows.number_holes(hole, size)
    assert ((number > 0) == hole).all()
    assert set(np.unique(number)) - {0} == set(range(1, len(boxes) + 1))
    parts, n = ndimage.label(hole, np.ones((3, 3)))
    of = [np.unique(number[parts == k]) for k in range(1, n + 1)]
    assert all(len(found) == 1 for found in of), "a connected part belongs to one hole"
    for k, box in enumerate(boxes, 1):
        rows, columns = np.nonzero(number == k)
        y, x, y2, x2 = box
        assert (y, x, y2, x2) == (rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
        longer = max(y2 - y, x2 - x)
        members = [part for part, found in enumerate(of, 1) if found[0] == k]
        alone = [max(np.ptp(axis) + 1 for axis in np.nonzero(parts == part)) for part in members]
        assert longer <= max(size // 2, min(alone)), "none is seen coarser for another's sake"
        top, left, side = windows.place_square(box, hole.shape, size)
        assert top <= y and left <= x and y2 <= top + side and x2 <= left + side and side >= size
        if max(size, 2 * longer) <= min(height, width):
            assert side == max(size, 2 * longer)
            assert 0 <= top <= height - side and 0 <= left <= width - side
        else:
            assert side == max(size, min(height, width), longer)


def test_near_holes_share_a_window_and_far_or_much_larger_ones_do_not():
    hole = box_hole((90, 200), (10, 10, 4, 4), (18, 12, 4, 4), (120, 40, 4, 4))
    assert sorted(windows.number_holes(hole, SIZE)[1]) == [[10, 10, 16, 22], [40, 120, 44, 124]]
    hole = box_hole((60, 60), (2, 2, 50, 4), (30, 40, 3, 3))
    assert windows.number_holes(hole, SIZE)[1] == [[2, 2, 6, 52], [40, 30, 43, 33]]


@settings(max_examples=40, deadline=None)
@given(st.integers(33, 130), st.integers(0, 10_000))
def test_shrinking_marks_every_touched_pixel_and_keeps_what_hides_in_the_hole_out(side, seed):
    rng = np.random.default_rng(seed)
    image, hole = rng.integers(0, 256, (side, side, 3), np.uint8), rng.random((side, side)) < 0.02
    small, mask = windows.shrink(image, hole, SIZE)
    covered = [slice(i * side // SIZE, -(-(i + 1) * side // SIZE)) for i in range(SIZE)]
    reference = np.array([[hole[rows, columns].any() for columns in covered] for rows in covered])
    assert (mask == reference).all()
    other, known = np.where(hole[..., None], 255 - image, image), mask == 0
    assert (windows.shrink(other, hole, SIZE)[0][known] == small[known]).all()
