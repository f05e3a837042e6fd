"""Penalties L_reg(w, λ): how a hyperparameter enters the training loss.

Every decay here is in natural units (a non-negative coefficient). Methods move its logarithm: pair
a penalty with the space `hyperparameters.log()`.

A decay may be given at any grain, from one number to one number per weight, because it is matched
to the weights as a *prefix* of their tree, each of its leaves broadcast from the last axis on:

    one for the whole model        decay                           shape ()
    one per class (linear model)   decay                           shape (10,)
    one per layer                  {"Dense_0": decay, ...}         shapes ()
    one per weight                 {"Dense_0": {"kernel": decay}}  shapes of the weights

`decays` builds the initial value of each. Mappings may leave out what is not decayed, and None
stands for no decay anywhere. A penalty is computed in the weights' precision, float32 at least.
"""

from collections.abc import Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from shohypernet.types import Hyperparams, Params

Grain = Literal["model", "layer", "output", "weight"]


def decays(params: Params, value: float, per: Grain) -> Any:
    """Hyperparameters that hold `value` once per model, layer, output unit or weight.

    Args:
      params: weights, or their `jax.ShapeDtypeStruct`s; a mapping at the top for `per="layer"`.
      value: initial value of each, in natural units.
      per: grain. "output" is one value for each index of the last axis of every weight array;
        where a linear model's kernel and bias share theirs, write `jnp.full(10, value)`.

    Returns:
      A tree that is a prefix of `params`.

    Raises:
      ValueError: for an unknown grain, or for "layer" when `params` is not a mapping.
    """

    def full(shape: tuple[int, ...]) -> jax.Array:
        return jnp.full(shape, value, float)

    match per:
        case "model":
            return full(())
        case "layer":
            if not isinstance(params, Mapping):
                raise ValueError(
                    "per='layer' needs weights in a mapping from layer names, as Flax makes; "
                    f"got {type(params).__name__}. Use per='model', 'output' or 'weight'."
                )
            return {name: full(()) for name in params}
        case "output":
            return jax.tree.map(lambda leaf: full(leaf.shape[-1:]), params)
        case "weight":
            return jax.tree.map(lambda leaf: full(leaf.shape), params)
    raise ValueError(f"per must be 'model', 'layer', 'output' or 'weight', got {per!r}.")


def weight_decay(params: Params, decay: Any) -> jax.Array:
    """Squared weights, each times its decay: Σ_i decay_i w_i².

    Args:
      params: weights.
      decay: non-negative coefficients, a prefix of `params` (see the module's docstring). Mappings
        may leave out layers or arrays, such as biases, which are then not decayed.

    Returns:
      A scalar.

    Raises:
      ValueError: if a decay has no weights of its name, or cannot be broadcast to them.
    """
    return sum((jnp.sum(c * w**2) for w, c in _precise(decay, params)), start=jnp.float32(0))


def norm_penalty(params: Params, decay: Any) -> jax.Array:
    """Euclidean norm of all weights, each times its decay: ‖decay ∘ w‖₂ (not squared).

    With one decay for the model this is exp(λ)·‖w‖₂, the penalty of the paper's small experiments.

    Args:
      params: weights.
      decay: non-negative coefficients, as for `weight_decay`.

    Returns:
      A scalar.

    Raises:
      ValueError: if a decay has no weights of its name, or cannot be broadcast to them.
    """
    return _norm([c * w for w, c in _precise(decay, params)])


def class_norm_penalty(params: Params, decay: jax.Array) -> jax.Array:
    """Mean over classes of ‖decay_c · w_c‖₂, w_c all weights that end in output c.

    Args:
      params: weights of a linear model; every array has the classes on its last axis.
      decay: one coefficient per class, shape (classes,).

    Returns:
      A scalar.
    """
    scaled = [(c * w).reshape(-1, decay.size) for w, c in _precise(decay, params)]
    return jnp.mean(jax.vmap(_norm, in_axes=1)(scaled))


def broadcast(hyperparams: Hyperparams, params: Params) -> Params:
    """Hyperparameters repeated for every weight that they stand for.

    Args:
      hyperparams: a prefix of `params` (see the module's docstring).
      params: weights, or their `jax.ShapeDtypeStruct`s.

    Returns:
      A tree like `params`.

    Raises:
      ValueError: if a hyperparameter has no weights of its name or cannot be broadcast to them, or
        if weights have no hyperparameter.
    """
    pairs = _pairs(hyperparams, params)
    leaves, treedef = jax.tree.flatten(params)
    if len(pairs) < len(leaves):
        raise ValueError(
            f"{len(leaves) - len(pairs)} arrays of weights have no hyperparameter among "
            f"{jax.tree.structure(hyperparams)}; each needs one here."
        )
    return jax.tree.unflatten(treedef, [each for _, each in pairs])


def _pairs(hyperparams: Hyperparams, params: Params) -> list[tuple[Any, jax.Array]]:
    """Arrays of weights that have a hyperparameter, in the order of their tree, each with it."""
    if hyperparams is None:
        return []
    if jax.tree_util.all_leaves([hyperparams]):
        return [(leaf, _over(hyperparams, leaf)) for leaf in jax.tree.leaves(params)]
    (values, form), (parts, expected) = _children(hyperparams), _children(params)
    if isinstance(hyperparams, Mapping) and isinstance(params, Mapping):
        unknown = sorted(set(values) - set(parts))
        if unknown:
            raise ValueError(
                f"hyperparameters {', '.join(unknown)} stand for no weights: at their place in the "
                f"tree there are {', '.join(parts)}."
            )
    elif form != expected:
        raise ValueError(
            f"hyperparameters {jax.tree.map(np.shape, hyperparams)} are no prefix of weights "
            f"{jax.tree.map(np.shape, params)}; penalties.decays makes such a prefix."
        )
    return [
        pair
        for name, part in parts.items()
        if name in values
        for pair in _pairs(values[name], part)
    ]


def _children(tree: Any) -> tuple[dict[str, Any], Any]:
    """What is one level below, by name in the tree's own order, and the container's form."""
    below, form = jax.tree.flatten_with_path(tree, is_leaf=lambda node: node is not tree)
    return {jax.tree_util.keystr(path, simple=True): child for path, child in below}, form


def _precise(decay: Any, params: Params) -> list[tuple[jax.Array, jax.Array]]:
    """`_pairs` in the dtype that a penalty is computed in."""

    def precise(array: jax.Array, leaf: jax.Array) -> jax.Array:
        return array.astype(jnp.promote_types(leaf.dtype, jnp.float32))

    return [(precise(w, w), precise(c, w)) for w, c in _pairs(decay, params)]


def _over(value: jax.Array, leaf: Any) -> jax.Array:
    try:
        return jnp.broadcast_to(value, leaf.shape)
    except ValueError as error:
        raise ValueError(
            f"a hyperparameter of shape {jnp.shape(value)} does not broadcast to weights of "
            f"shape {leaf.shape}; give one number, one per last-axis unit, or one per weight "
            "(penalties.decays makes each)."
        ) from error


def _norm(tree: Any) -> jax.Array:
    # The floor keeps the gradient finite where every weight is exactly zero.
    squares = optax.tree.norm(tree, squared=True)
    return jnp.sqrt(jnp.maximum(squares, jnp.finfo(jnp.float32).tiny))
