"""Training setups as pure schedules: what the mask width and the loss weights are at a step.

A setup knows nothing of networks or data. Every setup runs the same number of steps on the same images and ends with the
same full-size hole and the same loss weights (protocol: equal budget). Source: Hedjazi & Genç 2019, section "Training setups".
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Phase:
    """What holds at one step. `reconstruction` and `adversarial` multiply the generator's loss weights (1 = full)."""

    stage: int  # 0 .. n_stages - 1
    mask_width: int  # pixels
    reconstruction: float
    adversarial: float


@dataclass(frozen=True)
class Schedule:
    """The budget every setup shares: `steps` iterations in stages of K = steps / len(mask_widths), one per mask width."""

    steps: int
    mask_widths: tuple[int, ...]

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


SETUPS = {"fixed": fixed, "progressive": progressive}
