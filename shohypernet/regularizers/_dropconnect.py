"""DropConnect: dropout of weights, W ∘ M / (1 − p), M ~ Bernoulli(1 − p).

Wan et al. (2013), "Regularization of Neural Networks using DropConnect", ICML; on the weights from
hidden state to hidden state, one mask for all time steps, Merity et al. (2018), arXiv:1708.02182.
"""

import re

import jax

from shohypernet import hyperparameters as hp
from shohypernet._internal import validation
from shohypernet.regularizers._base import Model, Regularizer, require_start
from shohypernet.regularizers._dropout import dropped
from shohypernet.types import Hyperparams, Key, Params

RECURRENT = r"(^|/)h[ifgorzn]?/kernel$"
"""Paths of the weights from state to state in `nn.SimpleCell`, `nn.LSTMCell` and `nn.GRUCell`."""


def dropconnect(
    start: float = 0.05,
    *,
    high: float = 0.9,
    match: str = RECURRENT,
    name: str = "dropconnect",
) -> Regularizer:
    """One rate at which weights are dropped, of the arrays whose path matches.

    A batch has one mask. Under `self_tuning` a λ_b has, so that its examples want weights of their
    own: make `examples_per_draw` large enough. What a layer adds in response is not dropped, and is
    right in the mean. A rate has no derivative here, as in `dropout`.

    Args:
      start: rate to start from.
      high: upper bound of the rate.
      match: regular expression, found anywhere in a path such as "LSTMCell_0/hi/kernel"; weights
        from state to state in Flax's cells unless given.
      name: of the hyperparameter.

    Raises:
      ValueError: for a start outside the bounds, or, from `supervised`, if no path matches.
    """
    space = require_start("dropconnect", start, hp.bounded(0.0, high))
    pattern = re.compile(match)

    def starts(model: Model) -> Hyperparams:
        paths = [path for path, _ in _by_path(model.params)]
        validation.require(
            any(map(pattern.search, paths)),
            f"dropconnect(match={match!r}) finds no weights among {', '.join(paths)}; give the "
            "path of some, or a part of it.",
        )
        return start

    def perturb(key: Key, rate: Hyperparams, params: Params) -> Params:
        leaves, treedef = jax.tree.flatten(params)
        for i, (path, leaf) in enumerate(_by_path(params)):
            if pattern.search(path):
                leaves[i] = dropped(jax.random.fold_in(key, i), leaf, rate)
        return jax.tree.unflatten(treedef, leaves)

    return Regularizer(name, space, starts, perturb=perturb)


def _by_path(params: Params) -> list[tuple[str, jax.Array]]:
    return [
        (jax.tree_util.keystr(path, simple=True, separator="/"), leaf)
        for path, leaf in jax.tree.leaves_with_path(params)
    ]
