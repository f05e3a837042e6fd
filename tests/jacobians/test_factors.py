"""Kronecker factors against NumPy, against Hessians, and cut up and put together again."""

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from shohypernet import (
    Problem,
    losses,
    penalties,
    supervised,
)
from shohypernet.hyperparameters import log
from shohypernet.jacobians import _factors as factors
from shohypernet.models import MLP
from shohypernet.problem import unconstrained

BATCHES, EXAMPLES, PIXELS, CLASSES = 2, 6, 4, 3
DECAY = jnp.float32(-1.0)


class Mixed(nn.Module):
    """A layer without a bias, a normalization, a convolution, and a layer that is called twice."""

    @nn.compact
    def __call__(self, inputs):
        hidden = nn.LayerNorm()(nn.Dense(PIXELS, use_bias=False)(inputs))
        hidden = nn.Conv(PIXELS, (3,))(hidden[..., None]).mean(1)
        twice = nn.Dense(PIXELS, name="twice")
        return nn.Dense(CLASSES)(twice(nn.tanh(twice(hidden))))


class Undense(nn.Module):
    """A normalization and a convolution."""

    @nn.compact
    def __call__(self, inputs):
        return nn.Conv(CLASSES, (3,))(nn.LayerNorm()(inputs)[..., None]).mean(1)


def problem_of(model: nn.Module) -> Problem:
    problem = supervised(
        model,
        jnp.zeros((1, PIXELS)),
        losses.mean_squared_error,
        penalties.weight_decay,
        space=log(),
    )
    return unconstrained(problem)


@pytest.fixture
def batches():
    rng = np.random.default_rng(0)
    shapes = (BATCHES, EXAMPLES, PIXELS), (BATCHES, EXAMPLES, CLASSES)
    return tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes)


def estimated(problem, params, batches, key) -> Any:
    layers = factors.dense_layers(problem)
    return factors.estimate(problem, layers, params, DECAY, batches, key)


def with_one(inputs):
    return np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)


def test_of_a_network_with_a_hidden_layer(batches, key):
    problem = problem_of(MLP(CLASSES, (5,), init_scale=0.5))
    params = problem.init(key)
    first, second = jax.jit(estimated, static_argnums=0)(problem, params, batches, key).layers
    inputs = batches[0].reshape(-1, PIXELS)
    layer = jax.tree.map(np.asarray, params["Dense_0"])
    hidden = np.maximum(inputs @ layer["kernel"] + layer["bias"], 0)
    for found, activations in ((first, inputs), (second, hidden)):
        activations = with_one(activations)
        expected = activations.T @ activations / len(activations)
        np.testing.assert_allclose(found.inputs, expected, rtol=1e-5, atol=1e-6)

    # A bias is just such a shift of all examples; the decay bends the loss along it by 2 e^λ.
    last = jax.tree.map(lambda leaf: leaf[-1], batches)
    for name, found in (("Dense_0", first), ("Dense_1", second)):

        def loss(bias, name=name):
            shifted = params | {name: params[name] | {"bias": bias}}
            return problem.train_loss(shifted, DECAY, last, key)

        hessian = jax.hessian(loss)(params[name]["bias"])
        expected = hessian - 2 * np.exp(DECAY) * np.eye(len(hessian))
        np.testing.assert_allclose(found.outputs, expected, rtol=1e-4, atol=1e-6)


def test_layers_of_a_mixed_model():
    layers = factors.dense_layers(problem_of(Mixed()))
    found = {layer.path: (layer.inputs, layer.outputs, layer.bias is None) for layer in layers}
    assert found == {
        ("Dense_0",): (PIXELS, PIXELS, True),
        ("twice",): (PIXELS + 1, PIXELS, False),
        ("Dense_1",): (PIXELS + 1, CLASSES, False),
    }


def test_what_a_layer_is_called_with_is_averaged_over_its_calls(batches, key):
    problem = problem_of(Mixed())
    made = jax.jit(estimated, static_argnums=0)(problem, problem.init(key), batches, key)
    chex.assert_tree_all_finite([*map(list, made.layers), made.others])
    for layer in made.layers[1:]:  # those with a bias
        assert float(layer.inputs[-1, -1]) == pytest.approx(1)


def test_other_weights_have_their_mean_curvature(batches, key):
    problem = problem_of(Undense())
    params = problem.init(key)
    # Over all signs the mean of zᵀHz is the trace, penalties included.
    keys = jax.random.split(key, 1_000)
    found = jax.jit(
        jax.vmap(lambda key: jnp.stack(estimated(problem, params, batches, key).others))
    )(keys)
    flat, unravel = ravel_pytree(params)
    last = jax.tree.map(lambda leaf: leaf[-1], batches)
    hessian = jax.hessian(lambda flat: problem.train_loss(unravel(flat), DECAY, last, key))(flat)
    expected = [leaf.mean() for leaf in jax.tree.leaves(unravel(jnp.diag(hessian)))]
    error = np.std(found, axis=0) / np.sqrt(len(keys))
    assert np.all(np.abs(np.mean(found, axis=0) - np.array(expected)) < 4 * error + 1e-6)


@pytest.mark.parametrize("model", [MLP(CLASSES, (5,)), Mixed()])
def test_blocks_put_together_are_the_weights(model, key):
    problem = problem_of(model)
    layers, params = factors.dense_layers(problem), problem.init(key)
    blocks = factors.split(layers, params)
    assert [block.shape for block in blocks[: len(layers)]] == [
        (layer.inputs, layer.outputs) for layer in layers
    ]
    blank = jax.tree.map(jnp.zeros_like, params)
    chex.assert_trees_all_equal(factors.join(layers, blocks, blank), params)


def test_without_data_only_the_penalty_has_derivatives(batches, key):
    problem = problem_of(MLP(CLASSES, (5,), init_scale=0.5))
    params = problem.init(key)
    last = jax.tree.map(lambda leaf: leaf[-1], batches)
    held = factors.without_data(problem.train_loss)
    np.testing.assert_allclose(
        held(params, DECAY, last, key), problem.train_loss(params, DECAY, last, key), rtol=1e-6
    )
    slope = jax.grad(held)(params, DECAY, last, key)
    chex.assert_trees_all_close(slope, optax.tree.scale(2 * np.exp(-1), params), rtol=1e-5)


def test_models_that_are_not_flax_s_are_refused():
    problem = Problem(lambda key: jnp.zeros(3), lambda *_: jnp.zeros(()), lambda *_: jnp.zeros(()))
    with pytest.raises(ValueError, match="init calls none"):
        factors.dense_layers(problem)


def test_two_models_with_layers_of_one_name_have_none(key):
    model = MLP(CLASSES)

    def init(key):
        make = lambda key: model.init(key, jnp.zeros((1, PIXELS)))["params"]  # noqa: E731
        return {"one": make(key), "two": make(key)}

    problem = Problem(init, lambda *_: jnp.zeros(()), lambda *_: jnp.zeros(()))
    assert factors.dense_layers(problem) == ()
