"""The multilayer perceptron and the linear hypernet against products by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from shohypernet.hypernets import linear, mlp

MNIST_LINEAR = {"kernel": jnp.zeros((784, 10)), "bias": jnp.zeros(10)}  # 7,850 weights


def count(hypernet, hyperparams):
    phi = jax.eval_shape(hypernet.init, jax.random.key(0), MNIST_LINEAR, hyperparams)
    return sum(leaf.size for leaf in jax.tree.leaves(phi))


@pytest.mark.parametrize(
    ("hypernet", "hyperparams", "numbers"),
    [
        (mlp(init_scale=1.0), jnp.zeros(()), 400_450),
        (linear(init_scale=1.0), jnp.zeros(()), 15_700),
        (linear(init_scale=1.0), jnp.zeros(10), 86_350),
    ],
    ids=["1-50-7850", "1-7850", "10-7850"],
)
def test_the_paper_s_sizes(hypernet, hyperparams, numbers):
    assert count(hypernet, hyperparams) == numbers


@pytest.mark.parametrize(
    ("hidden", "activation", "expected"),
    [
        ((), jax.nn.relu, lambda total: total + 1),
        ((5,), jax.nn.relu, lambda total: 5 * max(total + 1, 0) + 1),
        ((5,), jnp.tanh, lambda total: 5 * np.tanh(total + 1) + 1),
        ((5, 2), jax.nn.relu, lambda total: 2 * (5 * max(total + 1, 0) + 1) + 1),
    ],
    ids=["linear", "relu", "tanh", "deep"],
)
@pytest.mark.parametrize("hyperparams", [[0.5, 1.0], [-2.0, 0.25]])
def test_with_every_number_one(hidden, activation, expected, hyperparams, random_phi):
    """All units of a layer are then equal, and a layer of H sums H times the one before."""
    hyperparams = {"a": jnp.array(hyperparams[:1]), "b": jnp.array(hyperparams[1])}
    hypernet, params = mlp(hidden, activation=activation, init_scale=1.0), {"w": jnp.zeros((2, 3))}
    ones = jax.tree.map(np.ones_like, random_phi(hypernet, params, hyperparams))
    total = hyperparams["a"][0] + hyperparams["b"]
    np.testing.assert_allclose(
        hypernet.apply(ones, hyperparams)["w"], np.full((2, 3), expected(total)), rtol=1e-6
    )


def test_linear_is_a_matrix_times_the_hyperparameters_plus_a_bias(random_phi):
    hypernet, params = linear(init_scale=1.0), {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)}
    hyperparams = np.array([3.0, -2.0, 1.0, -5.0], np.float32)
    phi = random_phi(hypernet, params, hyperparams)

    def weights(lam):
        return np.asarray(ravel_pytree(hypernet.apply(phi, np.float32(lam)))[0])

    bias = weights(np.zeros(4))
    matrix = np.column_stack([weights(unit) - bias for unit in np.eye(4)])
    by_hand = matrix @ hyperparams + bias  # of terms up to ten, rounded to a millionth
    np.testing.assert_allclose(weights(hyperparams), by_hand, atol=1e-5)
    # Matrix and bias hold φ itself, so nothing else is in the map, and nothing of it is shared.
    np.testing.assert_allclose(
        np.sort(np.append(matrix, bias)), np.sort(ravel_pytree(phi)[0]), atol=1e-6
    )
