"""The check of a method's hypergradient, with ridge regression's closed form for the truth."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import shohypernet as shn
from shohypernet import HyperOptimizer, Info, Problem, ridge
from shohypernet.batches import Data, Examples
from shohypernet.diagnostics import check
from shohypernet.hyperparameters import log
from shohypernet.inner_loop import apply_gradient
from shohypernet.models import MLP

FEATURES, CLASSES = 4, 2


def tree(array):
    """The linear model's weights, from an array with the bias last."""
    return {"Dense_0": {"kernel": jnp.asarray(array[:-1]), "bias": jnp.asarray(array[-1])}}


class Stub(NamedTuple):
    """State of a method whose weights and hypergradient are given."""

    hyperparams: Any
    params: Any
    opt_state: Any


def given(problem, gradient, *, waiting=False):
    """The builder of a method that moves λ along a given gradient, whatever the batches."""

    def build(hyper_optimizer):
        def step(key, state, train_batches, valid_batch):
            noisy = gradient(key)
            norm = optax.tree.norm(noisy)
            moved, opt_state = apply_gradient(
                hyper_optimizer, noisy, state.opt_state, state.hyperparams
            )
            info = Info(jnp.zeros(()), jnp.zeros(()), norm, jnp.int32(3))
            return Stub(moved, state.params, opt_state), info

        return HyperOptimizer(
            lambda key, hyperparams: None,
            step,
            lambda state: state.params,
            problem=problem,
            waiting=lambda state: waiting,
        )

    return build


@pytest.fixture(scope="module")
def linear():
    """A linear model at its best response, with the exact hypergradient there."""
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        data = Data(
            *(
                Examples(rng.normal(size=(n, FEATURES)), rng.normal(size=(n, CLASSES)))
                for n in (12, 9, 7)
            )
        )
        problem = shn.supervised(
            MLP(CLASSES, ()),
            data.train.inputs[:1],
            shn.losses.mean_squared_error,
            # As `ridge` has it, (1/C) Σ exp(λ) w².
            lambda params, decays: shn.penalties.weight_decay(params, decays) / CLASSES,
            space=log(),
        )
        log_decay = rng.normal(-1.0, 1.0, size=(FEATURES + 1, CLASSES))
        exact = ridge.ridge(data)
        weights = ridge.best_response(exact, log_decay)
        _, gradient = ridge.hypergradient(exact, log_decay)
        # The optimizer's state is none of gradient descent's: it passes through unread.
        adam = optax.adam(0.1).init(tree(log_decay))
        yield problem, data, Stub(tree(log_decay), tree(weights), adam), tree(gradient)


def test_the_closed_form_passes(float64, linear):
    problem, data, state, exact = linear
    found = check(problem, given(problem, lambda key: exact), state, data, tolerance=1e-9)
    np.testing.assert_allclose(found.whole.cosine, np.ones(4), rtol=1e-9)
    np.testing.assert_allclose(found.whole.length, np.ones(4), rtol=1e-8)
    kernel = np.sum(np.square(exact["Dense_0"]["kernel"]))
    shares = {leaf.name: leaf.share for leaf in found.leaves}
    whole = kernel + np.sum(np.square(exact["Dense_0"]["bias"]))
    assert shares["Dense_0.kernel"] == pytest.approx(kernel / whole)
    assert found.evaluations[0] == 4 * 3
    assert found.verdict.endswith("λ will go the right way.")
    assert "Dense_0.bias" in str(found)


def test_the_wrong_layer_is_named_and_noise_is_told_from_error(float64, linear):
    problem, data, state, exact = linear

    def flipped(key):
        layer = exact["Dense_0"]
        return {"Dense_0": {"kernel": layer["kernel"], "bias": -1e-3 * layer["bias"]}}

    found = check(problem, given(problem, flipped), state, data)
    assert found.leaves[0].name == "Dense_0.bias"
    np.testing.assert_allclose(found.leaves[0].cosine, -1, rtol=1e-3)
    np.testing.assert_allclose(found.leaves[0].length, 1e-3, rtol=1e-2)
    assert "Dense_0.bias is the weakest, -1.00" in found.verdict
    assert found.verdict.endswith("it can't be trusted for Dense_0.bias.")

    backwards = check(
        problem, given(problem, lambda key: optax.tree.scale(-2.0, exact)), state, data
    )
    np.testing.assert_allclose(backwards.whole.length, 2, rtol=1e-3)
    assert backwards.verdict.endswith("The hypergradient can't be trusted.")

    size = 5 * optax.tree.norm(exact) / np.sqrt((FEATURES + 1) * CLASSES)

    def noisy(key):
        return optax.tree.add_scale(exact, size, optax.tree.random_like(key, exact))

    found = check(problem, given(problem, noisy), state, data, draws=50)
    assert found.whole.cosine.mean() < 0.3 < found.whole.averaged
    assert "Its mean over the draws has a cosine of" in found.verdict


