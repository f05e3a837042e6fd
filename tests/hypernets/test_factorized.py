"""The low-rank hypernet against products by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from shohypernet.hypernets import factorized


def test_the_paper_s_size():
    """As many hyperparameters as weights, 7,850, through ten units."""
    params = {"kernel": jnp.zeros((784, 10)), "bias": jnp.zeros(10)}
    phi = jax.eval_shape(factorized(init_scale=1.0).init, jax.random.key(0), params, params)
    assert sum(leaf.size for leaf in jax.tree.leaves(phi)) == 164_860


def test_with_every_number_two(random_phi):
    """Three units of 2·(0.5 − 1.5 + 4) + 2 = 8, so that each weight is 3·2·8 + 2."""
    hypernet, params = factorized(3, init_scale=1.0), {"w": jnp.zeros((2, 2))}
    hyperparams = jnp.array([0.5, -1.5, 4.0])
    twos = jax.tree.map(
        lambda leaf: np.full_like(leaf, 2), random_phi(hypernet, params, hyperparams)
    )
    np.testing.assert_allclose(hypernet.apply(twos, hyperparams)["w"], np.full((2, 2), 50.0))


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_it_is_affine_and_of_the_rank_asked(rank, random_phi):
    params = {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)}
    hypernet = factorized(rank)
    phi = random_phi(hypernet, params, jnp.zeros(5))

    def weights(lam):
        return np.asarray(ravel_pytree(hypernet.apply(phi, np.float32(lam)))[0])

    bias = weights(np.zeros(5))
    matrix = np.column_stack([weights(unit) - bias for unit in np.eye(5)])
    far = np.array([3.0, -2.0, 1.0, -5.0, 4.0])
    np.testing.assert_allclose(weights(far), matrix @ far + bias, rtol=1e-4, atol=1e-5)
    assert np.linalg.matrix_rank(matrix, tol=1e-4) == rank
