"""Algorithm 3: train the hypernet near λ̂ and move λ̂, by turns.

    λ_k ~ p(λ | λ̂);  φ ← φ − α ∇_φ (1/K) Σ_k L_train(w_φ(λ_k), λ_k, x)    for each training batch
    λ̂ ← λ̂ − β ∇_λ̂ L_valid(w_φ(λ̂), x)                                     once

Lorraine and Duvenaud (2018), "Stochastic Hyperparameter Optimization through Hypernetworks",
arXiv:1802.09419.
"""

from operator import attrgetter

import optax

from shohypernet import inner_loop
from shohypernet.hypernets import Hypernet
from shohypernet.hyperoptimizer import HyperOptimizer, Info
from shohypernet.hypertraining import _updates as updates
from shohypernet.hypertraining._updates import HypernetState, ResponseLoss
from shohypernet.problem import Problem, unconstrained
from shohypernet.samplers import Sampler
from shohypernet.types import Batch, Key


def local_response(
    problem: Problem,
    hypernet: Hypernet,
    *,
    hypernet_optimizer: optax.GradientTransformation,
    hyper_optimizer: optax.GradientTransformation,
    sampler: Sampler,
    samples: int = 2,
    response_loss: ResponseLoss = updates.shared_minibatch,
) -> HyperOptimizer:
    """Hyper-training with a local, conditional distribution of hyperparameters.

    Args:
      problem: the bilevel problem.
      hypernet: the model of the best response; a linear one is enough.
      hypernet_optimizer: α, for φ.
      hyper_optimizer: β, for λ̂.
      sampler: p(λ | λ̂), usually `samplers.local_gaussian(scale)`. Too small a scale leaves
        a bias in the hypergradient, too large a one asks too much of a linear hypernet.
      samples: K, sampled λ for each φ update.
      response_loss: whether the λ of one update share a minibatch, or each see a slice of it.

    Returns:
      A HyperOptimizer whose round takes samples · inner steps + 1 gradient evaluations.

    Raises:
      ValueError: if samples is below 1.

    Reference:
      Algorithm 3 of arXiv:1802.09419.
    """
    parts = updates.build(
        "local_response",
        unconstrained(problem),
        hypernet,
        hypernet_optimizer,
        hyper_optimizer,
        sampler,
        samples,
        response_loss,
    )

    def step(
        key: Key, state: HypernetState, train_batches: Batch, valid_batch: Batch
    ) -> tuple[HypernetState, Info]:
        state, train_loss = parts.train_hypernet(key, state, train_batches)
        valid_loss, gradient = parts.hypergradient(state, valid_batch)
        state = parts.move_hyperparams(state, gradient, valid_loss)
        evaluations = samples * inner_loop.count(train_batches) + 1
        return state, updates.info(train_loss, valid_loss, gradient, evaluations)

    return HyperOptimizer(
        parts.init,
        step,
        parts.weights,
        attrgetter("model_state"),
        problem,
        weights_at=parts.weights_at,
    )
