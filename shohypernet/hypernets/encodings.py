"""Encodings of hyperparameters: what a hypernet reads in place of λ.

    hypernets.encoded(hypernets.mlp((64,)), encodings.circular(problem.space))

Log decays between −14 and 5 beside a dropout rate between −1 and 1 make a badly scaled input. An
encoding brings each hyperparameter to a common scale, by the prior of its spec: `log(low, high)` or
`log(prior=(low, high))` says over which range a decay matters. With m and s the prior's mean and
standard deviation in unconstrained units:

    standardized     z = (λ − m) / s
    learned_bounds   z = (λ − (a + b)/2) / ((b − a)/√12), with a and b trained along
    circular         [cos πt/2, sin πt/2],  t = (λ − a) / (b − a)

where a, b = m ∓ √3 s, the ends of a log-uniform prior.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from shohypernet import hyperparameters as hp
from shohypernet.types import Hyperparams, Params, Space

QUANTILES = (np.arange(2_000) + 0.5) / 2_000  # of a prior, for its mean and standard deviation


class Encoding(NamedTuple):
    """Features of hyperparameters.

    Attributes:
      init: `init(hyperparams) -> params`, numbers that are trained with φ; () if there are none.
      features: `features(params, hyperparams) -> features`, any tree of arrays.
    """

    init: Callable[[Hyperparams], Params]
    features: Callable[[Params, Hyperparams], Any]


class Bounds(NamedTuple):
    """Numbers of `learned_bounds`, trees like λ: middles, and logarithms of the standard deviation.

    Bounds are a, b = center ∓ √3 exp(log_scale).
    """

    center: Params
    log_scale: Params


def standardized(space: Space) -> Encoding:
    """Distances from the prior's mean in standard deviations, z = (λ − m) / s.

    Args:
      space: specs whose priors tell m and s, a prefix of λ's tree: usually `problem.space`.

    Raises:
      ValueError: if the space holds an integer or a category.
    """
    moments = _moments(space)

    def features(params: Params, hyperparams: Hyperparams) -> Any:
        del params
        return _standardize(hyperparams, *moments(hyperparams))

    return Encoding(lambda hyperparams: (), features)


def learned_bounds(space: Space) -> Encoding:
    """The same of a uniform distribution whose bounds are trained with φ, a pair for each λ.

    Args:
      space: specs whose priors give the bounds at the start, a prefix of λ's tree.

    Raises:
      ValueError: if the space holds an integer or a category.
    """
    moments = _moments(space)

    def init(hyperparams: Hyperparams) -> Bounds:
        center, scale = moments(hyperparams)

        def full(values: Any, like: Any) -> Any:
            return jax.tree.map(
                lambda value, leaf: jnp.full(jnp.shape(leaf), value, jnp.result_type(leaf, float)),
                values,
                like,
            )

        return Bounds(full(center, hyperparams), full(jax.tree.map(np.log, scale), hyperparams))

    def features(params: Bounds, hyperparams: Hyperparams) -> Any:
        return _standardize(hyperparams, params.center, jax.tree.map(jnp.exp, params.log_scale))

    return Encoding(init, features)


def circular(space: Space) -> Encoding:
    """A point on the unit circle, [cos πt/2, sin πt/2], for each λ, however large it is.

    Between the bounds it is a quarter of a circle, so that λ beyond them, up to the whole range on
    either side, still have features of their own.

    Args:
      space: specs whose priors tell the bounds, a prefix of λ's tree.

    Raises:
      ValueError: if the space holds an integer or a category.
    """
    moments = _moments(space)

    def features(params: Params, hyperparams: Hyperparams) -> Any:
        del params

        def angle(z: jax.Array) -> jax.Array:
            return jnp.pi / 4 * (1 + z / np.sqrt(3))

        angles = jax.tree.map(angle, _standardize(hyperparams, *moments(hyperparams)))
        return jax.tree.map(jnp.cos, angles), jax.tree.map(jnp.sin, angles)

    return Encoding(lambda hyperparams: (), features)


def _moments(space: Space) -> Callable[[Hyperparams], tuple[Any, Any]]:
    """`moments(hyperparams)`: mean and standard deviation of each leaf's prior, unconstrained.

    They are computed here, once, for a run would trace them.
    """
    hp.require_differentiable(space)
    known = {}
    for spec in jax.tree.leaves(space):
        drawn = np.asarray(spec.quantile(QUANTILES), float)
        known[spec] = float(drawn.mean()), float(drawn.std())

    def moments(hyperparams: Hyperparams) -> tuple[Any, Any]:
        specs = hp.broadcast_space(space, hyperparams)
        return jax.tree.map(lambda spec: known[spec][0], specs), jax.tree.map(
            lambda spec: known[spec][1], specs
        )

    return moments


def _standardize(hyperparams: Hyperparams, center: Any, scale: Any) -> Any:
    return jax.tree.map(lambda value, m, s: (value - m) / s, hyperparams, center, scale)
