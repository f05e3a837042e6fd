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

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from shohypernet import _conditions as conditions
from shohypernet import _specs as specs
from shohypernet._internal import distributions, ranges, validation
from shohypernet._internal.trees import path_name
from shohypernet._specs import Spec
from shohypernet.types import Hyperparams, Key, Space

DEFAULT_PRIOR = (1e-6, 1e2)  # of `log`


def real(loc: float = 0.0, scale: float = 1.0) -> Spec:
    """Any real number, unchanged; prior N(loc, scale²).

    Raises:
      ValueError: unless loc is finite and scale > 0, or where float32 can't hold the prior.
    """
    validation.require(math.isfinite(loc), f"real() needs a finite loc, got {loc}.")
    validation.positive("real", scale=scale)
    ranges.require_numbers_between("real", loc - 3 * scale, loc + 3 * scale)
    return specs.Real(loc, scale)


UNCONSTRAINED = real()
"""Space of a problem without one of its own: natural and unconstrained units agree."""


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
      high: largest value, likewise; both or neither. Between them the prior is log-uniform.
      prior: ends of the log-uniform prior where there are no bounds. A gradient method may leave
        them.

    Raises:
      ValueError: unless 0 < low < high, for bounds and a prior at once, or for a range that float32
        can't hold.
    """
    if low is None and high is None:
        low, high = DEFAULT_PRIOR if prior is None else prior
        ranges.require_log_bounds(low, high)
        return specs.Log(low, high)
    if low is None or high is None or prior is not None:
        raise ValueError(
            "log() needs both bounds and no prior, or a prior alone, got "
            f"{low=}, {high=} and {prior=}."
        )
    ranges.require_log_bounds(low, high)
    return specs.BoundedLog(low, high)


def bounded(low: float, high: float) -> Spec:
    """A number between two bounds: value = low + (high − low)·sigmoid(λ); prior uniform.

    Raises:
      ValueError: unless low < high, both finite, or for a range that float32 can't hold.
    """
    validation.require_bounds("bounded", low, high)
    ranges.require_numbers_between("bounded", low, high)
    return specs.Bounded(low, high)


def integer(low: int, high: int) -> Spec:
    """A whole number from low to high, both included, for black-box methods; prior uniform.

    Raises:
      ValueError: unless low < high, both whole numbers that float32 can hold.
    """
    ranges.require_whole_bounds(low, high)
    return specs.Integer(low, high)


def categorical(*choices: Any) -> Spec:
    """One of several choices, as its index, for black-box methods; prior uniform.

    Choices may be any objects that differ by ==: names, numbers, None, functions, tuples.

    It decodes to indices into `choices`, as arrays hold no names. It encodes names, alone or in a
    NumPy array, and indices; where the choices are numbers themselves, only a JAX array, which is
    what `decode` returns, is read as indices.

    Raises:
      ValueError: for fewer than two choices, or a repeated one.
    """
    validation.require(len(choices) > 1, f"categorical() needs two choices or more, got {choices}.")
    twice = [choice for i, choice in enumerate(choices) if choice in choices[:i]]
    validation.require(
        not twice, f"categorical() needs choices that differ, but {twice} come twice."
    )
    return specs.Categorical(choices)


def conditional(spec: Spec, /, **where: Any) -> Spec:
    """A hyperparameter that there is only where others have certain choices, for searches.

        kind = categorical("sgd", "adam")
        space = {"kind": kind, "momentum": conditional(bounded(0.0, 0.99), kind="sgd")}

    Elsewhere it is inactive: its value is the middle of its prior, whatever a search asks for, so
    that λ keeps its structure.

    Args:
      spec: the spec of its values.
      where: choices of other hyperparameters, by their paths in the space (`**{"head.kind": "a"}`)
        or by their names in `static`: one choice, or a list, tuple or range of some. The others are
        single ones of `integer()` or `categorical()`, and may be conditional too. All conditions
        must hold, and it is inactive where one of the others is.

    Raises:
      TypeError: for something that is no spec.
      ValueError: without a condition, or for one without choices; by searches, for one that their
        space doesn't have.
    """
    return conditions.conditional(spec, where)


def active(space: Space, hyperparams: Hyperparams) -> Any:
    """Whether each hyperparameter is active, or the constant of an inactive `conditional()`.

    Args:
      space: tree of specs, a prefix of `hyperparams`.
      hyperparams: tree of arrays, unconstrained, of one λ or of several, leaves (P, ...).

    Returns:
      A tree like `hyperparams` of booleans.
    """
    require_prefix(space, hyperparams)
    return conditions.active(space, hyperparams)


def decode(space: Space, hyperparams: Hyperparams) -> Hyperparams:
    """Unconstrained hyperparameters as values in natural units.

    Args:
      space: tree of specs, a prefix of `hyperparams`.
      hyperparams: tree of arrays, unconstrained.

    Returns:
      A tree like `hyperparams`.

    Raises:
      ValueError: for a tree that the space is no prefix of.
    """
    return _map(lambda spec, below: jax.tree.map(spec.decode, below), space, hyperparams)


def encode(space: Space, values: Hyperparams) -> Hyperparams:
    """Values in natural units as unconstrained hyperparameters: the inverse of `decode`.

    Args:
      space: tree of specs, a prefix of `values`.
      values: tree of arrays or numbers in natural units; a category's choices by name.

    Returns:
      A tree like `values`.

    Raises:
      ValueError: for a value outside its spec's range, which has no unconstrained counterpart, or
        a tree that the space is no prefix of.
    """

    def checked(spec: Spec, below: Any) -> Any:
        unconstrained = jax.tree.map(spec.encode, below, is_leaf=spec.holds)
        if not all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(unconstrained)):
            raise ValueError(
                f"{below} is not strictly inside the range of its {spec.bare.kind}() "
                "hyperparameter; start from a value inside it, in natural units (a decay of 3e-4, "
                "not its logarithm)."
            )
        return unconstrained

    return _map(checked, space, values)


def require_prefix(space: Space, hyperparams: Hyperparams) -> None:
    """Refuse hyperparameters that a space is no prefix of.

    Raises:
      ValueError: naming both trees.
    """
    try:
        jax.tree.map(lambda spec, below: None, space, hyperparams)
    except (ValueError, TypeError) as error:
        shown = jax.tree.map(np.shape, hyperparams)
        raise ValueError(
            f"the space {jax.tree.map(lambda spec: spec.kind, space)} doesn't fit hyperparameters "
            f"of shapes {shown}; it needs one spec for each of them, or for a branch of their tree."
        ) from error


def broadcast_space(space: Space, like: Hyperparams) -> Any:
    """The spec of each leaf, in a tree like `like`."""

    def repeated(spec: Spec, below: Any) -> Any:
        return jax.tree.map(lambda _: spec, below, is_leaf=spec.holds)

    return _map(repeated, space, like)


def _map(function: Callable[[Spec, Any], Any], space: Space, hyperparams: Hyperparams) -> Any:
    require_prefix(space, hyperparams)
    return jax.tree.map(function, space, hyperparams)


def sample(key: Key, space: Space, like: Hyperparams) -> Hyperparams:
    """One draw from the prior of a space, unconstrained; what is inactive there is constant.

    Args:
      key: PRNG key.
      space: tree of specs, a prefix of `like`.
      like: tree of arrays of the shapes to draw.

    Returns:
      A tree like `like`.
    """
    specs = jax.tree.leaves(broadcast_space(space, like))
    leaves, treedef = jax.tree.flatten(like)
    keys = jax.random.split(key, len(leaves))
    drawn = [
        spec.sample(k, jnp.shape(leaf)) for spec, k, leaf in zip(specs, keys, leaves, strict=True)
    ]
    return conditions.project(space, jax.tree.unflatten(treedef, drawn))


def describe(space: Space, values: Hyperparams) -> str:
    """Hyperparameters by their paths, as text; arrays by their median and range.

    Of ten numbers or more the range is that of the middle 90 %, with a histogram over it, and each
    path has a line of its own.

    Args:
      space: tree of specs, a prefix of `values`.
      values: tree of arrays or numbers in natural units, as `decode` gives them.

    Returns:
      Such as "decay 0.01 [0.001, 5], dropout.first 0.5, activation relu".
    """

    def show(active: bool, spec: Spec, leaf: Any) -> str:
        if not active:
            return "inactive"
        if isinstance(spec.bare, specs.Categorical):
            codes = np.asarray(spec.decode(encode(spec, leaf)))
            return " ".join(spec.bare.labels[code] for code in codes.flat)
        return distributions.show(np.asarray(leaf, np.float64))

    by_leaf = broadcast_space(space, values)
    is_active = jax.tree.broadcast(conditions.active_values(space, values), by_leaf)
    shown = jax.tree.map(show, is_active, by_leaf, values)
    many = any(np.size(leaf) >= distributions.LEAST for leaf in jax.tree.leaves(values))
    each = [f"{path_name(path)} {text}".strip() for path, text in jax.tree.leaves_with_path(shown)]
    return ("\n" if many else ", ").join(each)


def require_differentiable(space: Space) -> None:
    """Refuse a space that a gradient method cannot tune.

    Raises:
      ValueError: naming each entry that is an integer or a category.
    """
    fixed = [
        f"{path_name(path) or 'the space'} ({spec.kind})"
        for path, spec in jax.tree.leaves_with_path(space)
        if not spec.differentiable
    ]
    validation.require(
        not fixed,
        f"gradients cannot move {', '.join(fixed)}: fix it, relax it to bounded(), or give it to a "
        "black-box search.",
    )
