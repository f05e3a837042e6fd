"""Labels that a model has no output for, in losses that misread them and in one that doesn't."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import shohypernet as shn

INPUTS = jnp.ones((4, 3))


def cross_entropy(outputs, labels):
    return optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean()


def picked(outputs, labels):
    """Takes labels beyond the end for the last class."""
    chosen = jnp.take_along_axis(outputs, labels[..., None], -1, mode="clip")
    return jnp.mean(jax.nn.logsumexp(outputs, -1) - chosen[..., 0])


def masked(outputs, labels):
    known = labels >= 0
    losses = optax.softmax_cross_entropy_with_integer_labels(outputs, jnp.where(known, labels, 0))
    return jnp.sum(losses * known) / jnp.maximum(jnp.sum(known), 1)


def problem(loss):
    return shn.supervised(
        nn.Dense(3), INPUTS[:1], loss, shn.penalties.weight_decay, space=shn.hyperparameters.log()
    )


@pytest.mark.parametrize("loss", [cross_entropy, picked])
@pytest.mark.parametrize("labels", [[0, 1, 2, 3], [-1, 0, 1, 2], [1, 2, 3, 1]])
def test_labels_that_no_output_stands_for_are_refused(loss, labels):
    with pytest.raises(
        ValueError, match=r"labels go from .* has 3 outputs, for labels from 0 to 2"
    ):
        problem(loss).check((INPUTS, np.array(labels)))


@pytest.mark.parametrize(
    ("loss", "targets"),
    [
        (cross_entropy, np.array([0, 1, 2, 0], np.uint8)),
        (masked, np.array([-1, 0, 2, -1])),
        # No labels: as many numbers as outputs, or no whole ones.
        (shn.losses.mean_squared_error, np.full((4, 3), 7)),
        (shn.losses.mean_squared_error, np.full((4, 3), 7.5)),
        (lambda outputs, targets: jnp.mean(outputs) - jnp.mean(targets), np.full(4, 7.5)),
    ],
)
def test_other_targets_pass(loss, targets):
    problem(loss).check((INPUTS, targets))


@pytest.mark.parametrize("driver", ["fit", "search.run"])
def test_both_drivers_name_the_split(driver):
    made = problem(cross_entropy)
    good, bad = (INPUTS, jnp.array([0, 1, 2, 0])), (INPUTS, jnp.array([0, 1, 2, 3]))
    data = shn.batches.Data(good, bad, good)
    method = {
        "fit": shn.unrolled(made, optimizer=optax.sgd(0.1), hyper_optimizer=optax.sgd(0.1)),
        "search.run": shn.search.random_search(steps=1),
    }[driver]
    options = {"fit": {"steps": 1}, "search.run": {"optimizer": optax.sgd(0.1), "budget": 1}}
    call = {"fit": shn.fit, "search.run": shn.search.run}[driver]
    with pytest.raises(ValueError, match=r"data.valid can't be learned from: its labels go from 0"):
        call(made, method, data, 0.1, **options[driver])
