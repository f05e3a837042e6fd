"""The loss that trains a Bayesian hypernet: Bayes by Backprop over sampled λ.

    E_q [ (1/K) Σ_k L_train(w_φ(λ_k), λ_k) ] + KL(q ‖ p) / N

At one λ, with L_train the mean of −log p(target | input, w) over N examples, this is the negative
evidence lower bound for each example. Over many λ it is that of the distribution of φ that has
exp(−N E_λ L_train(w_φ(λ), λ)) for a likelihood.

Blundell, Cornebise, Kavukcuoglu and Wierstra (2015), "Weight Uncertainty in Neural Networks",
arXiv:1505.05424.
"""

import jax
import jax.numpy as jnp

from shohypernet import inner_loop
from shohypernet._internal import validation
from shohypernet.hypernets import Hypernet, Posterior
from shohypernet.hypertraining._updates import ResponseLoss
from shohypernet.problem import Problem
from shohypernet.types import Batch, Hyperparams, Key, Params


def variational(examples: float) -> ResponseLoss:
    """Negative evidence lower bound of a Bayesian hypernet, with a draw for each sampled λ.

    Args:
      examples: N, the training examples that the training loss is a mean over. A squared error
        without its factor 1/(2σ²) needs N/(2σ²). A greater N gives narrower distributions.

    Returns:
      A `response_loss` for `global_response` and `local_response`, whose λ share a minibatch. It
      raises a TypeError for a hypernet that isn't Bayesian.

    Raises:
      ValueError: unless N is positive.

    Reference:
      Blundell et al. (2015), arXiv:1505.05424.
    """
    validation.positive("variational", examples=examples)

    def loss(
        problem: Problem,
        hypernet: Hypernet,
        hypernet_params: Params,
        sampled: Hyperparams,
        batch: Batch,
        key: Key,
    ) -> jax.Array:
        posterior = posterior_of("variational", hypernet)
        key_divergence, key_weights, key_loss = jax.random.split(key, 3)

        def one(hyperparams: Hyperparams, key_weights: Key, key_loss: Key) -> jax.Array:
            params = posterior.weights(key_weights, hypernet_params, hyperparams)
            return problem.train_loss(params, hyperparams, batch, key_loss)

        keys = (
            jax.random.split(each, inner_loop.count(sampled)) for each in (key_weights, key_loss)
        )
        expected = jnp.mean(jax.vmap(one)(sampled, *keys))
        return expected + posterior.divergence(key_divergence, hypernet_params) / examples

    return loss


def posterior_of(function: str, hypernet: Hypernet) -> Posterior:
    """The posterior of a Bayesian hypernet.

    Raises:
      TypeError: for a hypernet without one, or anything else.
    """
    validation.hypernet(function, hypernet)
    if hypernet.posterior is None:
        raise TypeError(
            f"{function}() needs a Bayesian hypernet, got one whose φ has no distribution; "
            "wrap it: shn.hypernets.bayesian(hypernet)."
        )
    return hypernet.posterior
