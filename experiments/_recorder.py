"""The hypergradient of a method of hyper-training at a λ that stands still."""

from typing import Any

import optax


def recorder() -> optax.GradientTransformation:
    """Optimizer of λ that moves nothing; its state is the last gradient."""

    def init(params: Any) -> Any:
        return optax.tree.zeros_like(params)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del state, params
        return optax.tree.zeros_like(updates), updates

    return optax.GradientTransformation(init, update)
