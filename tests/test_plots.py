"""Pictures of runs and searches: what they show, held against the numbers that they are made of."""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
import pytest

pytest.importorskip("matplotlib")

import matplotlib.pyplot as plt

import shohypernet as shn
from shohypernet import hypernets, plots
from shohypernet import hyperparameters as hp
from shohypernet.search import best_so_far

ADAM = optax.adam(1e-2)


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(16, 2)).astype(np.float32)
    split = inputs, inputs.sum(1, keepdims=True) + 1
    return shn.batches.Data(split, split, split)


@pytest.fixture(scope="module")
def problem(data):
    return shn.supervised(
        nn.Dense(1),
        data.train[0][:1],
        shn.losses.mean_squared_error,
        lambda params, lam: lam["unit"] * shn.penalties.weight_decay(params, lam["decay"]),
        space={"decay": hp.log(), "unit": hp.log()},
    )


@pytest.fixture(scope="module")
def method(problem):
    return shn.local_response(
        problem,
        hypernets.linear(),
        hypernet_optimizer=ADAM,
        hyper_optimizer=optax.adam(0.3),
        sampler=shn.samplers.local_gaussian(0.1),
    )


@pytest.fixture(scope="module")
def result(problem, method, data):
    decays = {"kernel": jnp.full((2, 1), 1e-3), "bias": 1e-3}
    start = {"decay": decays, "unit": 1.0}
    return shn.fit(problem, method, data, start, steps=30, eval_every=10, seeds=[0, 1])


def lines(figure):
    return {
        line.get_label(): line.get_xydata()
        for axes in figure.axes
        for line in axes.lines
        if not str(line.get_label()).startswith("_")
    }


def test_losses_after_the_start(result):
    history = result.history
    drawn = lines(plots.losses(result))
    assert list(drawn) == ["train", "validation", "test"]
    means = history.valid_loss.mean(1)[1:]
    np.testing.assert_allclose(drawn["validation"], np.stack([[10, 20, 30], means], 1), rtol=1e-6)
    one = lines(plots.losses(result.seed(0)))
    np.testing.assert_allclose(one["test"][:, 1], history.test_loss[1:, 0], rtol=1e-6)


def test_hyperparameters_have_a_panel_for_each_array(result):
    figure = plots.hyperparams(result.seed(1))
    titles = [axes.get_title() for axes in figure.axes if axes.lines]
    assert titles == ["decay.bias", "decay.kernel (2)", "unit"]
    decays = result.seed(1).history.hyperparams["decay"]["kernel"].reshape(4, 2)
    middle = figure.axes[1].lines[0].get_ydata()
    np.testing.assert_allclose(middle, np.median(decays, 1), rtol=1e-6)
    with pytest.raises(ValueError, match=r"one seed of \(0, 1\)"):
        plots.hyperparams(result)


def test_a_response_and_where_the_run_ended(method, result, data):
    one = result.seed(0)
    tuned = float(one.hyperparams["decay"]["bias"])
    values = [tuned, 100 * tuned]
    curve = shn.response.slice(method, one, data, {"decay.bias": values})
    drawn = lines(plots.response(curve))
    np.testing.assert_allclose(drawn["valid"], np.stack([values, curve.losses.valid], 1))
    np.testing.assert_allclose(drawn["where the run ended"][:, 0], tuned)
    both = shn.response.slice(method, one, data, {"decay.bias": values, "unit": [0.5, 1.0, 2.0]})
    figure = plots.response(both)
    assert figure.axes[0].get_xlabel() == "decay.bias"
    assert figure.axes[0].get_ylabel() == "unit"
    end = lines(figure)["where the run ended"]
    np.testing.assert_allclose(end, [[tuned, float(one.hyperparams["unit"])]])
    with pytest.raises(ValueError, match="a curve of several has no axis"):
        plots.response(curve._replace(axes={}))


@pytest.fixture(scope="module")
def found(data):
    # The first hyperparameter alone tells trials apart.
    problem = shn.Problem(
        lambda key: jnp.zeros(()),
        lambda w, lam, batch, key: (w - lam["target"]) ** 2 + 1e-6 * w * lam["nothing"],
        lambda w, lam, batch: (lam["target"] - 0.3) ** 2 + 1e-6 * w,
        space={"target": hp.bounded(0.0, 1.0), "nothing": hp.bounded(0.0, 1.0)},
    )
    start = {"target": 0.5, "nothing": 0.5}
    random = shn.search.random_search(steps=1)
    return shn.search.run(problem, random, data, start, optimizer=ADAM, budget=80, seeds=[0, 1])


def test_a_search_s_best_so_far_is_drawn(found):
    drawn = lines(plots.search(found.seed(0)))
    np.testing.assert_allclose(drawn["best so far"][:, 1], best_so_far(found.measured[0])[0])
    assert len(drawn["trials"]) == 80
    plots.search(found)


def test_importance_is_that_of_what_tells_trials_apart(found):
    pytest.importorskip("optuna")
    each = plots.importances(found.seed(0))
    assert list(each) == ["target", "nothing"]
    assert sum(each.values()) == pytest.approx(1)
    assert each["target"] > 0.8
    assert len(plots.importance(found.seed(1)).axes[0].patches) == 2
    with pytest.raises(ValueError, match=r"one seed of \(0, 1\)"):
        plots.importance(found)
