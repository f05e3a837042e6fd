"""Ridge regression y ≈ w₁x₁ + w₂x₂ with w₂ frozen, whose hypergradient has a closed form.

With w₂ = f held, w₁*(λ) = mean(x₁ (y − f x₂)) / (mean(x₁²) + e^λ), however w₂ is held.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import shohypernet as shn
from shohypernet import Problem, hypernets, jacobians, linear_solvers

FROZEN, LOG_DECAY, STEPS = 0.5, -0.5, 60
MASK = {"new": False, "pretrained": True}
LABELS = {"new": "train", "pretrained": "freeze"}
SGD = optax.sgd(0.3)

FREEZERS = {
    "multi_transform": optax.multi_transform({"train": SGD, "freeze": optax.set_to_zero()}, LABELS),
    "masked set_to_zero": optax.chain(SGD, optax.masked(optax.set_to_zero(), MASK)),
    "freeze": optax.chain(SGD, optax.transforms.freeze(MASK)),
    "a step size of zero": optax.multi_transform({"train": SGD, "freeze": optax.sgd(0.0)}, LABELS),
    "stop_gradient": SGD,
}
HYPER = optax.sgd(1.0)


def _gradient_method(build, **options):
    return lambda problem, optimizer: build(
        problem, optimizer=optimizer, hyper_optimizer=HYPER, **options
    )


METHODS = {
    "conjugate gradients": _gradient_method(
        shn.implicit, solver=linear_solvers.conjugate_gradient(20)
    ),
    "Neumann": _gradient_method(shn.implicit, solver=linear_solvers.neumann(400, 0.2)),
    # Of the one weight that moves: the inverse of H + ρ.
    "Nyström": _gradient_method(shn.implicit, solver=linear_solvers.nystrom(1, damping=1e-7)),
    "soba": _gradient_method(shn.soba),
    "saba": _gradient_method(shn.saba, train_blocks=1, valid_blocks=1),
    "f2sa": _gradient_method(shn.f2sa, multiplier=1e7),
    "f2sa, symmetric": _gradient_method(shn.f2sa, multiplier=1e4, symmetric=True),
    "hoag": lambda problem, optimizer: shn.hoag(
        problem, optimizer=optimizer, learning_rate=1.0, tolerance=lambda k: 1e-12
    ),
    "unrolled": _gradient_method(shn.unrolled),
    "back_optimization": _gradient_method(shn.back_optimization),
    "linearized": lambda problem, optimizer: shn.centered_response(
        problem,
        jacobians.linearized(hypernets.linear(), optimizer=optax.sgd(0.3), samples=4),
        optimizer=optimizer,
        hyper_optimizer=HYPER,
    ),
}


@pytest.fixture(scope="module")
def splits():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(400, 2)) @ np.array([[1.0, 0.6], [0.0, 0.8]])
    targets = inputs @ np.array([1.0, -2.0]) + rng.normal(size=400)
    return (inputs[:200], targets[:200]), (inputs[200:], targets[200:])


def mean_squared_error(params, batch):
    inputs, targets = batch
    predicted = inputs[:, 0] * params["new"] + inputs[:, 1] * params["pretrained"]
    return jnp.mean((predicted - targets) ** 2)


def ridge_problem(freezer):
    def train_loss(params, log_decay, batch, key):
        if freezer == "stop_gradient":
            params = params | {"pretrained": jax.lax.stop_gradient(params["pretrained"])}
        decay = jnp.exp(log_decay) * (params["new"] ** 2 + params["pretrained"] ** 2)
        return mean_squared_error(params, batch) + decay

    return Problem(
        lambda key: {"new": jnp.zeros(()), "pretrained": jnp.asarray(FROZEN)},
        train_loss,
        lambda params, log_decay, batch: mean_squared_error(params, batch),
    )


def closed_form(splits):
    """dL_valid/dλ = dL_valid/dw₁ · dw₁*/dλ, with numbers alone."""
    (inputs, targets), (valid_inputs, valid_targets) = splits
    scale = np.mean(inputs[:, 0] ** 2) + np.exp(LOG_DECAY)
    best = np.mean(inputs[:, 0] * (targets - FROZEN * inputs[:, 1])) / scale
    residual = valid_inputs @ np.array([best, FROZEN]) - valid_targets
    return 2 * np.mean(residual * valid_inputs[:, 0]) * -best * np.exp(LOG_DECAY) / scale


@pytest.mark.parametrize("name", METHODS)
def test_the_hypergradient_is_that_of_the_trained_weights_alone(name, splits, float64, key):
    train, valid = splits
    batches = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (STEPS, *leaf.shape)), train)
    for freezer, optimizer in FREEZERS.items():
        method = METHODS[name](ridge_problem(freezer), optimizer)
        state = method.init(key, jnp.float64(LOG_DECAY))
        after, _ = jax.jit(method.step)(key, state, batches, valid)
        assert method.weights(after)["pretrained"] == FROZEN, freezer
        found = state.hyperparams - after.hyperparams
        # Learned from random directions, its Jacobian is the exact one but for 60 steps of SGD.
        np.testing.assert_allclose(found, closed_form(splits), rtol=1e-5, err_msg=freezer)


def test_a_hypernet_refuses_weights_that_no_loss_moves(splits, key):
    train, valid = splits
    method = shn.local_response(
        ridge_problem("stop_gradient"),
        hypernets.linear(),
        hypernet_optimizer=SGD,
        hyper_optimizer=HYPER,
        sampler=shn.samplers.local_gaussian(0.1),
    )
    state = method.init(key, jnp.float32(LOG_DECAY))
    with pytest.raises(ValueError, match=r"never moves the weights \['pretrained'\].*at random"):
        method.step(key, state, jax.tree.map(lambda leaf: leaf[None], train), valid)
