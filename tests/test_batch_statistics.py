"""Batch normalization: statistics belong to the weights, as in a plain Flax loop."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import shohypernet as shn
from shohypernet import hypernets, jacobians, linear_solvers
from shohypernet.problem import initialize

STEPS, EXAMPLES = 4, 12
OPTIMIZER = optax.adam(1e-2)


class Convolutions(nn.Module):
    """A convolution, a normalization and a dense layer."""

    @nn.compact
    def __call__(self, images, train=False):
        # Of a bias here the gradient would be rounding alone, which Adam turns into whole steps.
        hidden = nn.Conv(3, (3, 3), use_bias=False)(images)
        hidden = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.8)(hidden))
        return nn.Dense(2)(hidden.mean((1, 2)))


MODEL = Convolutions()
METHODS = {
    "centered_response": lambda problem: shn.centered_response(
        problem, jacobians.kronecker(), optimizer=OPTIMIZER, hyper_optimizer=OPTIMIZER
    ),
    "implicit": lambda problem: shn.implicit(
        problem,
        optimizer=OPTIMIZER,
        hyper_optimizer=OPTIMIZER,
        solver=linear_solvers.conjugate_gradient(3),
    ),
    # Its Info is of λ drawn around λ̂.
    "self_tuning": lambda problem: shn.self_tuning(
        problem, optimizer=OPTIMIZER, hyper_optimizer=OPTIMIZER, scale=1e-4
    ),
    "soba": lambda problem: shn.soba(
        problem, optimizer=OPTIMIZER, hyper_optimizer=OPTIMIZER, adjoint_optimizer=OPTIMIZER
    ),
    "f2sa": lambda problem: shn.f2sa(
        problem, optimizer=OPTIMIZER, hyper_optimizer=OPTIMIZER, multiplier=10.0
    ),
    "truncated": lambda problem: shn.truncated(
        problem, optimizer=OPTIMIZER, hyper_optimizer=OPTIMIZER, backward_steps=2
    ),
}


def problem(**eval_kwargs):
    return shn.supervised(
        MODEL,
        jnp.zeros((1, 6, 6, 1)),
        shn.losses.mean_squared_error,
        shn.penalties.weight_decay,
        space=shn.hyperparameters.log(),
        train_kwargs={"train": True},
        eval_kwargs=eval_kwargs,
    )


@pytest.fixture
def batches():
    rng = np.random.default_rng(0)
    images, targets = (
        rng.normal(size=(STEPS, EXAMPLES, *shape)).astype(np.float32) for shape in ((6, 6, 1), (2,))
    )
    return images, targets


@pytest.mark.parametrize("name", METHODS)
def test_statistics_after_a_round_are_those_of_a_flax_loop(name, batches, key):
    method, decay = METHODS[name](problem()), 1e-2
    state = method.init(key, jnp.log(jnp.float32(decay)))
    params, statistics = method.weights(state), method.model_state(state)["batch_stats"]
    valid = jax.tree.map(lambda leaf: leaf[0], batches)
    after, info = jax.jit(method.step)(key, state, batches, valid)

    @jax.jit
    def update(params, statistics, opt_state, images, targets):
        def loss(params):
            outputs, changed = MODEL.apply(
                {"params": params, "batch_stats": statistics}, images, True, mutable="batch_stats"
            )
            squares = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params))
            return jnp.mean((outputs - targets) ** 2) + decay * squares, changed["batch_stats"]

        gradient, statistics = jax.grad(loss, has_aux=True)(params)
        updates, opt_state = OPTIMIZER.update(gradient, opt_state, params)
        return optax.apply_updates(params, updates), statistics, opt_state

    opt_state = OPTIMIZER.init(params)
    for batch in zip(*batches, strict=True):
        before = params, statistics
        params, statistics, opt_state = update(params, statistics, opt_state, *batch)
    found = method.model_state(after)["batch_stats"]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, statistics
    )
    # Validation reads them as they are; SOBA's, at the weights that its last step starts from.
    params, statistics = before if name == "soba" else (params, statistics)
    outputs = MODEL.apply({"params": params, "batch_stats": statistics}, valid[0])
    np.testing.assert_allclose(info.valid_loss, np.mean((outputs - valid[1]) ** 2), rtol=1e-4)


def local_response(problem):
    return shn.local_response(
        problem,
        hypernets.linear(),
        hypernet_optimizer=OPTIMIZER,
        hyper_optimizer=OPTIMIZER,
        sampler=shn.samplers.local_gaussian(0.1),
    )


def test_a_hypernet_takes_the_batch_s_own_statistics_or_refuses(batches, key):
    valid = jax.tree.map(lambda leaf: leaf[0], batches)
    method = local_response(problem())
    state = method.init(key, jnp.float32(-4))
    with pytest.raises(ValueError, match=r"state \(batch_stats\) belongs to the weights of one"):
        jax.eval_shape(method.step, key, state, batches, valid)
    method = local_response(problem(train=True))
    state = method.init(key, jnp.float32(-4))
    jax.eval_shape(method.step, key, state, batches, valid)


def test_backward_arithmetic_refuses_a_state():
    assert initialize(problem(), jax.random.key(0))[1]
    with pytest.raises(ValueError, match=r"reversible\(\) runs training backwards"):
        shn.reversible(problem(), learning_rate=0.1, momentum=0.9, hyper_optimizer=OPTIMIZER)
