"""What every method promises to the driver, whatever it does inside."""

from typing import NamedTuple

import chex
import derivatives
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import shohypernet as shn
from shohypernet import (
    Problem,
    hypernets,
    jacobians,
    linear_solvers,
    losses,
    penalties,
    proximal,
    supervised,
)
from shohypernet.hyperparameters import log
from shohypernet.models import MLP
from shohypernet.samplers import gaussian, local_gaussian

INNER_STEPS, SAMPLES, ROUNDS = 4, 3, 3
LOOK = INNER_STEPS  # at the curvature, one for each batch
TRACKED = 2  # batches for products with it
HYPERPARAMS = 3  # numbers in λ
PRODUCTS = 2  # with the Hessian
CANDIDATES = 5  # to choose λ from
UNROLLED = 2  # steps from a hypernet's weights


def _global_response(problem, params, optimizer, inner=None):
    return shn.global_response(
        problem,
        hypernets.mlp((4,)),
        hypernet_optimizer=inner or optimizer,
        hyper_optimizer=optimizer,
        sampler=gaussian(-3.0, 1.0),
        hypernet_rounds=1,
        samples=SAMPLES,
    )


def _exploring_response(problem, params, optimizer, inner=None):
    return shn.exploring_response(
        problem,
        hypernets.bayesian(hypernets.linear()),
        hypernet_optimizer=inner or optimizer,
        hyper_optimizer=optimizer,
        candidates=gaussian(-3.0, 1.0),
        sampler=local_gaussian(0.1),
        examples=6,
        candidate_count=CANDIDATES,
        samples=SAMPLES,
    )


def _local_response(problem, params, optimizer, inner=None):
    return shn.local_response(
        problem,
        hypernets.linear(),
        hypernet_optimizer=inner or optimizer,
        hyper_optimizer=optimizer,
        sampler=local_gaussian(0.1),
        samples=SAMPLES,
    )


def _unrolled_response(problem, params, optimizer, inner=None):
    return shn.unrolled_response(
        problem,
        hypernets.linear(),
        optimizer=inner or optimizer,
        unrolled_steps=UNROLLED,
        hypernet_optimizer=optimizer,
        hyper_optimizer=optimizer,
        sampler=local_gaussian(0.1),
        samples=SAMPLES,
    )


def _simultaneous(problem, params, optimizer, inner=None):
    return shn.simultaneous(
        problem,
        hypernets.factorized(2),
        hypernet_optimizer=inner or optimizer,
        hyper_optimizer=optimizer,
    )


def _centered(jacobian):
    return lambda problem, params, optimizer, inner=None: shn.centered_response(
        problem,
        jacobian(problem, params, optimizer),
        optimizer=inner or optimizer,
        hyper_optimizer=optimizer,
    )


def _linearized(problem, params, optimizer):
    hypernet = hypernets.structured()
    return jacobians.linearized(hypernet, optimizer=optimizer, samples=SAMPLES)


def _kronecker(problem, params, optimizer):
    return jacobians.kronecker(products=TRACKED)


def _gradient_method(build, **options):
    return lambda problem, params, optimizer, inner=None: build(
        problem, optimizer=inner or optimizer, hyper_optimizer=optimizer, **options
    )


def _hoag(problem, *, optimizer, hyper_optimizer, **options):
    """It steps λ by itself, and the weights by the optimizer."""
    del hyper_optimizer
    return shn.hoag(problem, optimizer=optimizer, **options)


