"""A problem of one weight, and searches that follow a script."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from shohypernet import Problem
from shohypernet.batches import Data
from shohypernet.search import Asker, Proposal, Search, _driver, _populations, _static, run

TARGET = 3.0


class Scripted(NamedTuple):
    """A search that proposes what it is given, and remembers what it was told."""

    search: Search
    told: list


@pytest.fixture(scope="session")
def data():
    rng = np.random.default_rng(0)
    return Data(*(jnp.asarray(rng.normal(size=(8, 1)), jnp.float32) for _ in range(3)))


@pytest.fixture(scope="session")
def problem():
    """L_train(w, λ) = ½(w − λ − x̄)², so that half a step reaches half-way; L_valid = (w − 3)².

    The stochastic term of the loss and the minibatch both shift where the weight goes.
    """

    def train_loss(params, hyperparams, batch, key):
        noise = jax.random.normal(key) / 100
        return (params - hyperparams - jnp.mean(batch) - noise) ** 2 / 2

    def valid_loss(params, hyperparams, batch):
        return (params - TARGET) ** 2 + 0 * jnp.mean(batch)

    return Problem(lambda key: jax.random.normal(key, dtype=jnp.float32), train_loss, valid_loss)


@pytest.fixture(scope="session")
def halfway():
    """An optimizer with a state, which a pause must not lose."""
    return optax.sgd(0.5, momentum=0.5)


@pytest.fixture(scope="session")
def shared_populations():
    """`Populations` that are made, and compiled, once for the same functions."""
    made = {}

    def build(problem, optimizer, data, batch_size, memory):
        functions = problem.train_loss, problem.valid_loss, optimizer.update
        name = (*functions, *map(id, data), batch_size, memory)
        if name not in made:
            made[name] = _populations.Populations(problem, optimizer, data, batch_size, memory)
        return made[name]

    return build


@pytest.fixture
def search(problem, data, halfway, shared_populations, monkeypatch):
    """`run` on the problem of one weight, whose programs all tests share."""
    monkeypatch.setattr(_static, "Populations", shared_populations)
    # Splits that are device arrays already stay the same objects.
    monkeypatch.setattr(_driver.plans, "splits", lambda data, function: Data(*data))
    usual = {"optimizer": halfway, "budget": 100, "batch_size": 2}

    def call(method, problem=problem, hyperparams=0.0, data=data, **options):
        return run(problem, method, data, hyperparams, **(usual | options))

    return call


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

        def bind(space, like):
            return Asker(lambda key: 0, ask, tell)

        return Scripted(Search(bind, proposals[0][2]), told)

    return build
