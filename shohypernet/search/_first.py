"""Trials to begin with, as they are given: in natural units, with or without inactive values."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from shohypernet import _conditions as conditions
from shohypernet import hyperparameters as hp
from shohypernet._conditions import Conditional
from shohypernet._internal.validation import require
from shohypernet.types import Hyperparams, Space

ABSENT = object()  # a value that wasn't given


def queued_first(space: Space, like: Hyperparams, first: Sequence[Any]) -> Hyperparams | None:
    """Trials to begin with, unconstrained, leaves (K, ...); None if there are none.

    Args:
      space: the space of all hyperparameters.
      like: zeros in their form.
      first: trees of values in natural units; a number may stand for an array. Inactive values may
        be left out.

    Raises:
      ValueError: for values that don't fit the space, or lie outside its prior.
    """
    if not first:
        return None
    first = [_completed(space, like, tree) for tree in first]
    specs = hp.broadcast_space(space, like)

    def stacked(spec: hp.Spec, zeros: np.ndarray, *codes: Any) -> np.ndarray:
        rows = np.stack([np.broadcast_to(code, zeros.shape) for code in codes])
        at = np.asarray(spec.cdf(rows))
        require(
            bool(np.all((at > 0) & (at < 1))),
            f"first holds {np.asarray(spec.decode(rows))}, outside the prior of its {spec}; a "
            "search tries what is inside.",
        )
        return rows.astype(zeros.dtype)

    encoded = jax.tree.map(stacked, specs, like, *(hp.encode(space, tree) for tree in first))
    return jax.tree.map(np.asarray, conditions.project(space, encoded))


def _completed(space: Space, like: Hyperparams, tree: Any) -> Any:
    """The tree with the middle of the prior for each inactive value, given or not."""
    found = conditions.resolve(space)
    if not found.some:
        return tree
    tree = _filled(space, tree)
    hp.require_prefix(space, tree)
    treedef = jax.tree.structure(space)
    below, forms = treedef.flatten_up_to(tree), treedef.flatten_up_to(like)

    def code(number: int) -> Any:
        value = below[number]
        return np.array(np.nan) if value is ABSENT else found.specs[number].encode(value)

    active = [bool(mask) for mask in found.active(code)]
    given = zip(found.names, below, active, strict=True)
    lacking = [name for name, value, is_active in given if value is ABSENT and is_active]
    require(
        not lacking,
        f"first holds a trial without {', '.join(lacking)}, active at its other values; give a "
        "value, for only what is inactive can be left out.",
    )
    return treedef.unflatten(
        value if is_active else _middles(spec, form)
        for value, is_active, spec, form in zip(below, active, found.specs, forms, strict=True)
    )


def _middles(spec: hp.Spec, form: Any) -> Any:
    middle = spec.decode(conditions.middle(spec))
    return jax.tree.map(lambda leaf: jax.numpy.broadcast_to(middle, np.shape(leaf)), form)


def _filled(space: Space, tree: Any) -> Any:
    """The tree with ABSENT for the conditional values that it lacks, in dicts, or has None for."""
    if isinstance(space, Conditional):
        return ABSENT if tree is None and not space.holds(None) else tree
    if not isinstance(space, dict) or not (isinstance(tree, dict) or tree is ABSENT):
        return tree
    given = {} if tree is ABSENT else tree
    filled = {name: _filled(part, given.get(name, ABSENT)) for name, part in space.items()}
    # What isn't conditional can't be left out, and is missed where trees are compared.
    return given | {
        name: value
        for name, value in filled.items()
        if value is not ABSENT or isinstance(space[name], Conditional)
    }
