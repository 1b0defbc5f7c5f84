"""Pictures: which images are shown, and that they are shown unchanged."""

import dataclasses

import numpy as np
import pytest

from inpaint_lib.results import figures, pictures
from tests.results import synthetic


@pytest.fixture(scope="module")
def results():
    return synthetic.study(datasets=["faces"], architectures=["custom"], seeds=range(2))


def shown(figure, size):
    """Return the images of a grid: rows x columns x (size, size, 3)."""
    canvas, gap = figure.axes[0].images[0].get_array(), max(1, size // 24)
    starts = [range(0, edge, size + gap) for edge in canvas.shape[:2]]
    return np.stack(
        [np.stack([canvas[y : y + size, x : x + size] for x in starts[1]]) for y in starts[0]]
    )


def test_an_outline_has_a_segment_wherever_hole_and_surroundings_touch():
    mask = np.random.default_rng(0).random((9, 7)) < 0.4
    padded = np.pad(mask, 1)
    perimeter = sum(int((padded != np.roll(padded, 1, axis)).sum()) for axis in (0, 1))
    segments = pictures.trace_outline(mask)
    assert len(segments) == perimeter and len({s.tobytes() for s in segments}) == perimeter
    assert (np.abs(np.diff(segments, axis=1)).sum((1, 2)) == 1).all()
    assert pictures.trace_outline(np.zeros((4, 4))).size == 0
    np.testing.assert_array_equal(pictures.trace_outline([[1]]).reshape(-1, 2).max(0), [0.5, 0.5])


def test_images_are_tiled_unchanged_and_holes_are_painted():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 24, 24, 3), np.uint8)
    holes = rng.random((3, 24, 24)) < 0.3
    painted = pictures.show_hole(images, holes)
    assert (painted[holes] == pictures.HOLE).all() and (painted[~holes] == images[~holes]).all()
    found = shown(
        pictures.draw_grid({"a": images, "b": painted}, rows=list("xyz"), holes=holes), 24
    )
    np.testing.assert_array_equal(found[:, 0], images)
    np.testing.assert_array_equal(found[:, 1], painted)


def test_rows_are_the_best_the_median_and_the_worst_recorded_image(results):
    largest = results.per_image.xs(("l1", results.widths[-1]), level=["metric", "mask_width"])
    l1 = largest[results.about["recorded"]["faces"]].mean().to_numpy()
    order = np.argsort(l1)
    found = pictures.rank_images(results, "faces", "custom")
    assert found == {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}


def test_a_comparison_shows_input_every_setup_and_truth(results):
    key = f"{results.family('custom')}_{results.widths[-1]}"
    rows = list(pictures.rank_images(results, "faces", "custom").values())
    found = shown(pictures.draw_comparison(results, "faces", "custom"), 32)
    truth, hole = results.fills["faces/truth"][rows], results.fills[f"faces/mask/{key}"][rows]
    np.testing.assert_array_equal(found[:, 0], pictures.show_hole(truth, hole))
    np.testing.assert_array_equal(found[:, -1], truth)
    for k, setup in enumerate(synthetic.MADE, 1):
        fills = results.fills[f"faces/custom/{setup}/seed0/stage{len(results.widths)}/{key}"]
        np.testing.assert_array_equal(found[:, k], fills[rows])


def test_without_recorded_fills_there_is_no_picture(results):
    without = dataclasses.replace(results, fills={})
    assert figures.draw(without, "grid", "pair", "masks") == {}


def test_the_papers_pair_is_compared_on_the_same_holes():
    results = synthetic.study(["faces"], ["custom", "free_form"], ["fixed"], [0])
    key, last = f"free_form_{results.widths[-1]}", len(results.widths)
    assert figures.draw(results, "pair") == {}  # custom has no fills of such holes
    fills = results.fills["faces/free_form/fixed/seed0/" + f"stage{last}/{key}"]
    more = {f"faces/custom/fixed/seed0/stage{last}/{key}": 255 - fills}
    results = dataclasses.replace(results, fills=results.fills | more)
    figure, _ = figures.draw(results, "pair")["pair_faces"]
    found = shown(figure, 32)
    np.testing.assert_array_equal(found[:, 1], 255 - found[:, 2])
