"""Searches of models with state: batch statistics against a plain Flax training loop."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import shohypernet as shn
from shohypernet import hyperparameters as hp
from shohypernet import inner_loop
from shohypernet.batches import Data, Examples, minibatch

SPACE = {"decay": hp.log(1e-4, 1e-1)}
STEPS, BATCH = 15, 8


class Net(nn.Module):
    @nn.compact
    def __call__(self, inputs, train):
        hidden = nn.Conv(3, (3, 3), use_bias=False)(inputs)
        hidden = nn.BatchNorm(use_running_average=not train, momentum=0.8)(hidden)
        return nn.Dense(2)(nn.relu(hidden).mean((1, 2)))


def loss(outputs, targets):
    return optax.softmax_cross_entropy(outputs, targets).mean()


def penalty(params, hyperparams):
    return hyperparams["decay"] * optax.tree.norm(params, squared=True)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)

    def split(count):
        inputs = rng.normal(2.0, 3.0, size=(count, 5, 5, 1))
        targets = np.eye(2)[(inputs.mean((1, 2, 3)) > 2).astype(int)]
        return Examples(jnp.asarray(inputs, jnp.float32), jnp.asarray(targets, jnp.float32))

    return Data(split(24), split(16), split(16))


@pytest.fixture(scope="module")
def found(images):
    problem = shn.supervised(
        Net(),
        images.train.inputs[:1],
        loss,
        penalty,
        space=SPACE,
        train_kwargs={"train": True},
        eval_kwargs={"train": False},
    )
    # Two rungs: the best of three is paused, and continues with its own statistics.
    method = shn.search.successive_halving(population=3, steps=STEPS // 3, eta=3)
    return shn.search.run(
        problem,
        method,
        images,
        {"decay": 1e-2},
        optimizer=optax.adam(5e-2),
        budget=3 * STEPS // 3 + 2 * STEPS // 3,
        batch_size=BATCH,
        seeds=5,
    )


def trained_by_flax(images, decay):
    """A loop as Flax's documentation has it, on the minibatches of the driver."""
    net, optimizer = Net(), optax.adam(5e-2)
    key = jax.random.split(jax.random.key(5))[1]
    variables = net.init(jax.random.split(key)[0], images.train.inputs[:1], train=False)
    params, statistics = variables["params"], variables["batch_stats"]

    @jax.jit
    def step(params, statistics, opt_state, batch):
        def objective(params):
            outputs, changed = net.apply(
                {"params": params, "batch_stats": statistics},
                batch.inputs,
                train=True,
                mutable=["batch_stats"],
            )
            return loss(outputs, batch.targets) + penalty(params, {"decay": decay}), changed

        gradient, changed = jax.grad(objective, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradient, opt_state)
        return optax.apply_updates(params, updates), changed["batch_stats"], opt_state

    opt_state = optimizer.init(params)
    for number in range(STEPS):
        key_batch, _ = jax.random.split(inner_loop.step_key(key, number))
        batch = minibatch(key_batch, images.train, BATCH)
        params, statistics, opt_state = step(params, statistics, opt_state, batch)
    return params, statistics


def test_a_trials_statistics_are_those_of_a_plain_training_loop(found, images):
    (row,) = np.flatnonzero(found.measured.steps == STEPS)
    decay = found.measured.hyperparams["decay"][row]
    params, statistics = trained_by_flax(images, decay)
    variables = {"params": params, "batch_stats": statistics}
    for split, measured in (("valid", "valid_loss"), ("test", "test_loss")):
        examples = getattr(images, split)
        expected = loss(Net().apply(variables, examples.inputs, train=False), examples.targets)
        np.testing.assert_allclose(getattr(found.measured, measured)[row], expected, rtol=1e-4)
    assert found.valid_loss == found.measured.valid_loss[row], "the longest should be the best"
    for ours, theirs in (
        (found.params, params),
        (found.model_state, {"batch_stats": statistics}),
    ):
        jax.tree.map(
            lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4),
            ours,
            theirs,
        )
    fresh = Net().init(jax.random.key(0), images.train.inputs[:1], train=False)["batch_stats"]
    moved = optax.tree.norm(optax.tree.sub(found.model_state["batch_stats"], fresh))
    assert moved > 0.1
