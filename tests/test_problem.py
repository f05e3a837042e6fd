"""Problems against losses by hand, their transforms, and the library's shortest whole use."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import shohypernet as shn
from shohypernet import hypernets, losses, penalties, samplers
from shohypernet import problem as problems
from shohypernet.hyperparameters import bounded, categorical, integer, log
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
    error = (9 + 9 + 49) / 4 / 3
    # In natural units as it stands, in logarithms where methods move it.
    for seen, decay in ((problem, 2.0), (problems.unconstrained(problem), jnp.log(2.0))):
        train_loss = seen.train_loss(params, decay, (INPUTS, TARGETS), key)
        np.testing.assert_allclose(train_loss, error + 2.0 * 2.25, rtol=1e-6)
        valid_loss = seen.valid_loss(params, decay, (INPUTS, TARGETS))
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


class Normed(nn.Module):
    """A linear model of inputs that batch statistics normalize."""

    @nn.compact
    def __call__(self, inputs, train):
        normed = nn.BatchNorm(use_running_average=not train, momentum=0.75)(inputs)
        return nn.Dense(1)(nn.Dropout(0.25, deterministic=not train)(normed))


def normed(penalty=penalties.weight_decay, space=log()):  # noqa: B008
    return shn.supervised(
        Normed(),
        INPUTS[:1],
        losses.mean_squared_error,
        penalty,
        space=space,
        train_kwargs={"train": True},
        eval_kwargs={"train": False},
    )


def test_batch_statistics_are_updated_in_training_and_read_in_validation(key):
    """Running averages by hand: ¾ of what they were and ¼ of the batch's mean and variance."""
    problem = normed()
    assert problem.stateful
    params, state = problem.init(key)
    assert set(params) == {"BatchNorm_0", "Dense_0"}
    _, updated = problem.train_loss(params, 0.1, (INPUTS, TARGETS), key, state)
    found = updated["batch_stats"]["BatchNorm_0"]
    np.testing.assert_allclose(found["mean"], 0.25 * INPUTS.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found["var"], 0.75 + 0.25 * INPUTS.var(0), rtol=1e-6)

    dense = params["Dense_0"]
    mean, var, kernel, bias = map(np.asarray, (*found.values(), dense["kernel"], dense["bias"]))
    error = np.mean(((INPUTS - mean) / np.sqrt(var + 1e-5) @ kernel + bias - TARGETS) ** 2)
    valid_loss = problem.valid_loss(params, 0.1, (INPUTS, TARGETS), updated)
    np.testing.assert_allclose(valid_loss, error, rtol=1e-5)


def test_a_problem_with_its_state_held_is_stateless(key):
    problem = problems.unconstrained(normed())
    params, state = problem.init(key)
    updated = jax.tree.map(lambda leaf: leaf + 1, state)
    held = problems.with_state(problem, updated)
    assert not held.stateful
    batch, decay = (INPUTS, TARGETS), jnp.log(0.1)
    jax.tree.map(np.testing.assert_array_equal, held.init(key), params)
    np.testing.assert_array_equal(
        held.train_loss(params, decay, batch, key),
        problem.train_loss(params, decay, batch, key, updated)[0],
    )
    np.testing.assert_array_equal(
        held.valid_loss(params, decay, batch), problem.valid_loss(params, decay, batch, updated)
    )
    assert problems.with_state(held, state) is held
    made, none = problems.initialize(held, key)
    assert none == ()
    assert jax.tree.structure(made) == jax.tree.structure(problems.param_shapes(problem))


class Pair(NamedTuple):
    first: Any
    second: Any


def test_what_is_selected_and_merged_is_as_it_was():
    params = {"a": [jnp.ones(2), Pair(jnp.zeros(()), (jnp.ones(3),))], "b": jnp.full(2, 7.0)}
    trainable = {"a": [True, Pair(False, (True,))], "b": False}
    selected = problems.select(params, trainable)
    assert [leaf.shape for leaf in jax.tree.leaves(selected)] == [(2,), (3,)]
    others = jax.tree.map(lambda leaf: -leaf, params)
    merged = problems.merge(selected, others, trainable)
    expected = {"a": [jnp.ones(2), Pair(jnp.zeros(()), (jnp.ones(3),))], "b": jnp.full(2, -7.0)}
    assert jax.tree.structure(merged) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, merged, expected)
    back = problems.merge(selected, params, trainable)
    jax.tree.map(np.testing.assert_array_equal, back, params)
    everything, nothing = (jax.tree.map(lambda _, k=keep: k, params) for keep in (True, False))
    jax.tree.map(np.testing.assert_array_equal, problems.select(params, everything), params)
    assert jax.tree.leaves(problems.select(params, nothing)) == []


