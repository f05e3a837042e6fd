"""A test of draws against the distribution that they should follow."""

import numpy as np
from scipy import stats

DRAWS = 20_000


def assert_follows(draws, distribution):
    """Kolmogorov and Smirnov's test; keys are fixed, so a right sampler passes for good."""
    assert draws.shape == (DRAWS,)
    assert stats.kstest(np.asarray(draws, np.float64), distribution.cdf).pvalue > 1e-3
