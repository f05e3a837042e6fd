"""Results: their axes, natural units, pickles, files and descriptions."""

import pickle

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import shohypernet as shn
from shohypernet import hyperparameters as hp
from shohypernet.search import (
    SearchResult,
    bayesian,
    freeze_thaw,
    grid_search,
    hyperband,
    random_search,
    run,
    tpe,
)

SPACE = {
    "rate": hp.log(1e-3, 1.0),
    "act": hp.categorical("relu", "tanh"),
    "width": hp.integer(2, 5),
}
FORM = {"rate": np.full(2, 0.1), "act": "tanh", "width": 3}


METHODS = {
    "bayesian": lambda: bayesian(steps=1, initial=3),
    "freeze_thaw": lambda: freeze_thaw(unit_steps=1, initial=3),
    "grid_search": lambda: grid_search(points=3, steps=1),
    "hyperband": lambda: hyperband(resource=3, unit_steps=1),
    "tpe": lambda: tpe(steps=1, population=3),
}


@pytest.fixture(scope="module")
def mixed():
    """L_train(w, λ) = ½‖w − λ‖² in natural units, so that a whole step gives w = λ."""

    def train_loss(params, hyperparams, batch, key):
        rate = jnp.sum(hyperparams["rate"])
        others = hyperparams["act"] + hyperparams["width"]
        return ((params["rate"] - rate) ** 2 + (params["others"] - others) ** 2) / 2

    def valid_loss(params, hyperparams, batch):
        return params["rate"] ** 2 + (params["others"] - 4.0) ** 2

    zeros = {"rate": jnp.zeros(()), "others": jnp.zeros(())}
    return shn.Problem(lambda key: zeros, train_loss, valid_loss, SPACE)


@pytest.fixture(scope="module")
def found(mixed, data):
    """Results of one seed and of two, of the same searches."""

    def call(seeds):
        method = random_search(steps=1, population=20)
        return run(mixed, method, data, FORM, optimizer=optax.sgd(1.0), budget=20, seeds=seeds)

    return {"one": call(4), "two": call((3, 4))}


def assert_equal(one, other):
    jax.tree.map(lambda *leaves: np.testing.assert_allclose(*leaves, rtol=1e-6), one, other)


def test_results_are_in_natural_units_and_unconstrained_ones_beside(found, mixed):
    result, measured = found["one"], found["one"].measured
    decoded = hp.decode(SPACE, result.unconstrained)
    assert_equal(result.hyperparams, decoded)
    assert_equal(measured.hyperparams, hp.decode(SPACE, measured.unconstrained))
    assert result.hyperparams["rate"].shape == (2,)
    rates = measured.hyperparams["rate"]
    assert np.all((rates >= 1e-3) & (rates <= 1.0))
    assert set(measured.hyperparams["act"].tolist()) == {0, 1}
    assert set(measured.hyperparams["width"].tolist()) == {2, 3, 4, 5}
    # A whole step of the inner optimizer goes to what the losses read: natural units.
    others = result.hyperparams["act"] + result.hyperparams["width"]
    np.testing.assert_allclose(result.params["others"], others, rtol=1e-6)
    np.testing.assert_allclose(result.params["rate"], np.sum(result.hyperparams["rate"]), rtol=1e-6)
    loss = mixed.valid_loss(result.params, result.hyperparams, None)
    np.testing.assert_allclose(result.valid_loss, loss, rtol=1e-6)


def test_natural_results_go_back_to_the_unconstrained_ones(found):
    for result in (found["one"], found["one"].measured):
        back = hp.encode(SPACE, result.hyperparams)
        jax.tree.map(
            lambda *leaves: np.testing.assert_allclose(*leaves, rtol=2e-3),
            back,
            result.unconstrained,
        )


def test_an_int_seed_has_no_axis_and_a_sequence_of_one_has(found, search):
    one = found["one"]
    assert one.seeds == 4
    assert np.shape(one.valid_loss) == ()
    assert one.measured.valid_loss.shape == (20,)
    assert one.seed(0) is one
    with pytest.raises(IndexError, match=r"seed\(1\)"):
        one.seed(1)
    method = random_search(steps=1, population=3)
    sequence = search(method, hyperparams=np.zeros(()), budget=3, seeds=[4])
    assert sequence.seeds == (4,)
    assert sequence.valid_loss.shape == sequence.hyperparams.shape == (1,)
    (measured,) = sequence.measured
    assert measured.hyperparams.shape == (3,)


def test_a_seed_of_many_is_that_seed_alone(found):
    two = found["two"]
    for i in (1, -1):
        chosen = two.seed(i)
        assert chosen.seeds == 4
        measured = chosen.measured._replace(seconds=0)
        assert_equal(measured, found["one"].measured._replace(seconds=0))
        assert_equal(chosen.hyperparams, found["one"].hyperparams)
        assert_equal(chosen.params, found["one"].params)
    with pytest.raises(IndexError, match=r"seed\(2\)"):
        two.seed(2)


def test_descriptions_show_names_and_natural_units(found):
    one, two = found["one"], found["two"]
    act = ("relu", "tanh")[int(one.hyperparams["act"])]
    text = one.describe()
    assert text.startswith("seed 4, best of 20 trials and 20 gradient evaluations:")
    assert f"loss {one.valid_loss:.4g} on validation" in text
    assert f"act {act}, " in text
    assert f"width {int(one.hyperparams['width'])}" in text
    assert two.describe() == f"{two.seed(0).describe()}\n{text}"
    assert repr(two).startswith("SearchResult(seeds=(3, 4), valid_loss=[")
    assert len(repr(two)) < 150


def test_results_can_be_pickled(found):
    result = found["two"]
    back = pickle.loads(pickle.dumps(result))
    assert type(back) is SearchResult
    assert back.space == SPACE
    assert back.describe() == result.describe()
    assert_equal(back._replace(space=None), result._replace(space=None))


@pytest.mark.parametrize("name", METHODS)
def test_states_can_be_pickled(search, name):
    result = search(METHODS[name](), batch_size=None, budget=3)
    back = pickle.loads(pickle.dumps(result))
    assert_equal(back.measured, result.measured)
    if name == "tpe":  # without its storage, sampler and heartbeats
        trials = back.states.study.trials
        live = result.states.study.optuna.get_trials()
        assert [trial.params for trial in trials] == [trial.params for trial in live]
        assert [trial.value for trial in trials] == result.measured.valid_loss.tolist()
    else:
        assert_equal(back.states, result.states)


def test_results_are_saved_and_loaded(found, tmp_path):
    for name in ("one", "two"):
        path = tmp_path / f"{name}.npz"
        found[name].save(path)
        back = SearchResult.load(path)
        assert back.states is None
        assert back.space == SPACE
        same = {"states": None, "space": None}
        assert_equal(back._replace(**same), found[name]._replace(**same))
        assert back.describe() == found[name].describe()
        with pytest.raises(FileExistsError):
            found[name].save(path)
