"""The entries of a space: how a number, a choice or a whole number lies in ℝ."""

import dataclasses
import math
import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from shohypernet._internal import validation
from shohypernet.types import Key

DEFAULT_PRIOR = (1e-6, 1e2)  # of `log`


@dataclasses.dataclass(frozen=True)
class Spec:
    """One entry of a space; made by `real`, `log`, `bounded`, `integer` and `categorical`.

    Attributes:
      kind: name of the function that made it.
      decode: unconstrained array -> values in natural units, elementwise.
      encode: values in natural units -> unconstrained array, the inverse of `decode`.
      sample: `sample(key, shape) -> array`, a draw from the prior, unconstrained.
      quantile: inverse distribution function of the prior, elementwise: probability in (0, 1) ->
        unconstrained array. It maps the unit cube, where black-box methods work, to λ.
      bounds: ends of the prior's range, in natural units.
      differentiable: whether a gradient can move it.
      choices: meanings of a categorical's codes, otherwise empty.
    """

    kind: str
    decode: Callable[[jax.Array], jax.Array]
    encode: Callable[[jax.Array], jax.Array]
    sample: Callable[[Key, tuple[int, ...]], jax.Array]
    quantile: Callable[[jax.Array], jax.Array]
    bounds: tuple[float, float]
    differentiable: bool = True
    choices: tuple[Any, ...] = ()


def real(loc: float = 0.0, scale: float = 1.0) -> Spec:
    """Any real number, unchanged; prior N(loc, scale²)."""
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
    # From the middle outwards, where half as large an exponent is half as soon out of range.
    middle, scale = math.sqrt(low) * math.sqrt(high), math.log(high) - math.log(low)
    exponent = bounded(-scale / 2, scale / 2)
    return dataclasses.replace(
        exponent,
        kind="log",
        decode=lambda code: jnp.clip(middle * jnp.exp(exponent.decode(code)), low, high),
        encode=lambda value: exponent.encode(jnp.log(jnp.asarray(value) / middle)),
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
