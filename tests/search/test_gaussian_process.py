"""The Gaussian process against scikit-learn's, and what uses it against integrals and grids."""

import jax
import numpy as np
import pytest
from scipy import integrate, optimize, stats
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from shohypernet import hyperparameters as hp
from shohypernet.search import _gaussian_process as gaussian_process
from shohypernet.search import _slice_sampling as slice_sampling
from shohypernet.search._bayesian import (
    State,
    bayesian,
    fantasized,
    maximize,
    standardized,
)
from shohypernet.search._gaussian_process import JITTER, Kernel
from shohypernet.search._unit_cube import unit_cube

KERNEL = Kernel(mean=0.3, amplitude=1.4, noise=0.2, lengthscales=np.array([0.3, 0.8, 2.0]))
rng = np.random.default_rng(0)
INPUTS, ELSEWHERE = rng.random((12, 3)), rng.random((5, 3))
OUTPUTS = np.sin(4 * INPUTS[:, 0]) + INPUTS[:, 1] + 0.1 * rng.normal(size=12)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """The matrices are small, and threads would spend their time in waiting for one another."""
    with gaussian_process.one_thread():
        yield


@pytest.fixture(scope="module")
def scikit():
    kernel = ConstantKernel(KERNEL.amplitude**2) * Matern(KERNEL.lengthscales, nu=2.5)
    model = GaussianProcessRegressor(
        kernel + WhiteKernel(KERNEL.noise**2), alpha=JITTER * KERNEL.amplitude**2, optimizer=None
    )
    return model.fit(INPUTS, OUTPUTS - KERNEL.mean)


@pytest.fixture(scope="module")
def known():
    return gaussian_process.posterior(KERNEL, INPUTS, OUTPUTS[:, None])


def test_likelihood_is_scikit_learns(scikit):
    found = gaussian_process.log_likelihood(KERNEL, INPUTS, OUTPUTS)
    np.testing.assert_allclose(found, scikit.log_marginal_likelihood_value_, rtol=1e-10)


def test_posterior_is_scikit_learns(scikit, known):
    mean, covariance = gaussian_process.predict(known, ELSEWHERE)
    expected, spread = scikit.predict(ELSEWHERE, return_cov=True)
    np.testing.assert_allclose(mean[:, 0], expected + KERNEL.mean, rtol=1e-8)
    # Its WhiteKernel adds the noise of new observations.
    spread = spread - KERNEL.noise**2 * np.eye(len(ELSEWHERE))
    np.testing.assert_allclose(covariance, spread, rtol=1e-6, atol=1e-9)


def test_alternative_outputs_are_each_their_own_posterior(known):
    other = OUTPUTS[::-1]
    both = gaussian_process.posterior(KERNEL, INPUTS, np.stack([OUTPUTS, other], axis=1))
    alone = gaussian_process.posterior(KERNEL, INPUTS, other[:, None])
    means = [gaussian_process.predict(each, ELSEWHERE)[0] for each in (known, alone)]
    together = gaussian_process.predict(both, ELSEWHERE)[0]
    np.testing.assert_allclose(together, np.concatenate(means, axis=1), rtol=1e-10)
    improvements = [
        gaussian_process.expected_improvement(each, ELSEWHERE) for each in (known, alone)
    ]
    np.testing.assert_allclose(
        gaussian_process.expected_improvement(both, ELSEWHERE), np.mean(improvements, axis=0)
    )


def test_expected_improvement_is_its_integral(known):
    mean, covariance = gaussian_process.predict(known, ELSEWHERE)
    found = gaussian_process.expected_improvement(known, ELSEWHERE)
    best = OUTPUTS.min()
    for value, m, s in zip(found, mean[:, 0], np.sqrt(np.diag(covariance)), strict=True):

        def gain(y, m=m, s=s):
            return (best - y) * stats.norm.pdf(y, m, s)

        expected, _ = integrate.quad(gain, best - 12 * s, best)
        np.testing.assert_allclose(value, expected, rtol=1e-6)


def test_slope_of_expected_improvement_by_finite_differences():
    outputs = np.stack([OUTPUTS, OUTPUTS[::-1]], axis=1)
    known = gaussian_process.posterior(KERNEL, INPUTS, outputs)
    for point in ELSEWHERE:
        value, slope = gaussian_process.improvement_and_slope(known, point)
        np.testing.assert_allclose(
            value, gaussian_process.expected_improvement(known, point[None])[0], rtol=1e-8
        )
        expected = optimize.approx_fprime(
            point,
            lambda x: gaussian_process.expected_improvement(known, x[None])[0],
            epsilon=1e-7,
        )
        np.testing.assert_allclose(slope, expected, rtol=1e-4, atol=1e-6)


# --- slice sampling ---------------------------------------------------------------------------


def test_slice_sampling_draws_from_the_density():
    """A normal of correlation 0.6 in one half-plane: what is outside has a density of 0."""
    covariance = np.array([[1.0, 0.6], [0.6, 1.0]])
    law = stats.multivariate_normal(cov=covariance)

    def log_density(point):
        return law.logpdf(point) if point[0] > 0 else -np.inf

    rng, point, draws = np.random.default_rng(0), np.array([1.0, 0.0]), []
    for i in range(6_000):
        point = slice_sampling.sweep(rng, log_density, point)
        if i % 6 == 5:  # by when the chain has forgotten, about
            draws.append(point)
    first, second = np.array(draws).T
    assert stats.kstest(first, stats.halfnorm.cdf).pvalue > 1e-3
    # Given the first, the second is N(0.6 x, 1 − 0.6²).
    assert stats.kstest((second - 0.6 * first) / 0.8, stats.norm.cdf).pvalue > 1e-3


