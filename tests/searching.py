"""Turns of a search without training, and searches that end before their time."""

import jax
import numpy as np


def answered(method, space, like, turns, loss, seed=0):
    """Proposals of a method that is told `loss(λ in unconstrained units)`, and its last state."""
    asker = method.bind(space, like)
    state, proposals = asker.init(jax.random.key(seed)), []
    for turn in range(turns):
        state, proposal = asker.ask(jax.random.key(turn), state)
        if proposal is None:
            break
        proposals.append(proposal)
        state = asker.tell(state, proposal, np.asarray(loss(proposal.hyperparams)))
    return proposals, state


class Killed(Exception):
    """In place of a SIGKILL."""


def ending(method, turns, end):
    """The method, which ends by calling a function in place of being told more than some turns."""
    told = []

    def bind(space, like):
        asker = method.bind(space, like)

        def tell(state, proposal, losses):
            told.append(proposal)
            if len(told) > turns:
                end()
            return asker.tell(state, proposal, losses)

        return asker._replace(tell=tell)

    return method._replace(bind=bind)


def killed(method, turns):
    def end():
        raise Killed

    return ending(method, turns, end)


def assert_equal(one, other):
    """Two results, but for times and the methods' own states."""
    fields = "hyperparams", "unconstrained", "params", "model_state", "valid_loss", "test_loss"
    for name in fields:
        jax.tree.map(np.testing.assert_array_equal, getattr(one, name), getattr(other, name))
    jax.tree.map(
        np.testing.assert_array_equal,
        one.measured._replace(seconds=0),
        other.measured._replace(seconds=0),
    )
