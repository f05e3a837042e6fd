"""The typed space that hyperparameters live in: natural units outside, unconstrained inside.

A user writes and reads natural units. Methods move hyperparameters in *unconstrained* space, ℝⁿ. A
space is a tree of specs, each of which says how one entry becomes a value in natural units, what
its prior is, and whether a gradient can move it; it is a prefix of the hyperparameters' tree, so
that one `log()` may stand for a million decays.

    space = {"decay": log(), "dropout": bounded(0.0, 0.9)}
    start = encode(space, {"decay": jnp.full((784, 10), 1e-3), "dropout": 0.5})
    decode(space, start)["dropout"]                                # 0.5 again

`fit`, `train` and `search.run` do this by themselves, with the problem's space.
"""

import collections
import math
import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from shohypernet._internal import specs, validation
from shohypernet._internal.specs import Spec
from shohypernet.types import Hyperparams, Space

DEFAULT_PRIOR = (1e-6, 1e2)  # of `log`


def real(loc: float = 0.0, scale: float = 1.0) -> Spec:
    """Any real number, left as it is; prior N(loc, scale²)."""
    validation.require(math.isfinite(loc), f"real() needs a finite loc, got {loc}.")
    validation.positive("real", scale=scale)
    return specs.Real(loc, scale)


UNCONSTRAINED = real()
"""The space of a problem that says nothing of it: natural units and unconstrained ones agree."""


def log(
    low: float | None = None,
    high: float | None = None,
    *,
    prior: tuple[float, float] | None = None,
) -> Spec:
    """A positive number, moved by its logarithm.

    Without bounds, value = exp(λ). Between bounds, value = low · (high / low)^sigmoid(λ).

    Args:
      low: smallest value, in natural units; None for no bounds.
      high: largest value, likewise; both or neither.
      prior: ends of the log-uniform prior where there are no bounds. They bound nothing else: a
        gradient method may leave them. Between bounds the prior is log-uniform there.

    Raises:
      ValueError: unless 0 < low < high, or for bounds and a prior at once.
    """
    if low is None and high is None:
        low, high = DEFAULT_PRIOR if prior is None else prior
        _require_log_bounds(low, high)
        return specs.Log(low, high)
    if low is None or high is None or prior is not None:
        raise ValueError(
            "log() needs both bounds and no prior, or a prior alone, got "
            f"{low=}, {high=} and {prior=}."
        )
    _require_log_bounds(low, high)
    return specs.BoundedLog(low, high)


def _require_log_bounds(low: float, high: float) -> None:
    ordered = 0 < low < high < math.inf
    validation.require(ordered, f"log() needs 0 < low < high, got {low} and {high}.")


def bounded(low: float, high: float) -> Spec:
    """A number between two bounds: value = low + (high − low)·sigmoid(λ); prior uniform.

    Raises:
      ValueError: unless low < high, both finite.
    """
    validation.require_bounds("bounded", low, high)
    return specs.Bounded(low, high)


def integer(low: int, high: int) -> Spec:
    """A whole number from low to high, both included, for black-box methods; prior uniform.

    Raises:
      ValueError: unless low < high, both whole numbers that float32 can hold.
    """
    whole = all(isinstance(bound, numbers.Integral) for bound in (low, high))
    largest = 2**24  # up to which float32, in which codes are, holds each of them
    validation.require(
        whole and -largest <= low < high <= largest,
        f"integer() needs whole numbers with low < high, at most 2²⁴ from 0, got {low} and {high}.",
    )
    return specs.Integer(low, high)


def categorical(*choices: Any) -> Spec:
    """One of several named choices, as its index, for black-box methods; prior uniform.

    It decodes to indices, as arrays hold no names, and `choices` says what they stand for. It
    encodes names, alone or in a NumPy array, and indices; of choices that are numbers themselves,
    only a JAX array, which is what `decode` returns, is taken for indices.

    Raises:
      ValueError: for fewer than two choices, or one that comes twice.
    """
    validation.require(len(choices) > 1, f"categorical() needs two choices or more, got {choices}.")
    twice = [choice for i, choice in enumerate(choices) if choice in choices[:i]]
    validation.require(
        not twice, f"categorical() needs choices that differ, but {twice} come twice."
    )
    return specs.Categorical(choices)


