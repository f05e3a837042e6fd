"""Dropout at rates that are hyperparameters.

    u = x ∘ m / (1 − p),  m ~ Bernoulli(1 − p)

Srivastava et al. (2014), "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR
15; for rates that differ from example to example, MacKay et al. (2019), arXiv:1903.03088.
"""

from collections.abc import Callable
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from shohypernet import hyperparameters as hp
from shohypernet._internal import validation
from shohypernet.regularizers._base import (
    Model,
    Regularizer,
    is_deterministic,
    of_strength,
    require_start,
)
from shohypernet.types import Hyperparams, Key


def dropout(
    start: float = 0.05,
    *,
    high: float = 0.9,
    per: Literal["layer", "model"] = "layer",
    name: str = "dropout",
) -> Regularizer:
    """Rates of the model's own `nn.Dropout`s, in place of those that they were made with.

    A rate has no derivative here: that of a mask's scale without that of the mask would mislead. So
    it is tuned by methods that need none, such as `self_tuning`, `local_response` and searches.

    Args:
      start: rate to start from.
      high: upper bound of the rates.
      per: one rate for each `nn.Dropout`, by its path in the model, or one for all.
      name: of these hyperparameters.

    Raises:
      ValueError: for a start outside the bounds, or, from `supervised`, for a model without an
        active `nn.Dropout`.
    """
    validation.require(
        per in ("layer", "model"), f"dropout() needs per='layer' or per='model', got {per!r}."
    )
    space = require_start("dropout", start, hp.bounded(0.0, high))

    def starts(model: Model) -> Hyperparams:
        if not model.dropouts:
            raise ValueError(
                "regularizers.dropout() found no active nn.Dropout in the model: add some to it, "
                "and say how it is called in training, such as supervised(..., "
                "train_kwargs={'deterministic': False}, eval_kwargs={'deterministic': True})."
            )
        return start if per == "model" else dict.fromkeys(model.dropouts, start)

    def intercept(rates: Hyperparams) -> Callable[..., Any]:
        def drop(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            module = context.module
            if not isinstance(module, nn.Dropout) or context.method_name != "__call__":
                return call(*args, **kwargs)
            if is_deterministic(module, args, kwargs):
                return call(*args, **kwargs)
            inputs = args[0] if args else kwargs["inputs"]
            key = kwargs.get("rng", args[2] if len(args) > 2 else None)
            key = module.make_rng(module.rng_collection) if key is None else key
            rate = rates if per == "model" else rates["/".join(module.path) or "Dropout"]
            return dropped(key, inputs, rate, module.broadcast_dims)

        return drop

    return Regularizer(name, space, starts, intercept=intercept)


def input_dropout(
    start: float = 0.05, *, high: float = 0.9, name: str = "input_dropout"
) -> Regularizer:
    """A rate at which numbers of the inputs are dropped, before the model.

    Args:
      start: rate to start from.
      high: upper bound of the rate.
      name: of the hyperparameter.

    Raises:
      ValueError: for a start outside the bounds.
    """

    def transform(key: Key, rate: Any, inputs: Any, targets: Any) -> tuple[Any, Any]:
        return dropped(key, inputs, rate), targets

    return of_strength("input_dropout", start, high, name, transform)


def dropped(key: Key, inputs: jax.Array, rate: Any, shared: Any = ()) -> jax.Array:
    """Inputs with a share of them at zero and the others scaled up, in their dtype.

    Args:
      key: PRNG key of the mask.
      inputs: array of any shape.
      rate: share that is dropped, scalar below 1.
      shared: axes along which all have one mask.
    """
    rate = jax.lax.stop_gradient(rate)
    shape = [
        1 if axis in [s % inputs.ndim for s in shared] else n for axis, n in enumerate(inputs.shape)
    ]
    kept = jax.random.bernoulli(key, 1 - rate, shape)
    # 1 / (1 − p) or 0, by an exponential: XLA computes such a thing once, where it would draw the
    # mask again for each number that shares it.
    scale = jnp.exp(jnp.where(kept, -jnp.log1p(-rate), -jnp.inf))
    return inputs * scale.astype(inputs.dtype)
