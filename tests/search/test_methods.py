"""Random and grid search, successive halving and Hyperband against tables and sums by hand."""

import itertools

import jax
import numpy as np
import pytest
from scipy import stats
from searching import answered

from shohypernet import hyperparameters as hp
from shohypernet.search import (
    Search,
    bayesian,
    freeze_thaw,
    grid_search,
    hyperband,
    random_search,
    successive_halving,
    tpe,
)
from shohypernet.search._hyperband import brackets

MIXED = {
    "decay": hp.log(1e-4, 1.0),
    "layers": hp.integer(1, 4),
    "act": hp.categorical("relu", "tanh"),
}
LIKE = {"decay": np.zeros(2), "layers": np.zeros(()), "act": np.zeros(())}
REAL = hp.real(), np.zeros(())

BUILDERS = {
    "random_search": lambda **sizes: random_search(**{"steps": 1} | sizes),
    "grid_search": lambda **sizes: grid_search(**{"points": 3, "steps": 1} | sizes),
    "successive_halving": lambda **sizes: successive_halving(**{"steps": 1} | sizes),
    "hyperband": lambda **sizes: hyperband(**{"unit_steps": 1} | sizes),
}


@pytest.mark.parametrize("name", BUILDERS)
def test_an_empty_space_is_refused(name):
    for space, like in ((hp.real(), np.zeros(0)), ({}, {})):
        with pytest.raises(ValueError, match="empty; a search needs one hyperparameter or more"):
            BUILDERS[name]().bind(space, like)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("random_search", {"steps": 0}),
        ("random_search", {"population": 2.5}),
        ("grid_search", {"points": 0}),
        ("successive_halving", {"population": 0}),
        ("successive_halving", {"eta": 1}),
        ("hyperband", {"resource": 0}),
        ("hyperband", {"unit_steps": True}),
        ("hyperband", {"eta": 1}),
    ],
)
def test_bad_sizes_are_refused(name, sizes):
    with pytest.raises(ValueError, match=rf"^{name}\(\) needs {next(iter(sizes))} to be"):
        BUILDERS[name](**sizes)


# --- random and grid --------------------------------------------------------------------------


def test_random_search_follows_the_prior_and_repeats_nothing():
    method = random_search(steps=7, population=500)
    (first, second), _ = answered(method, MIXED, LIKE, 2, lambda tree: tree["layers"])
    assert first.steps == 7
    assert (first.trials[-1], second.trials[0]) == (499, 500)
    decays = np.concatenate(
        [hp.decode(MIXED, each.hyperparams)["decay"] for each in (first, second)]
    )
    assert len(np.unique(decays, axis=0)) == 1_000
    assert stats.kstest(decays.ravel(), stats.loguniform(1e-4, 1.0).cdf).pvalue > 1e-3


def test_grid_search_tries_every_combination_once():
    method = grid_search(points=3, steps=1, population=20)
    proposals, _ = answered(method, MIXED, LIKE, 100, lambda tree: tree["layers"])
    assert [len(each.trials) for each in proposals] == [20, 20, 14]  # 2 · 3² · 3
    tried = jax.tree.map(
        lambda *leaves: np.concatenate(leaves),
        *[hp.decode(MIXED, each.hyperparams) for each in proposals],
    )
    # The decays are 10 to the −4 + 4·(1, 3, 5)/6: above −4, in sixths of a decade, 4, 12 and 20.
    sixths = np.rint((np.log10(tried["decay"]) + 4) * 6).astype(int)
    rows = zip(tried["act"].tolist(), *sixths.T.tolist(), tried["layers"].tolist(), strict=True)
    assert sorted(rows) == sorted(itertools.product([0, 1], [4, 12, 20], [4, 12, 20], [1, 3, 4]))
    np.testing.assert_allclose(np.log10(tried["decay"]) * 6 + 24, sixths, atol=1e-3)


def test_a_grid_too_large_to_try_is_refused():
    with pytest.raises(ValueError, match="50 axes is more than 1,000,000 trials"):
        grid_search(points=10, steps=1).bind(hp.log(), np.zeros(50))


# --- successive halving and Hyperband ---------------------------------------------------------


