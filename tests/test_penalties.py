"""Penalties at every grain against NumPy sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shohypernet.penalties import (
    class_norm_penalty,
    decays,
    norm_penalty,
    weight_decay,
)


def layers(kernel_0, bias_0, kernel_1, bias_1):
    first, second = {"kernel": kernel_0, "bias": bias_0}, {"kernel": kernel_1, "bias": bias_1}
    return {"Dense_0": first, "Dense_1": second}


SHAPES = (3, 4), (4,), (4, 2), (2,)
rng = np.random.default_rng(0)
PARAMS = layers(*(rng.normal(size=shape).astype(np.float32) for shape in SHAPES))
EACH = [rng.uniform(0.1, 2.0, size=shape).astype(np.float32) for shape in SHAPES]
FOUR, TWO = EACH[1], EACH[3]

# Decays at every grain, and what NumPy is to multiply each array of weights with.
GRAINS = {
    "model": (0.3, layers(0.3, 0.3, 0.3, 0.3)),
    "layer": ({"Dense_0": 0.3, "Dense_1": 2.0}, layers(0.3, 0.3, 2.0, 2.0)),
    "output": ({"Dense_0": FOUR, "Dense_1": TWO}, layers(FOUR, FOUR, TWO, TWO)),
    "array": (layers(0.5, 0.0, 0.25, 0.0), layers(0.5, 0.0, 0.25, 0.0)),
    "weight": (layers(*EACH), layers(*EACH)),
    "mixed": (
        {"Dense_0": 3.0, "Dense_1": {"kernel": EACH[2], "bias": TWO}},
        layers(3.0, 3.0, EACH[2], TWO),
    ),
}
at_every_grain = pytest.mark.parametrize(("decay", "by_array"), GRAINS.values(), ids=GRAINS)


def summed(function, *trees):
    return sum(jax.tree.leaves(jax.tree.map(lambda *leaves: function(*leaves).sum(), *trees)))


@at_every_grain
def test_weight_decay(decay, by_array):
    expected = summed(lambda c, w: c * w**2, by_array, PARAMS)
    np.testing.assert_allclose(weight_decay(PARAMS, decay), expected, rtol=1e-6)


@at_every_grain
def test_norm_penalty(decay, by_array):
    expected = np.sqrt(summed(lambda c, w: (c * w) ** 2, by_array, PARAMS))
    np.testing.assert_allclose(norm_penalty(PARAMS, decay), expected, rtol=1e-6)


def test_norm_penalty_of_one_decay_is_the_paper_s():
    """exp(λ)·‖w‖₂, not squared."""
    np.testing.assert_allclose(
        norm_penalty({"w": jnp.array([3.0, -4.0])}, np.exp(0.7)), 5 * 2.01375, rtol=1e-5
    )


def test_class_norm_penalty():
    model = PARAMS["Dense_1"]
    by_class = [
        TWO[c] * np.linalg.norm(np.append(model["kernel"][:, c], model["bias"][c])) for c in (0, 1)
    ]
    np.testing.assert_allclose(class_norm_penalty(model, TWO), np.mean(by_class), rtol=1e-6)


def test_class_norm_penalty_of_equal_single_weights_by_hand():
    """Two classes of one weight each: (|1·3| + |2·(−4)|)/2."""
    params = {"kernel": jnp.array([[3.0, -4.0]])}
    np.testing.assert_allclose(class_norm_penalty(params, jnp.array([1.0, 2.0])), 5.5)


@pytest.mark.parametrize("penalty", [norm_penalty, class_norm_penalty])
def test_gradients_where_weights_are_zero(penalty):
    """Where every weight of a norm is zero there is a kink: any finite slope will do, NaN won't."""
    at_zero = jax.grad(penalty, argnums=(0, 1))(jnp.zeros((3, 2)), jnp.ones(2))
    np.testing.assert_array_equal(at_zero[0], np.zeros((3, 2)))
    np.testing.assert_array_equal(at_zero[1], np.zeros(2))


def test_a_class_at_zero_leaves_the_gradient_of_the_others():
    params = jnp.array([[0.0, 3.0], [0.0, 4.0]])
    gradient = jax.grad(class_norm_penalty)(params, jnp.array([1.0, 2.0]))
    np.testing.assert_allclose(gradient, [[0, 2 * 0.6 / 2], [0, 2 * 0.8 / 2]], rtol=1e-6)


@pytest.mark.parametrize("penalty", [weight_decay, norm_penalty])
@pytest.mark.parametrize(
    ("decay", "message"),
    [
        (np.ones(2), r"shape \(2,\) does not broadcast to weights of shape \(4,\)"),
        ({"Dense_0": np.ones(3), "Dense_1": 1.0}, r"shape \(3,\) does not broadcast"),
        (layers(np.ones((4, 3)), 1.0, 1.0, 1.0), r"shape \(4, 3\) does not broadcast"),
        (layers(1.0, np.ones((1, 4)), 1.0, 1.0), r"shape \(1, 4\) does not broadcast"),
        ({"Dense_0": 1.0}, "Dense_1"),
        ({"Dense_0": 1.0, "Dense_1": 1.0, "Dense_2": 1.0}, "Dense_2"),
    ],
    ids=["outputs of one layer", "inputs", "transposed", "rank", "missing", "unknown"],
)
def test_decays_that_do_not_fit_are_refused(penalty, decay, message):
    with pytest.raises(ValueError, match=message):
        penalty(PARAMS, decay)


def test_class_decays_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"shape \(3,\) does not broadcast"):
        class_norm_penalty(PARAMS["Dense_1"], jnp.ones(3))


@pytest.mark.parametrize(
    ("per", "shapes"),
    [
        ("model", ()),
        ("layer", {"Dense_0": (), "Dense_1": ()}),
        ("output", layers((4,), (4,), (2,), (2,))),
        ("weight", layers(*SHAPES)),
    ],
)
@pytest.mark.parametrize("abstract", [False, True])
def test_decays(per, shapes, abstract):
    params = jax.eval_shape(lambda: PARAMS) if abstract else PARAMS
    made = decays(params, -6.5, per)
    assert jax.tree.map(jnp.shape, made) == shapes
    assert all(np.all(leaf == -6.5) for leaf in jax.tree.leaves(made))
    expected = -6.5 * summed(np.square, PARAMS)
    np.testing.assert_allclose(weight_decay(PARAMS, made), expected, rtol=1e-5)


def test_decays_of_scalar_weights():
    assert decays({"temperature": jnp.array(1.0)}, 2.0, "output")["temperature"].shape == ()


def test_decays_refuses_an_unknown_grain():
    with pytest.raises(ValueError, match=r"per must be .* got 'class'"):
        decays(PARAMS, 1.0, "class")


def test_decays_refuses_layers_of_weights_without_names():
    with pytest.raises(ValueError, match=r"mapping from layer names.* got list"):
        decays([jnp.ones(2)], 1.0, "layer")
