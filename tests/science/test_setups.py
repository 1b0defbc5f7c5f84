import pytest

from inpaint_lib.setups import SETUPS, Schedule

SCHEDULE = Schedule(120, (4, 8, 12))  # three stages of 40 steps
PAPERS = [name for name, setup in SETUPS.items() if not setup.control]


def phases(setup, schedule=SCHEDULE):
    return [SETUPS[setup].phase(schedule, step) for step in range(schedule.steps)]


def test_the_paper_has_four_setups():
    assert PAPERS == ["fixed", "progressive", "recon_first", "adv_ramp"]


@pytest.mark.parametrize("setup", PAPERS)
def test_each_of_the_papers_setups_ends_with_the_largest_hole_and_full_weights(setup):
    last = phases(setup)[-1]
    assert (last.stage, last.mask_width, last.reconstruction, last.adversarial) == (2, 12, 1, 1)


@pytest.mark.parametrize("setup", SETUPS)
def test_all_setups_share_the_stage_boundaries(setup):
    assert [phase.stage for phase in phases(setup)] == [0] * 40 + [1] * 40 + [2] * 40


@pytest.mark.parametrize("setup", SETUPS)
def test_each_setup_has_a_sentence_and_a_look_of_its_own(setup):
    entry = SETUPS[setup]
    assert entry.about.endswith(".")
    others = [other for name, other in SETUPS.items() if name != setup]
    assert entry.colour not in {o.colour for o in others} | {""}
    assert entry.marker not in {o.marker for o in others} | {""}


def test_progressive_grows_every_k_steps():
    assert [p.mask_width for p in phases("progressive")] == [4] * 40 + [8] * 40 + [12] * 40


@pytest.mark.parametrize("setup", ["fixed", "recon_first", "adv_ramp", "recon_only", "last_only"])
def test_only_progressive_and_mixed_change_the_hole(setup):
    assert {phase.mask_width for phase in phases(setup)} == {12}
    assert {phase.reconstruction for phase in phases(setup)} == {1.0}


@pytest.mark.parametrize(
    ("setup", "weights"),
    [("recon_first", (0, 1, 1)), ("adv_ramp", (1 / 3, 2 / 3, 1)), ("recon_only", (0, 0, 0))],
)
def test_the_adversarial_weight_of_every_stage(setup, weights):
    assert [p.adversarial for p in phases(setup)] == [w for w in weights for _ in range(40)]


def test_last_only_trains_in_the_last_stage_alone():
    assert [p.trains for p in phases("last_only")] == [False] * 80 + [True] * 40


def test_mixed_shows_progressives_holes_in_an_order_of_its_seed():
    widths = [p.mask_width for p in phases("mixed")]
    grown = [p.mask_width for p in phases("progressive")]
    assert sorted(widths) == grown != widths
    assert widths == [p.mask_width for p in phases("mixed")]
    assert widths != [p.mask_width for p in phases("mixed", Schedule(120, (4, 8, 12), seed=1))]
    assert len(set(widths[:20])) == 3  # not in blocks


def test_progressive_differs_from_fixed_in_the_width_alone():
    for a, b in zip(phases("progressive"), phases("fixed"), strict=True):
        assert (a.stage, a.reconstruction, a.adversarial) == (
            b.stage,
            b.reconstruction,
            b.adversarial,
        )