def test_hyperbands_brackets_are_the_papers():
    """Table 1 of the paper: n_i and r_i for R = 81 and η = 3, s from 4 to 0."""
    assert brackets(81, 3) == [
        [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        [(34, 3), (11, 9), (3, 27), (1, 81)],
        [(15, 9), (5, 27), (1, 81)],
        [(8, 27), (2, 81)],
        [(5, 81)],
    ]


def test_brackets_of_other_sizes_by_hand():
    # s_max = ⌊log₂ 5⌋ = 2, though log₂ 5 is no whole number: r = 5/4, 5/2, 5 units of 8 steps.
    assert brackets(5, 2, unit_steps=8) == [
        [(4, 10), (2, 20), (1, 40)],
        [(3, 20), (1, 40)],
        [(3, 40)],
    ]
    # ⌊log_10 1000⌋ is 3, where floating-point logarithms give 2.9999….
    assert len(brackets(1000, 10)) == 4


def test_hyperband_follows_its_brackets_over_and_over():
    method = hyperband(resource=9, unit_steps=10)
    proposals, _ = answered(method, *REAL, 7, lambda hyperparams: hyperparams)
    # Steps are those to be added to what a trial has had.
    table = [(len(each.trials), each.steps) for each in proposals]
    assert table == [(9, 10), (3, 20), (1, 60), (5, 30), (1, 60), (3, 90), (9, 10)]
    starts = [proposals[i].trials for i in (0, 3, 5, 6)]
    np.testing.assert_array_equal(np.concatenate(starts), np.arange(9 + 5 + 3 + 9))
    first, again = proposals[0].hyperparams, proposals[6].hyperparams
    assert not set(first.tolist()) & set(again.tolist())


def test_successive_halving_goes_on_with_the_best():
    method = successive_halving(population=10, steps=4, eta=3)

    def loss(hyperparams):
        losses = np.abs(np.asarray(hyperparams))
        losses[losses == losses.min()] = np.inf  # the best has diverged
        return losses

    (first, second, third, restart), _ = answered(method, *REAL, 4, loss)
    order = np.argsort(np.abs(first.hyperparams))[1:]
    assert second.trials.tolist() == first.trials[order[:3]].tolist()
    np.testing.assert_array_equal(second.hyperparams, first.hyperparams[order[:3]])
    assert third.trials.tolist() == [first.trials[order[1]]]
    assert [each.steps for each in (first, second, third, restart)] == [4, 8, 24, 4]
    assert restart.trials.tolist() == list(range(10, 20))
    assert [len(each.kept) for each in (first, second, third)] == [10, 3, 0]


# --- no repeats, and trials to begin with -----------------------------------------------------

DISCRETE = {"layers": hp.integer(1, 4), "act": hp.categorical("relu", "tanh", "gelu")}
NUMBERS = {"layers": np.zeros(()), "act": np.zeros(())}


def tried(proposals):
    """All λ in natural units, as tuples in the order of their trials."""
    codes = jax.tree.map(
        lambda *leaves: np.concatenate(leaves), *[each.hyperparams for each in proposals]
    )
    values = hp.decode(DISCRETE, codes)
    return list(zip(values["act"].tolist(), values["layers"].tolist(), strict=True))


@pytest.mark.parametrize("method", [random_search, lambda **sizes: grid_search(points=9, **sizes)])
def test_discrete_points_come_once_each_and_end_the_search(method):
    proposals, _ = answered(
        method(steps=1, population=5), DISCRETE, NUMBERS, 9, lambda tree: tree["act"]
    )
    assert sorted(tried(proposals)) == sorted(itertools.product(range(3), range(1, 5)))
    trials = np.concatenate([each.trials for each in proposals])
    np.testing.assert_array_equal(trials, np.arange(12))


def test_draws_without_replacement_are_uniform():
    """The first of six points, over 600 seeds, by a χ² test."""
    asker = random_search(steps=1, population=1).bind(hp.integer(0, 5), np.zeros(()))
    keys = jax.random.split(jax.random.key(0), 600)
    firsts = [int(asker.ask(key, asker.init(key))[1].hyperparams[0]) for key in keys]
    assert stats.chisquare(np.bincount(firsts, minlength=6)).pvalue > 1e-3


@pytest.mark.parametrize(
    ("method", "first", "distinct"),
    [
        (random_search(steps=1, population=5), 5, True),
        (grid_search(points=9, steps=1, population=5), 5, False),
        (successive_halving(population=4, steps=1, eta=2), 4, False),
        (hyperband(resource=4, unit_steps=1, eta=2), 4, False),
        (bayesian(steps=1, initial=3), 3, False),
        (freeze_thaw(unit_steps=1, initial=3), 3, False),
        (tpe(steps=1, population=3), 3, False),
    ],
    ids=["random", "grid", "halving", "hyperband", "bayesian", "freeze-thaw", "tpe"],
)
def test_trials_to_begin_with_come_first(method, first, distinct):
    queue = {"act": np.float32([2, 0]), "layers": np.float32([3, 1])}

    def enqueued(key):
        return asker.enqueue(asker.init(key), queue)

    asker = method.bind(DISCRETE, NUMBERS)
    begun = Search(lambda space, like: asker._replace(init=enqueued), 1)
    proposals, _ = answered(begun, DISCRETE, NUMBERS, 4, lambda tree: tree["layers"])
    assert len(proposals[0].trials) == first
    assert tried(proposals)[:2] == [(2, 3), (0, 1)]
    if distinct:
        everything = tried(answered(begun, DISCRETE, NUMBERS, 9, lambda tree: tree["act"])[0])
        assert len(everything) == len(set(everything)) == 12


def test_a_queue_longer_than_a_rung_goes_on_in_the_next_bracket():
    method = successive_halving(population=2, steps=1, eta=2)
    asker = method.bind(*REAL)
    queue = np.float32([7, 8, 9])
    begun = Search(
        lambda space, like: asker._replace(init=lambda key: asker.enqueue(asker.init(key), queue)),
        1,
    )
    proposals, _ = answered(begun, *REAL, 4, lambda tree: tree)
    assert proposals[0].hyperparams.tolist() == [7, 8]
    assert proposals[2].hyperparams.tolist()[0] == 9
