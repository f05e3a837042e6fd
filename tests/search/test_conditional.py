"""Searches of conditional spaces: what isn't there costs nothing, and is never tried twice."""

import jax
import numpy as np
import optuna
import pytest
from scipy import stats
from searching import answered

from shohypernet import hyperparameters as hp
from shohypernet.plots import importances
from shohypernet.search import (
    Measured,
    SearchResult,
    bayesian,
    freeze_thaw,
    grid_search,
    hyperband,
    optuna_search,
    random_search,
    tpe,
)

# Layers of a network, and a rule that is there for SGD alone: each has a tree of its own.
DISCRETE = {
    "kind": hp.categorical("sgd", "adam"),
    "rule": hp.conditional(hp.categorical("nesterov", "heavy ball"), kind="sgd"),
    "depth": hp.integer(1, 3),
    "second": hp.conditional(hp.categorical(4, 8, 16), depth=(2, 3)),
    "third": hp.conditional(hp.categorical(4, 8), depth=3),
    "blocks": hp.conditional(hp.integer(1, 5), third=8),
}
# By hand: of 1, 2 and 3 layers 1, 3 and 3 · (1 + 5); times two rules for SGD, none for Adam.
DIFFERENT = (1 + 3 + 3 * (1 + 5)) * (2 + 1)
MIXED = {
    "kind": DISCRETE["kind"],
    "momentum": hp.conditional(hp.bounded(0.0, 0.8), kind="sgd"),
    "rate": hp.log(),
    "rule": DISCRETE["rule"],
}


def form(space):
    return dict.fromkeys(space, np.zeros((), np.float32))


def rows(space, proposals):
    """All λ in natural units, a dict for each."""
    codes = jax.tree.map(
        lambda *leaves: np.concatenate(leaves), *[p.hyperparams for p in proposals]
    )
    values = {name: np.asarray(column) for name, column in hp.decode(space, codes).items()}
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]


def seen(row):
    """A trial as who writes the network sees it: nothing of what isn't there."""
    names = ["kind", "depth"]
    names += ["rule"] if row["kind"] == 0 else []
    names += ["second"] if row["depth"] > 1 else []
    names += ["third"] if row["depth"] == 3 else []
    names += ["blocks"] if row["depth"] == 3 and row["third"] == 1 else []
    return tuple((name, int(row[name])) for name in names)


@pytest.mark.filterwarnings("ignore:BruteForceSampler is experimental")
@pytest.mark.parametrize(
    "method",
    [
        grid_search(points=9, steps=1, population=25),
        random_search(steps=1, population=25),
        optuna_search(lambda seed: optuna.samplers.BruteForceSampler(seed=0), steps=1),
    ],
    ids=["grid", "random", "brute force"],
)
def test_every_combination_is_tried_once_and_ends_the_search(method):
    proposals, _ = answered(method, DISCRETE, form(DISCRETE), 99, lambda tree: tree["kind"])
    tried = [seen(row) for row in rows(DISCRETE, proposals)]
    assert len(tried) == len(set(tried)) == DIFFERENT == 66


def test_a_grid_has_the_values_of_what_is_there():
    space = {name: MIXED[name] for name in ("kind", "momentum", "rate")}
    proposals, _ = answered(grid_search(points=4, steps=1), space, form(space), 9, np.size)
    found = [
        (row["kind"], *np.round([row["momentum"], np.log10(row["rate"])], 3))
        for row in rows(space, proposals)
    ]
    rates = [-5, -3, -1, 1]
    expected = [(0, momentum, rate) for momentum in (0.1, 0.3, 0.5, 0.7) for rate in rates]
    assert sorted(found) == sorted(expected + [(1, 0.4, rate) for rate in rates])


def test_random_search_draws_branches_by_their_prior():
    """Of "b" there is one combination, of "a" there are nine: both come first as often."""
    space = {"kind": hp.categorical("a", "b"), "n": hp.conditional(hp.integer(1, 9), kind="a")}
    asker = random_search(steps=1, population=1).bind(space, form(space))
    keys = jax.random.split(jax.random.key(0), 200)
    kinds = [int(asker.ask(key, asker.init(key))[1].hyperparams["kind"][0]) for key in keys]
    assert stats.binomtest(sum(kinds), 200).pvalue > 1e-3


@pytest.mark.parametrize(
    "method",
    [
        random_search(steps=1, population=12),
        hyperband(resource=9, unit_steps=1, eta=3),
        bayesian(steps=1, initial=6, population=2),
        freeze_thaw(unit_steps=1, units=2, initial=6),
        tpe(steps=1, population=6),
    ],
    ids=["random", "hyperband", "bayesian", "freeze-thaw", "tpe"],
)
def test_inactive_values_are_one_constant_to_the_bit(method):
    def loss(tree):
        return np.asarray(tree["rate"]) ** 2 + np.asarray(tree["kind"])

    proposals, state = answered(method, MIXED, form(MIXED), 3, loss)
    trials = rows(MIXED, proposals)
    assert {row["momentum"] for row in trials if row["kind"] == 1} == {np.float32(0.4)}
    assert {row["rule"] for row in trials if row["kind"] == 1} == {1}
    assert len({row["momentum"] for row in trials if row["kind"] == 0}) > 1
    if hasattr(state, "points"):
        # What the model is told lies in the cube as what is trained.
        kinds, momenta = state.points[:, [0, 1]].T
        assert set(momenta[kinds > 0.5]) == {0.5}


