"""A problem of one weight, and searches that do as a script says."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from shohypernet import Problem
from shohypernet.batches import Data
from shohypernet.search import Proposal, Search

TARGET = 3.0


class Scripted(NamedTuple):
    """A search that proposes what it is given, and remembers what it was told."""

    search: Search
    told: list


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return Data(*(jnp.asarray(rng.normal(size=(8, 1)), jnp.float32) for _ in range(3)))


@pytest.fixture
def problem():
    """L_train(w, λ) = ½(w − λ − x̄)², so that half a step reaches half-way; L_valid = (w − 3)².

    What is random in the loss, and the minibatch, both shift where the weight goes.
    """

    def train_loss(params, hyperparams, batch, key):
        noise = jax.random.normal(key) / 100
        return (params - hyperparams - jnp.mean(batch) - noise) ** 2 / 2

    def valid_loss(params, hyperparams, batch):
        return (params - TARGET) ** 2 + 0 * jnp.mean(batch)

    return Problem(lambda key: jax.random.normal(key, dtype=jnp.float32), train_loss, valid_loss)


@pytest.fixture
def halfway():
    """An optimizer with a state, which a pause must not lose."""
    return optax.sgd(0.5, momentum=0.5)


@pytest.fixture
def scripted():
    def build(*proposals):
        told = []

        def ask(key, turn):
            if turn == len(proposals):
                return turn, None
            trials, hyperparams, steps, kept = proposals[turn]
            hyperparams = jnp.asarray(hyperparams, jnp.float32)
            return turn + 1, Proposal(np.array(trials), hyperparams, steps, np.array(kept, int))

        def tell(turn, proposal, losses):
            told.append((proposal.trials.tolist(), losses.tolist()))
            return turn

        return Scripted(Search(lambda key: 0, ask, tell, proposals[0][2]), told)

    return build
