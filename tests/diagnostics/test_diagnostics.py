"""Measures against numbers by hand, and a check that names what can't be tuned."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from shohypernet import Problem, batches, diagnostics, losses, supervised, train
from shohypernet.hyperparameters import bounded, integer, log


def test_cosine_and_norm_ratio_by_hand():
    exact = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([[4.0]])}
    estimate = {"a": jnp.array([0.0, 5.0]), "b": jnp.array([[12.0]])}
    assert diagnostics.cosine(estimate, exact) == pytest.approx(48 / (13 * 5))
    assert diagnostics.norm_ratio(estimate, exact) == pytest.approx(13 / 5)
    assert diagnostics.cosine(exact, {"a": -exact["a"], "b": -exact["b"]}) == pytest.approx(-1)


def test_a_zero_estimate_points_nowhere():
    exact = jnp.array([1.0, 2.0])
    assert diagnostics.cosine(jnp.zeros(2), exact) == 0
    assert diagnostics.norm_ratio(jnp.zeros(2), exact) == 0


def test_best_response_error_by_hand():
    exact = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([[4.0]])}
    params = {"a": jnp.array([3.0, 2.0]), "b": jnp.array([[4.0]])}
    assert diagnostics.best_response_error(params, exact) == pytest.approx(2 / 5)


def test_sharpness_is_the_largest_eigenvalue(float64, quadratic, key):
    found = diagnostics.sharpness(
        quadratic.problem, jnp.zeros(3), jnp.zeros(2), quadratic.train, key, steps=500
    )
    assert found == pytest.approx(np.linalg.eigvalsh(quadratic.hessian)[-1], rel=1e-6)


@pytest.fixture
def mixed():
    """Hyperparameters of every kind, most of them out of some method's reach."""

    def train_loss(w, lam, x, key):
        kept = jax.random.bernoulli(key, jax.nn.sigmoid(lam["odds"]))
        fit = jnp.sum((w - x) ** 2) * jnp.where(kept, 1.0, 2.0)
        penalty = jnp.sum(jnp.exp(lam["decay"])[:2] * w[:2] ** 2)
        return fit + penalty + lam["constant"] + jnp.round(lam["rounded"]) * jnp.sum(w)

    problem = Problem(
        init=lambda key: jnp.zeros(3),  # where no decay has an effect
        train_loss=train_loss,
        valid_loss=lambda w, lam, x: jnp.sum((w - lam["shift"] * x) ** 2),
    )
    names = "odds", "constant", "rounded", "shift", "rate", "unused"
    lam = {name: jnp.full((), -1.0) for name in names} | {"decay": jnp.full(3, -1.0)}
    return problem, lam


def test_untunable_by_the_training_loss_alone(mixed, key):
    found = diagnostics.untunable(*mixed, jnp.ones(3), jnp.ones(3), key)
    assert set(found) == {"odds", "constant", "rounded", "decay", "rate", "unused"}
    assert found["rate"].startswith("rate enters neither loss")
    assert "unrolled(), truncated(), forward()" in found["rate"]
    assert found["decay"].startswith("decay, 1 of its 3 numbers: enters neither loss")
    assert "by as much for all weights" in found["constant"]
    assert "has no derivative" in found["rounded"]


def test_untunable_through_the_inner_optimizer(mixed, key):
    found = diagnostics.untunable(
        *mixed,
        jnp.ones(3),
        jnp.ones(3),
        key,
        optimizer=lambda lam: optax.sgd(jnp.exp(lam["rate"])),
    )
    assert set(found) == {"odds", "constant", "rounded", "decay", "unused"}
    assert "no step of the inner optimizer" in found["unused"]


def test_all_is_well_with_a_decay_for_each_weight(key):
    problem = Problem(
        init=lambda key: jnp.zeros(3),
        train_loss=lambda w, lam, x, key: jnp.sum((w - x) ** 2) + jnp.sum(jnp.exp(lam) * w**2),
        valid_loss=lambda w, lam, x: jnp.sum((w - x) ** 2),
    )
    assert diagnostics.untunable(problem, jnp.zeros(3), jnp.ones(3), jnp.ones(3), key) == {}


