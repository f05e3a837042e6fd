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

from shohypernet._internal import groups as grouping
from shohypernet._internal.groups import in_precision
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


def lasso(params: Params, decay: Any) -> jax.Array:
    """Absolute weights, each times its decay: Σ_i decay_i |w_i|.

    Its derivative at a weight of 0 is 0. To train to weights that are exactly 0, take
    `proximal.lasso`.

    Args:
      params: weights.
      decay: non-negative coefficients, as for `weight_decay`.

    Returns:
      A scalar.

    Raises:
      ValueError: if a decay has no weights of its name, or cannot be broadcast to them.
    """
    # JAX's own derivative of |w| at 0 is 1, which would push a weight of 0 to one side.
    pairs = ((jnp.where(w == 0, 0, jnp.abs(w)), c) for w, c in _precise(decay, params))
    return sum((jnp.sum(c * size) for size, c in pairs), start=jnp.float32(0))


def elastic_net(params: Params, decays: Mapping[str, Any]) -> jax.Array:
    """Σ_i l1_i |w_i| + ½ Σ_i l2_i w_i² (Zou and Hastie, 2005).

    Args:
      params: weights.
      decays: {"l1": …, "l2": …}, each as for `lasso`.

    Returns:
      A scalar.
    """
    return lasso(params, decays["l1"]) + weight_decay(params, decays["l2"]) / 2


def group_lasso(params: Params, decay: Any, groups: Any) -> jax.Array:
    """Σ_g decay_g ‖w_g‖₂ (Yuan and Lin, 2006).

    Args:
      params: weights.
      decay: non-negative coefficients, one for each group, shape (M,), or one for all.
      groups: number of each weight's group, from 0 to M − 1; a tree like `params` of whole numbers
        in NumPy, each array broadcast to the weights'.

    Returns:
      A scalar.

    Raises:
      ValueError: for groups that don't fit the weights, or decays that don't fit the groups.
    """
    norms = grouping.norms(params, groups)
    if jnp.shape(decay) not in ((), norms.shape):
        raise ValueError(
            f"{norms.size} groups need one decay each, shape {norms.shape}, or one for all, got "
            f"shape {jnp.shape(decay)}."
        )
    return jnp.sum(decay * norms)


def sparse_group_lasso(params: Params, decays: Mapping[str, Any], groups: Any) -> jax.Array:
    """l1 ‖w‖₁ + Σ_g groups_g ‖w_g‖₂ (Simon et al., 2013).

    Args:
      params: weights.
      decays: {"l1": as for `lasso`, "groups": as for `group_lasso`}.
      groups: as for `group_lasso`.

    Returns:
      A scalar.
    """
    return lasso(params, decays["l1"]) + group_lasso(params, decays["groups"], groups)


def broadcast(hyperparams: Hyperparams, params: Params, missing: float | None = None) -> Params:
    """Hyperparameters repeated for every weight that they stand for.

    Args:
      hyperparams: a prefix of `params` (see the module's docstring).
      params: weights, or their `jax.ShapeDtypeStruct`s.
      missing: what stands for the hyperparameter of weights that have none; if None, each needs
        one.

    Returns:
      A tree like `params`.

    Raises:
      ValueError: if a hyperparameter has no weights of its name or cannot be broadcast to them, or
        if weights have no hyperparameter.
    """
    leaves, treedef = jax.tree.flatten(params)
    places = [_Place(i, leaf.shape) for i, leaf in enumerate(leaves)]
    pairs = _pairs(hyperparams, jax.tree.unflatten(treedef, places))
    if missing is None and len(pairs) < len(leaves):
        raise ValueError(
            f"{len(leaves) - len(pairs)} arrays of weights have no hyperparameter among "
            f"{jax.tree.structure(hyperparams)}; each needs one here."
        )
    found = {place.position: each for place, each in pairs}
    return jax.tree.unflatten(
        treedef,
        [
            found[i] if i in found else jnp.full(leaf.shape, missing or 0.0, leaf.dtype)
            for i, leaf in enumerate(leaves)
        ],
    )


class _Place:
    """An array's place in a tree, and its shape."""

    def __init__(self, position: int, shape: tuple[int, ...]) -> None:
        self.position, self.shape = position, shape


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
    return [(in_precision(w, w), in_precision(c, w)) for w, c in _pairs(decay, params)]


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
