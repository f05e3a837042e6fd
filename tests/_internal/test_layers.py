"""Layers as matrices: what they multiply, against what they make; and where they are found."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from shohypernet import Problem, jacobians, losses, penalties, supervised
from shohypernet._internal import layers
from shohypernet.models import MLP

PIXELS, CLASSES = 4, 3


class Mixed(nn.Module):
    """Layers of every known type, and weights that are in none."""

    @nn.compact
    def __call__(self, inputs):
        table = nn.Embed(5, PIXELS)(jnp.zeros(len(inputs), int))
        hidden = nn.LayerNorm()(nn.Dense(PIXELS, use_bias=False)(inputs) + table)
        hidden = nn.Conv(PIXELS, (3,))(hidden[..., None]).mean(1)
        hidden = nn.Conv(PIXELS, (3,), feature_group_count=2, name="grouped")(hidden[:, None])[:, 0]
        heads = nn.DenseGeneral((2, 3))(hidden)
        twice = nn.Dense(PIXELS, name="twice")
        hidden = nn.DenseGeneral(PIXELS, axis=(-2, -1), name="joined")(heads)
        return nn.Dense(CLASSES)(twice(nn.tanh(twice(hidden))))


def problem_of(model: nn.Module) -> Problem:
    return supervised(
        model, jnp.zeros((1, PIXELS)), losses.mean_squared_error, penalties.weight_decay
    )


def test_layers_of_a_mixed_model():
    found = {
        layer.name: (layer.inputs, layer.outputs, layer.bias is not None)
        for layer in layers.layers_of(problem_of(Mixed()))
    }
    assert found == {
        "Embed_0": (5, PIXELS, False),
        "Dense_0": (PIXELS, PIXELS, False),
        "Conv_0": (3 + 1, PIXELS, True),
        "DenseGeneral_0": (PIXELS + 1, 6, True),
        "joined": (6 + 1, PIXELS, True),
        "twice": (PIXELS + 1, PIXELS, True),
        "Dense_1": (PIXELS + 1, CLASSES, True),
    }


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Dense(3), (2, 4)),
        (nn.DenseGeneral((2, 3), axis=(-2, -1)), (5, 3, 4)),
        (nn.Conv(3, (3, 2)), (2, 6, 5, 2)),
        (nn.Conv(3, 3, strides=2, padding="VALID"), (2, 7, 2)),
        (nn.Conv(3, (3,), padding="CAUSAL", kernel_dilation=2), (2, 7, 2)),
        (nn.Conv(3, (3, 3), padding="CIRCULAR", input_dilation=1), (2, 1, 5, 5, 1)),
    ],
    ids=["dense", "general", "same", "strides", "causal", "circular, two batch axes"],
)
def test_a_layer_is_its_matrix_times_its_rows(module, shape, key):
    inputs = jax.random.normal(key, shape)
    params = module.init(key, inputs)["params"] | {"bias": jnp.zeros(module.features)}
    kind = layers.TYPES[type(module)]
    assert kind.supports(module)
    made = module.apply({"params": params}, inputs)
    rows = kind.rows(module, inputs)
    matrix = params["kernel"].reshape(rows.shape[-1], -1)
    np.testing.assert_allclose((rows @ matrix).reshape(made.shape), made, rtol=1e-4, atol=1e-5)


def test_rows_of_a_table_are_the_numbers_that_it_is_asked_for(key):
    module, numbers = nn.Embed(5, 2), jnp.array([3, 0, 3])
    table = module.init(key, numbers)["params"]["embedding"]
    np.testing.assert_array_equal(layers.TYPES[nn.Embed].rows(module, numbers), numbers)
    np.testing.assert_array_equal(
        module.apply({"params": {"embedding": table}}, numbers), table[numbers]
    )


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv(4, (3,), feature_group_count=2),
        nn.Conv(4, (3,), mask=jnp.ones((3, 2, 4))),
        nn.DenseGeneral(4, axis=-2),
        nn.DenseGeneral(4, batch_dims=(0,)),
    ],
)
def test_layers_that_are_no_such_matrix_are_left_out(module):
    assert not layers.TYPES[type(module)].supports(module)


def test_a_table_that_is_also_multiplied_by_has_no_factors(key):
    class Tied(nn.Module):
        @nn.compact
        def __call__(self, numbers):
            table = nn.Embed(5, 4)
            return table.attend(nn.tanh(table(numbers)))

    model = Tied()
    problem = Problem(lambda key: model.init(key, jnp.zeros(1, int))["params"], None, None)
    assert layers.layers_of(problem) == ()


@pytest.mark.parametrize("model", [MLP(CLASSES, (5,)), Mixed()])
def test_blocks_put_together_are_the_weights(model, key):
    problem = problem_of(model)
    known, params = layers.layers_of(problem), problem.init(key)
    blocks = layers.split(known, params)
    shapes = [block.shape for block in blocks[: len(known)]]
    assert shapes == [(layer.inputs, layer.outputs) for layer in known]
    blank = jax.tree.map(jnp.zeros_like, params)
    chex.assert_trees_all_equal(layers.join(known, blocks, blank), params)


def test_models_that_are_not_flax_s_are_refused():
    problem = Problem(lambda key: jnp.zeros(3), lambda *_: jnp.zeros(()), lambda *_: jnp.zeros(()))
    with pytest.raises(ValueError, match="init calls none"):
        layers.layers_of(problem)


def test_two_models_with_layers_of_one_name_have_none():
    model = MLP(CLASSES)

    def init(key):
        make = lambda key: model.init(key, jnp.zeros((1, PIXELS)))["params"]  # noqa: E731
        return {"one": make(key), "two": make(key)}

    assert layers.layers_of(Problem(init, None, None)) == ()


class Doubled(nn.Module):
    """A layer of somebody's own."""

    @nn.compact
    def __call__(self, inputs):
        return 2 * inputs @ self.param("matrix", nn.initializers.ones, (PIXELS, CLASSES))


def test_a_type_of_one_s_own_and_the_description():
    problem = problem_of(nn.Sequential([nn.Dense(PIXELS), nn.LayerNorm(), Doubled()]))
    own = {Doubled: jacobians.LayerType(lambda module, inputs: 2 * inputs, weights="matrix")}
    assert jacobians.describe(problem, own).splitlines() == [
        "layers_0/bias    (4,)    Kronecker, 5 x 5 and 4 x 4",
        "layers_0/kernel  (4, 4)  Kronecker, 5 x 5 and 4 x 4",
        "layers_1/bias    (4,)    diagonal",
        "layers_1/scale   (4,)    diagonal",
        "layers_2/matrix  (4, 3)  Kronecker, 4 x 4 and 3 x 3",
    ]
    assert jacobians.describe(problem).splitlines()[-1].endswith("(4, 3)  diagonal")
