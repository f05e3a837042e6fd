"""A weight for each training example of a linear regression, whose hypergradient is known.

With S = diag(s), w* = (XᵀSX)⁻¹ XᵀSy and ∂w*/∂s_i = (XᵀSX)⁻¹ x_i (y_i − x_iᵀw*).
"""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import shohypernet as shn
from shohypernet import batches, losses
from shohypernet import hyperparameters as hp
from shohypernet.hypergradients import implicit
from shohypernet.linear_solvers import conjugate_gradient

EXAMPLES, BROKEN = 20, 4  # the first few have wrong targets


def squared_errors(params, batch):
    return (batch.inputs @ params - batch.targets) ** 2


@pytest.fixture
def data(float64):
    rng = np.random.default_rng(0)

    def examples(count):
        inputs = rng.normal(size=(count, 3))
        targets = inputs @ np.array([1.0, -2.0, 0.5]) + 0.1 * rng.normal(size=count)
        return batches.Examples(jnp.asarray(inputs), jnp.asarray(targets))

    train, valid, test = map(examples, (EXAMPLES, 30, 30))
    # Where a wrong sign is plain to see.
    order = jnp.argsort(-jnp.abs(train.targets))
    train = jax.tree.map(lambda leaf: leaf[order], train)
    train = train._replace(targets=train.targets.at[:BROKEN].multiply(-2))
    return batches.Data(batches.numbered(train), valid, test)


@pytest.fixture
def problem():
    return shn.Problem(
        init=lambda key: jnp.zeros(3),
        train_loss=lambda params, weights, batch, key: losses.weighted(
            squared_errors(params, batch), weights, batch.numbers
        ),
        valid_loss=lambda params, weights, batch: jnp.mean(squared_errors(params, batch)),
        space=hp.bounded(0.0, 1.0),
    )


def test_closed_form(data, problem, key):
    inputs, targets, _ = map(np.asarray, data.train)
    weights = np.random.default_rng(1).uniform(0.2, 0.8, EXAMPLES)
    curvature = inputs.T @ (weights[:, None] * inputs)
    best = np.linalg.solve(curvature, inputs.T @ (weights * targets))
    slope = 2 * data.valid.inputs.T @ (data.valid.inputs @ best - data.valid.targets) / 30
    exact = (targets - inputs @ best) * (inputs @ np.linalg.solve(curvature, slope))
    found = implicit.hypergradient(
        problem,
        jnp.asarray(weights),
        jnp.asarray(best),
        data.train,
        data.valid,
        key,
        solver=conjugate_gradient(3),
    )
    np.testing.assert_allclose(found.gradient, exact, rtol=1e-8)


METHODS = {
    "implicit": lambda problem, **optimizers: shn.implicit(
        problem, solver=conjugate_gradient(3), **optimizers
    ),
    "soba": shn.soba,
    "f2sa": lambda problem, **optimizers: shn.f2sa(problem, multiplier=100.0, **optimizers),
}


@pytest.mark.parametrize("name", METHODS)
def test_minibatches_carry_the_numbers_and_wrong_examples_lose_their_weight(name, data, problem):
    method = METHODS[name](problem, optimizer=optax.sgd(0.1), hyper_optimizer=optax.adam(0.03))
    result = shn.fit(
        problem,
        method,
        data,
        jnp.full(EXAMPLES, 0.5),
        steps=500,
        train_batch_size=5,
        valid_batch_size=10,
        progress=False,
    )
    assert np.max(result.hyperparams[:BROKEN]) < np.min(result.hyperparams[BROKEN:])
    assert np.all(jnp.abs(result.hyperparams - 0.5) > 1e-3)  # every one was moved


def test_weights_of_classes_are_looked_up_by_label(key):
    labels = jnp.array([0, 2, 2, 1])
    problem = shn.Problem(
        init=lambda key: jnp.zeros(3),
        train_loss=lambda params, weights, labels, key: losses.weighted(
            optax.softmax_cross_entropy_with_integer_labels(jnp.tile(params, (4, 1)), labels),
            weights,
            labels,
        ),
        valid_loss=lambda params, weights, labels: -jax.nn.log_softmax(params)[1],
        space=hp.bounded(0.0, 1.0),
    )
    slopes = jax.grad(problem.train_loss, 1)(jnp.zeros(3), jnp.full(3, 0.5), labels, key)
    np.testing.assert_allclose(slopes, np.log(3) * np.array([1, 1, 2]) / 4, rtol=1e-6)


def test_the_example_of_the_page_on_other_methods_runs(capsys):
    page = (pathlib.Path(__file__).parents[2] / "docs" / "comparisons.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    names = {}
    exec(compile(code, "comparisons.md", "exec"), names)
    assert "least trusted" in capsys.readouterr().out
    # Nearly every weight was moved from its start, though no minibatch held all of them.
    assert np.mean(names["result"].hyperparams != 0.5) > 0.99
