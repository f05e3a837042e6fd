"""Proximal steps, and hypergradients on the support, against SciPy and scikit-learn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize
from sklearn.linear_model import ElasticNet

import shohypernet as shn
from shohypernet import inner_loop, linear_solvers, penalties, proximal
from shohypernet.hypergradients import forward, implicit, unrolled
from shohypernet.hyperparameters import log
from shohypernet.problem import unconstrained

GROUPS = np.array([0, 0, 1, 2, 1])
WEIGHTS = np.array([0.8, -0.6, 0.05, 2.0, -0.02])
PENALTIES = {
    "lasso": (proximal.lasso(), 0.3, lambda w: 0.3 * np.abs(w).sum()),
    "lasso, a decay per weight": (
        proximal.lasso(),
        np.array([0.1, 5.0, 0.0, 0.3, 0.7]),
        lambda w: np.array([0.1, 5.0, 0.0, 0.3, 0.7]) @ np.abs(w),
    ),
    "elastic net": (
        proximal.elastic_net(),
        {"l1": 0.3, "l2": 2.0},
        lambda w: 0.3 * np.abs(w).sum() + (w**2).sum(),
    ),
    "group lasso": (
        proximal.group_lasso(GROUPS),
        np.array([0.3, 0.2, 1.0]),
        lambda w: 0.3 * np.hypot(w[0], w[1]) + 0.2 * np.hypot(w[2], w[4]) + np.abs(w[3]),
    ),
    "sparse group lasso": (
        proximal.sparse_group_lasso(GROUPS),
        {"l1": 0.1, "groups": np.array([0.3, 0.2, 1.0])},
        lambda w: (
            0.3 * np.hypot(w[0], w[1])
            + 0.2 * np.hypot(w[2], w[4])
            + np.abs(w[3])
            + 0.1 * np.abs(w).sum()
        ),
    ),
}
of_every_penalty = pytest.mark.parametrize(
    ("regularizer", "decay", "by_hand"), PENALTIES.values(), ids=PENALTIES
)


@of_every_penalty
def test_penalties_are_their_sums(regularizer, decay, by_hand):
    found = regularizer.penalty(jnp.float32(WEIGHTS), decay)
    np.testing.assert_allclose(found, by_hand(WEIGHTS), rtol=1e-6)


@of_every_penalty
def test_their_gradients_are_finite_where_all_weights_are_zero(regularizer, decay, by_hand):
    np.testing.assert_array_equal(jax.grad(regularizer.penalty)(jnp.zeros(5), decay), 0)


@of_every_penalty
@pytest.mark.parametrize("step_size", [0.1, 0.7])
def test_a_prox_is_the_minimum_that_defines_it(regularizer, decay, by_hand, step_size):
    """Against a search that takes no derivatives, from several starts."""

    def objective(u):
        return np.sum((u - WEIGHTS) ** 2) / 2 + step_size * by_hand(u)

    found = np.asarray(regularizer.prox(jnp.float32(WEIGHTS), decay, step_size), np.float64)
    options = {"xatol": 1e-8, "fatol": 1e-12, "maxiter": 20_000, "maxfev": 20_000}
    for start in (WEIGHTS, found, 0.5 * WEIGHTS):
        rival = scipy.optimize.minimize(objective, start, method="Nelder-Mead", options=options)
        assert objective(found) <= rival.fun + 1e-7


def test_weights_that_are_not_decayed_are_not_thresholded():
    params = {"kernel": jnp.array([0.1, -3.0]), "bias": jnp.array([0.1])}
    found = proximal.lasso().prox(params, {"kernel": 1.0}, 0.5)
    np.testing.assert_allclose(found["kernel"], [0.0, -2.5])
    np.testing.assert_allclose(found["bias"], [0.1])


def test_groups_may_span_arrays():
    params = {"a": jnp.array([3.0, 1.0]), "b": jnp.array([[4.0], [2.0]])}
    groups = {"a": np.array([0, 1]), "b": np.array([[0], [1]])}
    decay = jnp.array([1.0, 2.0])
    expected = 5 + 2 * np.sqrt(5)
    np.testing.assert_allclose(penalties.group_lasso(params, decay, groups), expected, rtol=1e-6)
    moved = proximal.group_lasso(groups).prox(params, decay, 1.0)
    np.testing.assert_allclose(moved["a"], [3 * 0.8, 1 - 2 / np.sqrt(5)], rtol=1e-6)
    np.testing.assert_allclose(moved["b"], [[4 * 0.8], [2 - 4 / np.sqrt(5)]], rtol=1e-6)


@pytest.mark.parametrize(
    ("groups", "decay", "message"),
    [
        (np.array([0, 1]), np.ones(2), "don't fit weights"),
        (np.array([0.0, 1.0, 1.0, 0.0, 0.0]), np.ones(2), "whole numbers from 0 on"),
        (np.array([0, -1, 0, 0, 0]), np.ones(1), "whole numbers from 0 on"),
        (GROUPS, np.ones(2), "3 groups need one decay each"),
    ],
)
def test_groups_and_decays_that_do_not_fit_are_refused(groups, decay, message):
    with pytest.raises(ValueError, match=message):
        penalties.group_lasso(jnp.float32(WEIGHTS), decay, groups)


@pytest.mark.parametrize(
    ("regularizer", "step_size", "error", "message"),
    [
        (penalties.lasso, 0.1, TypeError, r"Regularizer, such as shn\.proximal\.lasso\(\)"),
        (proximal.lasso(), -0.1, ValueError, "step_size to be finite and > 0"),
    ],
)
def test_what_is_no_regularizer_or_step_size_is_refused(regularizer, step_size, error, message):
    with pytest.raises(error, match=message):
        proximal.gradient(regularizer, step_size)


def test_methods_that_cannot_go_along_a_kink_say_who_can(regression):
    with pytest.raises(TypeError, match=r"goes with λ: give it to implicit\(\), unrolled\(\)"):
        shn.hoag(
            regression.problem,
            optimizer=proximal.gradient(proximal.elastic_net(), 0.1),
            learning_rate=0.1,
        )


class Regression:
    """½ mean (y − Xβ)² + l1 ‖β‖₁ + ½ l2 ‖β‖², with more weights than examples, in float64."""

    def __init__(self):
        rng = np.random.default_rng(0)
        mixed = rng.normal(size=(20, 20)) / 10 + np.eye(20)

        def drawn(count):
            inputs = rng.normal(size=(count, 20)) @ mixed
            targets = inputs @ np.repeat([1.0, -2.0, 0.0], [3, 2, 15]) + rng.normal(size=count)
            return inputs, targets

        self.train, self.valid = drawn(15), drawn(30)
        self.regularizer = proximal.elastic_net()
        self.problem = shn.Problem(
            init=lambda key: jnp.zeros(20),
            train_loss=lambda w, decays, batch, key: (
                squared(w, batch) / 2 + self.regularizer.penalty(w, decays)
            ),
            valid_loss=lambda w, decays, batch: squared(w, batch),
            space=log(),
        )

    def solved(self, l1, l2):
        """By scikit-learn's coordinate descent."""
        rate = l1 + l2
        model = ElasticNet(
            alpha=rate, l1_ratio=l1 / rate, fit_intercept=False, tol=1e-14, max_iter=1_000_000
        )
        return model.fit(*self.train).coef_

    def hypergradient(self, l1, l2):
        """d mean (y − Xβ)² / d(log l1, log l2), by the closed form on the support."""
        weights = self.solved(l1, l2)
        on = weights != 0
        inputs, targets = self.train
        chosen = inputs[:, on]
        curvature = chosen.T @ chosen / len(targets) + l2 * np.eye(on.sum())
        slopes = -np.linalg.solve(curvature, np.stack([np.sign(weights[on]), weights[on]], axis=1))
        inputs, targets = self.valid
        gradient = 2 * inputs[:, on].T @ (inputs @ weights - targets) / len(targets)
        return gradient @ slopes * [l1, l2], on


