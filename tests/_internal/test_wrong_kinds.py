"""Arguments of a wrong but natural kind, each answered with the right one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import shohypernet as shn
from shohypernet import hypernets, hyperparameters, jacobians, losses, penalties, samplers
from shohypernet.models import MLP

SGD = optax.sgd(0.1)
INPUTS = jnp.ones((4, 3))
PROBLEM = shn.Problem(
    init=lambda key: {"w": jnp.zeros(3)},
    train_loss=lambda w, lam, batch, key: jnp.zeros(()),
    valid_loss=lambda w, lam, batch: jnp.zeros(()),
)


def local(problem=PROBLEM, hypernet=None, hypernet_optimizer=SGD, hyper_optimizer=SGD):
    hypernet = hypernets.linear() if hypernet is None else hypernet
    return shn.local_response(
        problem,
        hypernet,
        hypernet_optimizer=hypernet_optimizer,
        hyper_optimizer=hyper_optimizer,
        sampler=samplers.local_gaussian(0.1),
    )


def centered(jacobian, optimizer=SGD):
    return shn.centered_response(PROBLEM, jacobian, optimizer=optimizer, hyper_optimizer=SGD)


# --- hypernets and Jacobians --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: local(hypernet=jacobians.kronecker()),
            r"local_response\(\) needs a Hypernet, got ResponseJacobian .*; a response Jacobian is "
            r"for centered_response\(\). Here goes a hypernet: shn.hypernets.linear\(\)",
        ),
        (
            lambda: local(hypernet=hypernets.linear),
            r"needs a Hypernet, got function linear; call it: shn.hypernets.linear\(\)",
        ),
        (
            lambda: local(hypernet=hypernets.factorized),
            r"got function factorized; call it: shn.hypernets.factorized\(\)",
        ),
        (lambda: local(hypernet=MLP()), r"needs a Hypernet, got MLP .*; make one: shn.hypernets"),
        (lambda: local(hypernet=lambda lam: lam), r"make one: shn.hypernets.linear\(\)"),
        (
            lambda: centered(hypernets.linear()),
            r"centered_response\(\) needs a ResponseJacobian, got Hypernet .*; a hypernet is for "
            r"local_response\(\), or goes in as its slope: shn.jacobians.linearized\(hypernet, "
            r"optimizer=...\)",
        ),
        (
            lambda: centered(jacobians.kronecker),
            r"got function kronecker; call it: shn.jacobians.kronecker\(...\)",
        ),
        (
            lambda: centered(jacobians.linearized),
            r"got function linearized; call it: shn.jacobians.linearized\(...\)",
        ),
        (lambda: centered(0.1), r"got float 0.1; make one: shn.jacobians.kronecker\(\)"),
        (
            lambda: jacobians.linearized(jacobians.kronecker(), optimizer=SGD),
            r"linearized\(\) needs a Hypernet, got ResponseJacobian",
        ),
    ],
)
def test_hypernets_and_jacobians(build, message):
    with pytest.raises(TypeError, match=message):
        build()


# --- optimizers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: local(hyper_optimizer=0.1),
            r"local_response\(\) needs hyper_optimizer to be an optax optimizer, got float 0.1; "
            r"write optax.adam\(0.1\) for a step size of 0.1",
        ),
        (
            lambda: local(hypernet_optimizer=optax.adam),
            r"needs hypernet_optimizer to be an optax optimizer, got function adam; call it, with "
            r"its step size: adam\(1e-3\)",
        ),
        (
            lambda: shn.unrolled(PROBLEM, optimizer=optax.adam, hyper_optimizer=optax.adam(0.1)),
            r"unrolled\(\) needs optimizer to be an optax optimizer, got function adam; call it",
        ),
        (
            lambda: centered(jacobians.kronecker(), optimizer=lambda lam: optax.sgd(lam)),
            r"centered_response\(\) needs optimizer to be .* so that only unrolled\(\), truncated",
        ),
        (lambda: centered(jacobians.kronecker(), optimizer="adam"), r"such as optax.adam\(1e-3\)"),
        (
            lambda: shn.train(PROBLEM, 0.1, jax.random.key(0), 0.0, INPUTS, steps=1),
            r"train\(\) needs optimizer to be an optax optimizer, got float 0.1",
        ),
    ],
)
def test_optimizers(build, message):
    with pytest.raises(TypeError, match=message):
        build()


# --- problems -----------------------------------------------------------------------------------


class Stateful(nnx.Module):
    """An NNX module of all that one may hold: weights, statistics, dropout."""

    def __init__(self, inputs, outputs, rngs):
        self.linear = nnx.Linear(inputs, outputs, rngs=rngs)
        self.norm = nnx.BatchNorm(outputs, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, inputs, train):
        dropped = self.dropout(inputs, deterministic=not train)
        return self.norm(self.linear(dropped), use_running_average=not train)


def equinox_module():
    """A module whose base says that it is Equinox's, which isn't installed."""
    base = type("Module", (), {"__module__": "equinox._module"})
    return type("Net", (base,), {"__call__": lambda self, inputs: inputs})()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"w": jnp.zeros(3)}, r"got dict .*; these look like weights"),
        ([jnp.zeros(3)], r"got list .*; these look like weights"),
        (MLP(), r"got MLP .*; make one of it: shn.supervised\(model, inputs, loss, penalty\)"),
        (MLP, r"got .* MLP; make one of it: shn.supervised"),
        (Stateful(3, 2, rngs=nnx.Rngs(0)), "got Stateful .*; make one of it: shn.supervised"),
        (equinox_module(), "got Net .*; make one of it: shn.supervised"),
        (lambda w: w, r"make one by shn.supervised\(...\) or shn.Problem\(init, train_loss"),
        (None, r"got NoneType None; make one by shn.supervised"),
    ],
    ids=["weights", "list", "linen", "linen class", "nnx", "equinox", "function", "none"],
)
def test_problems(value, message):
    with pytest.raises(TypeError, match=r"needs a shn.Problem, .*" + message):
        local(problem=value)
    with pytest.raises(TypeError, match=r"train\(\) needs a shn.Problem, .*" + message):
        shn.train(value, SGD, jax.random.key(0), 0.0, INPUTS, steps=1)


# --- models -------------------------------------------------------------------------------------

supervised = functools.partial(
    shn.supervised,
    inputs=INPUTS,
    loss=losses.mean_squared_error,
    penalty=penalties.weight_decay,
)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Stateful(3, 2, rngs=nnx.Rngs(0)), r"flax.nnx.bridge.to_linen\(Model, \*arguments\)"),
        (Stateful, r"flax.nnx.bridge.to_linen\(Model, \*arguments\)"),
        (equinox_module(), r"equinox.partition\(model, equinox.is_inexact_array\) .* with init="),
        (MLP, r"this is a class; make a module of it: MLP\(...\)"),
        (lambda params, inputs: inputs, r"a function model\(params, inputs\) needs init="),
        (3.0, r"or a function model\(params, inputs\) with init="),
    ],
    ids=["nnx", "nnx class", "equinox", "linen class", "function", "number"],
)
def test_models(model, message):
    with pytest.raises(TypeError, match=r"supervised\(\) needs a flax.linen.Module, .*" + message):
        supervised(model)


def test_modules_of_other_libraries_are_refused_with_an_init_too():
    for model in (Stateful(3, 2, rngs=nnx.Rngs(0)), equinox_module()):
        with pytest.raises(TypeError, match=r"needs a flax\.linen\.Module"):
            supervised(model, init=lambda key: {})


def test_a_linen_module_has_an_init_of_its_own():
    with pytest.raises(TypeError, match=r"init=\.\.\. with a MLP, which has an init of its own"):
        supervised(MLP(), init=lambda key: {})


def test_the_advice_for_nnx_modules_is_right(key):
    """Weights are fresh for each key, statistics and dropout are those of training."""
    problem = supervised(
        nnx.bridge.to_linen(Stateful, 3, 2),
        penalty=lambda params, lam: lam * jnp.sum(params["linear"]["kernel"] ** 2),
        train_kwargs={"train": True},
        eval_kwargs={"train": False},
    )
    (params, state), (again, _), (other, _) = (
        problem.init(jax.random.key(seed)) for seed in (0, 0, 1)
    )
    assert jax.tree.map(jnp.shape, params["linear"]) == {"kernel": (3, 2), "bias": (2,)}
    np.testing.assert_array_equal(params["linear"]["kernel"], again["linear"]["kernel"])
    assert np.all(params["linear"]["kernel"] != other["linear"]["kernel"])

    inputs, targets = jax.random.normal(key, (50, 3)), jnp.zeros((50, 2))
    lost = jax.vmap(lambda key: problem.train_loss(params, 0.0, (inputs, targets), key, state)[0])(
        jax.random.split(key, 3)
    )
    assert len(np.unique(lost)) == 3
    trained = shn.train(problem, SGD, key, 0.1, (inputs, targets), steps=3)
    moved = trained.model_state["batch_stats"]["norm"]["mean"]
    assert np.all(moved != state["batch_stats"]["norm"]["mean"])
    first, second = (
        problem.valid_loss(trained.params, 0.0, (inputs, targets), trained.model_state)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_a_function_is_a_model_if_it_comes_with_its_init(key):
    """One step by hand: L = mean (w·x − y)² + λ w² from w = 2 at x = 1, y = 0, λ = ½."""
    problem = shn.supervised(
        lambda params, inputs: inputs * params["w"],
        jnp.ones((1, 1)),
        losses.mean_squared_error,
        penalties.weight_decay,
        init=lambda key: {"w": jnp.array(2.0)},
    )
    assert not problem.stateful
    data = jnp.ones((1, 1)), jnp.zeros((1, 1))
    trained = shn.train(problem, SGD, key, 0.5, data, steps=1)
    np.testing.assert_allclose(trained.params["w"], 2.0 - 0.1 * (4.0 + 2.0))
    np.testing.assert_allclose(trained.train_losses, [4.0 + 0.5 * 4.0])


# --- hyperparameters ------------------------------------------------------------------------------


def test_decays_may_leave_biases_out_but_not_misspell_a_layer(key):
    kernels = {"Dense_0": {"kernel": 0.5}}
    problem = supervised(MLP(outputs=2))
    params = jax.tree.map(jnp.ones_like, problem.init(key))
    data = INPUTS, jnp.full((4, 2), 4.0)  # where the outputs are 1 + 1 + 1 + 1
    np.testing.assert_allclose(problem.train_loss(params, kernels, data, key), 0.5 * 6)
    gradient = jax.grad(problem.train_loss)(params, kernels, data, key)
    np.testing.assert_array_equal(gradient["Dense_0"]["bias"], 0.0)
    with pytest.raises(ValueError, match="hyperparameters Dense_1 stand for no weights"):
        problem.train_loss(params, {"Dense_1": {"kernel": 0.5}}, data, key)


def test_train_refuses_hyperparameters_of_another_space():
    problem = PROBLEM._replace(space={"decay": hyperparameters.log(1e-4, 1.0)})
    with pytest.raises(ValueError, match=r"space \{.decay.: .log.\} doesn.t fit .*dropout"):
        shn.train(problem, optax.sgd(0.1), jax.random.key(0), {"dropout": 0.1}, INPUTS, steps=1)
