"""Cross-validation in one run, against scikit-learn's and against folds that are run by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import PredefinedSplit, cross_val_score

import shohypernet as shn
from shohypernet.batches import Examples

FOLDS, FEATURES = 3, 4
RNG = np.random.default_rng(0)
WEIGHTS = RNG.normal(size=FEATURES)


def drawn(count):
    inputs = RNG.normal(size=(count, FEATURES)).astype(np.float32)
    targets = inputs @ WEIGHTS + RNG.normal(size=count)
    return Examples(inputs, targets.astype(np.float32))


EXAMPLES, TEST = drawn(24), drawn(8)


def squared_error(params, batch):
    return jnp.mean((batch.inputs @ params - batch.targets) ** 2)


PROBLEM = shn.Problem(
    init=lambda key: jax.random.normal(key, (FEATURES,)),
    train_loss=lambda params, decay, batch, key: (
        squared_error(params, batch) + decay * jnp.sum(params**2)
    ),
    valid_loss=lambda params, decay, batch: squared_error(params, batch),
    space=shn.hyperparameters.log(),
    metrics={"bias": lambda params, decay, batch: jnp.mean(batch.inputs @ params - batch.targets)},
)
TUNED = shn.cross_validation(PROBLEM, FOLDS)


def implicit(hyper_optimizer, problem=PROBLEM):
    return shn.implicit(
        problem,
        optimizer=optax.sgd(0.05),
        hyper_optimizer=hyper_optimizer,
        solver=shn.linear_solvers.conjugate_gradient(2 * FEATURES),
    )


def scores(decay):
    """Scikit-learn's losses of each fold; it minimizes a sum over examples, ours is a mean."""
    count = len(EXAMPLES.targets)
    alpha = decay * (count - count // FOLDS)
    by_fold = PredefinedSplit(np.arange(count) % FOLDS)
    model = Ridge(alpha, fit_intercept=False)
    return -cross_val_score(model, *EXAMPLES, cv=by_fold, scoring="neg_mean_squared_error")


@pytest.mark.parametrize("by", ["the method of one fold", "the problem of all folds"])
def test_the_decay_is_the_one_that_scikit_learn_validates_best(by):
    adam = optax.adam(optax.cosine_decay_schedule(0.1, 150))
    one = by == "the method of one fold"
    method = TUNED.method(implicit, adam) if one else implicit(adam, TUNED.problem)
    data = TUNED.split(EXAMPLES, TEST)
    found = shn.fit(TUNED.problem, method, data, 0.01, steps=150, inner_steps=40, progress=False)
    grid = np.geomspace(0.02, 2.0, 400)
    best = grid[np.argmin([scores(decay).mean() for decay in grid])]
    assert grid[1] < best < grid[-2]
    assert found.hyperparams == pytest.approx(best, rel=0.02)
    assert found.history.valid_loss[-1] == pytest.approx(scores(found.hyperparams).mean(), rel=1e-4)
    assert np.shape(found.params) == (FOLDS, FEATURES)
    of_folds = [squared_error(params, TEST) for params in found.params]
    assert found.history.test_loss[-1] == pytest.approx(np.mean(of_folds), rel=1e-5)


def test_every_example_validates_once_and_trains_in_all_other_folds():
    numbers = np.arange(11)
    data = TUNED.split(numbers, test=np.arange(100, 102))
    assert [sorted(fold) for fold in np.asarray(data.valid).T] == [[0, 3, 6], [1, 4, 7], [2, 5, 8]]
    for kept, held in zip(np.asarray(data.train).T, np.asarray(data.valid).T, strict=True):
        assert sorted([*kept, *held]) == [*numbers]
    np.testing.assert_array_equal(data.test, [[100] * 3, [101] * 3])


def test_a_step_is_the_mean_of_the_folds_own_steps():
    """Gradients of λ are taken from updates by gradient descent of step size 1."""
    method = TUNED.method(implicit, optax.sgd(1.0))
    data = TUNED.split(EXAMPLES)
    key, start = jax.random.key(3), jnp.log(0.3)
    batches = jax.tree.map(lambda leaf: leaf[None].repeat(5, axis=0), data.train)
    found, info = method.step(key, method.init(key, start), batches, data.valid)
    alone = implicit(optax.sgd(1.0))
    states, infos = zip(
        *(
            alone.step(
                jax.random.split(key, FOLDS)[i],
                alone.init(jax.random.split(key, FOLDS)[i], start),
                jax.tree.map(lambda leaf, i=i: leaf[:, :, i], batches),
                jax.tree.map(lambda leaf, i=i: leaf[:, i], data.valid),
            )
            for i in range(FOLDS)
        ),
        strict=True,
    )
    moved = np.array([state.hyperparams - start for state in states])
    assert np.ptp(moved) > 1e-3
    np.testing.assert_allclose(found.hyperparams - start, moved.mean(), rtol=1e-4)
    for got, state in zip(method.weights(found), states, strict=True):
        np.testing.assert_allclose(got, alone.weights(state), rtol=1e-5)
    costs = [each.gradient_evaluations for each in infos]
    assert info.gradient_evaluations == sum(costs)
    assert info.valid_loss == pytest.approx(np.mean([each.valid_loss for each in infos]), rel=1e-5)


class Normalized(nn.Module):
    """A hidden layer with batch statistics."""

    @nn.compact
    def __call__(self, inputs, train=True):
        hidden = nn.BatchNorm(use_running_average=not train)(nn.Dense(4)(inputs))
        return nn.Dense(1)(nn.relu(hidden))


def test_layers_and_statistics_are_those_of_each_fold():
    def loss(outputs, targets):
        return jnp.mean((outputs[:, 0] - targets) ** 2)

    problem = shn.supervised(
        Normalized(),
        EXAMPLES.inputs[:1],
        loss,
        shn.penalties.weight_decay,
        space=shn.hyperparameters.log(),
        train_kwargs={"train": True},
        eval_kwargs={"train": False},
    )
    folds = shn.cross_validation(problem, FOLDS)

    def build(hyper_optimizer):
        return shn.centered_response(
            problem,
            shn.jacobians.kronecker(),
            optimizer=optax.sgd(0.05),
            hyper_optimizer=hyper_optimizer,
        )

    data = folds.split(EXAMPLES, TEST)
    decays = shn.penalties.decays(shn.problem.param_shapes(problem), 1e-2, per="layer")
    method = folds.method(build, optax.adam(0.1))
    found = shn.fit(folds.problem, method, data, decays, steps=3, inner_steps=4, progress=False)
    # A model of each fold, with its own statistics, used as Flax uses it.
    losses = []
    for i in range(FOLDS):
        params, state = jax.tree.map(lambda leaf, i=i: leaf[i], (found.params, found.model_state))
        outputs = Normalized().apply({"params": params, **state}, TEST.inputs, train=False)
        losses.append(loss(outputs, TEST.targets))
    assert np.ptp(losses) > 1e-3
    assert found.history.test_loss[-1] == pytest.approx(np.mean(losses), rel=1e-4)
    started = jax.tree.leaves(decays)
    assert all(
        now != then for now, then in zip(jax.tree.leaves(found.hyperparams), started, strict=True)
    )


def test_searches_take_the_folds_as_any_problem():
    found = shn.search.run(
        TUNED.problem._replace(space=shn.hyperparameters.log(prior=(1e-2, 1.0))),
        shn.search.grid_search(points=3, steps=200),
        TUNED.split(EXAMPLES),
        0.0,
        budget=600,
        optimizer=optax.sgd(0.05),
        progress=False,
    )
    middles = 10 ** (-2 + 2 * np.array([1, 3, 5]) / 6)  # of thirds of the prior
    losses = {decay: scores(decay).mean() for decay in middles}
    assert found.hyperparams == pytest.approx(min(losses, key=losses.get), rel=1e-5)
    assert found.valid_loss == pytest.approx(min(losses.values()), rel=1e-3)


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"folds to be a whole number >= 2, got 1"):
        shn.cross_validation(PROBLEM, 1)
    with pytest.raises(TypeError, match=r"cross_validation\(\) needs a shn.Problem"):
        shn.cross_validation({"kernel": jnp.zeros(2)}, 5)
    with pytest.raises(ValueError, match="3 folds need as many examples at least, got 2"):
        TUNED.split(np.zeros(2))
    with pytest.raises(ValueError, match="method of the problem that cross_validation"):
        TUNED.method(lambda optimizer: implicit(optimizer, TUNED.problem), optax.sgd(1.0))
    with pytest.raises(TypeError, match="it returned NoneType"):
        TUNED.method(lambda optimizer: None, optax.sgd(1.0))
