"""Training again at tuned hyperparameters, and the report of what that is worth."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import shohypernet as shn
from shohypernet import reporting
from shohypernet.batches import Data, Examples, numbered
from shohypernet.reporting import Report, Row

SGD = optax.sgd(0.05)
BOTH = {"optimizer": SGD, "hyper_optimizer": SGD}


def ridge():
    """Ridge regression with one decay for each of four weights."""
    return shn.Problem(
        lambda key: jnp.zeros(4),
        lambda w, lam, batch, key: (
            jnp.mean((batch[0] @ w - batch[1]) ** 2) / 2 + jnp.sum(lam * w**2) / 2
        ),
        lambda w, lam, batch: jnp.mean((batch[0] @ w - batch[1]) ** 2),
        space=shn.hyperparameters.log(),
    )


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    weights = np.array([1.0, -1.0, 0, 0])

    def examples(count):
        inputs = rng.normal(size=(count, 4))
        targets = inputs @ weights + rng.normal(size=count)
        return Examples(inputs.astype(np.float32), targets.astype(np.float32))

    return Data(examples(12), examples(12), examples(200))


def solved(examples, decay):
    """argmin ½ mean (xw − y)² + ½ Σ decay w², in double precision."""
    inputs, targets = (np.asarray(x, np.float64) for x in examples)
    n = len(targets)
    return np.linalg.solve(inputs.T @ inputs / n + np.diag(decay), inputs.T @ targets / n)


DECAY = np.array([0.1, 0.2, 1.0, 2.0])


@pytest.mark.parametrize("with_valid", [False, True])
def test_the_weights_are_the_minimum_on_the_splits_that_were_asked_for(data, with_valid):
    made = shn.retrain(ridge(), DECAY, data, optimizer=SGD, steps=2_000, with_valid=with_valid)
    examples = data.train
    if with_valid:
        examples = [np.concatenate(pair) for pair in zip(data.train, data.valid, strict=True)]
    exact = solved(examples, DECAY)
    np.testing.assert_allclose(made.params, exact, atol=1e-5)
    for name, split in data._asdict().items():
        error = np.mean((split.inputs @ exact - split.targets) ** 2)
        np.testing.assert_allclose(getattr(made.losses, name), error, rtol=1e-4)


def test_a_result_gives_its_hyperparameters_and_a_schedule_is_gone_through(data):
    problem = ridge()
    method = shn.truncated(problem, backward_steps=1, **BOTH)
    result = shn.fit(problem, method, data, jnp.ones(4), steps=6, inner_steps=2)
    sizes = {"optimizer": SGD, "steps": 30, "with_valid": False, "seeds": [3]}
    by_result = shn.retrain(problem, result, data, **sizes)
    given = shn.retrain(problem, result.hyperparams, data, **sizes)
    np.testing.assert_array_equal(by_result.params, given.params)
    assert by_result.params.shape == (1, 4)

    schedule = result.history.schedule
    along = shn.retrain(problem, schedule, data, **sizes)
    trained = shn.train(problem, SGD, jax.random.key(3), schedule, data.train, steps=30)
    np.testing.assert_allclose(along.params[0], trained.params, rtol=1e-6)
    assert np.any(along.params != given.params)

    several = shn.fit(problem, method, data, jnp.ones(4), steps=2, seeds=[0, 1])
    with pytest.raises(ValueError, match=r"one seed, got \(0, 1\): take result.seed"):
        shn.retrain(problem, several, data, **sizes)


def test_examples_with_numbers_cannot_be_put_together(data):
    data = data._replace(train=numbered(data.train))
    with pytest.raises(ValueError, match="of the same form"):
        shn.retrain(ridge(), DECAY, data, optimizer=SGD, steps=1)


def test_a_report_trains_each_choice_on_both(data):
    problem = ridge()
    method = shn.truncated(problem, backward_steps=1, **BOTH)
    result = shn.fit(problem, method, data, jnp.ones(4), steps=4)
    found = shn.report(
        problem, result, data, optimizer=SGD, steps=500, baselines={"ours": DECAY}, seeds=(0, 1)
    )
    assert [row.name for row in found.rows] == ["tuned", "ours"]
    exact = solved(data.train, DECAY)
    errors = (data.test.inputs @ exact - data.test.targets) ** 2
    np.testing.assert_allclose(found.rows[1].test, [errors] * 2, rtol=1e-2, atol=1e-2)
    valid, test = found.as_tuned
    np.testing.assert_allclose(valid.mean(), result.history.valid_loss[-1], rtol=1e-5)
    np.testing.assert_allclose(test.mean(), result.history.test_loss[-1], rtol=1e-5)
    text = str(found)
    assert "trained on all" in text
    assert "ours" in text
    at_start = shn.report(problem, result, data, optimizer=SGD, steps=2)
    assert at_start.rows[1].name == "its start"

    root = problem._replace(valid_loss=lambda *at: jnp.sqrt(problem.valid_loss(*at)))
    with pytest.raises(ValueError, match="a mean over examples"):
        shn.report(root, result, data, optimizer=SGD, steps=2)


def test_a_report_needs_tests_seeds_and_baselines(data):
    problem = ridge()
    sizes = {"optimizer": SGD, "steps": 1}
    with pytest.raises(ValueError, match="needs test examples"):
        shn.report(problem, DECAY, data._replace(test=None), **sizes)
    with pytest.raises(ValueError, match="two seeds"):
        shn.report(problem, DECAY, data, seeds=[0], **sizes)
    with pytest.raises(ValueError, match="needs baselines"):
        shn.report(problem, DECAY, data, **sizes)


def row(name, valid, test, test_of_all):
    """Losses about those given: 0.01 to either side by seed, and 0.1 by example."""
    around = np.array([[-0.1, 0.1, -0.1, 0.1]]) + np.array([[-0.01], [0.01]])
    return Row(name, *(loss + around for loss in (valid, test, test_of_all)))


def test_standard_errors_by_hand():
    # Of seeds: variance 2 · 0.01² / 2; of examples: 4 · 0.1² / (3 · 4).
    error = np.sqrt(0.01**2 + 0.1**2 / 3)
    assert reporting._error(row("", 1.0, 0, 0).valid) == pytest.approx(error)


@pytest.mark.parametrize(
    ("tuned", "other", "sentences"),
    [
        ((1.0, 1.2, 1.0), (1.5, 1.7, 1.4), ["better than one decay by 0.4: tuning paid"]),
        ((1.5, 1.7, 1.4), (1.0, 1.2, 1.0), ["worse than one decay by 0.4: tuning did not pay"]),
        (
            (0.5, 1.7, 1.4),
            (1.5, 1.8, 1.4),
            ["gain 1 on validation and 0.1 on test examples: 40 of", "can't be told from one"],
        ),
    ],
)
def test_advice_by_hand(tuned, other, sentences):
    rows = [row("tuned", *tuned), row("one decay", *other)]
    advice = reporting._advice(rows, np.full(4, 9.0), 40)
    assert len(advice) == len(sentences)
    for said, sentence in zip(advice, sentences, strict=True):
        assert sentence in said


def test_a_difference_that_few_examples_make_is_none():
    better, worse = row("tuned", 1.0, 1.0, 1.0), row("one decay", 1.0, 1.0, 1.0)
    gains = np.array([0.8, 0.0, 0.0, 0.0])  # 0.2 ± 0.2
    worse = worse._replace(test_of_all=worse.test_of_all + gains)
    (said,) = reporting._advice([better, worse], np.full(4, 9.0), 40)
    assert "can't be told from one decay (+0.2 ± 0.2)" in said


def test_weights_better_than_those_trained_again_point_to_the_schedule():
    rows = [row("tuned", 1.0, 1.2, 1.0), row("one decay", 1.5, 1.7, 1.4)]
    advice = reporting._advice(rows, np.full(4, 0.9), 40)
    assert any("history.schedule" in sentence for sentence in advice)


def test_a_report_as_text():
    rows = [row("tuned", 1.0, 1.2, 1.0), row("one decay", 1.5, 1.7, 1.4)]
    found = Report(rows, (np.full(4, 0.9), np.full(4, 1.2)), ["It paid."])
    assert str(found) == (
        "as tuned: 0.9 on validation, 1.2 on test examples; trained again:\n"
        "                     validation                  test  test, trained on all\n"
        "tuned                  1 ± 0.06            1.2 ± 0.06              1 ± 0.06\n"
        "one decay            1.5 ± 0.06            1.7 ± 0.06            1.4 ± 0.06\n"
        "It paid."
    )
