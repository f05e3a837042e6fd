"""Penalties at every grain against NumPy sums."""

import collections
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shohypernet.penalties import (
    broadcast,
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
    "one layer": ({"Dense_1": 0.3}, layers(0.0, 0.0, 0.3, 0.3)),
    "no biases": (
        {"Dense_0": {"kernel": 0.3}, "Dense_1": {"kernel": EACH[2], "bias": None}},
        layers(0.3, 0.0, EACH[2], 0.0),
    ),
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
        (
            {"Dense_0": 1.0, "Dense_2": 1.0},
            "hyperparameters Dense_2 stand for no weights.* there are Dense_0, Dense_1",
        ),
        (layers(1.0, 1.0, 1.0, 1.0) | {"Dense_1": {"kernle": 1.0}}, "kernle stand for no weights"),
        ([1.0, 1.0], r"hyperparameters \[\(\), \(\)\] are no prefix of weights \{'Dense_0'"),
        ({"Dense_0": {"kernel": {"deeper": 1.0}}}, "are no prefix of weights"),
    ],
    ids=[
        "outputs of one layer", "inputs", "transposed", "rank", "unknown", "misspelt", "another",
        "deeper",
    ],
)  # fmt: skip
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


class Pair(NamedTuple):
    first: Any
    second: Any


# Weights in containers of every kind, decays that are a prefix of them, and their sum of squares.
CONTAINERS = {
    "list": ([np.full(2, 2.0), np.full(3, 3.0)], [0.5, 2.0], 0.5 * 8 + 2 * 27),
    "a branch": ([np.full(2, 2.0), (np.full(3, 3.0), np.ones(1))], [0.5, 2.0], 0.5 * 8 + 2 * 28),
    "NamedTuple": (
        Pair({"w": np.full(2, 2.0)}, [np.full(3, 3.0), np.ones(2)]),
        Pair({"w": 0.5}, [2.0, np.array([0.0, 7.0])]),
        0.5 * 8 + 2 * 27 + 7,
    ),
    "mapping in a list": ([{"w": np.full(2, 2.0), "b": np.ones(9)}], [{"w": 0.5}], 0.5 * 8),
    "none": ([np.full(2, 2.0), np.ones(9)], [0.5, None], 0.5 * 8),
    "OrderedDict": (
        collections.OrderedDict(z=np.full(2, 2.0), a=np.full(3, 3.0)),
        {"a": 2.0, "z": 0.5},
        0.5 * 8 + 2 * 27,
    ),
    "FrozenDict": (
        flax.core.freeze({"z": np.full(2, 2.0), "a": {"w": np.full(3, 3.0)}}),
        {"a": {"w": 2.0}, "z": 0.5},
        0.5 * 8 + 2 * 27,
    ),
    "nothing": ({"w": np.ones(3)}, {}, 0.0),
    "an array": (np.full(2, 2.0), 0.5, 0.5 * 8),
}


@pytest.mark.parametrize(("params", "decay", "expected"), CONTAINERS.values(), ids=CONTAINERS)
def test_weights_in_containers_of_every_kind(params, decay, expected):
    params, decay = jax.tree.map(jnp.float32, (params, decay))
    np.testing.assert_allclose(weight_decay(params, decay), expected, rtol=1e-6)


def test_broadcast_repeats_each_for_the_weights_below_it():
    params = collections.OrderedDict(z=[jnp.ones(2), jnp.ones((2, 3))], a=jnp.ones(3))
    found = broadcast({"a": 2.0, "z": jnp.array(0.5)}, params)
    assert jax.tree.structure(found) == jax.tree.structure(params)
    np.testing.assert_array_equal(found["z"][1], np.full((2, 3), 0.5))
    np.testing.assert_array_equal(found["a"], np.full(3, 2.0))
    with pytest.raises(ValueError, match="2 arrays of weights have no hyperparameter"):
        broadcast({"a": 2.0}, params)


@pytest.mark.parametrize("penalty", [weight_decay, norm_penalty])
@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(jnp.bfloat16, jnp.float32), (jnp.float32, jnp.float32), (jnp.float64, jnp.float64)],
)
def test_a_penalty_is_as_precise_as_the_weights_and_float32_at_least(
    penalty, dtype, expected, float64
):
    """The decay is float64, as x64 makes it; 4,097 ones can't be summed in bfloat16."""
    params = {"w": jnp.ones(4_097, dtype)}
    found, gradient = jax.value_and_grad(penalty, 1)(params, decays(params, 2.0, "model"))
    assert found.dtype == expected
    assert gradient.dtype == jnp.float64
    by_hand = 2 * 4_097 if penalty is weight_decay else 2 * np.sqrt(4_097)
    np.testing.assert_allclose(found, by_hand, rtol=1e-6)
    np.testing.assert_allclose(gradient, by_hand / 2, rtol=1e-6)
