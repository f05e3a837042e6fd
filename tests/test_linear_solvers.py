"""Solvers against NumPy, on a tree."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shohypernet.linear_solvers import conjugate_gradient, identity, neumann, nystrom

MATRIX = np.array([[1.5, 0.25, 0.0], [0.25, 1.0, -0.5], [0.0, -0.5, 2.0]])
TARGET = np.array([1.0, -2.0, 0.5])


def tree(vector):
    return {"a": jnp.asarray(vector[:1]), "b": jnp.asarray(vector[1:, None])}


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def product(vector):
    return tree(MATRIX @ jnp.concatenate([vector["a"], vector["b"][:, 0]]))


@pytest.mark.parametrize("scale", [1.0, 1e-9])
def test_conjugate_gradient_ends_where_rounding_leaves_nothing_to_gain(scale):
    target = scale * np.linspace(-1, 1, 50, dtype=np.float32)
    curvature = np.linspace(1e-3, 2e-3, 50, dtype=np.float32)
    found = conjugate_gradient(500)(lambda x: curvature * x, jnp.asarray(target))
    assert found.products < 100
    np.testing.assert_allclose(found.value, target / curvature, rtol=1e-5)


def test_conjugate_gradient_is_exact_after_as_many_steps_as_dimensions(float64):
    found = jax.jit(lambda b: conjugate_gradient(3)(product, b))(tree(TARGET))
    np.testing.assert_allclose(flat(found.value), np.linalg.solve(MATRIX, TARGET), rtol=1e-12)
    assert found.products == 3


def test_conjugate_gradient_is_best_in_its_krylov_space(float64):
    """After two steps it has the least error, in the norm of C, of all of span{b, Cb}."""
    found = flat(conjugate_gradient(2)(product, tree(TARGET)).value)
    basis = np.stack([TARGET, MATRIX @ TARGET], axis=1)
    best = basis @ np.linalg.solve(basis.T @ MATRIX @ basis, basis.T @ TARGET)
    np.testing.assert_allclose(found, best, rtol=1e-12)


def test_conjugate_gradient_comes_nearer_although_its_residual_grows(float64):
    """A stiff direction of which b has little: a step makes the residual 46 times as long."""
    curvature, target = np.array([1.0] * 9 + [1e4]), np.array([1.0] * 9 + [0.02])
    found = conjugate_gradient(1)(lambda x: curvature * x, jnp.asarray(target)).value
    length = target @ target / (target @ (curvature * target))
    np.testing.assert_allclose(found, length * target, rtol=1e-12)
    assert np.linalg.norm(target - curvature * found) > 40 * np.linalg.norm(target)


def test_conjugate_gradient_keeps_what_it_had_before_a_direction_that_is_not_convex(float64):
    """C = diag(1, −1.01): the first direction is nearly without curvature, and leads far away."""
    curvature, target = np.array([1.0, -1.01]), np.array([1.0, 1.0])
    for steps in (1, 9):
        found = conjugate_gradient(steps)(lambda x: curvature * x, jnp.asarray(target)).value
        assert np.linalg.norm(found) < 2


# The first step is steepest descent, and leaves a residual of this length.
FIRST = TARGET - (TARGET @ TARGET) / (TARGET @ MATRIX @ TARGET) * MATRIX @ TARGET


@pytest.mark.parametrize(
    ("tolerance", "products"),
    [
        (1.01 * np.linalg.norm(TARGET), 0),
        (0.99 * np.linalg.norm(TARGET), 1),
        (1.01 * np.linalg.norm(FIRST), 1),
        (0.99 * np.linalg.norm(FIRST), 2),
        (1e-9, 3),
    ],
)
def test_conjugate_gradient_stops_at_its_tolerance(float64, tolerance, products):
    found = conjugate_gradient(9, tolerance=tolerance)(product, tree(TARGET))
    assert np.linalg.norm(MATRIX @ flat(found.value) - TARGET) <= tolerance
    assert found.products == products


def test_conjugate_gradient_starts_where_it_is_told(float64):
    solution = np.linalg.solve(MATRIX, TARGET)
    solve = conjugate_gradient(9, tolerance=1e-6, start=tree(solution))
    found = solve(product, tree(TARGET))
    np.testing.assert_allclose(flat(found.value), solution, rtol=1e-12)
    assert found.products == 1
    nothing = conjugate_gradient(9)(product, tree(np.zeros(3)))
    np.testing.assert_array_equal(flat(nothing.value), 0)


@pytest.mark.parametrize("terms", [0, 1, 5])
def test_neumann_by_hand(float64, terms):
    powers = [np.linalg.matrix_power(np.eye(3) - 0.3 * MATRIX, j) for j in range(terms + 1)]
    found = neumann(terms, 0.3)(product, tree(TARGET))
    np.testing.assert_allclose(flat(found.value), 0.3 * sum(powers) @ TARGET, rtol=1e-12)
    assert found.products == terms


def test_identity():
    found = identity()(product, tree(TARGET))
    np.testing.assert_array_equal(flat(found.value), np.float32(TARGET))
    assert found.products == 0


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_nystrom_is_the_damped_inverse_of_some_columns(float64, rank, key):
    """(C_K C_KK⁻¹ C_Kᵀ + ρI)⁻¹ b for one of the possible K, each of which is drawn by some key."""
    expected = {}
    for chosen in itertools.combinations(range(3), rank):
        columns = MATRIX[:, chosen]
        low_rank = columns @ np.linalg.inv(columns[list(chosen)]) @ columns.T
        expected[chosen] = np.linalg.solve(low_rank + 0.3 * np.eye(3), TARGET)
    drawn = set()
    solve = jax.jit(lambda key: nystrom(rank, damping=0.3)(product, tree(TARGET), key).value)
    for each in jax.random.split(key, 40):
        found = flat(solve(each))
        (chosen,) = (c for c, x in expected.items() if np.allclose(found, x, rtol=1e-10))
        drawn.add(chosen)
    assert drawn == expected.keys()
    assert nystrom(rank, damping=0.3)(product, tree(TARGET), key).products == rank


def test_nystrom_passes_over_weights_without_curvature(float64, key):
    curvature, target = np.array([2.0, 0.0, 0.0, 1.0]), np.array([1.0, 1.0, -1.0, 2.0])
    found = nystrom(4, damping=0.5)(lambda x: curvature * x, jnp.asarray(target), key).value
    np.testing.assert_allclose(found, target / (curvature + 0.5), rtol=1e-12)


def test_what_they_refuse(key):
    with pytest.raises(ValueError, match="steps to be a whole number >= 1, got 0"):
        conjugate_gradient(0)
    with pytest.raises(ValueError, match="terms to be a whole number >= 0, got -1"):
        neumann(-1, 0.1)
    with pytest.raises(ValueError, match="rank of at most the 3 weights, got 4"):
        nystrom(4, damping=0.1)(product, tree(TARGET), key)
    with pytest.raises(ValueError, match=r"call solver\(product, b, key\)"):
        nystrom(1, damping=0.1)(product, tree(TARGET))