def weights_of_examples(index_of):
    """Weights looked up by numbers, a decay of which only half is used, and a loss for each."""

    def train_loss(w, lam, batch, key):
        each = (w - batch.targets) ** 2
        weighted = losses.weighted(each, lam["weights"], index_of(batch))
        return weighted + jnp.sum(jnp.exp(lam["decay"])[:2] * w**2)

    return Problem(
        init=lambda key: jnp.zeros(()),
        train_loss=train_loss,
        valid_loss=lambda w, lam, batch: jnp.mean((w - batch.targets) ** 2),
        space={"weights": bounded(0.0, 1.0), "decay": log()},
    )


def test_weights_of_examples_that_a_minibatch_lacks_are_not_reported(key):
    examples = batches.numbered(batches.Examples(jnp.ones((6, 1)), jnp.arange(6.0)))
    lam = {"weights": jnp.full(6, 0.5), "decay": jnp.full(4, 0.5)}
    problem = weights_of_examples(lambda batch: batch.numbers)
    part = jax.tree.map(lambda leaf: leaf[:2], examples)
    found = diagnostics.untunable(problem, lam, part, part, key)
    assert set(found) == {"decay"}  # whose other half no example would select
    assert found["decay"].startswith("decay, 2 of its 4 numbers: enters neither loss")
    lam["weights"] = jnp.full(8, 0.5)
    assert set(diagnostics.untunable(problem, lam, examples, examples, key)) == {"decay"}


def test_weights_that_no_number_looks_up_are_reported(key):
    examples = batches.numbered(batches.Examples(jnp.ones((6, 1)), jnp.arange(6.0)))
    lam = {"weights": jnp.full(8, 0.5), "decay": jnp.full(2, 0.5)}
    problem = weights_of_examples(lambda batch: jnp.arange(6))
    found = diagnostics.untunable(problem, lam, examples, examples, key)
    assert found["weights"].startswith("weights, 2 of its 8 numbers: enters neither loss")


def test_untunable_by_sampled_hyperparameters(mixed, key):
    """What needs no derivative remains: odds, and even a rounding, that a hypernet sees vary."""
    problem, lam = mixed
    lam = {**lam, "rounded": jnp.full((), -1.0), "odds": jnp.full((), 0.0)}
    found = diagnostics.untunable(problem, lam, jnp.ones(3), jnp.ones(3), key, sampled=True)
    assert set(found) == {"constant", "decay", "rate", "unused"}


def test_hyperparameters_are_read_in_natural_units(key):
    """A decay at which w (1 − decay) is nowhere flat but at the wrong reading of it, decay = 1."""
    problem = Problem(
        init=lambda key: jnp.ones(2),
        train_loss=lambda w, lam, x, key: jnp.sum((w - x) ** 2) + jnp.log(lam) ** 2 * jnp.sum(w),
        valid_loss=lambda w, lam, x: jnp.sum((w - x) ** 2),
        space=log(),
    )
    assert diagnostics.untunable(problem, 0.5, jnp.ones(2), jnp.ones(2), key) == {}
    found = diagnostics.untunable(problem, 1.0, jnp.ones(2), jnp.ones(2), key)
    assert "has no derivative" in found["λ"]
    with pytest.raises(ValueError, match="not its logarithm"):
        diagnostics.untunable(problem, -0.5, jnp.ones(2), jnp.ones(2), key)
    with pytest.raises(ValueError, match=r"gradients cannot move the space \(integer\)"):
        diagnostics.untunable(
            problem._replace(space=integer(1, 3)), 2, jnp.ones(2), jnp.ones(2), key
        )


# --- hyperparameters that Python decides on -------------------------------------------------------


class Dropping(nn.Module):
    """A linear model whose dropout compares its rate with 0 in Python."""

    rate: float

    @nn.compact
    def __call__(self, inputs):
        return nn.Dense(1)(nn.Dropout(self.rate, deterministic=False)(inputs))


