"""Noise on inputs, and mixtures of examples."""

from typing import Any

import jax
import jax.numpy as jnp

from shohypernet.regularizers._base import Regularizer, of_strength
from shohypernet.types import Key


def input_noise(
    start: float = 0.05, *, high: float = 2.0, name: str = "input_noise"
) -> Regularizer:
    """Multiplicative noise on the inputs: x ∘ u, u ~ U[1 / (1 + s), 1 + s] (arXiv:1903.03088).

    Args:
      start: s to start from.
      high: upper bound of s.
      name: of the hyperparameter.

    Raises:
      ValueError: for a start outside the bounds.
    """

    def transform(key: Key, strength: Any, inputs: jax.Array, targets: Any) -> tuple[Any, Any]:
        low, high = 1 / (1 + strength), 1 + strength
        unit = jax.random.uniform(key, inputs.shape, inputs.dtype)
        return inputs * (low + (high - low) * unit).astype(inputs.dtype), targets

    return of_strength("input_noise", start, high, name, transform)


def mixup(start: float = 0.1, *, high: float = 2.0, name: str = "mixup") -> Regularizer:
    """Convex combinations of examples: x ← t x_i + (1 − t) x_j, and y likewise; t ~ Beta(α, α).

    Each example is mixed with the next of its batch, whose order is random.

    Args:
      start: α to start from.
      high: upper bound of α.
      name: of the hyperparameter.

    Raises:
      ValueError: for a start outside the bounds; when traced, for targets that are whole numbers
        rather than one-hot, or batches of a single example, as `self_tuning` makes them unless
        examples_per_draw is 2 or more.

    Reference:
      Zhang et al. (2018), "mixup: Beyond Empirical Risk Minimization", arXiv:1710.09412.
    """

    def transform(key: Key, alpha: Any, inputs: jax.Array, targets: Any) -> tuple[Any, Any]:
        require_soft("mixup", targets)
        if len(inputs) < 2:
            raise ValueError(
                "mixup() mixes an example with another of its batch, but batches hold a single "
                "one; use larger ones, or in self_tuning() examples_per_draw=2."
            )
        alpha = jax.lax.stop_gradient(alpha)
        share = jax.random.beta(key, alpha, alpha, (len(inputs),), jnp.result_type(float))

        def mixed(leaf: jax.Array) -> jax.Array:
            t = share.reshape(-1, *[1] * (leaf.ndim - 1)).astype(leaf.dtype)
            return t * leaf + (1 - t) * jnp.roll(leaf, 1, axis=0)

        return mixed(inputs), mixed(targets)

    return of_strength("mixup", start, high, name, transform)


def label_smoothing(
    start: float = 0.05, *, high: float = 0.5, name: str = "label_smoothing"
) -> Regularizer:
    """Targets mixed with the uniform distribution over K classes: y ← (1 − s) y + s / K.

    Args:
      start: s to start from.
      high: upper bound of s.
      name: of the hyperparameter.

    Raises:
      ValueError: for a start outside the bounds; when traced, for targets that are whole numbers
        rather than one-hot.

    Reference:
      Szegedy et al. (2016), "Rethinking the Inception Architecture", arXiv:1512.00567.
    """

    def transform(key: Key, strength: Any, inputs: Any, targets: jax.Array) -> tuple[Any, Any]:
        del key
        require_soft("label_smoothing", targets)
        strength = jnp.asarray(strength, targets.dtype)
        return inputs, (1 - strength) * targets + strength / targets.shape[-1]

    return of_strength("label_smoothing", start, high, name, transform)


def require_soft(function: str, targets: Any) -> None:
    """Refuse targets that are class numbers, which can't be mixed.

    Raises:
      ValueError: with the way to make them one-hot.
    """
    if not hasattr(targets, "dtype") or not jnp.issubdtype(targets.dtype, jnp.floating):
        raise ValueError(
            f"{function}() needs one-hot targets in floating point, such as jax.nn.one_hot(labels, "
            f"classes), got {getattr(targets, 'dtype', type(targets))}."
        )