def squared(w, batch):
    inputs, targets = batch
    return jnp.mean((inputs @ w - targets) ** 2)


@pytest.fixture
def regression(float64):
    return Regression()


AT = {"l1": 0.2, "l2": 0.1}
STEP_SIZE = 0.1


def test_training_ends_where_scikit_learn_does_zeros_included(regression):
    optimizer = proximal.gradient(regression.regularizer, STEP_SIZE)(AT)
    trained = shn.train(
        regression.problem, optimizer, jax.random.key(0), AT, regression.train, steps=5_000
    )
    expected = regression.solved(**AT)
    assert 0 < np.sum(expected == 0) < 20
    np.testing.assert_allclose(trained.params, expected, atol=1e-9)
    np.testing.assert_array_equal(proximal.support(trained.params), expected != 0)


def _unconstrained_point(regression, l1, l2):
    hyperparams = {"l1": jnp.log(l1), "l2": jnp.log(l2)}
    return unconstrained(regression.problem), hyperparams


@pytest.mark.parametrize(("l1", "l2"), [(0.2, 0.1), (0.05, 0.3), (0.6, 0.01)])
def test_the_implicit_hypergradient_is_the_closed_form_on_the_support(regression, l1, l2, key):
    expected, on = regression.hypergradient(l1, l2)
    assert 0 < on.sum() < 20
    problem, hyperparams = _unconstrained_point(regression, l1, l2)
    weights = jnp.asarray(regression.solved(l1, l2))

    def found(support, solver):
        return implicit.hypergradient(
            problem,
            hyperparams,
            weights,
            regression.train,
            regression.valid,
            key,
            solver=solver,
            support=support,
        ).gradient

    # The last asks for the columns of weights that are 0 as well.
    by_columns = linear_solvers.nystrom(20, damping=1e-6)
    for solver in (linear_solvers.conjugate_gradient(60), by_columns):
        made = found(proximal.support(weights), solver)
        np.testing.assert_allclose([made["l1"], made["l2"]], expected, rtol=1e-4)
    everywhere = found(None, linear_solvers.conjugate_gradient(60))
    assert not np.allclose([everywhere["l1"], everywhere["l2"]], expected, rtol=1e-2)


