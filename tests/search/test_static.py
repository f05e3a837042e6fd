"""What no gradient moves: settings of the optimizer, widths and batch sizes."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from searching import Killed, assert_equal, killed

from shohypernet import Problem
from shohypernet import hyperparameters as hp
from shohypernet.search import hyperband, random_search, run

STATIC = {"width": hp.categorical(2, 5), "batch_size": hp.categorical(3, None)}
WIDTHS = {"width": STATIC["width"]}
STEPS = 3


@pytest.fixture(scope="module")
def seen():
    """Widths and batch sizes that a loss was traced with."""
    return []


@pytest.fixture(scope="module")
def build(seen):
    """L_train = ½ Σ (w − 1)² from 0, so that SGD ends at 1 − (1 − α)^T in each weight."""

    def train_loss(params, hyperparams, batch, key):
        assert isinstance(hyperparams["width"], int)  # no traced number
        seen.append((hyperparams["width"], len(batch)))
        return jnp.sum((params - 1) ** 2) / 2

    def valid_loss(params, hyperparams, batch):
        return jnp.sum((params - 1) ** 2) + 0 * jnp.mean(batch)

    def problem(choices):
        return Problem(
            lambda key: jnp.zeros(choices["width"]),
            train_loss,
            valid_loss,
            space={"rate": hp.log(1e-2, 0.9)},
        )

    return problem


def optimizer(hyperparams):
    """Its state begins with the step size."""
    return optax.inject_hyperparams(optax.sgd)(learning_rate=hyperparams["rate"])


def search(method, build, data, **options):
    usual = {
        "optimizer": optimizer,
        "static": STATIC,
        "batch_size": lambda choices: choices["batch_size"],
        "budget": 60,
    }
    return run(build, method, data, {"rate": 0.0}, **(usual | options))


def test_optimizers_widths_and_batch_sizes_are_searched_for(build, seen, data):
    first = [{"rate": 0.25, "width": 5, "batch_size": None}]
    result = search(random_search(steps=STEPS, population=10), build, data, first=first)
    values = result.measured.hyperparams
    widths = np.array(STATIC["width"].choices)[values["width"]]
    # By hand: Σ (w − 1)² = width · (1 − α)^2T.
    expected = widths * (1 - np.asarray(values["rate"], float)) ** (2 * STEPS)
    np.testing.assert_allclose(result.measured.valid_loss, expected, rtol=1e-4)
    assert set(seen) == {(2, 3), (2, 8), (5, 3), (5, 8)}
    np.testing.assert_allclose(values["rate"][0], 0.25, rtol=1e-5)
    assert (values["width"][0], values["batch_size"][0]) == (1, 1)
    best = np.argmin(expected)
    assert result.params.shape == (widths[best],)
    assert f"width {widths[best]}" in result.describe()


def test_a_search_over_shapes_is_resumed(build, data, tmp_path):
    """Paused trials of two widths come from the checkpoint."""
    method = hyperband(resource=2, unit_steps=1, eta=2)
    options = {"budget": 9, "static": WIDTHS, "batch_size": None}
    first = [{"rate": 0.1, "width": width} for width in (2, 5)]
    whole = search(method, build, data, first=first, **options)
    assert whole.measured.hyperparams["width"][:2].tolist() == [0, 1]
    there = {"workdir": tmp_path, "checkpoint_every": 1, "first": first, **options}
    with pytest.raises(Killed):
        search(killed(method, 1), build, data, **there)
    assert_equal(search(method, build, data, resume=True, **there), whole)


METHOD = random_search(steps=STEPS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"static": {"width": hp.integer(1, 40)}}, "combine to 40 programs.*take 32 at most"),
        ({"static": {"width": hp.log()}}, r"static=\{'width': ...\} to be categorical"),
        ({"seeds": (0, 1)}, "takes one seed with static choices"),
        ({"optimizer": optax.sgd(0.1)}, "rate enters neither loss, nor the optimizer"),
        ({"first": [{"rate": 0.25, "width": 3, "batch_size": None}]}, "range of its categorical"),
        ({"first": [{"rate": 0.25}]}, "doesn't fit hyperparameters"),
    ],
)
def test_what_cannot_be_searched_is_refused(build, data, options, message):
    with pytest.raises(ValueError, match=message):
        search(METHOD, build, data, **options)


def test_trials_to_begin_with_outside_the_prior_are_refused(build, data):
    problem = build({"width": 2})._replace(space={"rate": hp.log(prior=(1e-2, 0.9))})
    options = {"optimizer": optimizer, "budget": 9, "first": [{"rate": 3.0}]}
    with pytest.raises(ValueError, match="outside the prior of its Log"):
        run(problem, METHOD, data, {"rate": 0.1}, **options)


def test_an_optimizer_of_hyperparameters_must_make_one(build, data):
    with pytest.raises(TypeError, match="optimizer to be an optax optimizer, got"):
        search(METHOD, build, data, optimizer=lambda hyperparams: hyperparams["rate"])
