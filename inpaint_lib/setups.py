"""Training setups as pure schedules: how wide the hole is and what the losses weigh at a step. `progressive` grows the hole.

A setup knows nothing of networks or data. Every setup runs the same number of steps on the same images; the paper's four
end with the same full-size hole and the same loss weights (protocol: equal budget).
Source: Hedjazi & Genç 2019, section "Training setups".
"""

import random
from dataclasses import dataclass, replace
from functools import lru_cache


@dataclass(frozen=True)
class Phase:
    """What holds at one step. `reconstruction` and `adversarial` multiply the generator's loss weights (1 = full)."""

    stage: int  # 0 .. n_stages - 1
    mask_width: int  # pixels
    reconstruction: float
    adversarial: float
    discriminator: bool = True  # whether D is updated
    trains: bool = True  # whether anything is


@dataclass(frozen=True)
class Schedule:
    """The budget every setup shares: `steps` iterations in stages of K = steps / len(mask_widths), one per mask width."""

    steps: int
    mask_widths: tuple[int, ...]
    seed: int = 0  # only mixed draws

    @property
    def steps_per_stage(self):
        return self.steps // len(self.mask_widths)

    def stage(self, step):
        return step // self.steps_per_stage


def fixed(schedule, step):
    """The full-size hole and full weights from the first step."""
    return Phase(schedule.stage(step), schedule.mask_widths[-1], 1.0, 1.0)


def progressive(schedule, step):
    """The hole grows to the next width every K steps; the weights stay full."""
    stage = schedule.stage(step)
    return Phase(stage, schedule.mask_widths[stage], 1.0, 1.0)


def recon_first(schedule, step):
    """The full-size hole; reconstruction alone for the first K steps, then the adversarial loss at its full weight."""
    phase = fixed(schedule, step)
    return replace(phase, adversarial=float(phase.stage > 0))


def adv_ramp(schedule, step):
    """The full-size hole; the adversarial weight rises by 1/S in each of the S stages, up to its full weight."""
    phase = fixed(schedule, step)
    return replace(phase, adversarial=(phase.stage + 1) / len(schedule.mask_widths))


def mixed(schedule, step):
    """A control the paper does not have: progressive's hole sizes, each for as many steps, in random order."""
    return replace(fixed(schedule, step), mask_width=_shuffled_widths(schedule)[step])


@lru_cache(maxsize=8)
def _shuffled_widths(schedule):
    widths = [width for width in schedule.mask_widths for _ in range(schedule.steps_per_stage)]
    random.Random(f"mixed {schedule.seed}").shuffle(widths)
    return widths


def recon_only(schedule, step):
    """A control: no adversarial loss at all. What is the adversarial game good for, and is it what is unstable?"""
    return replace(fixed(schedule, step), adversarial=0.0)


def last_only(schedule, step):
    """A control: fixed, in the last stage alone; before it nothing is trained. What do the small holes before it bring?"""
    phase = fixed(schedule, step)
    return replace(phase, trains=phase.stage == len(schedule.mask_widths) - 1)


def recon_first_rest(schedule, step):
    """recon_first as a warm-up is commonly done: D, too, rests for the first K steps."""
    phase = recon_first(schedule, step)
    return replace(phase, discriminator=phase.stage > 0)


SETUPS = {
    "fixed": fixed,
    "progressive": progressive,
    "recon_first": recon_first,
    "adv_ramp": adv_ramp,
    "mixed": mixed,
    "recon_only": recon_only,
    "last_only": last_only,
    "recon_first_rest": recon_first_rest,
}
CONTROLS = ("mixed", "recon_only", "last_only", "recon_first_rest")  # ours, shown apart from the paper's four
