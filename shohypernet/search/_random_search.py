"""Random search: λ drawn from the prior, each trained in full.

    λ_i ~ p(λ),    i = 1, 2, …

Bergstra and Bengio (2012), "Random Search for Hyper-Parameter Optimization", Journal of Machine
Learning Research 13. With it, Algorithm 1 of arXiv:1802.09419 is the paper's own baseline.
"""

from typing import Any

import jax
import numpy as np

from shohypernet import hyperparameters as hp
from shohypernet.search import _checks as checks
from shohypernet.search._base import Proposal, Search
from shohypernet.search._unit_cube import cube


def random_search(space: Any, like: Any, *, steps: int, population: int = 100) -> Search:
    """Search by draws from the prior of a space.

    Args:
      space: a tree of specs from `hyperparameters`, a prefix of `like`.
      like: a tree of arrays that gives the hyperparameters' shapes.
      steps: updates of w for each training.
      population: trainings a proposal.

    Returns:
      A Search without end.

    Raises:
      ValueError: for an empty space, or steps or a population below 1.

    Reference:
      Bergstra and Bengio (2012).
    """
    checks.whole("random_search", steps=steps, population=population)
    cube(space, like)

    @jax.jit
    def draw(key: jax.Array) -> Any:
        keys = jax.random.split(key, population)
        return jax.vmap(hp.sample, (0, None, None))(keys, space, like)

    def ask(key: jax.Array, asked: int) -> tuple[int, Proposal]:
        trials = np.arange(asked, asked + population)
        return asked + population, Proposal(trials, draw(key), steps, kept=np.array([], int))

    # Its state is the number of λ asked for.
    return Search(lambda key: 0, ask, lambda asked, proposal, losses: asked, steps)
