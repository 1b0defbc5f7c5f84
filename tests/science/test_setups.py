from collections import Counter
from itertools import product

import pytest

from inpaint_lib.setups import SETUPS, Schedule
from inpaint_lib.study import grid

SCHEDULE = Schedule(160, (4, 8, 12, 16))  # four stages of 40 steps
PAPERS = [name for name, setup in SETUPS.items() if not setup.control]

# (width, steps) in order; continuous, mixed and replay below
WIDTHS = {
    **dict.fromkeys(["fixed", "recon_first", "adv_ramp", "last_only", "recon_only"], [(16, 160)]),
    "progressive": [(4, 40), (8, 40), (12, 40), (16, 40)],
    "reversed": [(12, 40), (8, 40), (4, 40), (16, 40)],
    "long_last": [(4, 27), (8, 27), (12, 26), (16, 80)],
}


def phases(setup, schedule=SCHEDULE):
    return [SETUPS[setup].phase(schedule, step) for step in range(schedule.steps)]


def widths(setup, schedule=SCHEDULE):
    return [phase.mask_width for phase in phases(setup, schedule)]


def test_the_paper_has_four_setups():
    assert PAPERS == ["fixed", "progressive", "recon_first", "adv_ramp"]


@pytest.mark.parametrize("setup", SETUPS)
def test_all_setups_share_the_stages_and_have_a_sentence_and_a_look_of_their_own(setup):
    assert [phase.stage for phase in phases(setup)] == [k // 40 for k in range(160)]
    entry = SETUPS[setup]
    others = [other for name, other in SETUPS.items() if name != setup]
    assert entry.about.endswith(".") and entry.control == entry.about.startswith("Control: ")
    assert entry.colour not in {o.colour for o in others} | {""}
    assert entry.marker not in {o.marker for o in others} | {""}


@pytest.mark.parametrize("setup", WIDTHS)
def test_the_width_of_every_step(setup):
    assert widths(setup) == [width for width, steps in WIDTHS[setup] for _ in range(steps)]


@pytest.mark.parametrize("setup", sorted(SETUPS.keys() - {"mixed", "recon_only", "replay"}))
@pytest.mark.parametrize("schedule", [SCHEDULE, Schedule(6, (8, 16)), Schedule(2, (8, 16))])
def test_the_last_stage_has_the_largest_hole_and_full_weights(setup, schedule):
    for phase in phases(setup, schedule)[-schedule.steps_per_stage :]:
        found = (phase.mask_width, phase.reconstruction, phase.adversarial, phase.trains)
        assert found == (16, 1.0, 1.0, True)


@pytest.mark.parametrize(
    ("setup", "weights"),
    [("recon_first", (0, 1, 1, 1)), ("adv_ramp", (0.25, 0.5, 0.75, 1)), ("recon_only", (0,) * 4)],
)
def test_the_adversarial_weight_of_every_stage(setup, weights):
    assert [p.adversarial for p in phases(setup)] == [w for w in weights for _ in range(40)]


@pytest.mark.parametrize("setup", sorted(SETUPS.keys() - {"recon_first", "adv_ramp", "recon_only"}))
def test_the_other_setups_change_the_width_alone(setup):
    resting = [setup == "last_only" and k < 120 for k in range(160)]
    assert [(p.reconstruction, p.adversarial, not p.trains) for p in phases(setup)] == [
        (1.0, 1.0, rests) for rests in resting
    ]


def test_reversed_with_two_stages_is_progressive():
    two = Schedule(80, (8, 16))
    assert phases("reversed", two) == phases("progressive", two)


def test_mixed_has_as_many_steps_at_each_width_as_progressive():
    assert sorted(widths("mixed")) == widths("progressive")


@pytest.mark.parametrize("of_stages", [(4, 8, 12, 16), (8, 16), (8, 12, 16), (5, 6, 11, 40, 64)])
def test_continuous_grows_by_single_pixels_from_the_smallest_to_the_second_largest(of_stages):
    schedule = Schedule(200 * len(of_stages), of_stages)
    ramp = widths("continuous", schedule)[:-200]
    assert (ramp[0], ramp[-1]) == (of_stages[0], of_stages[-2])
    assert all(b - a in (0, 1) for a, b in zip(ramp, ramp[1:], strict=False))
    assert abs(sum(ramp) / len(ramp) - (of_stages[0] + of_stages[-2]) / 2) < 0.01
    if of_stages == (4, 8, 12, 16):  # evenly spaced: progressive's mean
        assert sum(ramp) / len(ramp) == sum(of_stages[:-1]) / 3


@pytest.mark.parametrize("seed", range(3))
def test_replay_is_progressive_but_for_a_quarter_of_smaller_holes_in_every_later_stage(seed):
    schedule = Schedule(16000, (4, 8, 12, 16), seed)
    found, grown = widths("replay", schedule), widths("progressive", schedule)
    assert found[:4000] == grown[:4000]
    for stage in (1, 2, 3):
        counts = Counter(found[4000 * stage : 4000 * (stage + 1)])
        current, smaller = schedule.mask_widths[stage], schedule.mask_widths[:stage]
        assert counts.keys() == {*smaller, current}
        assert abs(4000 - counts[current] - 1000) < 110  # four standard deviations
        assert all(abs(counts[w] - 1000 / stage) < 110 for w in smaller)  # uniform


@pytest.mark.parametrize("setup", ["mixed", "replay"])
def test_a_random_order_depends_on_the_seed_alone(setup):
    drawn = {seed: widths(setup, Schedule(160, (4, 8, 12, 16), seed)) for seed in range(3)}
    assert len({*map(tuple, drawn.values())}) == 3
    backwards = [SETUPS[setup].phase(SCHEDULE, k).mask_width for k in reversed(range(160))]
    assert backwards[::-1] == drawn[0]
    assert len(set(drawn[0][80:100])) > 2  # not in blocks


@pytest.mark.parametrize(("setup", "n"), [*product(SETUPS, [2, 4])])
def test_stages_are_evaluated_in_which_something_is_trained(setup, n):
    curriculum = {"curriculum.mask_widths": [4, 8, 12, 16][-n:], "curriculum.total_images": 64}
    run = grid.open_study("smoke", curriculum | {"grid.setups": [setup]}).runs()[0]
    expected = (n,) if setup == "last_only" else tuple(range(1, n + 1))
    assert run.evaluated_stages == expected
