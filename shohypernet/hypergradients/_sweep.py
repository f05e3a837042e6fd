"""The backward pass along a given trajectory of training, from w_{T−1} down to w_0.

    λ̄ ← λ̄ + (∂Φ_t/∂λ)ᵀ w̄,    w̄ ← (∂Φ_t/∂w)ᵀ w̄

Φ_t is one training step. Its optimizer's state and the model's are part of what moves.
"""

from collections.abc import Callable
from typing import Any

import jax
import optax

from shohypernet._internal.trees import split_floats
from shohypernet.inner_loop import Step, TrainState, ValidGradients
from shohypernet.types import Batch, Hyperparams, Key


def sweep(
    step: Step,
    hyperparams: Hyperparams,
    trajectory: Callable[[Any], TrainState],
    places: Any,
    inputs: tuple[Batch, Key],
    valid: ValidGradients,
) -> Hyperparams:
    """dL_valid/dλ by the transposed derivatives of the steps of a trajectory.

    Args:
      step: Φ, `inner_loop.train_step` with problem and optimizer given.
      hyperparams: λ.
      trajectory: where a step is taken to have started, from its place.
      places: what the trajectory makes that of, leaves led by an axis of T.
      inputs: the batches and keys of the steps, likewise.
      valid: L_valid's gradients at the end.

    Returns:
      A tree like λ.
    """

    def back(carry: tuple[Any, Any], at: tuple[Any, tuple[Batch, Key]]) -> Any:
        cotangent, gradient = carry
        place, (batch, key) = at
        floats, rebuild = split_floats(trajectory(place))

        def forward(floats: list[jax.Array], hyperparams: Hyperparams) -> list[jax.Array]:
            return split_floats(step(rebuild(floats), hyperparams, batch, key)[0])[0]

        cotangent, more = jax.vjp(forward, floats, hyperparams)[1](cotangent)
        return (cotangent, optax.tree.add(gradient, more)), None

    last = trajectory(jax.tree.map(lambda leaf: leaf[-1], places))
    still = optax.tree.zeros_like(last.opt_state)
    cotangent = split_floats(TrainState(valid.params, still, valid.model_state))[0]
    carry = cotangent, valid.hyperparams
    return jax.lax.scan(back, carry, (places, inputs), reverse=True)[0][1]