def decode(space: Space, hyperparams: Any) -> Any:
    """Unconstrained hyperparameters as values in natural units.

    Args:
      space: a tree of specs, a prefix of `hyperparams`.
      hyperparams: a tree of unconstrained arrays.

    Returns:
      A tree like `hyperparams`.
    """
    return jax.tree.map(lambda spec, below: jax.tree.map(spec.decode, below), space, hyperparams)


def encode(space: Space, values: Any) -> Any:
    """Values in natural units as unconstrained hyperparameters: the inverse of `decode`.

    Args:
      space: a tree of specs, a prefix of `values`.
      values: a tree of arrays or numbers in natural units; a category's choices by name.

    Raises:
      ValueError: for a value outside its spec's range, which has no unconstrained counterpart, or
        a tree that the space is no prefix of.
    """

    def checked(spec: Spec, below: Any) -> Any:
        unconstrained = jax.tree.map(spec.encode, below)
        if not all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(unconstrained)):
            raise ValueError(
                f"{below} is not strictly inside the range of its {spec.kind}() hyperparameter; "
                "start from a value inside it, in natural units (a decay of 3e-4, not its "
                "logarithm)."
            )
        return unconstrained

    require_prefix(space, values)
    return jax.tree.map(checked, space, values)


def require_prefix(space: Space, hyperparams: Any) -> None:
    """Refuse hyperparameters that a space is no prefix of.

    Raises:
      ValueError: naming what differs.
    """
    try:
        jax.tree.map(lambda spec, below: None, space, hyperparams)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"the space {jax.tree.map(lambda spec: spec.kind, space)} doesn't fit hyperparameters "
            f"like {jax.tree.structure(hyperparams)}; it needs a spec for each of them, or for a "
            "branch of their tree."
        ) from error


def broadcast_space(space: Space, like: Any) -> Any:
    """A tree like `like` that has each leaf's own spec."""
    return jax.tree.map(lambda spec, below: jax.tree.map(lambda _: spec, below), space, like)


def sample(key: jax.Array, space: Space, like: Any) -> Any:
    """One draw from the prior of a space, in unconstrained space.

    Args:
      key: a random key.
      space: a tree of specs, a prefix of `like`.
      like: a tree of arrays that gives the shapes.

    Returns:
      A tree like `like`.
    """
    specs = jax.tree.leaves(broadcast_space(space, like))
    leaves, treedef = jax.tree.flatten(like)
    keys = jax.random.split(key, len(leaves))
    drawn = [
        spec.sample(k, jnp.shape(leaf)) for spec, k, leaf in zip(specs, keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(treedef, drawn)


def describe(space: Space, hyperparams: Hyperparams) -> str:
    """A line that shows hyperparameters in natural units; arrays by their median and range."""

    def show(spec: Spec, leaf: Any) -> str:
        if isinstance(spec, specs.Categorical):
            names = [spec.labels[index] for index in np.ravel(spec.decode(spec.encode(leaf)))]
            counts = collections.Counter(names)
            return ", ".join(
                name if np.ndim(leaf) == 0 else f"{n} × {name}" for name, n in counts.items()
            )
        value = jnp.asarray(leaf)
        if value.ndim == 0:
            return f"{value.item():.4g}"
        return f"{jnp.median(value):.4g} [{jnp.min(value):.4g}, {jnp.max(value):.4g}]"

    shown = jax.tree.map(show, broadcast_space(space, hyperparams), hyperparams)
    named = jax.tree.leaves_with_path(shown)
    return ", ".join(f"{jax.tree_util.keystr(path)} {text}".strip() for path, text in named)


def require_differentiable(space: Space) -> None:
    """Refuse a space that a gradient method cannot tune.

    Raises:
      ValueError: naming each entry that is an integer or a category.
    """
    fixed = [
        f"{jax.tree_util.keystr(path) or 'the space'} ({spec.kind})"
        for path, spec in jax.tree.leaves_with_path(space)
        if not spec.differentiable
    ]
    validation.require(
        not fixed,
        f"gradients cannot move {', '.join(fixed)}: fix it, relax it to bounded(), or give it to a "
        "black-box search.",
    )
