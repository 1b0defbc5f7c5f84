"""The trend of the effect with the budget: slopes follow from effects, words from intervals."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats as reference

from inpaint_lib.results import trend
from inpaint_lib.study import config
from tests.conftest import MICRO

SMALL = config.load("smoke", MICRO)


def planted(ratios, learnt=True):
    """Points of one cell: {budget: a ratio per seed}."""
    rows = [["s", budget, "faces", "custom", "progressive", seed, ratio - 1, learnt, "cpu", "float32", "2.15.0"]
            for budget, of in ratios.items() for seed, ratio in enumerate(of) if ratio]  # fmt: skip
    return pd.DataFrame(rows, columns=trend.POINTS)


def test_slopes_are_those_of_a_regression_per_seed():
    random = np.random.default_rng(0)
    budgets = [5120, 20480, 163840]
    ratios = {budget: random.uniform(0.8, 1.2, 5) for budget in budgets}
    row = trend.slopes(planted(ratios), SMALL).iloc[0]
    expected = [reference.linregress(np.log(budgets), np.log([ratios[b][seed] for b in budgets])).slope for seed in range(5)]
    assert row.change == pytest.approx(4 ** np.mean(expected) - 1)
    assert row.p_value == pytest.approx(reference.ttest_1samp(expected, 0).pvalue)
    ends = reference.ttest_1samp(expected, 0).confidence_interval(0.95)
    assert [row.ci_low, row.ci_high] == pytest.approx([4**end - 1 for end in ends])


@pytest.mark.parametrize("ratios, learnt, n_seeds, word", [
    ({1: [1.1, 1.11, 1.12], 4: [1.05, 1.06, 1.07], 16: [1, 1.01, 1.02]}, True, 3, "exploratory provisional progressive gains"),
    ({1: [0.9, 0.91, 0.92], 4: [1.0, 1.01, 1.02], 16: [1.1, 1.11, 1.13]}, True, 3, "exploratory provisional progressive loses"),
    ({1: [1.1, 1.0, 0.9], 4: [1.0, 1.0, 1.0], 16: [0.9, 1.0, 1.1]}, True, 3, "exploratory provisional inconclusive"),
    ({1: [1.1, 1.11], 4: [1.05, 1.06], 16: [1, 1.01]}, True, 2, "inconclusive"),
    ({1: [1.1, 1.11, 1.12], 4: [1.05, 1.06, 1.07], 16: [1, 1.01, 0]}, True, 2, "inconclusive"),  # seed 2: not at the last
    ({1: [1.1, 1.11, 1.12], 4: [1.05, 1.06, 1.07]}, True, 3, "not answered: 2 of 3 budgets"),
    ({1: [1.1], 2: [1.1], 16: [1.1]}, True, 1, "not answered: budgets less than a factor 4 apart"),
    ({1: [1.1, 1.11], 4: [1.05, 1.06], 16: [1, 1.01]}, False, 2, "not answered: the networks have not learnt"),
])  # fmt: skip
def test_words(ratios, learnt, n_seeds, word):
    row = trend.slopes(planted(ratios, learnt), SMALL).iloc[0]
    assert (row.verdict, row.n_seeds) == (word, n_seeds)


def test_budgets_trained_otherwise_are_told():
    points = planted({1000: [1.0, 1.1], 4000: [1.0, 1.1]})
    assert list(trend.trained_otherwise(points)) == []
    points.loc[3, "precision"] = "bfloat16"
    assert list(trend.trained_otherwise(points)) == ["precision float32 at 1,000 images, bfloat16 and float32 at 4,000 images"]
