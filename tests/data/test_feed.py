import threading

import pytest
import torch

from inpaint_lib import rng
from inpaint_lib.data import feed, packs

CPU = torch.device("cpu")


@pytest.fixture
def images(micro):
    return feed.map_images(packs.prepare(micro(), "clutter"))


def test_resident_and_prefetched_batches_are_the_same_in_the_same_order(images):
    steps = range(3, 40)  # into the seventh epoch
    resident = feed.load_batches(images, 5, steps, 4, CPU, "resident")
    prefetched = feed.load_batches(images, 5, steps, 4, CPU, "prefetch")
    for step, a, b in zip(steps, resident, prefetched, strict=True):
        expected = images[rng.draw_batch(5, step, 4, len(images))]
        assert torch.equal(a, expected) and torch.equal(b, expected)
    for n in range(1, 6):
        assert len(list(feed.load_batches(images, 0, range(n), 4, CPU, "prefetch"))) == n


def test_a_batch_larger_than_the_set_repeats_images(images):
    (batch,) = feed.load_batches(images[:3], 0, range(1), 8, CPU, "prefetch")
    assert len({image.numpy().tobytes() for image in batch}) == 3


def test_leaving_early_ends_the_thread(images):
    before = threading.active_count()
    for _ in feed.load_batches(images, 0, range(1000), 4, CPU, "prefetch"):
        break
    assert threading.active_count() == before


def test_the_set_is_resident_only_where_it_leaves_room(monkeypatch):
    cuda = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (24 * 2**30, 24 * 2**30))
    assert feed.choose_loading("auto", 9 * 2**30, cuda) == "resident"
    assert feed.choose_loading("auto", 15 * 2**30, cuda) == "prefetch"
    assert feed.choose_loading("auto", 10**15, CPU) == "resident"
    assert feed.choose_loading("prefetch", 1, cuda) == "prefetch"