# Each method from a problem, its params and an optimizer for all there is to move; another may be
# given for the weights, or for the hypernet that makes them.
METHODS = {
    "global_response": _global_response,
    "exploring_response": _exploring_response,
    "local_response": _local_response,
    "unrolled_response": _unrolled_response,
    "simultaneous": _simultaneous,
    "centered_response, linearized": _centered(_linearized),
    "centered_response, Kronecker": _centered(_kronecker),
    "self_tuning": _gradient_method(shn.self_tuning, scale=0.1),
    "self_tuning, not linearized": _gradient_method(shn.self_tuning, linearized=False, scale=0.1),
    "unrolled": _gradient_method(shn.unrolled, segment=2),
    "truncated": _gradient_method(shn.truncated, backward_steps=2),
    "forward": _gradient_method(shn.forward),
    "real_time": _gradient_method(shn.real_time),
    "reversible": lambda problem, params, optimizer: shn.reversible(
        problem, learning_rate=1e-2, momentum=0.9, hyper_optimizer=optimizer
    ),
    "drmad": _gradient_method(shn.drmad),
    "back_optimization": _gradient_method(shn.back_optimization),
    "implicit": _gradient_method(shn.implicit, solver=linear_solvers.conjugate_gradient(PRODUCTS)),
    "implicit, Nyström": _gradient_method(
        shn.implicit, solver=linear_solvers.nystrom(PRODUCTS, damping=0.1)
    ),
    "soba": _gradient_method(shn.soba),
    "saba": _gradient_method(shn.saba, train_blocks=3, valid_blocks=5),
    "f2sa": _gradient_method(shn.f2sa, multiplier=10.0),
    "f2sa, symmetric": _gradient_method(shn.f2sa, multiplier=10.0, symmetric=True),
    "hoag": _gradient_method(
        _hoag, learning_rate=1e-2, tolerance=lambda k: jnp.float32(0), solver_steps=PRODUCTS
    ),
}

# What each method's docstring says of its rounds.
GRADIENT_EVALUATIONS = {
    "global_response": [SAMPLES * INNER_STEPS, 1, 1],
    "exploring_response": [SAMPLES * INNER_STEPS + 1 + CANDIDATES + 2] * ROUNDS,
    "local_response": [SAMPLES * INNER_STEPS + 1] * ROUNDS,
    "unrolled_response": [SAMPLES * INNER_STEPS + 3 * UNROLLED + 1] * ROUNDS,
    "simultaneous": [INNER_STEPS + 1] * ROUNDS,
    "centered_response, linearized": [INNER_STEPS + 1 + 2 * SAMPLES * INNER_STEPS] * ROUNDS,
    "centered_response, Kronecker": [INNER_STEPS + 2 + LOOK + 3 * TRACKED] * ROUNDS,
    "self_tuning": [3 * INNER_STEPS + 2] * ROUNDS,
    "self_tuning, not linearized": [2 * INNER_STEPS + 2] * ROUNDS,
    "unrolled": [4 * INNER_STEPS + 1] * ROUNDS,
    "truncated": [INNER_STEPS + 2 * 2 + 1] * ROUNDS,
    "forward": [INNER_STEPS * (1 + 2 * HYPERPARAMS) + 1] * ROUNDS,
    "real_time": [INNER_STEPS * (2 + 2 * HYPERPARAMS)] * ROUNDS,
    "reversible": [4 * INNER_STEPS + 1] * ROUNDS,
    "drmad": [3 * INNER_STEPS + 1] * ROUNDS,
    "back_optimization": [3 * INNER_STEPS + 1] * ROUNDS,
    "implicit": [INNER_STEPS + 2 + 2 * PRODUCTS] * ROUNDS,
    "implicit, Nyström": [INNER_STEPS + 2 + 2 * PRODUCTS] * ROUNDS,
    "soba": [4 * INNER_STEPS] * ROUNDS,
    "saba": [4 * INNER_STEPS] * ROUNDS,
    "f2sa": [3 * (INNER_STEPS + 1)] * ROUNDS,
    "f2sa, symmetric": [4 * (INNER_STEPS + 1)] * ROUNDS,
    "hoag": [INNER_STEPS + 4 + 2 * PRODUCTS] * ROUNDS,
}

# Derivatives that pass through the weights and aren't counted, as they touch no data. Kronecker:
# products with the penalties' curvature, for its diagonal and for twice three iterations.
# Self-tuning: two draws of the penalty for each inner step. Its response has weights of its own,
# through which two of what is counted for an inner step pass (one if not linearized), and all of
# the hyper-step.
UNCOUNTED = {
    "centered_response, Kronecker": 2 * (1 + 2 * 3) * ROUNDS,
    "self_tuning": (2 * INNER_STEPS - 2 * INNER_STEPS - 2) * ROUNDS,
    "self_tuning, not linearized": (2 * INNER_STEPS - INNER_STEPS - 2) * ROUNDS,
}
# Of candidates, and of the two λ that λ̂ is the better of, there are losses without derivatives.
UNCOUNTED |= {"exploring_response": -(CANDIDATES + 2) * ROUNDS}
# F2SA's last derivatives are in λ alone, and pass through no weights: counted, and not seen.
UNCOUNTED |= {"f2sa": -3 * ROUNDS, "f2sa, symmetric": -4 * ROUNDS}


