"""The training setups: how wide the hole is and what the losses weigh at each step. `progressive`
grows the hole.

To add a setup, add an entry to SETUPS here, or in a file that a profile names in `extensions`. A
setup is a pure function of the schedule and the step; it knows nothing of networks or data. All
setups run the same number of steps on the same images; the paper's four end with the same hole and
loss weights. Source: Hedjazi & Genç 2019, section "Training setups".
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache


@dataclass(frozen=True)
class Phase:
    """The hole and the loss weights of one step."""

    stage: int  # 0 .. n_stages - 1
    mask_width: int  # pixels
    reconstruction: float  # multiplies G's loss weights; 1 = full
    adversarial: float
    trains: bool = True  # whether anything is updated


@dataclass(frozen=True)
class Schedule:
    """The budget of all setups: one stage of K = steps / len(mask_widths) steps per width."""

    steps: int
    mask_widths: tuple[int, ...]  # pixels, growing
    seed: int = 0  # of setups that draw widths

    @property
    def n_stages(self):
        return len(self.mask_widths)

    @property
    def steps_per_stage(self):
        return self.steps // self.n_stages

    def stage(self, step):
        return step // self.steps_per_stage


@dataclass(frozen=True)
class Setup:
    """A training setup: its rule, one sentence about it, and how figures show it."""

    phase: Callable[[Schedule, int], Phase]
    about: str
    colour: str
    marker: str  # matplotlib's
    control: bool = False  # ours, shown apart from the paper's four


def fixed(schedule, step):
    """Return the largest hole and full weights."""
    return Phase(schedule.stage(step), schedule.mask_widths[-1], 1.0, 1.0)


def progressive(schedule, step):
    """Return the width of the current stage: the next one every K steps."""
    phase = fixed(schedule, step)
    return replace(phase, mask_width=schedule.mask_widths[phase.stage])


def recon_first(schedule, step):
    """Return fixed's phase, without the adversarial loss in the first stage."""
    phase = fixed(schedule, step)
    return replace(phase, adversarial=float(phase.stage > 0))


def adv_ramp(schedule, step):
    """Return fixed's phase with adversarial weight s / S in stage s of S."""
    phase = fixed(schedule, step)
    return replace(phase, adversarial=(phase.stage + 1) / schedule.n_stages)


def mixed(schedule, step):
    """Return one of progressive's widths, each for as many steps, in an order keyed by the seed."""
    return replace(fixed(schedule, step), mask_width=_shuffled_widths(schedule)[step])


@lru_cache(maxsize=8)
def _shuffled_widths(schedule):
    widths = [width for width in schedule.mask_widths for _ in range(schedule.steps_per_stage)]
    random.Random(f"mixed {schedule.seed}").shuffle(widths)
    return widths


def replay(schedule, step):
    """Return progressive's phase, or after the first stage with probability 1/4 a smaller width."""
    phase = progressive(schedule, step)
    draw = random.Random(f"replay {schedule.seed} {step}")
    if phase.stage > 0 and draw.random() < 0.25:
        return replace(phase, mask_width=draw.choice(schedule.mask_widths[: phase.stage]))
    return phase


def reversed_order(schedule, step):
    """Return progressive's stages, those before the last in reverse order."""
    order = (*schedule.mask_widths[-2::-1], schedule.mask_widths[-1])
    phase = fixed(schedule, step)
    return replace(phase, mask_width=order[phase.stage])


def continuous(schedule, step):
    """Return a width that grows evenly up to the second largest; in the last stage the largest."""
    phase = fixed(schedule, step)
    if phase.stage == schedule.n_stages - 1:
        return phase
    first, last = schedule.mask_widths[0], schedule.mask_widths[-2]
    n = max((schedule.n_stages - 1) * schedule.steps_per_stage - 1, 1)
    width = (2 * (first * n + (last - first) * step) + n) // (2 * n)  # rounded, in integers
    return replace(phase, mask_width=width)


def long_last(schedule, step):
    """Return the smaller widths, of equal shares, in the first half, and the largest afterwards."""
    place = 2 * (schedule.n_stages - 1) * step // schedule.steps
    width = schedule.mask_widths[min(place, schedule.n_stages - 1)]
    return replace(fixed(schedule, step), mask_width=width)


def recon_only(schedule, step):
    """Return fixed's phase without the adversarial loss."""
    return replace(fixed(schedule, step), adversarial=0.0)


def last_only(schedule, step):
    """Return fixed's phase, training only in the last stage."""
    phase = fixed(schedule, step)
    return replace(phase, trains=phase.stage == schedule.n_stages - 1)


SETUPS = {
    "fixed": Setup(fixed, "The largest hole from the first step.", "#0072B2", "o"),
    "progressive": Setup(
        progressive, "The hole grows to the next width every K steps.", "#D55E00", "D"
    ),
    "recon_first": Setup(
        recon_first,
        "The largest hole; reconstruction losses alone for the first K steps, then all losses.",
        "#009E73",
        "^",
    ),
    "adv_ramp": Setup(
        adv_ramp,
        "The largest hole; the adversarial weight rises by 1/S in each of the S stages.",
        "#CC79A7",
        "s",
    ),
    "mixed": Setup(
        mixed,
        "Control: progressive's hole widths, each for as many steps, in random order.",
        "#7F7F7F",
        "v",
        control=True,
    ),
    "replay": Setup(
        replay,
        "Control: progressive, but after the first stage a step takes one of the smaller widths "
        "with probability 1/4.",
        "#000000",
        "<",
        control=True,
    ),
    "reversed": Setup(
        reversed_order,
        "Control: progressive's stages, those before the last in reverse order.",
        "#661100",
        ">",
        control=True,
    ),
    "continuous": Setup(
        continuous,
        "Control: the hole grows evenly instead of in steps; the last stage is progressive's.",
        "#332288",
        "h",
        control=True,
    ),
    "long_last": Setup(
        long_last,
        "Control: the smaller holes share the first half of the steps; the largest has the second.",
        "#004D40",
        "p",
        control=True,
    ),
    "last_only": Setup(
        last_only,
        "Control: nothing is trained before the last K steps, then fixed.",
        "#56B4E9",
        "X",
        control=True,
    ),
    "recon_only": Setup(
        recon_only,
        "Control: fixed without the adversarial loss.",
        "#999933",
        "P",
        control=True,
    ),
}


@lru_cache(maxsize=256)  # `paper` has 128,000 steps
def find_trained_stages(setup, schedule):
    """Return the stages (1 ..) in which a Setup trains anything."""
    steps = schedule.steps_per_stage
    return tuple(
        k + 1
        for k in range(schedule.n_stages)
        if any(setup.phase(schedule, step).trains for step in range(k * steps, (k + 1) * steps))
    )
