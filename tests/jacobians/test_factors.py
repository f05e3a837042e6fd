"""Factors of layers in models as people write them, against matrices and by what leaves them be."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from shohypernet import Problem
from shohypernet._internal.layers import join, layers_of, split
from shohypernet.jacobians import _factors as factors
from shohypernet.models import MLP

EXAMPLES, PIXELS, CLASSES = 5, 4, 3


class Shared(nn.Module):
    """A layer that is called three times."""

    @nn.compact
    def __call__(self, inputs):
        layer = nn.Dense(PIXELS)
        for _ in range(3):
            inputs = nn.tanh(layer(inputs))
        return nn.Dense(CLASSES)(inputs)


class Normalized(nn.Module):
    """A layer before the statistics of a batch."""

    @nn.compact
    def __call__(self, inputs):
        hidden = nn.Dense(PIXELS)(inputs)
        return nn.Dense(CLASSES)(nn.tanh(nn.BatchNorm(use_running_average=False)(hidden)))


class Attention(nn.Module):
    """Two heads over the pixels, each a token of two numbers."""

    @nn.compact
    def __call__(self, inputs):
        tokens = jnp.stack([inputs, inputs**2], axis=-1)
        mixed = nn.MultiHeadDotProductAttention(2, qkv_features=2)(tokens, tokens)
        return nn.Dense(CLASSES)(mixed.mean(1))


class Recurrent(nn.Module):
    """A cell over the pixels."""

    @nn.compact
    def __call__(self, inputs):
        return nn.Dense(CLASSES)(nn.RNN(nn.GRUCell(2))(inputs[..., None])[:, -1])


class Convolutional(nn.Module):
    """A convolution, and a table of what stands where."""

    @nn.compact
    def __call__(self, inputs):
        numbers = (inputs > 0).astype(int)
        hidden = nn.Conv(2, (3,))(inputs[..., None]) + nn.Embed(3, 2)(numbers)
        return nn.Dense(CLASSES)(nn.tanh(hidden).mean(1))


MODELS = {
    "shared": Shared(),
    "batch statistics": Normalized(),
    "attention": Attention(),
    "recurrent": Recurrent(),
    "convolution and table": Convolutional(),
}


def outputs_of(model, params, inputs):
    made = model.apply({"params": params}, inputs, mutable=["batch_stats"])
    return made[0]


def problem_of(model):
    def train_loss(params, hyperparams, batch, key):
        inputs, labels = batch
        made = outputs_of(model, params, inputs)
        return optax.softmax_cross_entropy(made, labels).mean() + hyperparams * jnp.sum(
            ravel_pytree(params)[0] ** 2
        )

    return Problem(lambda key: model.init(key, jnp.ones((2, PIXELS)))["params"], train_loss, None)


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    labels = np.eye(CLASSES, dtype=np.float32)[rng.integers(0, CLASSES, EXAMPLES)]
    return jnp.asarray(rng.normal(size=(EXAMPLES, PIXELS)), jnp.float32), jnp.asarray(labels)


def randomized(params, key):
    """Biases start at zero, where some curvatures vanish."""
    return optax.tree.add_scale(params, 0.3, optax.tree.random_like(key, params))


@pytest.mark.parametrize("name", MODELS)
def test_traces_and_diagonals_are_those_of_the_gauss_newton_matrix(name, batch, key):
    model = MODELS[name]
    problem = problem_of(model)
    params = randomized(problem.init(key), key)
    known = layers_of(problem)
    flat, unravel = ravel_pytree(params)
    made = outputs_of(model, params, batch[0])
    jacobian = jax.jacobian(lambda w: outputs_of(model, unravel(w), batch[0]).ravel())(flat)
    odds = jax.nn.softmax(made)
    bend = jax.vmap(jnp.diag)(odds) - odds[:, :, None] * odds[:, None, :]
    bend = jax.scipy.linalg.block_diag(*bend / EXAMPLES)
    diagonal = unravel(jnp.einsum("zi,zy,yi->i", jacobian, bend, jacobian))
    exact = split(known, diagonal)

    @jax.jit
    @jax.vmap
    def estimates(key):
        batches = jax.tree.map(lambda leaf: jnp.stack([leaf] * CLASSES), batch)
        return factors.estimate(problem, known, params, jnp.float32(0.1), batches, key)

    found = estimates(jax.random.split(key, 400))
    for layer, estimated, expected in zip(known, found.layers, exact, strict=False):
        near(estimated.trace, jnp.sum(expected), layer.name)
        assert jnp.trace(estimated.outputs[0]) > 0
    for estimated, expected in zip(found.others, exact[len(known) :], strict=True):
        near(estimated, expected, "others")


def near(estimates, expected, name):
    mean, error = np.mean(estimates, axis=0), np.std(estimates, axis=0) / np.sqrt(len(estimates))
    assert np.all(np.abs(mean - expected) < 4.5 * error + 1e-5 * np.max(np.abs(expected))), name


def test_of_a_network_with_a_hidden_layer(batch, key):
    """Over a turn of batches G is exact: no layer is applied twice, and no example sees another."""
    model = MLP(CLASSES, (PIXELS,), init_scale=0.5)
    problem = problem_of(model)
    params = randomized(problem.init(key), key)
    known = layers_of(problem)
    batches = jax.tree.map(lambda leaf: jnp.stack([leaf] * CLASSES), batch)
    found = factors.estimate(problem, known, params, jnp.float32(0.1), batches, key)

    first, last = (jax.tree.map(np.asarray, params[f"Dense_{i}"]) for i in range(2))
    inputs = np.asarray(batch[0])
    before = inputs @ first["kernel"] + first["bias"]
    hidden = np.maximum(before, 0)
    made = hidden @ last["kernel"] + last["bias"]
    odds = np.exp(made) / np.exp(made).sum(1, keepdims=True)
    at_last, at_first = np.zeros((CLASSES, CLASSES)), np.zeros((PIXELS, PIXELS))
    for p, s in zip(odds, before, strict=True):
        bend = (np.diag(p) - np.outer(p, p)) / EXAMPLES
        back = last["kernel"] * (s > 0)[:, None]
        at_last += bend
        at_first += back @ bend @ back.T
    for layer, activations, expected in zip(
        found.layers, (inputs, hidden), (at_first, at_last), strict=True
    ):
        rows = np.concatenate([activations, np.ones((EXAMPLES, 1))], axis=1)
        used = rows[:, None, :] * rows[:, :, None]
        np.testing.assert_allclose(layer.outputs, expected, rtol=1e-3, atol=1e-6)
        np.testing.assert_allclose(layer.inputs, used.mean(0), rtol=1e-3, atol=1e-6)
        assert float(layer.applied) == 1
        assert factors.scale(layer) == 1


def test_padding_that_is_masked_changes_nothing(key):
    class Masked(nn.Module):
        @nn.compact
        def __call__(self, inputs, mask):
            hidden = nn.tanh(nn.Dense(3)(inputs))
            return nn.Dense(CLASSES)(jnp.where(mask[..., None], hidden, 0).sum(1))

    model, mask = Masked(), jnp.array([[True, True, False]] * EXAMPLES)

    def train_loss(params, hyperparams, batch, key):
        made = model.apply({"params": params}, batch, mask)
        return jnp.mean(made**2)

    problem = Problem(
        lambda key: model.init(key, jnp.zeros((EXAMPLES, 3, 2)), mask)["params"], train_loss, None
    )
    known, params = layers_of(problem), problem.init(key)
    inputs = jax.random.normal(key, (1, EXAMPLES, 3, 2))
    at = problem, known, params, jnp.float32(0)
    clean = factors.estimate(*at, inputs.at[..., 2, :].set(0), key)
    for padding in (100.0, 1e30):
        padded = factors.estimate(*at, inputs.at[..., 2, :].set(padding), key)
        for one, other in zip(jax.tree.leaves(clean), jax.tree.leaves(padded), strict=True):
            np.testing.assert_array_equal(one, other)
    assert float(clean.layers[0].applied) == 2


def test_rows_are_thinned_out_where_there_are_many(batch, key, monkeypatch):
    problem = problem_of(Convolutional())
    known, params = layers_of(problem), problem.init(key)
    batches = jax.tree.map(lambda leaf: leaf[None], batch)
    at = problem, known, params, jnp.float32(0.1), batches, key
    whole = factors.estimate(*at)
    monkeypatch.setattr(factors, "MOST_ROWS", 10)
    thinned = factors.estimate(*at)
    for one, other in zip(whole.layers, thinned.layers, strict=True):
        # Two programs, whose sums are rounded apart.
        np.testing.assert_allclose(one.outputs, other.outputs, rtol=1e-6)
        np.testing.assert_array_equal(one.applied, other.applied)
    bias = [float(layer.inputs[-1, -1]) for layer in thinned.layers if layer.inputs.ndim == 2]
    assert bias == pytest.approx([1, 1])


def test_blocks_of_a_recurrent_cell_come_together_again(key):
    problem = problem_of(Recurrent())
    params = problem.init(key)
    known = layers_of(problem)
    assert len(known) == 7
    again = join(known, split(known, params), params)
    jax.tree.map(np.testing.assert_array_equal, again, params)