def test_a_restricted_problem_has_the_derivatives_of_its_trainable_weights(key):
    problem = shn.supervised(
        MLP(outputs=1, hidden=(4,)), INPUTS[:1], losses.mean_squared_error, penalties.weight_decay
    )
    params = problem.init(key)
    trainable = jax.tree.map(lambda _: False, params) | {"Dense_1": {"kernel": True, "bias": False}}
    part = problems.restricted(problem, params, trainable)
    selected = problems.select(params, trainable)
    assert jax.tree.structure(part.init(key)) == jax.tree.structure(selected)
    whole = jax.grad(problem.train_loss)(params, 0.1, (INPUTS, TARGETS), key)
    found = jax.grad(part.train_loss)(selected, 0.1, (INPUTS, TARGETS), key)
    np.testing.assert_array_equal(found["Dense_1"]["kernel"], whole["Dense_1"]["kernel"])
    assert len(jax.tree.leaves(found)) == 1
    np.testing.assert_array_equal(
        part.valid_loss(selected, 0.1, (INPUTS, TARGETS)),
        problem.valid_loss(params, 0.1, (INPUTS, TARGETS)),
    )
    everything = jax.tree.map(lambda _: True, params)
    assert problems.restricted(problem, params, everything) is problem


@pytest.mark.parametrize(
    "spec", [integer(1, 3), categorical("relu", "tanh")], ids=["integer", "categorical"]
)
def test_a_space_that_no_gradient_can_move_is_for_searches_alone(spec, key):
    problem = normed(lambda params, lam: lam["decay"] * lam["shape"])
    problem = problem._replace(space={"decay": log(), "shape": spec})
    with pytest.raises(ValueError, match=rf"gradients cannot move shape \({spec.kind}\)"):
        problems.unconstrained(problem)
    params, state = problem.init(key)
    codes = {"decay": jnp.log(0.5), "shape": jnp.array(1.2)}
    values = {"decay": 0.5, "shape": 1}
    found, expected = (
        seen.train_loss(params, lam, (INPUTS, TARGETS), key, state)[0]
        for seen, lam in ((problems.relaxed(problem), codes), (problem, values))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_unconstrained_hyperparameters_are_decoded_in_both_losses(key):
    problem = shn.Problem(
        init=lambda key: jnp.zeros(()),
        train_loss=lambda w, lam, batch, key: lam["rate"] + lam["decay"],
        valid_loss=lambda w, lam, batch: lam["rate"],
        space={"rate": bounded(0.0, 0.8), "decay": log()},
    )
    seen = problems.unconstrained(problem)
    lam = {"rate": jnp.array(0.0), "decay": jnp.log(3.0)}
    np.testing.assert_allclose(seen.train_loss(jnp.zeros(()), lam, None, key), 3.4, rtol=1e-6)
    np.testing.assert_allclose(seen.valid_loss(jnp.zeros(()), lam, None), 0.4, rtol=1e-6)
    again = problems.unconstrained(seen)
    assert again.train_loss is seen.train_loss


def test_the_shortest_whole_use():
    """One decay for noise-free linear data: no decay is best, so it must fall, and the loss too."""
    rng = np.random.default_rng(0)
    slope = rng.normal(size=(3, 1))
    splits = [rng.normal(size=(n, 3)).astype(np.float32) for n in (20, 20, 20)]
    data = shn.batches.Data(
        *(shn.batches.Examples(x, (x @ slope).astype(np.float32)) for x in splits)
    )

    problem = shn.supervised(
        MLP(outputs=1),
        data.train.inputs[:1],
        losses.mean_squared_error,
        penalties.weight_decay,
        space=log(),
    )
    method = shn.local_response(
        problem,
        hypernets.linear(),
        hypernet_optimizer=optax.adam(0.02),
        hyper_optimizer=optax.adam(0.02),
        sampler=samplers.local_gaussian(0.3),
    )
    result = shn.fit(problem, method, data, 1.0, steps=200, inner_steps=5)
    assert result.hyperparams.shape == ()
    assert result.hyperparams < np.exp(-1)
    assert result.history.valid_loss[-1] < 0.2 * result.history.valid_loss[0]
