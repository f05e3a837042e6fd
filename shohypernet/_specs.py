"""Specs: the kinds of entries that a space is made of, by the builders of `hyperparameters`.

A spec is data, so that spaces can be compared, shown and pickled. Values are checked by the
builders alone.
"""

import dataclasses
import math
import numbers
import re
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from shohypernet.types import Key

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # of an object, which differs from process to process


class Spec:
    """One entry of a space; made by the builders of `hyperparameters`.

    Attributes:
      kind: name of the function that made it.
      differentiable: whether a gradient can move it.
      choices: the choices that a category's codes stand for, otherwise empty.
    """

    kind: ClassVar[str]
    differentiable: ClassVar[bool] = True
    choices: tuple[Any, ...] = ()

    @property
    def bare(self) -> "Spec":
        """The spec without conditions."""
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """Ends of the prior's range, in natural units."""
        raise NotImplementedError

    def decode(self, unconstrained: Any) -> jax.Array:
        """Values in natural units of unconstrained ones, elementwise."""
        raise NotImplementedError

    def encode(self, value: Any) -> jax.Array:
        """Unconstrained values, the inverse of `decode`; infinite or NaN where there are none."""
        raise NotImplementedError

    def holds(self, value: Any) -> bool:
        """Whether a value is a choice of a category, even one that is a tree, such as a tuple."""
        del value
        return False

    def as_text(self) -> "Spec":
        """The same spec with choices as text, which files can hold."""
        return self

    def sample(self, key: Key, shape: tuple[int, ...]) -> jax.Array:
        """A draw from the prior, unconstrained."""
        raise NotImplementedError

    def quantile(self, unit: Any) -> jax.Array:
        """The prior's inverse distribution function, elementwise, unconstrained.

        It maps the unit cube, where black-box methods work, to λ.
        """
        raise NotImplementedError

    def cdf(self, unconstrained: Any) -> jax.Array:
        """The inverse of `quantile`: 0 or 1 outside the prior, the middle of its bin for a code."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Real(Spec):
    """Any real number, as it is; prior N(loc, scale²)."""

    loc: float
    scale: float
    kind = "real"

    @property
    def bounds(self) -> tuple[float, float]:
        return -math.inf, math.inf

    def decode(self, unconstrained: Any) -> jax.Array:
        return unconstrained

    def encode(self, value: Any) -> jax.Array:
        return jnp.asarray(value, jnp.result_type(value, float))

    def sample(self, key: Key, shape: tuple[int, ...]) -> jax.Array:
        return self.loc + self.scale * jax.random.normal(key, shape)

    def quantile(self, unit: Any) -> jax.Array:
        return self.loc + self.scale * jax.scipy.special.ndtri(unit)

    def cdf(self, unconstrained: Any) -> jax.Array:
        return jax.scipy.special.ndtr((unconstrained - self.loc) / self.scale)


@dataclasses.dataclass(frozen=True)
class Log(Spec):
    """A positive number, exp(λ); prior log-uniform from low to high."""

    low: float
    high: float
    kind = "log"

    @property
    def bounds(self) -> tuple[float, float]:
        return self.low, self.high

    def decode(self, unconstrained: Any) -> jax.Array:
        return jnp.exp(unconstrained)

    def encode(self, value: Any) -> jax.Array:
        return jnp.log(value)

    def sample(self, key: Key, shape: tuple[int, ...]) -> jax.Array:
        lowest, highest = math.log(self.low), math.log(self.high)
        return jax.random.uniform(key, shape, minval=lowest, maxval=highest)

    def quantile(self, unit: Any) -> jax.Array:
        return math.log(self.low) + (math.log(self.high) - math.log(self.low)) * unit

    def cdf(self, unconstrained: Any) -> jax.Array:
        lowest, highest = math.log(self.low), math.log(self.high)
        return jnp.clip((unconstrained - lowest) / (highest - lowest), 0, 1)


@dataclasses.dataclass(frozen=True)
class Bounded(Spec):
    """A number from low to high, low + (high − low)·sigmoid(λ); prior uniform."""

    low: float
    high: float
    kind = "bounded"

    @property
    def bounds(self) -> tuple[float, float]:
        return self.low, self.high

    def decode(self, unconstrained: Any) -> jax.Array:
        value = self.low + (self.high - self.low) * jax.nn.sigmoid(unconstrained)
        # Clipped, for the sum may be rounded to a number outside.
        return jnp.clip(value, self.low, self.high)

    def encode(self, value: Any) -> jax.Array:
        value = jnp.asarray(value)
        return self._logit(value, (value - self.low) / (self.high - self.low))

    def sample(self, key: Key, shape: tuple[int, ...]) -> jax.Array:
        return jax.random.logistic(key, shape)

    def quantile(self, unit: Any) -> jax.Array:
        return jax.scipy.special.logit(unit)

    def cdf(self, unconstrained: Any) -> jax.Array:
        return jax.nn.sigmoid(unconstrained)

    def _logit(self, value: jax.Array, fraction: jax.Array) -> jax.Array:
        """Infinite at the bounds, NaN outside; a fraction may be rounded beyond 1 at a bound."""
        inside = (self.low <= value) & (value <= self.high)
        return jax.scipy.special.logit(jnp.where(inside, jnp.clip(fraction, 0, 1), jnp.nan))


@dataclasses.dataclass(frozen=True)
class BoundedLog(Bounded):
    """A positive number from low to high, low·(high / low)^sigmoid(λ); prior log-uniform."""

    kind = "log"

    # From the middle outwards, where half as large an exponent is half as soon out of range.
    @property
    def _middle(self) -> float:
        return math.sqrt(self.low) * math.sqrt(self.high)

    @property
    def _exponent(self) -> Bounded:
        half = (math.log(self.high) - math.log(self.low)) / 2
        return Bounded(-half, half)

    def decode(self, unconstrained: Any) -> jax.Array:
        value = self._middle * jnp.exp(self._exponent.decode(unconstrained))
        return jnp.clip(value, self.low, self.high)

    def encode(self, value: Any) -> jax.Array:
        value = jnp.asarray(value)
        exponent = self._exponent
        fraction = (jnp.log(value / self._middle) - exponent.low) / (exponent.high - exponent.low)
        return self._logit(value, fraction)


@dataclasses.dataclass(frozen=True)
class Integer(Spec):
    """A whole number from low to high, both included; prior uniform."""

    low: int
    high: int
    kind = "integer"
    differentiable = False

    @property
    def bounds(self) -> tuple[float, float]:
        return self.low, self.high

    def decode(self, unconstrained: Any) -> jax.Array:
        return jnp.clip(jnp.round(unconstrained), self.low, self.high).astype(jnp.int32)

    def encode(self, value: Any) -> jax.Array:
        return jnp.where((self.low <= value) & (value <= self.high), value, jnp.nan)

    def sample(self, key: Key, shape: tuple[int, ...]) -> jax.Array:
        return jax.random.randint(key, shape, self.low, self.high + 1).astype(float)

    def quantile(self, unit: Any) -> jax.Array:
        bins = self.high - self.low + 1
        return jnp.minimum(self.low + jnp.floor(bins * unit), self.high)

    def cdf(self, unconstrained: Any) -> jax.Array:
        return (self.decode(unconstrained) - self.low + 0.5) / (self.high - self.low + 1)


@dataclasses.dataclass(frozen=True)
class Categorical(Spec):
    """One of several choices, as its index; prior uniform."""

    choices: tuple[Any, ...]
    kind = "categorical"
    differentiable = False

    @property
    def bounds(self) -> tuple[float, float]:
        return 0, len(self.choices) - 1

    @property
    def labels(self) -> list[str]:
        """The choices as texts that differ, numbered where they would not, as of 1 and "1"."""
        names = [
            getattr(choice, "__name__", None) or _ADDRESS.sub("", str(choice))
            for choice in self.choices
        ]
        if len(set(names)) == len(names):
            return names
        return [f"{index}: {name}" for index, name in enumerate(names)]

    def holds(self, value: Any) -> bool:
        leaves = jax.tree.leaves(value)
        arrays = any(isinstance(leaf, jax.Array | np.ndarray) for leaf in leaves)
        return not arrays and value in self.choices

    def as_text(self) -> Spec:
        plain = all(isinstance(choice, bool | int | float | str | None) for choice in self.choices)
        return self if plain else Categorical(tuple(self.labels))

    @property
    def _index(self) -> Integer:
        return Integer(0, len(self.choices) - 1)

    def decode(self, unconstrained: Any) -> jax.Array:
        return self._index.decode(unconstrained)

    def encode(self, value: Any) -> jax.Array:
        if isinstance(value, jax.Array):
            return self._index.encode(value)
        if self.holds(value):
            codes = self._code(value)
        else:
            codes = np.vectorize(self._code, otypes=[float])(np.asarray(value, object))
        return self._index.encode(jnp.asarray(codes, jnp.result_type(float)))

    def sample(self, key: Key, shape: tuple[int, ...]) -> jax.Array:
        return self._index.sample(key, shape)

    def quantile(self, unit: Any) -> jax.Array:
        return self._index.quantile(unit)

    def cdf(self, unconstrained: Any) -> jax.Array:
        return self._index.cdf(unconstrained)

    def _code(self, value: Any) -> Any:
        if value in self.choices:
            return float(self.choices.index(value))
        named = not any(isinstance(choice, numbers.Number) for choice in self.choices)
        return value if named and isinstance(value, numbers.Real) else math.nan


KINDS = (Real, Log, Bounded, BoundedLog, Integer, Categorical)