@pytest.mark.parametrize("module", [unrolled, forward])
def test_differentiating_through_the_steps_tends_to_the_same(regression, module, key):
    expected, _ = regression.hypergradient(**AT)
    problem, hyperparams = _unconstrained_point(regression, **AT)
    made = proximal.gradient(regression.regularizer, STEP_SIZE)

    def optimizer(codes):
        return made(jax.tree.map(jnp.exp, codes))

    errors = []
    for steps in (30, 100, 3_000):
        batches = [jnp.broadcast_to(part, (steps, *part.shape)) for part in regression.train]
        estimate = jax.jit(functools.partial(module.hypergradient, problem, optimizer))
        start = inner_loop.init(problem, optimizer, key, hyperparams)
        found = estimate(hyperparams, start, batches, regression.valid, key).gradient
        errors.append(np.linalg.norm(np.array([found["l1"], found["l2"]]) - expected))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-5 * np.linalg.norm(expected)


def test_it_is_the_finite_difference_between_kinks_and_jumps_at_them(regression):
    """Along log l1: the loss is continuous where the support changes, its slope is not."""

    def loss(log_l1):
        inputs, targets = regression.valid
        return np.mean((inputs @ regression.solved(np.exp(log_l1), 0.1) - targets) ** 2)

    def slope(log_l1):
        gradient, on = regression.hypergradient(np.exp(log_l1), 0.1)
        return gradient[0], on.sum()

    low, high = np.log(0.1), np.log(0.4)
    first, last = slope(low)[1], slope(high)[1]
    assert first != last
    while high - low > 1e-7:
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle)[1] == first else (low, middle)
    assert abs(loss(high) - loss(low)) < 1e-5
    assert abs(slope(high)[0] - slope(low)[0]) > 1e-3
    away = low - 0.01
    difference = (loss(away + 1e-5) - loss(away - 1e-5)) / 2e-5
    assert slope(away)[0] == pytest.approx(difference, rel=1e-4)


@pytest.mark.parametrize("name", ["implicit", "unrolled"])
def test_tuning_comes_to_the_least_of_a_fine_grid(regression, name):
    optimizer = proximal.gradient(regression.regularizer, lambda decays: 1 / (9 + decays["l2"]))
    extra = {"solver": linear_solvers.conjugate_gradient(20)} if name == "implicit" else {}
    method = getattr(shn, name)(
        regression.problem, optimizer=optimizer, hyper_optimizer=optax.adam(0.05), **extra
    )
    examples = [
        shn.batches.Examples(*map(jnp.asarray, part))
        for part in (regression.train, regression.valid, regression.valid)
    ]
    result = shn.fit(
        regression.problem,
        method,
        shn.batches.Data(*examples),
        AT,
        steps=150,
        inner_steps=300,
        eval_every=150,
    )
    inputs, targets = regression.valid
    grid = np.logspace(-2, 0, 12)
    best = min(
        np.mean((inputs @ regression.solved(l1, l2) - targets) ** 2) for l1 in grid for l2 in grid
    )
    assert result.history.valid_loss[-1] <= 1.005 * best
    assert np.any(np.asarray(result.params) == 0)
