"""What every hypernet promises, for any trees of hyperparameters and weights."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree
from scipy import stats

from shohypernet.hypernets import elementwise, factorized, gated, linear, mlp, structured
from shohypernet.hypernets._base import ravel

BUILDERS = {
    "mlp": lambda **options: mlp((4,), **options),
    "linear": linear,
    "factorized": lambda **options: factorized(2, **options),
    "structured": structured,
    "gated": gated,
}
every_hypernet = pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)


def trees(leaves):
    """Dictionaries, lists and tuples in one another, down to a few leaves, at least one."""
    return st.recursive(
        leaves,
        lambda below: st.one_of(
            st.lists(below, min_size=1, max_size=3),
            st.tuples(below, below),
            st.dictionaries(st.sampled_from("abcd"), below, min_size=1, max_size=3),
        ),
        max_leaves=5,
    )


def arrays(shapes, *dtypes):
    return st.builds(jax.ShapeDtypeStruct, shapes, st.sampled_from(dtypes))


SHAPES = st.lists(st.integers(1, 3), max_size=3).map(tuple)
HYPERPARAMS = trees(arrays(SHAPES, jnp.float32))
# An array without entries has its place among the weights too.
PARAMS = trees(arrays(SHAPES | st.just((0, 2)), jnp.float32, jnp.float16, jnp.bfloat16))


@every_hypernet
@settings(max_examples=25, deadline=None, derandomize=True)
@given(hyperparams=HYPERPARAMS, params=PARAMS)
def test_weights_have_the_form_asked_for(build, hyperparams, params):
    hypernet = build()
    hypernet_params = jax.eval_shape(hypernet.init, jax.random.key(0), params, hyperparams)
    assert jax.eval_shape(hypernet.apply, hypernet_params, hyperparams) == params


def drawn(like, seed):
    """A tree of NumPy numbers of the shapes and dtypes of another."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(leaf.dtype), like)


def single(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), tree)


@every_hypernet
@settings(max_examples=6, deadline=None, derandomize=True)
@given(hyperparams=HYPERPARAMS, params=PARAMS)
def test_many_of_any_form_equal_each_alone(build, hyperparams, params):
    hypernet = build()
    phi = drawn(jax.eval_shape(hypernet.init, jax.random.key(0), params, hyperparams), seed=0)
    each = [drawn(hyperparams, seed) for seed in (1, 2)]
    many = jax.tree.map(lambda *leaves: np.stack(leaves), *each)
    together = jax.jit(jax.vmap(hypernet.apply, (None, 0)))(phi, many)
    alone = [hypernet.apply(phi, one) for one in each]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *map(single, alone))
    # Half of a half-precision number's last place, of numbers up to ten or so.
    chex.assert_trees_all_close(single(together), stacked, rtol=0.02, atol=0.05)
    assert jax.tree.map(jnp.result_type, together) == jax.tree.map(jnp.result_type, params)


@pytest.mark.parametrize("name", ["linear", "factorized", "structured", "elementwise"])
@settings(max_examples=6, deadline=None, derandomize=True)
@given(hyperparams=HYPERPARAMS, params=trees(arrays(SHAPES, jnp.float32)))
def test_all_but_perceptrons_and_gates_are_affine(name, hyperparams, params):
    """w(a + t (b − a)) lies on the line from w(a) to w(b), also far beyond them."""
    if name == "elementwise":
        hyperparams = params  # one for each weight
    hypernet = (BUILDERS | {"elementwise": elementwise})[name]()
    phi = drawn(jax.eval_shape(hypernet.init, jax.random.key(0), params, hyperparams), seed=0)
    a, b = (drawn(hyperparams, seed) for seed in (1, 2))
    far = jax.tree.map(lambda a, b: np.asarray(a + 5 * (b - a), a.dtype), a, b)
    at_a, at_b, at_far = (hypernet.apply(phi, at) for at in (a, b, far))
    expected = jax.tree.map(lambda a, b: a + 5 * (b - a), at_a, at_b)
    chex.assert_trees_all_close(at_far, expected, rtol=1e-4, atol=1e-3)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(hyperparams=trees(arrays(SHAPES, jnp.float32, jnp.float16)))
def test_one_vector_holds_every_hyperparameter_once(hyperparams):
    values = drawn(hyperparams, seed=0)
    flat, unravel = ravel_pytree(values)
    np.testing.assert_array_equal(ravel(values), flat)
    jax.tree.map(np.testing.assert_array_equal, unravel(ravel(values)), values)


@every_hypernet
def test_every_hyperparameter_and_every_number_of_phi_counts(build, random_phi):
    hyperparams = {"a": np.array([0.3, 0.8], np.float32), "b": np.float32(1.2)}
    params = {"kernel": jnp.zeros((3, 2)), "bias": [jnp.zeros(()), jnp.zeros(2)]}
    hypernet = build(init_scale=1.0)  # or λ₀ would be in φ too
    # Above zero no unit rests and no slope is zero by chance.
    phi, unravel_phi = ravel_pytree(jax.tree.map(np.abs, random_phi(hypernet, params, hyperparams)))
    lam, unravel_lam = ravel_pytree(hyperparams)

    @jax.jit
    def slopes(phi, lam):
        def weights(phi, lam):
            return ravel_pytree(hypernet.apply(unravel_phi(phi), unravel_lam(lam)))[0]

        return jax.jacobian(weights, (0, 1))(phi, lam)

    by_phi, by_lam = slopes(phi, lam)
    assert np.all(by_lam != 0)
    assert np.all(np.any(by_phi != 0, axis=0))


@every_hypernet
def test_many_hyperparameters_at_once_equal_each_alone(build, random_phi):
    hypernet, params = build(), {"kernel": jnp.zeros((3, 2)), "bias": jnp.zeros(2)}
    many = np.array([[0.5, -1.0], [2.0, 0.0], [-3.0, 1.5]], np.float32)
    phi = random_phi(hypernet, params, many[0])
    together = jax.vmap(hypernet.apply, (None, 0))(phi, many)
    alone = [hypernet.apply(phi, one) for one in many]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *alone)
    chex.assert_trees_all_close(together, stacked, rtol=1e-5, atol=1e-6)


@every_hypernet
@pytest.mark.parametrize("scale", [0.01, 0.5])
def test_phi_starts_from_the_scaled_normal_distribution(build, scale, key):
    hypernet = build(init_scale=scale)
    phi, _ = ravel_pytree(jax.jit(hypernet.init)(key, jnp.zeros((40, 20)), jnp.zeros(3)))
    assert stats.kstest(np.asarray(phi), stats.norm(0, scale).cdf).pvalue > 1e-3


@every_hypernet
@pytest.mark.parametrize("params", [{}, {"kernel": jnp.ones(2), "step": jnp.arange(3)}])
def test_other_than_floating_point_weights_are_refused(build, params, key):
    with pytest.raises(ValueError, match="floating-point weights with at least one array"):
        build().init(key, params, jnp.zeros(3))


@pytest.mark.parametrize("build", [lambda: mlp((5, 0)), lambda: factorized(0)])
def test_layers_without_units_are_refused(build):
    with pytest.raises(ValueError, match=r"(width|rank) to be a whole number >= 1"):
        build()