@pytest.fixture
def dropping():
    """Its rate, and a decay, are the hyperparameters."""
    params = {"Dense_0": {"kernel": jnp.ones((3, 1)), "bias": jnp.zeros(1)}}

    def train_loss(w, lam, batch, key):
        inputs, targets = batch
        outputs = Dropping(lam["rate"]).apply({"params": w}, inputs, rngs={"dropout": key})
        penalty = lam["decay"] * jnp.sum(w["Dense_0"]["kernel"] ** 2)
        return losses.mean_squared_error(outputs, targets) + penalty

    return Problem(
        init=lambda key: params,
        train_loss=train_loss,
        valid_loss=lambda w, lam, batch: jnp.sum(w["Dense_0"]["kernel"] ** 2),
        space={"rate": bounded(0.0, 0.9), "decay": log()},
    )


DECIDES = "the model decides in Python on the value of a hyperparameter, as flax.linen.Dropout"
BATCH = jnp.ones((4, 3)), jnp.ones((4, 1))


def test_a_rate_that_python_compares_is_untunable_and_the_decay_beside_it_is_not(dropping, key):
    lam = {"rate": 0.5, "decay": 0.1}
    for optimizer in (None, optax.sgd(0.1)):
        found = diagnostics.untunable(dropping, lam, BATCH, BATCH, key, optimizer=optimizer)
        assert set(found) == {"rate"}
        assert found["rate"].startswith(f"rate: {DECIDES}")
        assert "jax.random.bernoulli(key, 1 - rate, shape)" in found["rate"]


def test_training_at_such_a_rate_says_so_too(dropping, key):
    lam = {"rate": jnp.array(0.5), "decay": 0.1}
    with pytest.raises(TypeError, match=r"train\(\) traces the losses: " + DECIDES):
        train(dropping, optax.sgd(0.1), key, lam, BATCH, steps=2)
    number = train(dropping, optax.sgd(0.1), key, {**lam, "rate": 0.5}, BATCH, steps=2)
    assert np.all(np.isfinite(number.train_losses))


# --- precisions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x64", "weights", "model", "tolerance"),
    [
        (False, jnp.float32, nn.Dense(1, use_bias=False, dtype=jnp.bfloat16), 2e-2),
        (False, jnp.float32, nn.Dense(1, use_bias=False), 1e-5),
        (True, jnp.float32, nn.Dense(1, use_bias=False), 1e-5),
        (True, jnp.float64, nn.Dense(1, use_bias=False, param_dtype=float), 1e-9),
    ],
    ids=["bfloat16", "float32", "float32 with x64", "float64"],
)
def test_sharpness_and_training_in_every_precision(x64, weights, model, tolerance, key):
    """Largest eigenvalue of 2 XᵀX/n + 2 decay, and the minimum of what has this curvature."""
    rng = np.random.default_rng(0)
    inputs, targets, decay = rng.normal(size=(8, 3)), rng.normal(size=(8, 1)), 0.3
    with jax.enable_x64(x64):
        batch = jnp.asarray(inputs, weights), jnp.asarray(targets, weights)
        problem = supervised(
            model,
            batch[0][:1],
            losses.mean_squared_error,
            lambda params, decay: decay * jnp.sum(params["kernel"] ** 2),
            space=log(),
        )
        trained = train(problem, optax.sgd(0.2), key, decay, batch, steps=200)
        kernel = trained.params["kernel"]
        assert kernel.dtype == weights
        matrix, moment = inputs.T @ inputs / 8 + decay * np.eye(3), inputs.T @ targets / 8
        np.testing.assert_allclose(kernel, np.linalg.solve(matrix, moment), atol=tolerance)
        found = diagnostics.sharpness(problem, trained.params, decay, batch, key, steps=200)
        largest = 2 * np.linalg.eigvalsh(matrix)[-1]
        np.testing.assert_allclose(found, largest, rtol=max(tolerance, 1e-5))