@pytest.fixture(scope="module", params=METHODS)
def name(request):
    return request.param


class Watched(NamedTuple):
    """A problem that tells when it is used."""

    problem: Problem
    traces: list  # grows whenever Python runs the training loss


@pytest.fixture(scope="module")
def watched():
    """A linear Flax model with log decays in a tree: one an output unit, one for the bias."""
    problem = supervised(
        MLP(outputs=2, init_scale=0.5),
        jnp.zeros((1, 4)),
        losses.mean_squared_error,
        lambda params, values: penalties.weight_decay(params, values["decay"]),
        space={"decay": log()},
    )
    traces = []

    def watch(params):
        return {
            "Dense_0": params["Dense_0"]
            | {"kernel": derivatives.watch(params["Dense_0"]["kernel"])}
        }

    def train_loss(params, *rest):
        traces.append(None)
        return problem.train_loss(watch(params), *rest)

    def valid_loss(params, *rest):
        return problem.valid_loss(watch(params), *rest)

    return Watched(problem._replace(train_loss=train_loss, valid_loss=valid_loss), traces)


@pytest.fixture(scope="module")
def method(name, watched):
    """Built once, so that its step compiles once; the learning rates lie in its state."""
    params = jax.eval_shape(watched.problem.init, jax.random.key(0))
    sgd = optax.inject_hyperparams(optax.sgd)(learning_rate=1e-2, momentum=0.9)
    return METHODS[name](watched.problem, params, sgd)


@pytest.fixture
def hyperparams():
    """Of a weak type, as what is made of Python's numbers alone."""
    return {"decay": {"Dense_0": {"kernel": jnp.full(2, -4.0), "bias": jnp.full((), -3.0)}}}


@pytest.fixture
def state(method, hyperparams, key):
    return jax.jit(method.init)(key, hyperparams)


@pytest.fixture
def batches():
    rng = np.random.default_rng(0)

    def examples(*shape):
        inputs, targets = rng.normal(size=(*shape, 4)), rng.normal(size=(*shape, 2))
        return inputs.astype(np.float32), targets.astype(np.float32)

    return examples(INNER_STEPS, 6), examples(5)


def run(step, state, key, batches):
    """A few rounds: the last state and the stacked Infos."""
    infos = []
    for step_key in jax.random.split(key, ROUNDS):
        state, info = step(step_key, state, *batches)
        infos.append(info)
    return state, jax.tree.map(lambda *leaves: np.stack(leaves), *infos)


def test_state_keeps_its_form_and_starts_at_the_given_hyperparameters(
    method, state, hyperparams, batches, key
):
    chex.assert_trees_all_equal(state.hyperparams, hyperparams)
    # Adam would turn a weak type into a strong one, and the next round be traced again.
    assert not any(leaf.weak_type for leaf in jax.tree.leaves(state.hyperparams))
    later, _ = run(jax.jit(method.step), state, key, batches)
    chex.assert_trees_all_equal_shapes_and_dtypes(state, later)


def test_weights_have_the_form_of_the_model_s(method, state, watched, key):
    params = jax.eval_shape(watched.problem.init, key)
    chex.assert_trees_all_equal_shapes_and_dtypes(method.weights(state), params)


def test_info_is_finite_scalars(method, state, batches, key):
    _, info = jax.jit(method.step)(key, state, *batches)
    chex.assert_shape(list(info), ())
    chex.assert_tree_all_finite(info)
    assert info.gradient_evaluations.dtype == jnp.int32


def test_rounds_move_every_hyperparameter_and_weight(method, state, batches, key):
    after, infos = run(jax.jit(method.step), state, key, batches)
    moved = jax.tree.map(
        lambda old, new: bool(jnp.all(old != new)),
        (state.hyperparams, method.weights(state)),
        (after.hyperparams, method.weights(after)),
    )
    assert all(jax.tree.leaves(moved)), moved
    assert infos.hypergradient_norm[-1] > 0


