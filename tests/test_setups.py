import pytest

from inpaint_lib import setups

SCHEDULE = setups.Schedule(120, (4, 8, 12))


@pytest.mark.parametrize("setup", setups.SETUPS)
def test_every_setup_ends_with_the_full_hole_and_full_weights(setup):
    last = setups.SETUPS[setup](SCHEDULE, 119)
    assert (last.stage, last.mask_width, last.reconstruction, last.adversarial) == (2, 12, 1.0, 1.0)


@pytest.mark.parametrize("setup", setups.SETUPS)
def test_all_setups_share_the_stage_boundaries(setup):
    assert [setups.SETUPS[setup](SCHEDULE, step).stage for step in (0, 39, 40, 79, 80, 119)] == [0, 0, 1, 1, 2, 2]


def test_progressive_grows_every_k_steps_and_fixed_never():
    widths = [setups.progressive(SCHEDULE, step).mask_width for step in range(120)]
    assert widths == [4] * 40 + [8] * 40 + [12] * 40
    assert {setups.fixed(SCHEDULE, step).mask_width for step in range(120)} == {12}


def test_progressive_differs_from_fixed_in_the_width_alone():
    for step in range(120):
        a, b = setups.progressive(SCHEDULE, step), setups.fixed(SCHEDULE, step)
        assert (a.stage, a.reconstruction, a.adversarial) == (b.stage, b.reconstruction, b.adversarial)
