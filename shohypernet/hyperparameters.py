"""The typed space of hyperparameters, and the distributions p(λ) that hypernets are trained under.

Methods move hyperparameters in *unconstrained* space, ℝⁿ. A space is a tree of specs, each of which
says how one entry becomes a value in natural units, what its prior is, and whether a gradient can
move it; it is a prefix of the hyperparameters' tree, so one `log()` may stand for a million decays.

    space = {"decay": log(1e-6, 1e2), "dropout": bounded(0.0, 0.9)}
    start = encode(space, {"decay": jnp.full((784, 10), 1e-3), "dropout": 0.5})
    decode(space, start)["dropout"]                                # 0.5 again

A *sampler*, `sampler(key, hyperparams) -> hyperparams`, draws one λ from p(λ) or, near the current
λ̂, from p(λ | λ̂); methods `vmap` it.
"""

import dataclasses
import math
import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from shohypernet._internal import random, validation

Sampler = Callable[[jax.Array, Any], Any]


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
      bounds: where the prior lies, in natural units.
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
    _require(math.isfinite(loc), f"real() needs a finite loc, got {loc}.")
    validation.positive("real", scale=scale)
    return Spec(
        kind="real",
        decode=lambda unconstrained: unconstrained,
        encode=lambda value: jnp.asarray(value, jnp.result_type(value, float)),
        sample=lambda key, shape: loc + scale * jax.random.normal(key, shape),
        quantile=lambda unit: loc + scale * jax.scipy.special.ndtri(unit),
        bounds=(-math.inf, math.inf),
    )


def log(low: float = 1e-6, high: float = 1e2) -> Spec:
    """A positive number, moved as its natural logarithm: value = exp(λ).

    Args:
      low: lower end of the log-uniform prior, in natural units. It bounds the prior only.
      high: upper end of the prior, likewise.

    Raises:
      ValueError: unless 0 < low < high.
    """
    _require(0 < low < high < math.inf, f"log() needs 0 < low < high, got {low} and {high}.")
    lowest, highest = math.log(low), math.log(high)
    return Spec(
        kind="log",
        decode=jnp.exp,
        encode=jnp.log,
        sample=lambda key, shape: jax.random.uniform(key, shape, minval=lowest, maxval=highest),
        quantile=lambda unit: lowest + (highest - lowest) * unit,
        bounds=(low, high),
    )


def bounded(low: float, high: float) -> Spec:
    """A number between two bounds: value = low + (high − low)·sigmoid(λ); prior uniform.

    Raises:
      ValueError: unless low < high, both finite.
    """
    _require_bounds("bounded", low, high)
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
    _require(
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
    _require(len(choices) > 1, f"categorical() needs two choices or more, got {choices}.")
    twice = [choice for i, choice in enumerate(choices) if choice in choices[:i]]
    _require(not twice, f"categorical() needs choices that differ, but {twice} come twice.")
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


def decode(space: Any, hyperparams: Any) -> Any:
    """Unconstrained hyperparameters as values in natural units.

    Args:
      space: a tree of specs, a prefix of `hyperparams`.
      hyperparams: a tree of unconstrained arrays.

    Returns:
      A tree like `hyperparams`.
    """
    return jax.tree.map(lambda spec, below: jax.tree.map(spec.decode, below), space, hyperparams)


def encode(space: Any, values: Any) -> Any:
    """Values in natural units as unconstrained hyperparameters: the inverse of `decode`.

    Raises:
      ValueError: for a value outside its spec's range, which has no unconstrained counterpart.
    """

    def checked(spec: Spec, below: Any) -> Any:
        unconstrained = jax.tree.map(spec.encode, below)
        if not all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(unconstrained)):
            raise ValueError(
                f"{below} is not strictly inside the range of its {spec.kind}() hyperparameter; "
                "start from a value inside it."
            )
        return unconstrained

    return jax.tree.map(checked, space, values)


def spread(space: Any, like: Any) -> Any:
    """A tree like `like` that has each leaf's own spec."""
    return jax.tree.map(lambda spec, below: jax.tree.map(lambda _: spec, below), space, like)


