import pytest

from inpaint_lib import setups

SCHEDULE = setups.Schedule(120, (4, 8, 12))


@pytest.mark.parametrize("setup", [s for s in setups.SETUPS if s not in setups.CONTROLS])
def test_each_of_the_papers_setups_ends_with_the_full_hole_and_full_weights(setup):
    last = setups.SETUPS[setup](SCHEDULE, 119)
    assert (last.stage, last.mask_width, last.reconstruction, last.adversarial) == (2, 12, 1.0, 1.0)


@pytest.mark.parametrize("setup", setups.SETUPS)
def test_all_setups_share_the_stage_boundaries(setup):
    assert [setups.SETUPS[setup](SCHEDULE, step).stage for step in (0, 39, 40, 79, 80, 119)] == [0, 0, 1, 1, 2, 2]


def test_progressive_grows_every_k_steps_and_fixed_never():
    widths = [setups.progressive(SCHEDULE, step).mask_width for step in range(120)]
    assert widths == [4] * 40 + [8] * 40 + [12] * 40
    assert {setups.fixed(SCHEDULE, step).mask_width for step in range(120)} == {12}


def test_recon_first_adds_the_adversarial_loss_after_k_steps():
    weights = [setups.recon_first(SCHEDULE, step).adversarial for step in range(120)]
    assert weights == [0.0] * 40 + [1.0] * 80


def test_adv_ramp_raises_the_adversarial_weight_every_k_steps():
    weights = [setups.adv_ramp(SCHEDULE, step).adversarial for step in range(120)]
    assert weights == [1 / 3] * 40 + [2 / 3] * 40 + [1.0] * 40


@pytest.mark.parametrize("setup", ["fixed", "recon_first", "adv_ramp"])
def test_only_progressive_and_its_control_change_the_hole(setup):
    assert {setups.SETUPS[setup](SCHEDULE, step).mask_width for step in range(120)} == {12}
    assert {setups.SETUPS[setup](SCHEDULE, step).reconstruction for step in range(120)} == {1.0}


def test_mixed_shows_progressives_holes_in_an_order_of_its_seed():
    widths = [setups.mixed(SCHEDULE, step).mask_width for step in range(120)]
    assert sorted(widths) == [setups.progressive(SCHEDULE, step).mask_width for step in range(120)] != widths
    assert widths == [setups.mixed(SCHEDULE, step).mask_width for step in range(120)]
    other = setups.Schedule(120, (4, 8, 12), seed=1)
    assert widths != [setups.mixed(other, step).mask_width for step in range(120)]
    assert len(set(widths[:20])) == 3  # not in blocks


def test_progressive_differs_from_fixed_in_the_width_alone():
    for step in range(120):
        a, b = setups.progressive(SCHEDULE, step), setups.fixed(SCHEDULE, step)
        assert (a.stage, a.reconstruction, a.adversarial) == (b.stage, b.reconstruction, b.adversarial)
