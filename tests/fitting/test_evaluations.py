"""What a run tells at its evaluations: metrics, the best so far, and a history that is thinned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from walks import DATA, PROBLEM, assert_identical, calm, logged

import shohypernet as shn
from shohypernet import metrics
from shohypernet.fitting import _history as histories


def distance(params, hyperparams, batch):
    """|w − 14| or |w − 38|, by a difference of λ that a walk leaves as it is."""
    target = jnp.where(hyperparams[0] > hyperparams[1], 14.0, 38.0)
    return jnp.abs(params - target) + 0 * batch.mean()


NEAREST = PROBLEM._replace(valid_loss=distance)
WEIGHTS = 1 + 6.0 * np.arange(0, 13, 2)  # of a calm walk, at each evaluation


def start(key):
    return jnp.stack([jax.random.uniform(key), 0.5])


def nearest(**kwargs):
    # Of seed 2 the first number is above a half, and of seed 0 below it.
    return calm(hyperparams=start, problem=NEAREST, seeds=(2, 0), **kwargs)


def test_the_best_so_far_are_weights_and_hyperparameters_of_one_evaluation():
    result = nearest()
    first = result.history.hyperparams[0]
    assert (first[:, 0] > first[:, 1]).tolist() == [True, False]
    # w is 13 at step 2 and 37 at step 6: one away from either target.
    np.testing.assert_array_equal(result.best.step, [2, 6])
    np.testing.assert_array_equal(result.best.losses.valid, [1.0, 1.0])
    np.testing.assert_array_equal(result.best.params, [13.0, 37.0])
    rows = [1, 3], [0, 1]
    np.testing.assert_array_equal(result.best.hyperparams, result.history.hyperparams[rows])
    assert result.seed(1).best.step == 6
    np.testing.assert_array_equal(result.params, WEIGHTS[-1])


def test_the_best_of_a_resumed_run_may_lie_before(tmp_path):
    nearest(workdir=tmp_path, steps=8)
    assert_identical(nearest(workdir=tmp_path, resume=True), nearest())


def test_the_best_is_in_natural_units():
    space = shn.hyperparameters.log()
    problem = PROBLEM._replace(space=space, valid_loss=lambda w, lam, x: w * x.mean())
    result = calm(hyperparams=np.array([0.5, 2.0], np.float32), problem=problem)
    assert result.best.step.tolist() == [0, 0]
    np.testing.assert_allclose(result.best.hyperparams, [[0.5, 2.0]] * 2, rtol=1e-6)


def test_metrics_are_told_for_each_split(tmp_path):
    problem = PROBLEM._replace(metrics={"double": lambda w, lam, batch: 2 * w * batch.mean()})
    result = calm(problem=problem, workdir=tmp_path)
    for split, mean in (("train", 3.0), ("valid", 1.0), ("test", 4.0)):
        found = getattr(result.history.metrics["double"], split)
        np.testing.assert_allclose(found, np.outer(2 * WEIGHTS * mean, [1, 1]), rtol=1e-6)
    assert logged(tmp_path)[1]["metrics"]["double"]["test"] == [8 * 13.0] * 2
    one = result.seed(1).history.metrics["double"].valid
    np.testing.assert_allclose(one, 2 * WEIGHTS, rtol=1e-6)


def test_metrics_must_be_scalars():
    problem = PROBLEM._replace(metrics={"each": lambda w, lam, batch: w * batch})
    with pytest.raises(ValueError, match=r"metrics\['each'\] must return a scalar.*float32\[2\]"):
        calm(problem=problem)


def test_metrics_read_natural_units():
    problem = PROBLEM._replace(
        space=shn.hyperparameters.log(), metrics={"decay": lambda w, lam, batch: lam[0]}
    )
    result = calm(hyperparams=np.array([0.5, 2.0], np.float32), problem=problem)
    np.testing.assert_allclose(result.history.metrics["decay"].test[0], [0.5, 0.5], rtol=1e-6)


def test_a_test_split_is_not_needed(tmp_path):
    result = calm(data=DATA._replace(test=None), workdir=tmp_path)
    assert result.history.test_loss is None
    assert logged(tmp_path)[0]["test_loss"] is None
    assert "test_loss=None" in repr(result)
    assert "test" not in result.describe()
    loaded = tmp_path / "result.npz"
    result.save(loaded)
    assert shn.Result.load(loaded).history.test_loss is None
    resumed = calm(data=DATA._replace(test=None), workdir=tmp_path, steps=14, resume=True)
    assert resumed.history.step[-1] == 14


# A λ̂ of two seeds and two numbers takes 16 bytes. Of 7 evaluations 100 bytes hold every second.
THINNED = [0, 4, 8, 12]


def test_of_large_hyperparameters_some_evaluations_keep_theirs(monkeypatch, tmp_path):
    whole = calm()
    monkeypatch.setattr(histories, "MOST_BYTES", 100)
    result = calm(workdir=tmp_path / "whole")
    history = result.history
    assert history.step.tolist() == [0, 2, 4, 6, 8, 10, 12]
    assert history.hyperparams_step.tolist() == THINNED
    np.testing.assert_array_equal(history.hyperparams, whole.history.hyperparams[::2])
    np.testing.assert_array_equal(history.valid_loss, whole.history.valid_loss)
    assert result.seed(0).history.hyperparams.shape == (4, 2)
    middle = result.seed(0).history.schedule(jnp.asarray(0.5))
    np.testing.assert_allclose(middle, whole.seed(0).history.hyperparams[3], rtol=1e-6)

    calm(workdir=tmp_path / "parts", steps=6)
    assert_identical(calm(workdir=tmp_path / "parts", resume=True), result)


def test_a_history_as_a_table(monkeypatch):
    pytest.importorskip("pandas")
    problem = PROBLEM._replace(metrics={"double": lambda w, lam, batch: 2 * w * batch.mean()})
    result = calm(problem=problem, data=DATA._replace(test=None))
    table = result.history.to_pandas()
    assert len(table) == 7 * 2
    at = table[(table.step == 4) & (table.seed_index == 1)].iloc[0]
    assert at.valid_loss == result.history.valid_loss[2, 1]
    assert at.double_train == result.history.metrics["double"].train[2, 1]
    assert at.hyperparams == np.median(result.history.hyperparams[2, 1])
    assert "test_loss" not in table
    monkeypatch.setattr(histories, "MOST_BYTES", 100)
    one = calm().seed(0).history.to_pandas()
    assert one.step[~np.isnan(one.hyperparams)].tolist() == THINNED
    assert repr(calm().history).startswith(
        "History(7 evaluations, to step 12, valid_loss=[73. 73.]"
    )


@pytest.mark.parametrize(
    ("outputs", "targets"),
    [
        ([[1, 2], [3, 0], [0, 1.0]], [1, 0, 0]),
        ([[1, 2], [3, 0], [0, 1.0]], [[0, 1.0], [1, 0], [1, 0]]),
    ],
)
def test_accuracy_by_hand(outputs, targets):
    assert metrics.accuracy(jnp.asarray(outputs), jnp.asarray(targets)) == pytest.approx(2 / 3)


def test_accuracy_refuses_other_targets():
    with pytest.raises(ValueError, match=r"whole numbers of shape \(3,\); got float32 of shape"):
        metrics.accuracy(jnp.zeros((3, 2)), jnp.zeros(3))
