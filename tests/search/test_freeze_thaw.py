"""The model of learning curves against one dense normal distribution, and what freeze-thaw does."""

import jax
import numpy as np
import pytest
from scipy import stats

from shohypernet import hyperparameters as hp
from shohypernet.search import _gaussian_process as gaussian_process
from shohypernet.search import _learning_curves as learning_curves
from shohypernet.search._freeze_thaw import freeze_thaw, information_gain
from shohypernet.search._gaussian_process import JITTER, Kernel
from shohypernet.search._learning_curves import Curves, Model, Posterior

MODEL = Model(1.3, 0.8, 2.0, Kernel(0.4, 1.1, 0.15, np.array([0.5, 0.9])))
rng = np.random.default_rng(0)
LENGTHS = np.array([3, 1, 4, 0, 2])
CURVES = Curves(rng.random((5, 2)), rng.normal(size=(5, 4)), LENGTHS)
SEEN = [(n, t) for n in range(5) for t in range(1, LENGTHS[n] + 1)]
VALUES = np.array([CURVES.values[n, t - 1] for n, t in SEEN])


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """The matrices are small, and threads would spend their time in waiting for one another."""
    with gaussian_process.one_thread():
        yield


def dense(rows, columns):
    """The covariance of observations (n, t), or of the end of curve n as (n, None)."""
    ends = gaussian_process.covariance(MODEL.kernel, CURVES.inputs, CURVES.inputs)
    matrix = np.empty((len(rows), len(columns)))
    for i, (n, t) in enumerate(rows):
        for j, (m, u) in enumerate(columns):
            matrix[i, j] = ends[n, m]
            if n == m and t and u:
                matrix[i, j] += 1.3**2 * 2.0**0.8 / (t + u + 2.0) ** 0.8
                matrix[i, j] += (t == u) * (0.15**2 + JITTER * 1.3**2) + JITTER * 1.1**2
    return matrix


def test_likelihood_is_that_of_one_dense_normal():
    law = stats.multivariate_normal(np.full(len(SEEN), 0.4), dense(SEEN, SEEN))
    found = learning_curves.log_likelihood(MODEL, CURVES)
    np.testing.assert_allclose(found, law.logpdf(VALUES), rtol=1e-10)


def test_posterior_is_that_of_one_dense_normal():
    ends, following = [(n, None) for n in range(5)], [(n, LENGTHS[n] + 1) for n in range(5)]
    solved = np.linalg.solve(dense(SEEN, SEEN), dense(SEEN, ends + following))
    mean = 0.4 + solved.T @ (VALUES - 0.4)
    spread = dense(ends + following, ends + following) - dense(ends + following, SEEN) @ solved
    found = learning_curves.posterior(MODEL, CURVES)
    np.testing.assert_allclose(found.mean, mean[:5], rtol=1e-9)
    np.testing.assert_allclose(found.covariance, spread[:5, :5], rtol=10 * JITTER)
    # The jitter of 1e-8 is of the observed ends, not of what comes next.
    np.testing.assert_allclose(found.next_mean, mean[5:], rtol=10 * JITTER)
    np.testing.assert_allclose(found.next_variance, np.diag(spread)[5:], rtol=10 * JITTER)
    # An observation tells of all ends through its own curve's: cov(f, y_a) = Ω_a C_a.
    np.testing.assert_allclose(found.covariance * found.gain, spread[:5, 5:], rtol=10 * JITTER)


def test_parameters_are_laid_out_as_documented():
    flat = np.array([np.log(1.3), np.log(0.8), np.log(2.0), 0.4, *np.log([1.1, 0.15, 0.5, 0.9])])
    model = learning_curves.unpack(flat)
    assert model[:3] == pytest.approx(MODEL[:3])
    assert model.kernel[:3] == pytest.approx(MODEL.kernel[:3])
    np.testing.assert_allclose(model.kernel.lengthscales, MODEL.kernel.lengthscales)
    # The mean of the prior is its mode.
    mode = learning_curves.prior_mean(2)
    near = [learning_curves.log_prior(mode + step) for step in 0.1 * np.eye(mode.size)]
    assert max(near) < learning_curves.log_prior(mode)


