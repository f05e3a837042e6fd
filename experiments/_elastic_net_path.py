"""The validation loss of an elastic net along l1, its slope, and where the support changes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import shohypernet as shn
from experiments import _nonsmooth, _results
from shohypernet import proximal
from shohypernet.batches import Data, Examples
from shohypernet.hypergradients import implicit
from shohypernet.problem import unconstrained

SAME = 1e-3  # difference of two slopes between kinks, as a share of the largest


class Path(NamedTuple):
    """The first run along l1 at one l2, arrays of shape (points,).

    Attributes:
      l1: decays.
      loss: validation losses.
      slope: dL_valid/d log l1 by implicit differentiation on the support.
      difference: the same by finite differences.
      support: numbers of weights that aren't 0.
      within: whether the support stays the same over the finite difference.
    """

    l1: np.ndarray
    loss: np.ndarray
    slope: np.ndarray
    difference: np.ndarray
    support: np.ndarray
    within: np.ndarray


def along(solve: Callable[[Examples, Any], np.ndarray], data: Data, config: Any) -> Path:
    """Losses and slopes of one run along l1, from exact weights.

    Args:
      solve: weights from training examples and λ.
      data: of the run.
      config: of the experiment.
    """
    l1 = np.geomspace(0.05, 1.0, config.path_points)
    weights = np.stack([solve(data.train, {"l1": each, "l2": config.path_l2}) for each in l1])
    loss = np.asarray([_nonsmooth.mean_squared_error(w, data.valid) for w in weights])
    on_device = jax.tree.map(lambda part: jnp.asarray(part, jnp.float32), data)
    space = shn.hyperparameters.log()
    problem = unconstrained(_nonsmooth.problem(config.features, proximal.elastic_net(), space))

    @jax.jit
    @jax.vmap
    def slope(log_l1: jax.Array, params: jax.Array) -> jax.Array:
        found = implicit.hypergradient(
            problem,
            {"l1": log_l1, "l2": jnp.log(config.path_l2)},
            params,
            on_device.train,
            on_device.valid,
            jax.random.key(0),
            solver=shn.linear_solvers.conjugate_gradient(2 * config.features),
            support=proximal.support(params),
        )
        return found.gradient["l1"]

    slopes = slope(jnp.asarray(np.log(l1), jnp.float32), jnp.asarray(weights, jnp.float32))
    signs = np.sign(weights)
    alike = np.all(signs[1:] == signs[:-1], axis=1)
    within = np.concatenate([[False], alike[1:] & alike[:-1], [False]])
    difference = np.gradient(loss, np.log(l1))
    support = np.count_nonzero(weights, axis=1)
    return Path(l1, loss, np.asarray(slopes), difference, support, within)


def claim(path: Path) -> dict[str, Any]:
    """The claim about slopes and kinks."""
    off = np.abs(path.slope - path.difference) / np.max(np.abs(path.difference))
    between = float(np.max(off[path.within], initial=0.0))
    jumps = np.abs(np.diff(path.slope))[~(path.within[1:] & path.within[:-1])]
    largest = float(np.max(jumps, initial=0.0) / np.max(np.abs(path.slope)))
    steps = float(np.max(np.abs(np.diff(path.loss))) / np.ptp(path.loss))
    return _results.claim(
        "The implicit hypergradient on the support is the slope of the validation loss where "
        "the support stays the same; where it changes the slope jumps, the loss does not.",
        f"{between:.1g} of the largest slope apart at {path.within.sum()} of "
        f"{len(path.l1)} points; the largest jump of the slope is {largest:.2f} of the largest "
        f"slope, the largest step of the loss {steps:.3f} of its range",
        holds=between < SAME and steps < 0.05,
    )
