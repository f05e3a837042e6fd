"""Bayesian linear regression, whose mean-field posterior and evidence bound are known exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from shohypernet import Problem, local_response
from shohypernet.hypernets import Hypernet, bayesian, gaussian_prior
from shohypernet.hypertraining import variational
from shohypernet.samplers import local_gaussian

EXAMPLES, NOISE, SCALE = 12, 0.5, 2.0
CONSTANT = Hypernet(lambda key, params, lam: jnp.zeros(3), lambda phi, lam: phi)


class Regression:
    """y = X w + N(0, ½²) with w ~ N(0, 2²), and q(w) of independent normal numbers."""

    def __init__(self):
        rng = np.random.default_rng(0)
        mixing = np.array([[1.0, 0.8, 0.0], [0.0, 0.6, 0.3], [0.0, 0.0, 1.0]])
        self.inputs = rng.normal(size=(EXAMPLES, 3)) @ mixing
        self.targets = self.inputs @ [1.0, -2.0, 0.5] + NOISE * rng.normal(size=EXAMPLES)
        self.precision = self.inputs.T @ self.inputs / NOISE**2 + np.eye(3) / SCALE**2
        self.mean = np.linalg.solve(self.precision, self.inputs.T @ self.targets / NOISE**2)
        self.variances = 1 / np.diag(self.precision)

    def bound(self):
        """The evidence less KL(q ‖ posterior), both of normal distributions."""
        spread = SCALE**2 * self.inputs @ self.inputs.T + NOISE**2 * np.eye(EXAMPLES)
        evidence = stats.multivariate_normal.logpdf(self.targets, cov=spread)
        _, log_det = np.linalg.slogdet(self.precision)
        # The trace of Λ S is 3, and both have one mean.
        return evidence - (-np.sum(np.log(self.variances)) - log_det) / 2

    @property
    def problem(self):
        def nll(w, lam, batch, key=None):
            inputs, targets = batch
            return -jnp.mean(jax.scipy.stats.norm.logpdf(targets, inputs @ w, NOISE))

        return Problem(lambda key: jnp.zeros(3), nll, nll)


@pytest.fixture
def regression(float64):
    return Regression()


def test_training_ends_at_the_mean_field_posterior(regression, key):
    """And there the mean loss is the closed form of the bound, an example."""
    hypernet = bayesian(CONSTANT, prior=gaussian_prior(SCALE), init_deviation=0.05)
    batch = regression.inputs, regression.targets
    problem, loss = regression.problem, variational(EXAMPLES)
    method = local_response(
        problem,
        hypernet,
        hypernet_optimizer=optax.adam(optax.cosine_decay_schedule(0.05, 2_000)),
        hyper_optimizer=optax.identity(),
        sampler=local_gaussian(0.0),
        samples=256,
        response_loss=loss,
    )
    state = method.init(key, jnp.zeros(()))
    batches = jax.tree.map(lambda leaf: np.broadcast_to(leaf, (2_000, *leaf.shape)), batch)
    state, _ = jax.jit(method.step)(key, state, batches, batch)
    phi = state.hypernet_params
    np.testing.assert_allclose(phi.mean, regression.mean, atol=0.005)
    np.testing.assert_allclose(phi.deviation**2, regression.variances, rtol=0.03)
    # With full covariance they would be others.
    full = np.diag(np.linalg.inv(regression.precision))
    assert np.max(full / regression.variances) > 1.3

    deviation = np.sqrt(regression.variances)
    exact = phi._replace(mean=regression.mean, rho=np.log(np.expm1(deviation)))
    sampled = jnp.zeros(4_000)
    found = jax.jit(lambda phi: loss(problem, hypernet, phi, sampled, batch, key))(exact)
    assert found == pytest.approx(-regression.bound() / EXAMPLES, abs=0.02)


def test_the_divergence_counts_for_one_of_n(regression, key):
    hypernet = bayesian(CONSTANT, prior=gaussian_prior(SCALE), init_deviation=0.3)
    phi = hypernet.init(key, None, None)._replace(mean=np.array([1.0, -0.5, 2.0]))
    batch = regression.inputs, regression.targets

    def loss(examples):
        at = phi, jnp.zeros(2), batch, key
        return variational(examples)(regression.problem, hypernet, *at)

    divergence = np.sum(
        np.log(SCALE / 0.3) + (0.3**2 + np.asarray(phi.mean) ** 2) / (2 * SCALE**2) - 0.5
    )
    assert loss(10) - loss(40) == pytest.approx(divergence * (1 / 10 - 1 / 40), rel=1e-9)


def test_sampled_hyperparameters_have_draws_of_their_own(regression, key):
    """Of four λ that are the same, the losses differ: their mean isn't the loss of one alone."""
    hypernet = bayesian(CONSTANT, init_deviation=1.0)
    phi = hypernet.init(key, None, None)
    batch = regression.inputs, regression.targets
    seen = []

    def train_loss(w, lam, batch, key):
        jax.debug.callback(lambda w: seen.append(np.asarray(w)), w)
        return jnp.sum(w)

    problem = regression.problem._replace(train_loss=train_loss)
    variational(1.0)(problem, hypernet, phi, jnp.zeros(4), batch, key)
    jax.effects_barrier()
    assert len(np.unique(np.stack(seen), axis=0)) == 4


def test_other_hypernets_and_numbers_are_refused(regression, key):
    phi = jnp.zeros(3)
    with pytest.raises(TypeError, match=r"wrap it: shn\.hypernets\.bayesian\(hypernet\)"):
        variational(10)(regression.problem, CONSTANT, phi, jnp.zeros(1), None, key)
    with pytest.raises(ValueError, match="examples to be finite and > 0, got 0"):
        variational(0)
