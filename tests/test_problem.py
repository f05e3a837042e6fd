"""`supervised` against losses worked out in NumPy, and the library's shortest whole use."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import shohypernet as shn
from shohypernet import hypernets, losses, penalties
from shohypernet.hyperparameters import (
    categorical,
    integer,
    local_gaussian,
    log,
)
from shohypernet.models import MLP

INPUTS = np.array([[1.0, 2.0], [0.0, -1.0], [3.0, 1.0]], np.float32)
TARGETS = np.array([[1.0], [0.0], [-1.0]], np.float32)


def no_penalty(params, values):
    return jnp.zeros(())


def test_losses_by_hand(key):
    """With w = (1, −1) and b = ½ the outputs are −½, 3/2, 5/2: squared errors 9/4, 9/4, 49/4."""
    problem = shn.supervised(
        MLP(outputs=1), INPUTS[:1], losses.mean_squared_error, penalties.weight_decay, space=log()
    )
    params = {"Dense_0": {"kernel": jnp.array([[1.0], [-1.0]]), "bias": jnp.array([0.5])}}
    decay, error = jnp.log(2.0), (9 + 9 + 49) / 4 / 3
    train_loss = problem.train_loss(params, decay, (INPUTS, TARGETS), key)
    np.testing.assert_allclose(train_loss, error + 2.0 * 2.25, rtol=1e-6)
    valid_loss = problem.valid_loss(params, decay, (INPUTS, TARGETS))
    np.testing.assert_allclose(valid_loss, error, rtol=1e-6)


def test_whole_numbers_for_inputs_are_what_they_are_as_floats(key):
    """Token numbers must stay whole, so images of bytes aren't scaled behind anyone's back."""
    images = np.array([[0, 255], [7, 1], [128, 64]], np.uint8)
    problem = shn.supervised(MLP(outputs=1), images[:1], losses.mean_squared_error, no_penalty)
    params = problem.init(key)
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))
    whole, floats = (
        problem.train_loss(params, jnp.zeros(()), (inputs, TARGETS), key)
        for inputs in (images, images.astype(np.float32))
    )
    np.testing.assert_array_equal(whole, floats)


def test_without_a_space_hyperparameters_reach_the_penalty_as_they_are(key):
    problem = shn.supervised(
        MLP(outputs=1),
        INPUTS[:1],
        lambda outputs, targets: jnp.zeros(()),
        lambda params, values: values["a"] - values["b"],
    )
    values = {"a": jnp.array(-1.5), "b": jnp.array(2.0)}
    loss = problem.train_loss(problem.init(key), values, (INPUTS, TARGETS), key)
    np.testing.assert_array_equal(loss, -3.5)


def test_init_gives_the_module_s_params(key):
    model = MLP(outputs=2, hidden=(4,))
    problem = shn.supervised(model, INPUTS[:1], losses.mean_squared_error, no_penalty)
    params, other = problem.init(key), problem.init(jax.random.key(1))
    shapes = jax.tree.map(jnp.shape, params)
    assert shapes == {
        "Dense_0": {"kernel": (2, 4), "bias": (4,)},
        "Dense_1": {"kernel": (4, 2), "bias": (2,)},
    }
    assert np.any(params["Dense_0"]["kernel"] != other["Dense_0"]["kernel"])


class Dropping(nn.Module):
    """A linear model whose inputs are dropped, all or none of a row's."""

    @nn.compact
    def __call__(self, inputs, deterministic):
        kept = nn.Dropout(0.5, broadcast_dims=(1,), deterministic=deterministic)(inputs)
        return nn.Dense(1, use_bias=False)(kept)


def test_dropout_takes_its_key_in_training_and_none_in_evaluation():
    problem = shn.supervised(
        Dropping(),
        INPUTS[:1],
        lambda outputs, targets: jnp.mean(outputs),
        no_penalty,
        train_kwargs={"deterministic": False},
        eval_kwargs={"deterministic": True},
    )
    params = {"Dense_0": {"kernel": jnp.ones((2, 1))}}
    example = jnp.ones((1, 2)), jnp.zeros((1, 1))

    # Half of the time the output is 0, else twice the 2 that it is without dropout.
    keys = jax.random.split(jax.random.key(0), 100)
    trained = jax.vmap(lambda key: problem.train_loss(params, jnp.zeros(()), example, key))(keys)
    assert set(trained.tolist()) == {0.0, 4.0}
    again = problem.train_loss(params, jnp.zeros(()), example, keys[0])
    np.testing.assert_array_equal(again, trained[0])
    np.testing.assert_array_equal(problem.valid_loss(params, jnp.zeros(()), example), 2.0)
    assert jax.tree.map(jnp.shape, problem.init(keys[0])) == {"Dense_0": {"kernel": (2, 1)}}


def test_a_module_with_other_state_is_refused():
    class Normed(nn.Module):
        @nn.compact
        def __call__(self, inputs):
            return nn.BatchNorm(use_running_average=False)(nn.Dense(1)(inputs))

    with pytest.raises(ValueError, match=r"Normed has \['batch_stats', 'params'\]"):
        shn.supervised(Normed(), INPUTS[:1], losses.mean_squared_error, no_penalty)


@pytest.mark.parametrize(
    "spec", [integer(1, 3), categorical("relu", "tanh")], ids=["integer", "categorical"]
)
def test_a_space_that_no_gradient_can_move_is_refused(spec):
    space = {"decay": log(), "shape": spec}
    with pytest.raises(ValueError, match=rf"\['shape'\] \({spec.kind}\)"):
        shn.supervised(
            MLP(outputs=1), INPUTS[:1], losses.mean_squared_error, no_penalty, space=space
        )


def test_the_shortest_whole_use():
    """One decay for noise-free linear data: no decay is best, so it must fall, and the loss too."""
    rng = np.random.default_rng(0)
    slope = rng.normal(size=(3, 1))
    splits = [rng.normal(size=(n, 3)).astype(np.float32) for n in (20, 20, 20)]
    data = shn.data.Data(*(shn.data.Examples(x, (x @ slope).astype(np.float32)) for x in splits))

    problem = shn.supervised(
        MLP(outputs=1),
        data.train.inputs[:1],
        losses.mean_squared_error,
        penalties.weight_decay,
        space=log(),
    )
    method = shn.local_response(
        problem,
        hypernets.linear(jax.eval_shape(problem.init, jax.random.key(0))),
        hypernet_optimizer=optax.adam(0.02),
        hyper_optimizer=optax.adam(0.02),
        sampler=local_gaussian(0.3),
    )
    result = shn.fit(
        problem, method, data, jnp.array(0.0), steps=200, inner_steps=5, progress=False
    )
    assert result.hyperparams.shape == (1,)
    assert result.hyperparams[0] < -1
    assert result.history.valid_loss[-1, 0] < 0.2 * result.history.valid_loss[0, 0]
