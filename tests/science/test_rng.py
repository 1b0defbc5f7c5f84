import torch

from inpaint_lib import rng


def test_equal_keys_give_equal_streams_and_other_keys_others():
    draw = [
        torch.rand(4, generator=rng.open_stream(*key))
        for key in ((0, "a", 1), (0, "a", 1), (0, "a", 2), (0, "b", 1), (1, "a", 1))
    ]
    assert torch.equal(draw[0], draw[1])
    assert len({tuple(d.tolist()) for d in draw}) == 4


def test_an_epoch_shows_every_image_once_whatever_the_batch_size():
    for batch_size in (1, 3, 7, 10, 25):
        steps = -(-30 // batch_size)
        seen = torch.cat([rng.draw_batch(0, step, batch_size, 10) for step in range(steps)])[:30]
        for epoch in seen.split(10):
            assert sorted(epoch.tolist()) == list(range(10))


def test_batches_depend_on_seed_and_step_alone():
    assert torch.equal(rng.draw_batch(3, 5, 4, 100), rng.draw_batch(3, 5, 4, 100))
    assert not torch.equal(rng.draw_batch(3, 5, 4, 100), rng.draw_batch(4, 5, 4, 100))
