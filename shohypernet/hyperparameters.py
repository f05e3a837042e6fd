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

import dataclasses
import math
import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from shohypernet._internal import validation
from shohypernet.types import Hyperparams, Space

DEFAULT_PRIOR = (1e-6, 1e2)  # of `log`


@dataclasses.dataclass(frozen=True)
class Spec:
    """One entry of a space; made by `real`, `log`, `bounded`, `integer` and `categorical`.

    Attributes:
      kind: the name of the function that made it.
      decode: unconstrained array -> values in natural units, elementwise.
      encode: values in natural units -> unconstrained array, the inverse of `decode`.
      sample: `sample(key, shape) -> array`, a draw from the prior, in unconstrained space.
      quantile: the prior's inverse distribution function, elementwise: a probability between 0
        and 1 -> unconstrained array. It maps the unit cube, where black-box methods work, to λ.
      bounds: ends of the prior's range, in natural units.
      differentiable: whether a gradient can move it.
      choices: what a categorical's codes stand for, otherwise empty.
    """

    kind: str
    decode: Callable[[jax.Array], jax.Array]
    encode: Callable[[jax.Array], jax.Array]
    sample: Callable[[jax.Array, tuple[int, ...]], jax.Array]
    quantile: Callable[[jax.Array], jax.Array]
    bounds: tuple[float, float]
    differentiable: bool = True
    choices: tuple[Any, ...] = ()


def real(loc: float = 0.0, scale: float = 1.0) -> Spec:
    """Any real number, left as it is; prior N(loc, scale²)."""
    validation.require(math.isfinite(loc), f"real() needs a finite loc, got {loc}.")
    validation.positive("real", scale=scale)
    return Spec(
        kind="real",
        decode=lambda unconstrained: unconstrained,
        encode=lambda value: jnp.asarray(value, jnp.result_type(value, float)),
        sample=lambda key, shape: loc + scale * jax.random.normal(key, shape),
        quantile=lambda unit: loc + scale * jax.scipy.special.ndtri(unit),
        bounds=(-math.inf, math.inf),
    )


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
        return _unbounded_log(*(DEFAULT_PRIOR if prior is None else prior))
    if low is None or high is None or prior is not None:
        raise ValueError(
            "log() needs both bounds and no prior, or a prior alone, got "
            f"{low=}, {high=} and {prior=}."
        )
    _require_log_bounds(low, high)
    exponent, scale = bounded(0.0, 1.0), math.log(high / low)
    return dataclasses.replace(
        exponent,
        kind="log",
        decode=lambda code: jnp.clip(low * jnp.exp(scale * exponent.decode(code)), low, high),
        encode=lambda value: exponent.encode(jnp.log(jnp.asarray(value) / low) / scale),
        bounds=(low, high),
    )


def _unbounded_log(low: float, high: float) -> Spec:
    _require_log_bounds(low, high)
    lowest, highest = math.log(low), math.log(high)
    return Spec(
        kind="log",
        decode=jnp.exp,
        encode=jnp.log,
        sample=lambda key, shape: jax.random.uniform(key, shape, minval=lowest, maxval=highest),
        quantile=lambda unit: lowest + (highest - lowest) * unit,
        bounds=(low, high),
    )


def _require_log_bounds(low: float, high: float) -> None:
    ordered = 0 < low < high < math.inf
    validation.require(ordered, f"log() needs 0 < low < high, got {low} and {high}.")


def bounded(low: float, high: float) -> Spec:
    """A number between two bounds: value = low + (high − low)·sigmoid(λ); prior uniform.

    Raises:
      ValueError: unless low < high, both finite.
    """
    validation.require_bounds("bounded", low, high)
    return Spec(
        kind="bounded",
        # Clipped, for the sum may be rounded to a number outside.
        decode=lambda unconstrained: jnp.clip(
            low + (high - low) * jax.nn.sigmoid(unconstrained), low, high
        ),
        encode=lambda value: jax.scipy.special.logit((jnp.asarray(value) - low) / (high - low)),
        sample=lambda key, shape: jax.random.logistic(key, shape),
        quantile=jax.scipy.special.logit,
        bounds=(low, high),
    )


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
    return Spec(
        kind="integer",
        decode=lambda code: jnp.clip(jnp.round(code), low, high).astype(jnp.int32),
        encode=lambda value: jnp.where((low <= value) & (value <= high), value, jnp.nan),
        sample=lambda key, shape: jax.random.randint(key, shape, low, high + 1).astype(float),
        quantile=lambda unit: jnp.minimum(low + jnp.floor((high - low + 1) * unit), high),
        bounds=(low, high),
        differentiable=False,
    )


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
    index = integer(0, len(choices) - 1)
    names_only = not any(isinstance(choice, numbers.Number) for choice in choices)

    def code(value: Any) -> Any:
        if value in choices:
            return float(choices.index(value))
        return value if names_only and isinstance(value, numbers.Real) else math.nan

    def encode(value: Any) -> jax.Array:
        if isinstance(value, jax.Array):
            return index.encode(value)
        codes = np.vectorize(code, otypes=[float])(np.asarray(value, object))
        return index.encode(jnp.asarray(codes, jnp.result_type(float)))

    return dataclasses.replace(index, kind="categorical", encode=encode, choices=choices)


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
        value = jnp.asarray(leaf)
        if spec.choices and value.ndim == 0:
            return str(spec.choices[int(value)])
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
