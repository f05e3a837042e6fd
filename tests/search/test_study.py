"""Stored studies: of one search only, and ended by samplers that have tried every point."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optuna
import pytest
from searching import answered

from shohypernet import Problem
from shohypernet import hyperparameters as hp
from shohypernet.batches import Data
from shohypernet.search import optuna_search, tpe
from shohypernet.search._identity import differences, identity
from shohypernet.search._static import Variants

ROWS = Data(*(np.ones((4, 1), np.float32),) * 3)
TARGETS = np.ones(3, np.float32)
CHANGES = {
    "another range": {"space": {"a": hp.log(1.0, 1e3)}},
    "another kind of the same range": {"space": {"a": hp.bounded(1e-3, 1.0)}},
    "choices in another order": {"space": {"a": hp.categorical("v", "u")}},
    "more choices": {"space": {"a": hp.categorical("u", "v", "w")}},
    "an array in place of a number": {"like": {"a": np.zeros(2, np.float32)}},
    "other data": {"data": ROWS._replace(valid=np.zeros((4, 1), np.float32))},
    "more steps": {"steps": 2},
    "minibatches": {"batch_size": 2},
    "another step size": {"optimizer": optax.sgd(0.2)},
    "another optimizer": {"optimizer": optax.adam(0.1)},
    "another number in a loss": {"best": 10.0},
    "another array in a loss": {"targets": 2 * TARGETS},
}


def made(best=0.1, targets=TARGETS, space=None):
    """A problem whose functions are made at each call, with what JAX prints by its address."""

    @jax.custom_jvp
    def square(x):
        return x**2

    square.defjvps(lambda tangent, value, x: 2 * x * tangent)

    @jax.jit
    def distance(w):
        return jnp.sum((jax.nn.relu(w) - targets) ** 2)

    return Problem(
        init=lambda key: jnp.zeros(()),
        train_loss=lambda w, lam, batch, key: square(w - jnp.sum(lam["a"])) + distance(w),
        valid_loss=lambda w, lam, batch: (jnp.sum(lam["a"]) - best) ** 2 + jnp.mean(w * batch),
        space=space or {"a": hp.log(1e-3, 1.0)},
    )


def described(like=None, data=ROWS, optimizer=None, steps=1, batch_size=None, **of_problem):
    like = like or {"a": np.zeros((), np.float32)}
    optimizer = optimizer or optax.sgd(0.1)
    return identity(Variants(made(**of_problem), optimizer, batch_size, {}), like, data, steps)


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_search_is_another(change):
    assert differences(described(), described(**CHANGES[change]))


def test_the_same_functions_made_again_are_the_same():
    assert not differences(described(), described())


def test_functions_are_choices_by_their_names():
    """Of a process that made them again, at other addresses."""

    def spaces():
        def square(x):
            return x**2

        return {"a": hp.categorical(square, functools.partial(square, 1), (64, 64))}

    assert not differences(described(space=spaces()), described(space=spaces()))
    fewer = hp.categorical(*spaces()["a"].choices[:2])
    assert differences(described(space=spaces()), described(space={"a": fewer}))


def test_what_two_releases_of_jax_trace_is_not_compared(monkeypatch):
    here = described()
    monkeypatch.setattr(jax, "__version__", "0.0.1")
    assert not differences(here, described(best=3.0))
    assert differences(here, described(steps=2))


def test_a_study_of_another_search_is_refused_and_says_what_differs(search, tmp_path):
    method = tpe(steps=1, trials=4, storage=f"sqlite:///{tmp_path}/study.db")

    def stored(problem, **kwargs):
        start = {"a": 0.0}
        return search(method, problem, start, budget=2, batch_size=None, **kwargs)

    problem = made()
    for seed in (0, 1):  # any seed may join
        assert len(stored(problem, seeds=seed).measured.trial) == 2
    with pytest.raises(ValueError, match=r"another search.*\n  inner run .* was crc32") as refused:
        stored(made(best=10.0))
    assert "space" not in str(refused.value)
    differing = r"space\.a: was BoundedLog\(.* is Bounded\(.*\n.*another study_name"
    with pytest.raises(ValueError, match=differing):
        stored(problem._replace(space={"a": hp.bounded(1e-3, 1.0)}))


EXHAUSTIVE = {
    "grid": lambda seed: optuna.samplers.GridSampler({"a": [1, 2, 3], "b": [0, 1]}, seed=0),
    "brute force": lambda seed: optuna.samplers.BruteForceSampler(seed=0),
}
POINTS = {"a": hp.integer(1, 3), "b": hp.categorical("u", "v")}


@pytest.mark.filterwarnings("ignore:BruteForceSampler is experimental")
@pytest.mark.parametrize("population", [1, 4])
@pytest.mark.parametrize("sampler", EXHAUSTIVE)
def test_a_sampler_that_has_tried_all_points_ends_the_search(sampler, population, tmp_path):
    method = optuna_search(
        EXHAUSTIVE[sampler],
        steps=1,
        population=population,
        storage=f"sqlite:///{tmp_path}/study.db",
    )
    like = dict.fromkeys(POINTS, np.zeros(()))

    def values(proposal):
        return [np.asarray(leaf) for leaf in proposal.hyperparams.values()]

    def loss(values):
        return np.asarray(values["a"]) + np.asarray(values["b"])

    proposals, state = answered(method, POINTS, like, 20, loss)
    columns = [np.concatenate(leaves) for leaves in zip(*map(values, proposals), strict=True)]
    tried = set(zip(*columns, strict=True))
    assert tried == {(a, b) for a in (1, 2, 3) for b in (0, 1)}
    # A last population may be larger than what is left.
    trials = state.study.optuna.get_trials()
    assert 6 <= len(trials) < 6 + population
    assert {trial.state.name for trial in trials} == {"COMPLETE"}
    # Another process that opens the study finds nothing to do.
    assert not answered(method, POINTS, like, 20, loss)[0]


def test_a_search_that_has_tried_all_points_has_its_result(search):
    method = optuna_search(
        lambda seed: optuna.samplers.GridSampler({"value": [0, 1, 2, 3]}), steps=1
    )
    problem = Problem(
        init=lambda key: jnp.zeros(()),
        train_loss=lambda w, lam, batch, key: (w - lam) ** 2,
        valid_loss=lambda w, lam, batch: (lam - 2.0) ** 2 + 0 * w,
        space=hp.integer(0, 3),
    )
    result = search(method, problem=problem, hyperparams=0)
    assert len(result.measured.trial) == 4
    assert result.hyperparams == 2
