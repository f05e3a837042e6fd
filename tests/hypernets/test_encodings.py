"""Encodings against the moments of their priors, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import shohypernet as shn
from shohypernet import hyperparameters as hp
from shohypernet import samplers
from shohypernet.batches import Data
from shohypernet.hypernets import elementwise, encoded, encodings, linear, mlp

SPACE = {"decay": hp.log(prior=(1e-6, 1e2)), "rate": hp.bounded(0.1, 0.9), "shift": hp.real(2, 3)}
LOW, HIGH = np.log(1e-6), np.log(1e2)
LAM = {"decay": jnp.array([LOW, HIGH, -50.0]), "rate": jnp.float32(1.5), "shift": jnp.float32(5.0)}


def test_standardized_subtracts_the_mean_and_divides_by_the_deviation():
    encoding = encodings.standardized(SPACE)
    made = encoding.features(encoding.init(LAM), LAM)
    middle, deviation = (LOW + HIGH) / 2, (HIGH - LOW) / np.sqrt(12)
    expected = (np.array([LOW, HIGH, -50.0]) - middle) / deviation
    np.testing.assert_allclose(made["decay"], expected, rtol=1e-5)
    # Logistic, and normal; their moments are sums over 2,000 quantiles, which cut their tails.
    assert made["rate"] == pytest.approx(1.5 / (np.pi / np.sqrt(3)), rel=2e-3)
    assert made["shift"] == pytest.approx(1.0, rel=2e-3)


def test_circular_is_a_quarter_of_a_circle_between_the_bounds():
    encoding = encodings.circular(SPACE["decay"])
    cosines, sines = encoding.features((), jnp.array([LOW, (LOW + HIGH) / 2, HIGH]))
    np.testing.assert_allclose(cosines, [1, np.sqrt(0.5), 0], atol=1e-5)
    np.testing.assert_allclose(sines, [0, np.sqrt(0.5), 1], atol=1e-5)
    far = encoding.features((), jnp.array([-1e4, 1e4]))
    assert np.max(np.abs(far)) <= 1


def test_learned_bounds_start_at_the_prior_s_and_are_trained(key):
    encoding = encodings.learned_bounds(SPACE)
    numbers = encoding.init(LAM)
    assert jax.tree.map(jnp.shape, numbers.center) == jax.tree.map(jnp.shape, LAM)
    plain = encodings.standardized(SPACE)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
        encoding.features(numbers, LAM),
        plain.features((), LAM),
    )
    hypernet = encoded(mlp((3,)), encoding)
    phi = hypernet.init(key, {"w": jnp.ones(4)}, LAM)
    slope = jax.grad(lambda phi: jnp.sum(hypernet.apply(phi, LAM)["w"]))(phi)
    assert all(np.all(leaf != 0) for leaf in jax.tree.leaves(slope.encoding.center))


def test_a_hypernet_reads_the_features(random_phi):
    """w = W z + b by hand, with z from standardized log decays."""
    hypernet = encoded(linear(init_scale=1.0), encodings.standardized(SPACE["decay"]))
    lam = np.float32([-3.0, 1.0])
    phi = random_phi(hypernet, {"w": jnp.zeros(4)}, lam)
    z = (lam - (LOW + HIGH) / 2) / ((HIGH - LOW) / np.sqrt(12))
    expected = np.append(z, 1.0) @ phi.hypernet.kernels["w"]
    np.testing.assert_allclose(hypernet.apply(phi, lam)["w"], expected, rtol=1e-4)


def test_it_starts_at_the_weights_and_keeps_the_form_that_elementwise_needs(key):
    weights = {"kernel": jnp.full((2, 3), 0.5), "bias": jnp.full(3, -1.0)}
    decays = {"kernel": jnp.full((2, 3), -7.0), "bias": jnp.float32(-3.0)}
    hypernet = encoded(elementwise(), encodings.standardized(hp.log()))
    made = hypernet.apply(hypernet.init(key, weights, decays), decays)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), made, weights)


def test_wrong_parts_are_refused():
    with pytest.raises(TypeError, match="needs an Encoding, got"):
        encoded(linear(), hp.log())
    with pytest.raises(TypeError, match="needs a Hypernet"):
        encoded(encodings.standardized(hp.log()), encodings.standardized(hp.log()))
    with pytest.raises(ValueError, match="gradients cannot move"):
        encodings.standardized(hp.integer(1, 5))


@pytest.mark.parametrize("name", ["standardized", "learned_bounds", "circular"])
def test_a_run_reads_every_kind_of_spec_through_it(name):
    """Within a compiled run; its start is the model's."""
    encoding = getattr(encodings, name)(SPACE)
    method = shn.local_response(
        shn.Problem(
            lambda key: jnp.ones(2),
            lambda w, lam, batch, key: jnp.sum((w - lam["decay"][:2] * lam["rate"]) ** 2),
            lambda w, lam, batch: jnp.sum((w - lam["shift"]) ** 2) + 0 * jnp.sum(batch),
            space=SPACE,
        ),
        encoded(mlp((3,)), encoding),
        hypernet_optimizer=optax.adam(1e-2),
        hyper_optimizer=optax.adam(1e-2),
        sampler=samplers.local_gaussian(0.1),
    )
    start = {"decay": np.full(3, 0.1), "rate": 0.5, "shift": 2.0}
    data = Data(jnp.zeros(3), jnp.zeros(3))
    result = shn.fit(method.problem, method, data, start, steps=3)
    assert np.isfinite(result.params).all()
