"""Searches that die or are stopped, and go on as if they had not."""

import json
import signal

import jax.numpy as jnp
import numpy as np
import pytest
from searching import Killed, assert_equal, ending, killed

import shohypernet as shn
from shohypernet import Interrupted
from shohypernet import hyperparameters as hp
from shohypernet.search import (
    bayesian,
    freeze_thaw,
    grid_search,
    hyperband,
    random_search,
    tpe,
)

METHODS = {
    "random": random_search(steps=3, population=2),
    "grid": grid_search(points=12, steps=3, population=2),
    "hyperband": hyperband(resource=4, unit_steps=1, eta=2),
    "bayesian": bayesian(steps=3, initial=2),
    "freeze-thaw": freeze_thaw(unit_steps=2, initial=2),
    "tpe": tpe(steps=3),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_search_that_died_goes_on_as_if_it_had_not(search, name, tmp_path):
    """It dies in turn 4: turn 3 is in its log, and 2 in its last checkpoint."""
    method, options = METHODS[name], {"budget": 24, "first": [0.25]}
    whole = search(method, **options)
    there = {"workdir": tmp_path, "checkpoint_every": 2, **options}
    with pytest.raises(Killed):
        search(killed(method, 3), **there)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["turn"] for line in lines] == [1, 2, 3]
    resumed = search(method, resume=True, **there)
    assert_equal(resumed, whole)
    assert whole.measured.hyperparams[0] == 0.25
    np.testing.assert_equal(shn.load(tmp_path).params, whole.params)
    # Finished, it can be looked at again, but not by another search.
    assert_equal(search(method, resume=True, **there), whole)
    with pytest.raises(FileExistsError, match="resume=True"):
        search(method, **there)
    with pytest.raises(ValueError, match=r"another run(.*\n)*.*seeds: was \[0\], is \[1\]"):
        search(method, resume=True, seeds=1, **there)


@pytest.mark.parametrize("name", ["random", "hyperband"])
def test_a_larger_budget_goes_on_from_where_the_smaller_one_ended(search, name, tmp_path):
    """The smaller one cut the last proposal, of which the larger trains the rest."""
    method = METHODS[name]
    for budget in (5, 13, 26):  # of Hyperband's rungs one that goes on, and two that begin
        search(method, budget=budget, workdir=tmp_path, seeds=(0, 1), resume="auto")
    resumed = search(method, budget=40, workdir=tmp_path, seeds=(0, 1), resume="auto")
    whole = search(method, budget=40, seeds=(0, 1))
    for i in (0, 1):
        assert_equal(resumed.seed(i), whole.seed(i))


def test_ctrl_c_saves_and_carries_what_was_found(search, tmp_path):
    method = METHODS["hyperband"]
    whole = search(method, budget=40)
    stopping = ending(method, 2, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(
        Interrupted, match=r"(?s)after 8 of 40.*turn 3.*run the same again.*resume"
    ) as stop:
        search(stopping, budget=40, workdir=tmp_path)
    assert stop.value.signal_number == signal.SIGINT
    found = stop.value.result
    np.testing.assert_array_equal(
        found.measured.trial, whole.measured.trial[: len(found.measured.trial)]
    )
    np.testing.assert_allclose((found.params - 3) ** 2, found.valid_loss, rtol=1e-5)
    assert_equal(search(method, budget=40, workdir=tmp_path, resume=True), whole)


def test_ctrl_c_without_a_workdir_carries_what_was_found(search):
    def interrupt():
        raise KeyboardInterrupt

    method = METHODS["random"]
    with pytest.raises(Interrupted, match="with a workdir it could be resumed") as stop:
        search(ending(method, 2, interrupt), budget=60)
    assert_equal(stop.value.result, search(method, budget=18))
    with pytest.raises(ValueError, match="only a search that has a workdir"):
        search(method, resume=True)


def test_another_method_or_sampler_is_refused(search, tmp_path):
    there = {"workdir": tmp_path, "budget": 20}
    search(METHODS["random"], **there)
    with pytest.raises(ValueError, match=r"search.population: was 2, is 3"):
        search(random_search(steps=3, population=3), resume=True, **there)
    # What has no name is seen by what it asks for.
    other = METHODS["random"]

    def bind(space, like):
        return other.bind(hp.bounded(0.0, 1.0), like)

    with pytest.raises(ValueError, match="in turn 1 its log has other trials"):
        search(other._replace(bind=bind), resume=True, **there)


def test_trials_of_a_stored_study_are_not_asked_for_again(search, tmp_path):
    """They are looked up there: the study gets no trial twice."""
    method = tpe(steps=3, population=2, storage=tmp_path / "study")
    there = {"workdir": tmp_path / "run", "checkpoint_every": 1, "budget": 36}
    with pytest.raises(Killed):
        search(killed(method, 3), **there)
    result = search(method, resume=True, **there)
    trials = result.states.study.optuna.get_trials()
    # Two were under way when it died, and six were told.
    assert result.measured.trial.tolist() == [*range(6), *range(8, 14)]
    for number, value, loss in zip(
        result.measured.trial, result.measured.hyperparams, result.measured.valid_loss, strict=True
    ):
        np.testing.assert_allclose(trials[number].params["value"], value, rtol=1e-5)
        np.testing.assert_allclose(trials[number].value, loss)
    np.testing.assert_allclose((result.params - 3) ** 2, result.valid_loss, rtol=1e-5)


def test_losses_that_are_no_numbers_are_logged_and_told_again(search, problem, data, tmp_path):
    """Of trials that diverged, and of a test split that there isn't."""

    def valid_loss(params, hyperparams, batch):
        loss = problem.valid_loss(params, hyperparams, batch)
        return jnp.where(hyperparams < 0, jnp.nan, loss)

    options = {
        "problem": problem._replace(valid_loss=valid_loss),
        "data": data._replace(test=None),
        "budget": 24,
    }
    method = METHODS["random"]
    whole = search(method, **options)
    assert np.isnan(whole.measured.valid_loss).any()
    assert np.isnan(whole.test_loss)
    assert "test" not in whole.describe()
    with pytest.raises(Killed):
        search(killed(method, 3), workdir=tmp_path, checkpoint_every=1, **options)
    resumed = search(method, workdir=tmp_path, resume=True, checkpoint_every=1, **options)
    np.testing.assert_array_equal(resumed.measured.valid_loss, whole.measured.valid_loss)
    np.testing.assert_array_equal(resumed.params, whole.params)
