"""Algorithm 4: both gradients at λ̂, in one simultaneous update, with no sampling.

    φ ← φ − α ∇_φ L_train(w_φ(λ̂), λ̂, x),   λ̂ ← λ̂ − β ∇_λ̂ L_valid(w_φ(λ̂), x′)

The movement of λ̂ is all the noise that tells the hypernet how the best response changes with λ.

Lorraine and Duvenaud (2018), "Stochastic Hyperparameter Optimization through Hypernetworks",
arXiv:1802.09419.
"""

from operator import attrgetter

import optax

from shohypernet import inner_loop
from shohypernet.hypernets import Hypernet
from shohypernet.hyperoptimizer import HyperOptimizer, Info
from shohypernet.hypertraining import _updates as updates
from shohypernet.hypertraining._updates import HypernetState
from shohypernet.problem import Problem, unconstrained
from shohypernet.types import Batch, Key


def simultaneous(
    problem: Problem,
    hypernet: Hypernet,
    *,
    hypernet_optimizer: optax.GradientTransformation,
    hyper_optimizer: optax.GradientTransformation,
) -> HyperOptimizer:
    """Hyper-training simplified: no sampled λ, and one step moves φ and λ̂ together.

    Args:
      problem: the bilevel problem.
      hypernet: the model of the best response.
      hypernet_optimizer: α, for φ.
      hyper_optimizer: β, for λ̂.

    Returns:
      A HyperOptimizer whose round takes inner steps + 1 gradient evaluations. With several inner
      steps the hypergradient is still taken at the φ before them, as in the paper's update.

    Reference:
      Algorithm 4 of arXiv:1802.09419.
    """
    parts = updates.build(
        "simultaneous",
        unconstrained(problem),
        hypernet,
        hypernet_optimizer,
        hyper_optimizer,
        sampler=lambda key, hyperparams: hyperparams,
        samples=1,
        response_loss=updates.shared_minibatch,
    )

    def step(
        key: Key, state: HypernetState, train_batches: Batch, valid_batch: Batch
    ) -> tuple[HypernetState, Info]:
        valid_loss, gradient = parts.hypergradient(state, valid_batch)
        state, train_loss = parts.train_hypernet(key, state, train_batches)
        state = parts.move_hyperparams(state, gradient, valid_loss)
        evaluations = inner_loop.count(train_batches) + 1
        return state, updates.info(train_loss, valid_loss, gradient, evaluations)

    return HyperOptimizer(
        parts.init,
        step,
        parts.weights,
        attrgetter("model_state"),
        problem,
        weights_at=parts.weights_at,
    )
