"""What the intervals and words promise, in simulated studies whose true effects are known."""

import numpy as np
import pytest

from inpaint_lib.results import hypotheses, stats

STUDIES = 2000
PLAN = hypotheses.read_plan()
MARGIN, ALPHA = np.log1p(PLAN.margin), 1 - PLAN.level()
TRUE = {  # word: whether it is true of an effect
    "supported": lambda effect: effect < -MARGIN,
    "no harm": lambda effect: effect <= MARGIN,
    "equivalent": lambda effect: abs(effect) <= MARGIN,
    "no benefit": lambda effect: effect >= -MARGIN,
    "worse": lambda effect: effect > MARGIN,
    "inconclusive": lambda effect: True,
}
# by cell and question: at the edges of the words, where they err most, and elsewhere
EFFECTS = np.resize([-MARGIN, MARGIN, 0, -1.001 * MARGIN, 1.001 * MARGIN, 0.1, -0.1], (6, 3))


def differences(n_seeds, effects, seed):
    """Return paired log ratios (studies, cells, questions, seeds). Questions of a cell share
    progressive, of which a third of the noise comes; deviations differ by cell."""
    rng = np.random.default_rng(seed)
    shape = STUDIES, *effects.shape, n_seeds
    shared = rng.normal(size=(STUDIES, len(effects), 1, n_seeds))
    noise = np.sqrt(1 / 3) * shared + np.sqrt(2 / 3) * rng.normal(size=shape)
    deviation = np.linspace(0.005, 0.05, len(effects))[:, None, None]
    return effects[..., None] + deviation * noise


@pytest.mark.parametrize("n_seeds", [3, 5, 10])
def test_eighteen_intervals_hold_together_and_a_false_word_is_rare(n_seeds):
    low, high = stats.compute_interval(differences(n_seeds, EFFECTS, n_seeds), ALPHA)
    assert low[0].size == PLAN.primaries
    covered = ((low <= EFFECTS) & (EFFECTS <= high)).all(axis=(1, 2))
    assert covered.mean() >= 0.94
    wrong, seen = np.zeros(STUDIES, bool), set()
    for study, *place in np.ndindex(low.shape):
        at = (study, *place)
        word = stats.choose_word(low[at], high[at], MARGIN)
        seen.add(word)
        wrong[study] |= not TRUE[word](EFFECTS[tuple(place)])
    assert wrong.mean() <= 0.06 and len(seen) >= 5


@pytest.mark.parametrize("alpha", [0.05, ALPHA])
@pytest.mark.parametrize("n_seeds", [3, 5, 10])
def test_the_smallest_detectable_effect_is_detected_four_times_in_five(n_seeds, alpha):
    effect = stats.compute_detectable(0.03, n_seeds, MARGIN, alpha)
    draws = np.random.default_rng(n_seeds).normal(size=(20000, n_seeds))
    _, high = stats.compute_interval(effect + 0.03 * draws, alpha)
    assert (high < -MARGIN).mean() == pytest.approx(0.8, abs=0.012)


def test_the_smallest_detectable_effect_of_the_protocols_example():
    effect = np.expm1(stats.compute_detectable(0.03, 10, MARGIN, ALPHA))
    assert effect == pytest.approx(-0.066, abs=0.0005)
    assert np.isnan(stats.compute_detectable(0.03, 1, MARGIN, ALPHA))
    assert np.isnan(stats.compute_detectable(float("nan"), 5, MARGIN, ALPHA))