def test_no_verdict_without_a_reference(float64, linear):
    problem, data, state, exact = linear
    found = check(problem, given(problem, lambda key: exact), state, data, draws=2, products=1)
    assert not found.converged
    assert found.verdict.startswith("No verdict: the reference has not converged")


def test_no_verdict_where_the_hessian_is_indefinite():
    """A saddle, where conjugate gradients find a solution that means nothing."""
    bend = jnp.array([1.0, -2.0])
    problem = Problem(
        lambda key: jnp.ones(2),
        lambda w, lam, x, key: jnp.sum(bend * (w - lam) ** 2) / 2,
        lambda w, lam, x: jnp.sum((w - x.mean(0)) ** 2),
    )
    state = Stub(jnp.zeros(2), jnp.zeros(2), ())
    rows = jnp.ones((3, 2))
    build = given(problem, lambda key: jnp.ones(2))
    found = check(problem, build, state, Data(rows, rows), draws=2)
    assert not found.converged
    assert "the curvature may not be positive definite" in found.verdict


def test_a_real_method_moves_from_the_state_of_its_run(linear):
    """Whose weights are no longer the best response, and whose batches are small."""
    problem, data, *_ = linear
    data = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), data)

    def build(hyper_optimizer):
        solver = shn.linear_solvers.conjugate_gradient(20)
        return shn.implicit(
            problem, optimizer=optax.sgd(0.1), hyper_optimizer=hyper_optimizer, solver=solver
        )

    start = shn.penalties.decays(shn.problem.param_shapes(problem), 0.1, "weight")
    result = shn.fit(problem, build(optax.adam(0.01)), data, start, steps=3)
    found = check(problem, build, result, data, draws=2)
    np.testing.assert_allclose(found.whole.cosine, 1, atol=1e-4)
    np.testing.assert_allclose(found.whole.length, 1, atol=1e-3)


def test_what_has_no_reference_is_left_out():
    def train_loss(w, lam, x, key):
        kept = jax.random.bernoulli(key, 1 - lam["rate"], w.shape) / (1 - lam["rate"])
        return jnp.sum((w * kept - x.mean(0)) ** 2) + lam["decay"] * jnp.sum(w**2)

    problem = Problem(
        lambda key: jnp.ones(2), train_loss, lambda w, lam, x: jnp.sum((w - x.mean(0)) ** 2)
    )
    lam = {"decay": jnp.float32(0.5), "rate": jnp.float32(0.3), "unused": jnp.float32(1.0)}
    state = Stub(lam, jnp.full(2, 0.4), ())
    rows = jnp.ones((3, 2))
    build = given(problem, lambda key: lam)
    found = check(problem, build, state, Data(rows, rows), draws=2)
    assert [leaf.name for leaf in found.leaves] == ["decay"]
    assert "a rate also decides" in found.left_out["rate"]
    assert "no derivative in either loss" in found.left_out["unused"]
    assert "Left out: rate" in str(found)
    alone = Problem(
        problem.init, lambda w, lam, *rest: train_loss(w, {"decay": 0.0, **lam}, *rest), problem[2]
    )
    state = Stub({"rate": jnp.float32(0.3)}, jnp.full(2, 0.4), ())
    build = given(alone, lambda key: {"rate": jnp.float32(1.0)})
    with pytest.raises(ValueError, match="nothing to compare with: rate has to do with what"):
        check(alone, build, state, Data(rows, rows))


class Loaded(NamedTuple):
    state: Any
    seeds: Any


def test_wrong_calls_are_answered(linear):
    problem, data, state, exact = linear
    build = given(problem, lambda key: exact)
    method = build(optax.sgd(1.0))
    with pytest.raises(TypeError, match="needs the method's builder, a function of the optimizer"):
        check(problem, method, state, data)
    with pytest.raises(ValueError, match="doesn't move λ by the optimizer that check"):
        check(
            problem,
            lambda hyper_optimizer: given(problem, lambda key: exact)(optax.sgd(0.1)),
            state,
            data,
        )
    with pytest.raises(ValueError, match=r"take result.seed\(i\)"):
        check(problem, build, Loaded(state, (0, 1)), data)
    with pytest.raises(ValueError, match="which files don't keep"):
        check(problem, build, Loaded(None, 0), data)
    with pytest.raises(ValueError, match="its first phase goes on"):
        check(problem, given(problem, lambda key: exact, waiting=True), state, data)
    with pytest.raises(ValueError, match=r"check\(\) needs draws to be a whole number >= 2"):
        check(problem, build, state, data, draws=1)
