"""The examples of docs/problems.md are run as they stand, and end where they should."""

import itertools

import jax
import numpy as np
import pages
import pytest
import scipy.optimize
from sklearn.linear_model import ElasticNet, LogisticRegression

import shohypernet as shn


@pytest.fixture(scope="module")
def names():
    """What the blocks define, run in order."""
    return pages.run("docs/problems.md")


def test_the_leader_leads_and_gradient_play_ends_at_nash(names):
    stackelberg, nash = names["stackelberg"], names["nash"]
    np.testing.assert_allclose(stackelberg.hyperparams, 4.5, rtol=0.01)
    np.testing.assert_allclose(stackelberg.params, 2.25, rtol=0.01)
    np.testing.assert_allclose([nash.hyperparams, nash.params], 3.0, rtol=0.01)


def test_the_leader_of_matching_pennies_plays_both_sides(names):
    strategy = jax.nn.softmax(names["mixed"].hyperparams)
    np.testing.assert_allclose(strategy, 0.5, atol=0.02)


def test_the_learner_of_moving_data_is_near_the_exact_one(names):
    """By the closed form of the owners' response, minimized over w from many starts."""
    train, valid = names["owners"][:2]

    def loss(w, rows):
        x, z, y = (np.asarray(part, np.float64) for part in rows)
        ratio = w @ w / names["cost"]
        return np.mean(((x @ w + ratio * z) / (1 + ratio) - y) ** 2)

    rng = np.random.default_rng(0)
    starts = [scipy.optimize.minimize(loss, rng.normal(size=3), (valid,)) for _ in range(10)]
    found = np.asarray(names["moved"].hyperparams, np.float64)
    assert loss(found, valid) <= 1.02 * min(each.fun for each in starts)
    untouched = np.linalg.lstsq(train[0], train[2], rcond=None)[0]
    assert loss(found, valid) < 0.8 * loss(untouched, valid)


def test_the_elastic_net_is_scikit_learn_s_at_the_tuned_decays(names):
    tuned = names["tuned"]
    l1, l2 = (float(tuned.hyperparams[name]) for name in ("l1", "l2"))
    model = ElasticNet(alpha=l1 + l2, l1_ratio=l1 / (l1 + l2), fit_intercept=False, tol=1e-8)
    train, valid, _ = jax.tree.map(lambda part: np.asarray(part, np.float64), names["splits"])
    expected = model.fit(train.inputs, train.targets).coef_
    np.testing.assert_allclose(tuned.params, expected, atol=1e-3)
    assert 0 < np.sum(np.asarray(tuned.params) == 0) < 25
    at_start = tuned.history.valid_loss[0], tuned.history.valid_loss[-1]
    assert at_start[1] < at_start[0]
    losses = []
    for l1, l2 in itertools.product(np.logspace(-3, 0, 8), repeat=2):
        model.set_params(alpha=l1 + l2, l1_ratio=l1 / (l1 + l2))
        weights = model.fit(train.inputs, train.targets).coef_
        losses.append(np.mean((valid.inputs @ weights - valid.targets) ** 2))
    assert tuned.history.valid_loss[-1] <= 1.02 * min(losses)


def test_the_sparse_group_lasso_can_be_trained(names):
    optimizer = shn.proximal.gradient(names["grouped"], 0.1)(names["decays"])
    trained = shn.train(
        names["by_group"],
        optimizer,
        jax.random.key(0),
        names["decays"],
        names["splits"][0],
        steps=50,
    )
    assert trained.train_losses[-1] < trained.train_losses[0]


def test_the_initialization_is_the_closed_form_of_maml(names):
    """θ* = (Σ M_i A_i M_i)⁻¹ Σ M_i A_i M_i c_i with M_i = I − αA_i, all of them diagonal here."""
    curvatures, centers = (np.asarray(names[name]) for name in ("curvatures", "centers"))
    weights = (1 - 0.4 * curvatures) ** 2 * curvatures
    expected = np.sum(weights * centers, axis=0) / np.sum(weights, axis=0)
    np.testing.assert_allclose(names["theta"], expected, atol=1e-4)


def test_the_generator_has_the_moments_of_the_data(names):
    real, found = names["real"], names["generator"]
    assert float(found["mean"]) == pytest.approx(real.mean(), abs=0.1)
    assert float(found["spread"]) == pytest.approx(real.std(), abs=0.1)


def test_distilled_images_train_another_program_s_model(names):
    """By scikit-learn's logistic regression, beside ten real images."""
    test, train = names["digits"].test, names["digits"].train
    labels = np.argmax(train.targets, axis=1)
    first = [np.flatnonzero(labels == label)[0] for label in range(10)]

    def accuracy(images):
        model = LogisticRegression(C=5.0).fit(np.asarray(images), np.arange(10))
        return model.score(np.asarray(test.inputs), np.argmax(test.targets, axis=1))

    assert accuracy(names["images"]) > max(0.75, accuracy(train.inputs[np.array(first)]) + 0.2)
