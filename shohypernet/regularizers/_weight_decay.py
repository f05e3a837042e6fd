"""Weight decay: R(w, λ) = Σ_l λ_l ‖W_l‖²."""

from typing import Any, Literal

import jax
import jax.numpy as jnp

from shohypernet import hyperparameters as hp
from shohypernet._internal import validation
from shohypernet.regularizers._base import Model, Regularizer, require_start
from shohypernet.types import Hyperparams, Params


def weight_decay(
    start: float = 1e-5,
    *,
    low: float = 1e-8,
    high: float = 1e-1,
    per: Literal["layer", "model"] = "layer",
    name: str = "weight_decay",
) -> Regularizer:
    """A decay of each layer's matrix of weights, or one of all.

    Biases and the scales of normalizations are left alone: arrays of fewer than two axes, and those
    whose own name ends in "bias" or "scale", as in Flax, such as an attention's (heads, features).

    Args:
      start: decay to start from.
      low: its lower bound; between the bounds its logarithm is tuned.
      high: its upper bound.
      per: one decay for each layer, by its path in the model, or one for all. For other grains
        write a penalty with `penalties.weight_decay`.
      name: of these hyperparameters.

    Raises:
      ValueError: for a start outside the bounds, or a model without matrices of weights.
    """
    validation.require(
        per in ("layer", "model"), f"weight_decay() needs per='layer' or 'model', got {per!r}."
    )
    space = require_start("weight_decay", start, hp.log(low, high))

    def starts(model: Model) -> Hyperparams:
        names = sorted(_matrices(model.params))
        validation.require(
            bool(names),
            "weight_decay() found no array of two axes or more that isn't a bias or a scale.",
        )
        return start if per == "model" else dict.fromkeys(names, start)

    def penalty(decays: Hyperparams, params: Params) -> jax.Array:
        total = jnp.float32(0)
        for layer, found in _matrices(params).items():
            decay = decays if per == "model" else decays[layer]
            total = total + decay * sum(map(_square, found), jnp.float32(0))
        return total

    return Regularizer(name, space, starts, penalty=penalty)


def _matrices(params: Params) -> dict[str, list[Any]]:
    """Arrays of two axes or more but biases and scales, by the path of their layer."""
    found: dict[str, list[Any]] = {}
    for path, leaf in jax.tree.leaves_with_path(params):
        name = jax.tree_util.keystr(path[-1:], simple=True)
        if leaf is not None and leaf.ndim > 1 and not name.endswith(("bias", "scale")):
            layer = jax.tree_util.keystr(path[:-1], simple=True, separator="/") or "model"
            found.setdefault(layer, []).append(leaf)
    return found


def _square(leaf: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))))
