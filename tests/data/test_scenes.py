import numpy as np
import pytest
from PIL import Image

from inpaint_lib.data import scenes, sources


def test_the_wheels_carry_the_photographs_and_one_motorcycle_view_only():
    photos = scenes.photographs()
    assert len(photos) == 8 and all(path.is_file() for path in photos.values())
    assert sum("motorcycle" in name for name in photos) == 1
    assert all(Image.open(path).mode == "RGB" for path in photos.values())


@pytest.mark.parametrize("size", [32, 64, 128])
def test_no_test_pixel_is_ever_trained_on(monkeypatch, tmp_path, micro, size):
    """With the test part white and the rest black, training crops are black, test crops white."""
    paths = {}
    for k, (height, width) in enumerate([(300, 451), (512, 512), (427, 640)]):
        photo = np.zeros((height, width, 3), np.uint8)
        photo[:, width - width // 3 :] = 255
        paths[f"p{k}"] = tmp_path / f"{k}.png"
        Image.fromarray(photo).save(paths[f"p{k}"])
    monkeypatch.setattr(scenes, "photographs", lambda: paths)
    for split, colour in (("train", 0), ("test", 255)):
        items = scenes.items(split, 90, seed=0, size=size)
        assert len(items) == 90
        assert all((p == colour).all() for p in sources.read_images("scenes", items, size, 0))


@pytest.mark.parametrize("split", ["train", "test"])
def test_crops_have_several_scales_and_lie_inside(split):
    boxes = scenes.crop_boxes(300, 600, split, 500, np.random.default_rng(0), 64)
    assert len(set(boxes[:, 2])) == 3
    assert boxes[:, 0].min() >= 0 and (boxes[:, 0] + boxes[:, 2]).max() <= 300
    assert (boxes[:, 1] + boxes[:, 2]).max() <= (400 if split == "train" else 600)
    assert boxes[:, 1].min() >= (0 if split == "train" else 400)
