"""Weights made chunk by chunk: their variances, their derivatives, and how little they take."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import shohypernet as shn
from shohypernet.batches import Data, Examples
from shohypernet.hypernets import chunked
from shohypernet.models import MLP

START = {"decay": np.array([-7.0, 3.0], np.float32), "rate": np.float32(0.5)}


def weights(seed=0):
    """Two kernels of other fan-ins, biases at zero, and scales at one."""
    rng = np.random.default_rng(seed)
    return {
        "wide": np.float32(rng.normal(size=(200, 60)) / np.sqrt(200)),
        "narrow": np.float32(rng.normal(size=(60, 40)) / np.sqrt(60)),
        "bias": jnp.zeros(40),
        "scale": jnp.ones(60),
    }


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_generated_weights_have_the_variances_of_their_fan_in(key):
    """Means over draws: those of one are of few chunks, which share one network."""
    hypernet = chunked(100, embedding=8, hidden=32)

    @jax.jit
    @jax.vmap
    def moments(key):
        made = hypernet.apply(hypernet.init(key, weights(), START), START)
        return jax.tree.map(lambda leaf: (jnp.mean(leaf), jnp.mean(leaf**2)), made)

    made = jax.tree.map(np.mean, moments(jax.random.split(key, 100)))
    for name, fan_in in (("wide", 200), ("narrow", 60)):
        mean, square = made[name]
        assert square == pytest.approx(1 / fan_in, rel=0.05)
        assert abs(mean) < 0.1 / np.sqrt(fan_in)
    np.testing.assert_array_equal(made["bias"], (0, 0))
    np.testing.assert_array_equal(made["scale"], (1, 1))


def test_the_weights_are_the_equation(random_phi):
    """In NumPy, where the last chunk of an array is cut off."""
    params = {"a": jnp.zeros((2, 3), jnp.float16), "b": jnp.zeros(3)}
    hypernet = chunked(4, embedding=2, hidden=3)
    started = random_phi(hypernet, params, START)
    held, phi = started
    lam = {"decay": np.array([1.0, -1.0], np.float32), "rate": np.float32(2)}
    step = np.array([1.0, -1.0, 2.0]) - held.start
    units = np.tanh(phi.embeddings @ phi.hidden_kernel + step @ phi.slope + phi.hidden_bias)
    chunks = units @ phi.kernel + phi.bias
    made = hypernet.apply(started, lam)
    assert chunks.shape == (3, 4)
    flat = {"a": chunks[:2].ravel()[:6].reshape(2, 3), "b": chunks[2, :3]}
    for name, tolerance in (("a", 2e-3), ("b", 1e-5)):
        gain = held.scales[name] * phi.gains[name]
        expected = held.means[name] + gain * flat[name]
        np.testing.assert_allclose(made[name], expected, rtol=tolerance, atol=tolerance)
    assert (made["a"].dtype, made["b"].dtype) == (np.float16, np.float32)


def test_every_number_that_is_trained_counts(random_phi, float64):
    """No column of W₂ is for what all arrays cut off; λ₀, m and s aren't trained."""
    params = {"a": jnp.zeros((2, 3)), "none": jnp.zeros((0, 2)), "one": jnp.zeros(())}
    hypernet = chunked(100, embedding=2, hidden=3)
    phi, lam = jax.tree.map(np.float64, (random_phi(hypernet, params, START), START))

    def made(phi, lam):
        return ravel_pytree(hypernet.apply(phi, lam))[0]

    by_phi, by_lam = jax.jit(jax.jacobian(made, (0, 1)))(phi, lam)
    assert np.all(ravel_pytree(by_lam)[0] != 0)
    held, trained = by_phi
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(held))
    trained.gains["none"] = None
    for leaf in jax.tree.leaves(trained):
        assert np.all(np.any(leaf != 0, axis=0))
    beyond, before = (made(phi, optax.tree.add(lam, _filled(lam, by))) for by in (1e-5, -1e-5))
    slope = sum(jax.tree.leaves(_summed(by_lam)))
    np.testing.assert_allclose(slope, (beyond - before) / 2e-5, rtol=1e-5, atol=1e-9)


def _filled(tree, value):
    return jax.tree.map(lambda leaf: np.full_like(leaf, value), tree)


def _summed(jacobian):
    """Over all entries of λ."""
    return jax.tree.map(lambda leaf: leaf.reshape(len(leaf), -1).sum(1), jacobian)


def test_ten_million_weights_take_fewer_numbers_of_phi():
    """And ten times the weights far from ten times the numbers; a perceptron takes its H times."""
    sizes = {}
    for width in (860, 2_820):
        shapes = [(784, width), (width, width), (width, 10)]

        def make(key, shapes=shapes):
            params = [jnp.zeros(shape) for shape in shapes]
            return params, chunked().init(key, params, START)

        params, phi = jax.eval_shape(make, jax.random.key(0))
        sizes[count(params)] = count(phi)
    (small, of_small), (large, of_large) = sizes.items()
    assert large > 10**7 > 7 * small
    assert of_large < 3 * 10**5
    assert of_large - of_small < (large - small) * 16 / 1_024 + 32


def test_shapes_alone_and_sizes_of_none_are_refused(key):
    shapes = jax.eval_shape(weights)
    with pytest.raises(ValueError, match=r"chunked\(\) starts from the model's weights, but got"):
        chunked().init(key, shapes, START)
    with pytest.raises(ValueError, match=r"chunked\(\) needs chunk to be a whole number >= 1"):
        chunked(0)


@pytest.mark.parametrize("method", ["local", "global"])
def test_hyper_training_lowers_both_losses(method):
    """Of a network with a decay for each array, from weights as Flax would have them."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(60, 6)).astype(np.float32)
    targets = np.tanh(inputs @ rng.normal(size=(6, 2))).astype(np.float32)
    splits = [Examples(jnp.asarray(inputs[i::3]), jnp.asarray(targets[i::3])) for i in range(3)]
    problem = shn.supervised(
        MLP(2, (8,), 0.3),
        splits[0].inputs[:1],
        shn.losses.mean_squared_error,
        shn.penalties.weight_decay,
        space=shn.hyperparameters.log(),
    )
    parts = {
        "hypernet_optimizer": optax.adam(1e-2),
        "hyper_optimizer": optax.adam(1e-2),
        "samples": 2,
    }
    hypernet = chunked(16, embedding=4, hidden=8)
    if method == "local":
        sampler = shn.samplers.local_gaussian(0.1)
        built = shn.local_response(problem, hypernet, sampler=sampler, **parts)
    else:
        sampler = shn.samplers.gaussian(-5.0, 0.5)
        built = shn.global_response(problem, hypernet, sampler=sampler, hypernet_rounds=40, **parts)
    decays = shn.penalties.decays(shn.problem.param_shapes(problem), 0.01, "layer")
    result = shn.fit(problem, built, Data(*splits), decays, steps=60, inner_steps=5, eval_every=60)
    assert result.history.valid_loss[-1] < 0.6 * result.history.valid_loss[0]
    moved = jax.tree.map(lambda first, last: first != last, decays, result.hyperparams)
    assert all(jax.tree.leaves(moved))
    assert np.all(np.isfinite(ravel_pytree(result.state.hypernet_params)[0]))