def test_zero_learning_rates_change_nothing(name, method, state, batches, key):
    if name == "exploring_response":
        pytest.skip("its λ̂ is the better of two, at any learning rate")
    still = optax.tree.set(state, learning_rate=jnp.zeros(()))
    after, _ = run(jax.jit(method.step), still, key, batches)
    chex.assert_trees_all_equal(after.hyperparams, state.hyperparams)
    chex.assert_trees_all_equal(method.weights(after), method.weights(state))


def test_jit_equals_no_jit(method, state, batches, key):
    # Fusion changes the order of float32 sums.
    chex.assert_trees_all_close(
        jax.jit(method.step)(key, state, *batches),
        method.step(key, state, *batches),
        rtol=1e-5,
        atol=1e-6,
    )


def test_one_trace_serves_every_round(method, state, watched, batches, key):
    step = jax.jit(method.step)
    state, _ = step(key, state, *batches)
    first = len(watched.traces)
    assert first > 0
    run(step, state, key, batches)
    assert len(watched.traces) == first


def test_a_vmapped_seed_equals_the_same_seed_alone(method, hyperparams, batches, key):
    keys = jax.random.split(key, 3)
    states = jax.jit(jax.vmap(method.init, (0, None)))(keys, hyperparams)
    together = jax.jit(jax.vmap(method.step, (0, 0, None, None)))
    mapped = together(keys, together(keys, states, *batches)[0], *batches)

    step = jax.jit(method.step)
    for seed, key in enumerate(keys):
        state, _ = step(key, jax.jit(method.init)(key, hyperparams), *batches)
        for leaf, other in zip(
            jax.tree.leaves(mapped), jax.tree.leaves(step(key, state, *batches)), strict=True
        ):
            # A batched product sums in another order, which shows in small sums of large numbers.
            largest = np.max(np.abs(other), initial=1)
            np.testing.assert_allclose(leaf[seed], other, rtol=1e-5, atol=1e-6 * largest)


def test_gradient_evaluations_are_those_documented_and_those_taken(
    name, method, state, batches, key
):
    step = jax.jit(method.step)
    (_, infos), taken = derivatives.passes(run, step, state, key, batches)
    assert infos.gradient_evaluations.tolist() == GRADIENT_EVALUATIONS[name]
    assert taken == sum(GRADIENT_EVALUATIONS[name]) + UNCOUNTED.get(name, 0)


# With a proximal optimizer of the weights (`proximal.gradient`), which goes with λ.
PROXIMAL = {
    "unrolled",
    "truncated",
    "forward",
    "real_time",
    "drmad",
    "implicit",
    "implicit, Nyström",
}


@pytest.fixture(scope="module")
def sparse():
    """A lasso with a log decay for each weight."""
    lasso = proximal.lasso()

    def mean_squared_error(params, batch):
        return losses.mean_squared_error(batch[0] @ params, batch[1])

    problem = Problem(
        init=lambda key: jnp.ones((4, 2)),
        train_loss=lambda params, decay, batch, key: (
            mean_squared_error(params, batch) + lasso.penalty(params, decay)
        ),
        valid_loss=lambda params, decay, batch: mean_squared_error(params, batch),
        space=log(),
    )
    return problem, proximal.gradient(lasso, 0.1)


def test_a_proximal_optimizer_makes_zeros_or_is_refused_in_words(name, sparse, batches, key):
    """One decay is 30, so that its weight is 0 after a step; the others are next to nothing."""
    problem, steps = sparse
    params, sgd = jnp.ones((4, 2)), optax.sgd(0.1)
    if name == "reversible":
        pytest.skip("it has steps of its own, and no optimizer of the weights to give")
    if name not in PROXIMAL:
        with pytest.raises(TypeError, match=r"\w+\(\) needs \w*optimizer .*A proximal optimizer"):
            METHODS[name](problem, params, sgd, steps)
        return
    method = METHODS[name](problem, params, sgd, steps)
    start = jnp.full((4, 2), -8.0).at[0, 0].set(jnp.log(30.0))
    after, info = jax.jit(method.step)(key, method.init(key, start), *batches)
    chex.assert_tree_all_finite(info)
    weights, moved = np.asarray(method.weights(after)), np.asarray(after.hyperparams != start)
    assert np.argwhere(weights == 0).tolist() == [[0, 0]]
    assert np.delete(moved.ravel(), 0).all()
    assert not moved[0, 0]  # for where a weight is 0, a little more or less of its decay is nothing
