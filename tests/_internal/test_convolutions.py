"""Convolutions inside loops, against XLA's own."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import shohypernet as shn
from shohypernet._internal import convolutions

CASES = {
    "same": nn.Conv(3, (3, 3)),
    "valid, a rectangle": nn.Conv(3, (2, 4), padding="VALID"),
    "strides": nn.Conv(3, (3, 3), strides=(2, 3)),
    "dilated": nn.Conv(3, (3, 2), kernel_dilation=(2, 3)),
    "dilated inputs": nn.Conv(3, (3, 3), input_dilation=2, padding=((1, 0), (0, 2))),
    "groups": nn.Conv(4, (3, 3), feature_group_count=2),
    "circular": nn.Conv(3, (3, 3), padding="CIRCULAR"),
    "explicit padding": nn.Conv(3, (3, 3), padding=((0, 2), (1, 0))),
    "without a bias": nn.Conv(3, (3, 3), use_bias=False),
    "one by one": nn.Conv(3, (1, 1), strides=2),
}


@pytest.mark.parametrize("numbers", [convolutions.MOST_NUMBERS, 1], ids=["whole", "in parts"])
@pytest.mark.parametrize("layer", CASES.values(), ids=CASES)
def test_products_of_patches_are_convolutions_and_so_are_their_gradients(
    layer: nn.Conv, numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolutions, "MOST_NUMBERS", numbers)
    inputs = jax.random.normal(jax.random.key(0), (3, 9, 8, 2))
    params = layer.init(jax.random.key(1), inputs)

    def value(params, inputs):
        return jnp.sum(jnp.sin(layer.apply(params, inputs)))

    expected = jax.value_and_grad(value, (0, 1))(params, inputs)
    with convolutions.as_products():
        found = jax.value_and_grad(value, (0, 1))(params, inputs)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected
    )


def test_one_dimension_and_several_leading_axes() -> None:
    layer, inputs = nn.Conv(3, 4), jax.random.normal(jax.random.key(0), (2, 3, 9, 2))
    params = layer.init(jax.random.key(1), inputs)
    with convolutions.as_products():
        found = layer.apply(params, inputs)
    np.testing.assert_allclose(found, layer.apply(params, inputs), rtol=1e-5, atol=1e-6)


def test_a_loop_of_training_steps_has_no_convolution_and_ends_where_single_steps_do() -> None:
    model = nn.Sequential(
        [nn.Conv(2, (3, 3)), nn.relu, lambda x: x.reshape(len(x), -1), nn.Dense(1)]
    )
    inputs = jax.random.normal(jax.random.key(0), (8, 5, 5, 1))
    examples = inputs, jnp.sum(inputs, axis=(1, 2))
    problem = shn.supervised(
        model,
        inputs[:1],
        shn.losses.mean_squared_error,
        lambda params, decay: shn.penalties.weight_decay(params, decay),
    )
    optimizer, key = optax.sgd(0.05), jax.random.key(1)

    def run(decay):
        return shn.train(problem, optimizer, key, decay, examples, steps=5).params

    loops = [each for each in jax.make_jaxpr(run)(0.1).eqns if each.primitive.name == "scan"]
    assert loops
    assert "conv_general_dilated" not in str(loops)

    params = problem.init(jax.random.split(key)[0])
    for _ in range(5):
        gradient = jax.grad(problem.train_loss)(params, 0.1, examples, key)
        params = jax.tree.map(lambda w, g: w - 0.05 * g, params, gradient)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), run(0.1), params
    )


def test_a_model_is_left_as_it_was() -> None:
    layer, inputs = nn.Conv(2, (3, 3)), jnp.ones((1, 5, 5, 1))
    model = nn.Sequential([layer])
    params = model.init(jax.random.key(0), inputs)

    def conv(params):
        return model.apply(params, inputs)

    before = str(jax.make_jaxpr(conv)(params))
    with convolutions.as_products():
        assert "conv_general_dilated" not in str(jax.make_jaxpr(lambda p: conv(p))(params))
    assert layer.conv_general_dilated is None
    assert str(jax.make_jaxpr(lambda p: conv(p))(params)) == before