# --- Bayesian optimization --------------------------------------------------------------------


def test_fantasies_follow_the_predictive_distribution(scikit, known):
    flat = np.concatenate([[KERNEL.mean], np.log([KERNEL.amplitude, KERNEL.noise])])
    flat = np.concatenate([flat, np.log(KERNEL.lengthscales)])
    rng = np.random.default_rng(0)
    many = [fantasized(rng, flat, INPUTS, OUTPUTS, ELSEWHERE[:2]) for _ in range(500)]
    # What a fantasy says of its own input, noise being smoothed: draws from the weights.
    for each in many[:1]:
        np.testing.assert_allclose(each.inputs, np.concatenate([INPUTS, ELSEWHERE[:2]]))
        _, spread = gaussian_process.predict(each, ELSEWHERE)
        refitted = gaussian_process.posterior(KERNEL, each.inputs, np.zeros((14, 1)))
        np.testing.assert_allclose(
            spread, gaussian_process.predict(refitted, ELSEWHERE)[1], atol=1e-10
        )
    matrix = gaussian_process.covariance(KERNEL, each.inputs, each.inputs)
    matrix += (KERNEL.noise**2 + JITTER * KERNEL.amplitude**2) * np.eye(14)
    draws = np.concatenate([(matrix @ each.weights)[12:] for each in many], axis=1) + KERNEL.mean
    mean, covariance = scikit.predict(ELSEWHERE[:2], return_cov=True)
    standard = np.linalg.solve(np.linalg.cholesky(covariance), draws - mean[:, None] - KERNEL.mean)
    assert stats.kstest(standard.ravel(), stats.norm.cdf).pvalue > 1e-3
    assert abs(np.corrcoef(standard)[0, 1]) < 4.5 / np.sqrt(standard.shape[1])


def test_the_point_chosen_has_the_greatest_improvement_of_a_fine_grid():
    kernel = Kernel(0.0, 1.0, 0.01, np.array([0.2]))
    inputs = np.array([[0.1], [0.45], [0.6], [0.95]])
    known = [gaussian_process.posterior(kernel, inputs, np.sin(9 * inputs))]
    chosen = maximize(
        np.random.default_rng(0), unit_cube(hp.real(), np.zeros(())), known, inputs[2]
    )
    grid = np.linspace(0, 1, 10_001)[:, None]
    best = grid[np.argmax(gaussian_process.expected_improvement(known[0], grid))]
    np.testing.assert_allclose(chosen, best, atol=2e-4)


def losses(values):
    """Least, 0, at a decay of 1e-2, three layers and tanh."""
    decade = np.log10(values["decay"]) + 2
    return decade**2 + 0.3 * (values["layers"] - 3.0) ** 2 + 0.5 * (values["act"] != 1)


SPACE = {
    "decay": hp.log(1e-5, 1e1),
    "layers": hp.integer(1, 6),
    "act": hp.categorical("relu", "tanh", "gelu"),
}


def searched(method, trials):
    asker = method.bind(SPACE, dict.fromkeys(SPACE, np.zeros(())))
    state, found = asker.init(jax.random.key(0)), []
    while sum(map(len, found)) < trials:
        state, proposal = asker.ask(jax.random.key(len(found)), state)
        values = jax.tree.map(np.asarray, hp.decode(SPACE, proposal.hyperparams))
        found.append(losses(values))
        state = asker.tell(state, proposal, found[-1])
    return np.concatenate(found), state


@pytest.mark.parametrize("population", [1, 3])
def test_bayesian_optimization_finds_what_random_search_would_not(population):
    method = bayesian(steps=1, population=population, initial=6)
    found, state = searched(method, 30)
    assert found.min() < 0.01
    # Of random points one in 18 · 30 is as good: 30 of them have one by a chance of 5 %.
    assert np.median(found[-6:]) < np.median(found[:6])
    assert len(np.unique(state.points, axis=0)) == 30


def test_a_diverged_trial_counts_as_the_worst():
    np.testing.assert_allclose(
        standardized(np.array([1.0, np.inf, 3.0, 3.0])) * np.sqrt(3), [-3, 1, 1, 1]
    )
    assert standardized(np.array([2.0, 2.0])).tolist() == [0, 0]


def test_bayesian_restarts_when_all_diverged():
    method = bayesian(steps=1, initial=4).bind(hp.real(), np.zeros(2))
    state, first = method.ask(jax.random.key(0), method.init(jax.random.key(0)))
    state = method.tell(state, first, np.full(4, np.inf))
    state, second = method.ask(jax.random.key(1), state)
    assert second.trials.tolist() == [4, 5, 6, 7]
    assert isinstance(state, State)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [({"steps": 0}, "steps"), ({"initial": 1}, "initial to be 2 or more"), ({"population": 0}, "")],
)
def test_bad_sizes_are_refused(sizes, message):
    with pytest.raises(ValueError, match=rf"bayesian\(\) needs .*{message}"):
        bayesian(**({"steps": 1} | sizes))


def test_an_empty_space_is_refused():
    with pytest.raises(ValueError, match="is empty"):
        bayesian(steps=1).bind({}, {})