@pytest.mark.parametrize("method", [bayesian(steps=1, initial=4), freeze_thaw(unit_steps=1)])
def test_models_are_told_the_points_that_were_trained(method):
    """After trials to begin with, of which there are fewer than in the first proposal."""
    space = {name: MIXED[name] for name in ("kind", "momentum", "rate")}
    asker = method.bind(space, form(space))
    first = {"kind": np.float32([1]), "momentum": np.float32([0]), "rate": np.float32([-2])}
    state = asker.enqueue(asker.init(jax.random.key(0)), first)
    state, proposal = asker.ask(jax.random.key(0), state)
    points = getattr(state, "pending", state.points)
    order = sorted(space)
    again = [np.asarray(space[name].cdf(proposal.hyperparams[name])) for name in order]
    kinds = order.index("kind")
    bins = np.where(np.arange(3) == kinds, np.floor(points * 2) / 2 + 0.25, points)
    np.testing.assert_allclose(np.stack(again, 1), bins, atol=1e-4)
    assert len(points) > 3


# --- TPE: define by run -----------------------------------------------------------------------

BRANCHES = {
    "kind": hp.categorical("wide", "narrow"),
    **{f"wide{i}": hp.conditional(hp.bounded(0.0, 1.0), kind="wide") for i in range(3)},
    "narrow": hp.conditional(hp.bounded(0.0, 1.0), kind="narrow"),
}


def quadratic(codes):
    """At best 0.1 in the branch of three numbers, 0 in that of one, at 0.3."""
    values = {name: np.asarray(leaf) for name, leaf in hp.decode(BRANCHES, codes).items()}
    wide = 0.1 + sum((values[f"wide{i}"] - 0.5) ** 2 for i in range(3))
    return np.where(values["kind"] == 0, wide, (values["narrow"] - 0.3) ** 2)


@pytest.fixture(scope="module")
def study():
    method = tpe(steps=1, storage=optuna.storages.InMemoryStorage())
    return method, *answered(method, BRANCHES, form(BRANCHES), 45, quadratic)


def test_tpe_finds_the_optimum_of_the_smaller_branch(study):
    _, proposals, _ = study
    losses = np.concatenate([quadratic(each.hyperparams) for each in proposals])
    best = rows(BRANCHES, proposals)[np.argmin(losses)]
    assert best["kind"] == 1
    assert abs(best["narrow"] - 0.3) < 0.05
    late = [row["kind"] for row in rows(BRANCHES, proposals)[25:]]
    assert np.mean(late) > 0.7


def test_a_study_s_trials_hold_what_was_there(study):
    method, proposals, state = study
    for trial, row in zip(state.study.optuna.get_trials(), rows(BRANCHES, proposals), strict=True):
        names = ["narrow"] if row["kind"] else ["wide0", "wide1", "wide2"]
        assert sorted(trial.params) == sorted(["kind", *names])
        for name in names:
            np.testing.assert_allclose(trial.params[name], row[name], atol=1e-6)
    # Trials that outlive a run are recalled with the constants of what was not there.
    recalled = method.bind(BRANCHES, form(BRANCHES)).recall(state, np.arange(len(proposals)))
    for name, leaf in recalled.items():
        asked = np.concatenate([each.hyperparams[name] for each in proposals])
        np.testing.assert_array_equal(leaf, asked)


# --- results ----------------------------------------------------------------------------------


def result_of(codes, losses):
    """A result of trials whose losses are given."""
    count, natural = len(losses), hp.decode(BRANCHES, codes)
    best = jax.tree.map(lambda leaf: leaf[np.argmin(losses)], codes)
    columns = np.arange(count), np.ones(count, int), np.arange(count) + 1, np.zeros(count), losses
    measured = Measured(*columns, np.full(count, np.nan), natural, codes)
    at = hp.decode(BRANCHES, best), best
    return SearchResult(*at, 0.0, (), losses.min(), np.nan, measured, None, 0.0, 0, BRANCHES)


@pytest.fixture(scope="module")
def found():
    """The kind tells trials apart, and "narrow" where it is there; "wide0" and its kin nothing."""
    proposals, _ = answered(
        random_search(steps=1, population=150),
        BRANCHES,
        form(BRANCHES),
        1,
        lambda tree: tree["kind"],
    )
    codes = proposals[0].hyperparams
    values = {name: np.asarray(leaf) for name, leaf in hp.decode(BRANCHES, codes).items()}
    noise = np.random.default_rng(0).random(150)
    return result_of(codes, np.where(values["kind"] == 1, values["narrow"], 1 + noise))


def test_results_say_what_was_inactive(found, tmp_path):
    narrow = f"{float(found.hyperparams['narrow']):.4g}"
    inactive = "wide0 inactive, wide1 inactive, wide2 inactive"
    assert f"kind narrow, narrow {narrow}, {inactive}" in found.describe()
    table = found.to_pandas()
    kinds = np.asarray(found.measured.hyperparams["kind"])
    assert table["kind"].tolist() == [["wide", "narrow"][code] for code in kinds]
    np.testing.assert_array_equal(table["narrow"].isna(), kinds == 0)
    np.testing.assert_array_equal(table["wide1"].isna(), kinds == 1)
    np.testing.assert_allclose(
        table["narrow"][kinds == 1], found.measured.hyperparams["narrow"][kinds == 1]
    )
    found.save(tmp_path / "result.npz")
    again = SearchResult.load(tmp_path / "result.npz")
    assert again.describe() == found.describe()
    assert again.to_pandas().equals(table)


def test_importance_is_not_that_of_constants(found):
    """Among good trials all that is inactive is one number, which tells nothing."""
    pytest.importorskip("optuna")
    each = importances(found)
    assert list(each)[:2] == ["kind", "narrow"] or list(each)[:2] == ["narrow", "kind"]
    assert sum(each[f"wide{i}"] for i in range(3)) < 1e-3
    plain = found._replace(space={name: spec.bare for name, spec in BRANCHES.items()})
    assert sum(importances(plain)[f"wide{i}"] for i in range(3)) > 0.03
