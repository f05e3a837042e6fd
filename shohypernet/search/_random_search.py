"""Random search: λ drawn from the prior, each trained in full.

    λ_i ~ p(λ),    i = 1, 2, …

Bergstra and Bengio (2012), "Random Search for Hyper-Parameter Optimization", Journal of Machine
Learning Research 13. With it, Algorithm 1 of arXiv:1802.09419 is the paper's own baseline.
"""

import jax
import numpy as np

from shohypernet import hyperparameters as hp
from shohypernet._internal import validation
from shohypernet.search._base import Asker, Proposal, Search
from shohypernet.search._unit_cube import unit_cube
from shohypernet.types import Hyperparams, Key, Space


def random_search(*, steps: int, population: int = 100) -> Search:
    """Search by draws from the prior of the space.

    Args:
      steps: updates of w for each trial.
      population: trials in a proposal.

    Returns:
      A Search without end.

    Raises:
      ValueError: for steps or a population below 1; by `run`, for an empty space.

    Reference:
      Bergstra and Bengio (2012).
    """
    validation.whole("random_search", steps=steps, population=population)

    def bind(space: Space, like: Hyperparams) -> Asker:
        unit_cube(space, like)  # refuses an empty space

        @jax.jit
        def draw(key: Key) -> Hyperparams:
            keys = jax.random.split(key, population)
            return jax.vmap(hp.sample, (0, None, None))(keys, space, like)

        def ask(key: Key, asked: int) -> tuple[int, Proposal]:
            trials = np.arange(asked, asked + population)
            return asked + population, Proposal(trials, draw(key), steps)

        # Its state is the number of trials so far.
        return Asker(lambda key: 0, ask, lambda asked, proposal, losses: asked)

    return Search(bind, steps)
