"""The outputs of the Flax model that a training loss calls, and the loss as a function of them.

Flax's method interceptors find both, so a loss needn't be written in parts.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from shohypernet.problem import Problem
from shohypernet.types import Batch, Hyperparams, Key, Params


class Outputs:
    """The model's outputs z at some weights, and the loss as a function of them.

    Args:
      problem: a stateless problem, λ as its losses read it.
      hyperparams: λ.
      batch: training examples.
      key: PRNG key of the stochastic terms of the loss.
    """

    def __init__(self, problem: Problem, hyperparams: Hyperparams, batch: Batch, key: Key) -> None:
        """Trace nothing yet."""
        self._loss = lambda params: problem.train_loss(params, hyperparams, batch, key)

    def at(
        self, params: Params, within: AbstractContextManager[Any] | None = None
    ) -> list[jax.Array]:
        """z: the floating-point outputs of each call of the model, in order.

        Args:
          params: the weights.
          within: a context, such as `layers.watched`, for the calls of the model. Of Flax's
            interceptors the last is the innermost, so it must be entered after the one here: a
            model may be a single layer.
        """
        outputs: list[jax.Array] = []

        def collect(made: Any) -> Any:
            outputs.extend(leaf for leaf in jax.tree.leaves(made) if _is_floating(leaf))
            return made

        with nn.intercept_methods(_of_model(collect)), within or nullcontext():
            self._loss(params)
        if not outputs:
            raise ValueError(
                "the training loss calls no Flax Linen module, whose outputs are to be found in "
                "it; write the model as a flax.linen.Module, or use jacobians.linearized()."
            )
        return outputs

    def loss(self, params: Params, outputs: list[jax.Array]) -> jax.Array:
        """L at given outputs; its derivatives in the weights are those of the penalties alone."""
        given: Iterator[jax.Array] = iter(outputs)

        def replace(made: Any) -> Any:
            return jax.tree.map(lambda leaf: next(given) if _is_floating(leaf) else leaf, made)

        with nn.intercept_methods(_of_model(replace)):
            return self._loss(params)


def _of_model(change: Callable[[Any], Any]) -> Callable[..., Any]:
    """An interceptor that changes what a model returns, not what the modules within it do."""
    inside = False

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        nonlocal inside
        if context.method_name == "setup":
            return call(*args, **kwargs)
        outermost = context.module.path == () and not inside
        inside = inside or outermost
        try:
            made = call(*args, **kwargs)
        finally:
            inside = inside and not outermost
        return change(made) if outermost else made

    return intercept


def _is_floating(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