def test_information_gain_by_hand():
    """Two ends N(0, 1): to see the first leaves the entropy of Φ(f_1), where H[P_min] was log 2.

    f_1 is stood for by its quantiles at 0.1, 0.3, 0.5, 0.7 and 0.9.
    """
    known = Posterior(np.zeros(2), np.eye(2), np.array([1.0, 0.0]), np.zeros(2), np.ones(2))
    both = np.arange(2)
    gains = [information_gain(np.random.default_rng(i), known, both, both) for i in range(30)]
    chance = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
    left = -chance * np.log(chance) - (1 - chance) * np.log(1 - chance)
    found, spread = np.mean(gains, axis=0), np.std(gains, axis=0) / np.sqrt(30)
    # Entropies of 300 draws are low by about 1 / (2 · 300), before and after.
    assert abs(found[0] - (np.log(2) - left.mean())) < 4.5 * spread[0] + 1e-3
    assert np.all(np.array(gains)[:, 1] == 0)


def curve(values, units):
    """Ends at the distance from 2, and is far above it at first."""
    return (values - 2) ** 2 + 5 * np.exp(-units / 1.5)


@pytest.fixture(scope="module")
def history():
    """Proposals and losses of a search; trials below −4 diverge."""
    method = freeze_thaw(unit_steps=7, units=6, initial=4)
    asker = method.bind(hp.bounded(-5.0, 5.0), np.zeros(()))
    state, units, asked = asker.init(jax.random.key(0)), {}, []
    for turn in range(40):
        state, proposal = asker.ask(jax.random.key(turn), state)
        values = np.asarray(hp.decode(hp.bounded(-5.0, 5.0), proposal.hyperparams))
        for trial in proposal.trials.tolist():
            units[trial] = units.get(trial, 0) + 1
        had = np.array([units[trial] for trial in proposal.trials.tolist()])
        losses = np.where(values < -4, np.inf, curve(values, had))
        asked.append((proposal, values, losses))
        state = asker.tell(state, proposal, losses)
    return asked, units, state


def test_freeze_thaw_starts_with_a_hypercube_then_takes_one_at_a_time(history):
    asked, units, _ = history
    sizes = [len(proposal.trials) for proposal, *_ in asked]
    assert sizes == [4] + [1] * 39
    assert sorted(units) == list(range(len(units)))
    assert {proposal.steps for proposal, *_ in asked} == {7}


def test_freeze_thaw_finishes_some_and_finds_the_best(history):
    asked, units, _ = history
    finished = [trial for trial, had in units.items() if had == 6]
    assert max(units.values()) == 6
    assert 0 < len(finished) < len(units) / 2
    # 43 units are seven full trials; seven random λ have one so near by a chance of 12 %.
    assert min(losses.min() for *_, losses in asked) < 0.1


def test_freeze_thaw_keeps_what_it_may_go_on_with(history):
    asked, _, _ = history
    kept = set(range(4))
    for proposal, *_ in asked:
        trials = set(proposal.trials.tolist())
        assert trials <= kept or min(trials) > max(kept)
        kept = set(proposal.kept.tolist())
    diverged = [p.trials.tolist() for p, _, losses in asked if np.isinf(losses).any()]
    assert diverged, "the case should have one"
    bad = [t for p, _, losses in asked for t in p.trials[np.isinf(losses)].tolist()]
    assert len(set(bad)) == len(bad)  # none is asked for again


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"unit_steps": 0}, "unit_steps to be"),
        ({"units": 0}, "units to be"),
        ({"initial": 1}, "initial to be 2 or more"),
    ],
)
def test_bad_sizes_are_refused(sizes, message):
    with pytest.raises(ValueError, match=rf"freeze_thaw\(\) needs {message}"):
        freeze_thaw(**({"unit_steps": 1} | sizes))


def test_an_empty_space_is_refused():
    with pytest.raises(ValueError, match="is empty"):
        freeze_thaw(unit_steps=1).bind({}, {})