def sample(key: jax.Array, space: Any, like: Any) -> Any:
    """One draw from the prior of a space, in unconstrained space.

    Args:
      key: a random key.
      space: a tree of specs, a prefix of `like`.
      like: a tree of arrays that gives the shapes.

    Returns:
      A tree like `like`.
    """
    specs = jax.tree.leaves(spread(space, like))
    leaves, treedef = jax.tree.flatten(like)
    keys = jax.random.split(key, len(leaves))
    draws = [
        spec.sample(k, jnp.shape(leaf)) for spec, k, leaf in zip(specs, keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(treedef, draws)


def describe(space: Any, hyperparams: Any) -> str:
    """A line that shows values in natural units; arrays by their median and range."""

    def show(spec: Spec, leaf: jax.Array) -> str:
        value = spec.decode(leaf)
        if spec.choices and value.ndim == 0:
            return str(spec.choices[int(value)])
        if value.ndim == 0:
            return f"{value.item():.4g}"
        return f"{jnp.median(value):.4g} [{jnp.min(value):.4g}, {jnp.max(value):.4g}]"

    shown = jax.tree.map(show, spread(space, hyperparams), hyperparams)
    named = jax.tree.leaves_with_path(shown)
    return ", ".join(f"{jax.tree_util.keystr(path)} {text}".strip() for path, text in named)


def require_differentiable(space: Any) -> None:
    """Refuses a space that a gradient method cannot tune.

    Raises:
      ValueError: naming each entry that is an integer or a category.
    """
    fixed = [
        f"{jax.tree_util.keystr(path) or 'the space'} ({spec.kind})"
        for path, spec in jax.tree.leaves_with_path(space)
        if not spec.differentiable
    ]
    _require(
        not fixed,
        f"gradients cannot move {', '.join(fixed)}: fix it, relax it to bounded(), or give it to a "
        "black-box search.",
    )


def gaussian(loc: float = 0.0, scale: float = 1.0) -> Sampler:
    """The sampler of a fixed broad p(λ) = N(loc, scale²), every entry alike (Algorithm 2).

    Args:
      loc: mean, in unconstrained units.
      scale: standard deviation, likewise.

    Raises:
      ValueError: for a negative or non-finite scale.
    """
    _require(math.isfinite(loc), f"gaussian() needs a finite loc, got {loc}.")
    validation.not_negative("gaussian", scale=scale)

    def draw(key: jax.Array, hyperparams: Any) -> Any:
        noise = random.random_like(key, hyperparams)
        return jax.tree.map(lambda leaf: loc + scale * leaf, noise)

    return draw


def uniform(low: float, high: float) -> Sampler:
    """The sampler of a fixed p(λ) = U[low, high], every entry alike, in unconstrained units.

    Raises:
      ValueError: unless low < high.
    """
    _require_bounds("uniform", low, high)

    def draw(key: jax.Array, hyperparams: Any) -> Any:
        noise = random.random_like(key, hyperparams, jax.random.uniform)
        return jax.tree.map(lambda leaf: low + (high - low) * leaf, noise)

    return draw


def fixed_set(points: Any) -> Sampler:
    """The sampler of a p(λ) that is uniform over given λ, such as those of trained models.

    Args:
      points: a tree like the hyperparameters', each leaf with a leading axis of one entry a λ.

    Raises:
      ValueError: unless the leaves share a leading axis of at least one.
    """
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(points)]
    counts = {shape[:1] for shape in shapes}
    _require(
        len(counts) == 1 and not counts <= {(), (0,)},
        f"fixed_set() needs a leading axis in common, of one λ or more, got shapes {shapes}.",
    )
    (count,) = counts.pop()

    def draw(key: jax.Array, hyperparams: Any) -> Any:
        del hyperparams
        index = jax.random.randint(key, (), 0, count)
        return jax.tree.map(lambda leaf: jnp.asarray(leaf)[index], points)

    return draw


def local_gaussian(scale: float) -> Sampler:
    """The sampler of p(λ | λ̂) = N(λ̂, scale²), every entry alike (Algorithm 3).

    Args:
      scale: standard deviation, in unconstrained units; 0 samples λ̂ itself.

    Raises:
      ValueError: for a negative or non-finite scale.
    """
    validation.not_negative("local_gaussian", scale=scale)

    def draw(key: jax.Array, hyperparams: Any) -> Any:
        noise = random.random_like(key, hyperparams)
        return jax.tree.map(lambda center, leaf: center + scale * leaf, hyperparams, noise)

    return draw


def clipped(sampler: Sampler, low: float, high: float) -> Sampler:
    """Another sampler's draws, clipped to [low, high] in unconstrained units.

    Raises:
      ValueError: unless low < high.
    """
    _require_bounds("clipped", low, high)
    return lambda key, hyperparams: jax.tree.map(
        lambda leaf: jnp.clip(leaf, low, high), sampler(key, hyperparams)
    )


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)


def _require_bounds(name: str, low: float, high: float) -> None:
    ordered = math.isfinite(low) and math.isfinite(high) and low < high
    _require(ordered, f"{name}() needs finite bounds with low < high, got {low} and {high}.")
