"""The Gauss-Newton curvature that is read off a loss, against matrices written down."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from shohypernet import Problem, penalties
from shohypernet._internal.outputs import Outputs
from shohypernet.jacobians import _gauss_newton as gauss_newton
from shohypernet.models import MLP

EXAMPLES, PIXELS, CLASSES = 5, 4, 3
MODEL = MLP(CLASSES, (4,), init_scale=0.5)
DECAY = 0.3


def cross_entropy(logits, labels):
    return optax.softmax_cross_entropy(logits, labels).mean()


def squared(outputs, targets):
    return jnp.mean((outputs - targets) ** 2)


def problem_of(loss, model=MODEL):
    def train_loss(params, hyperparams, batch, key):
        inputs, targets = batch
        made = model.apply({"params": params}, inputs)
        return loss(made, targets) + penalties.weight_decay(params, hyperparams)

    return Problem(lambda key: model.init(key, jnp.zeros((1, PIXELS)))["params"], train_loss, None)


@pytest.fixture
def batch():
    rng = np.random.default_rng(0)
    labels = np.eye(CLASSES)[rng.integers(0, CLASSES, EXAMPLES)]
    return jnp.asarray(rng.normal(size=(EXAMPLES, PIXELS))), jnp.asarray(labels)


@pytest.mark.parametrize("loss", [cross_entropy, squared])
def test_products_are_those_of_the_matrix(float64, loss, batch, key):
    problem = problem_of(loss)
    params = jax.tree.map(lambda leaf: leaf.astype(float), problem.init(key))
    flat, unravel = ravel_pytree(params)
    jacobian = jax.jacobian(lambda w: MODEL.apply({"params": unravel(w)}, batch[0]).ravel())(flat)
    made = MODEL.apply({"params": params}, batch[0])
    bend = jax.hessian(lambda z: loss(z.reshape(made.shape), batch[1]))(made.ravel())
    expected = jacobian.T @ bend @ jacobian + 2 * DECAY * np.eye(len(flat))

    outputs = Outputs(problem, jnp.float64(DECAY), batch, key)
    found = gauss_newton.curvature(outputs, params)
    vector = np.random.default_rng(1).normal(size=flat.shape)
    product, _ = ravel_pytree(found.times(unravel(jnp.asarray(vector))))
    np.testing.assert_allclose(product, expected @ vector, rtol=1e-10, atol=1e-12)
    form = found.form(unravel(jnp.asarray(vector)))
    np.testing.assert_allclose(form, vector @ expected @ vector, rtol=1e-10)


def test_the_loss_at_its_own_outputs_is_the_loss_and_its_slope_the_penalty_s(batch, key):
    problem = problem_of(squared)
    params = problem.init(key)
    outputs = Outputs(problem, jnp.float32(DECAY), batch, key)
    made = outputs.at(params)
    value, slope = jax.value_and_grad(outputs.loss)(params, made)
    np.testing.assert_allclose(value, problem.train_loss(params, DECAY, batch, key), rtol=1e-6)
    for leaf, weights in zip(jax.tree.leaves(slope), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(leaf, 2 * DECAY * weights, rtol=1e-5)


def cotangents(loss, batch, keys, number=0):
    problem = problem_of(loss)
    params = problem.init(jax.random.key(0))
    outputs = Outputs(problem, jnp.float32(DECAY), batch, keys[0])
    made = outputs.at(params)

    def draw(number, key):
        return gauss_newton.cotangents(outputs, params, made, number, key)[0]

    return made[0], jax.jit(jax.vmap(draw, (None, 0)))(jnp.int32(number), keys)


def test_over_a_turn_of_batches_they_have_the_curvature_of_a_softmax(batch, key):
    keys = jax.random.split(key, 1)
    drawn = [cotangents(cross_entropy, batch, keys, number) for number in range(CLASSES)]
    made = np.asarray(drawn[0][0], float)
    odds = np.exp(made) / np.exp(made).sum(1, keepdims=True)
    found = np.mean([np.einsum("bj,bk->bjk", c[0], c[0]) for _, c in drawn], axis=0)
    expected = np.einsum("bj,jk->bjk", odds, np.eye(CLASSES)) - np.einsum("bj,bk->bjk", odds, odds)
    np.testing.assert_allclose(found, expected / EXAMPLES, rtol=1e-3, atol=1e-6)


def test_examples_have_signs_of_their_own(batch, key):
    keys = jax.random.split(key, 2_000)
    _, drawn = cotangents(squared, batch, keys)
    one, other = drawn[:, 0].sum(1), drawn[:, 1].sum(1)
    error = np.std(one * other) / np.sqrt(len(keys))
    assert abs(np.mean(one * other)) < 4 * error


def test_of_many_outputs_the_diagonal_is_taken(batch, key, monkeypatch):
    monkeypatch.setattr(gauss_newton, "MOST_OUTPUTS", CLASSES - 1)
    _, drawn = cotangents(squared, batch, jax.random.split(key, 3))
    expected = 2 / (EXAMPLES * CLASSES)
    np.testing.assert_allclose(drawn**2, np.full(drawn.shape, expected), rtol=1e-5)


def test_a_model_that_the_loss_never_calls_is_refused(batch, key):
    problem = problem_of(squared)._replace(train_loss=lambda params, *_: optax.tree.norm(params))
    outputs = Outputs(problem, jnp.float32(0), batch, key)
    with pytest.raises(ValueError, match="training loss calls no Flax Linen module"):
        outputs.at(problem.init(key))


def test_two_calls_of_a_model_and_methods_that_call_it_are_counted_once_each(key):
    class Model(nn.Module):
        def setup(self):
            self.layer = nn.Dense(2)

        def encode(self, inputs):
            return self.layer(inputs)

        def __call__(self, inputs):
            return 2 * self.encode(inputs)

    model, inputs = Model(), jnp.ones((3, 2))
    problem = Problem(
        lambda key: model.init(key, inputs)["params"],
        lambda params, *_: jnp.sum(
            model.apply({"params": params}, inputs)
            * model.apply({"params": params}, inputs, method=model.encode)
        ),
        None,
    )
    params = problem.init(key)
    one, other = Outputs(problem, jnp.float32(0), (), key).at(params)
    np.testing.assert_allclose(one, 2 * other, rtol=1e-6)
