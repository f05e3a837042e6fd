"""Turns of a search without training: it is told a function of λ."""

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
