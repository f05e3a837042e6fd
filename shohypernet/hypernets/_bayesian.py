"""A hypernet with a distribution over φ in place of one φ.

    q(φ) = N(μ, log(1 + exp ρ)²), a mean and a deviation for each number of φ

Its draws are differentiable in μ and ρ: φ = μ + log(1 + exp ρ) ∘ ε with ε ~ N(0, 1). The last layer
of a dense hypernet is linear in its kernel. Given h, its inputs, the weights that it makes are
independent normal numbers of mean hᵀμ and variance (h²)ᵀσ², which may be drawn in place of the far
more numerous φ.

Blundell, Cornebise, Kavukcuoglu and Wierstra (2015), "Weight Uncertainty in Neural Networks",
arXiv:1505.05424. Kingma, Salimans and Welling (2015), "Variational Dropout and the Local
Reparameterization Trick", arXiv:1506.02557.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from shohypernet._internal import random, validation
from shohypernet.hypernets._base import Hypernet, Posterior, ravel
from shohypernet.hypernets._dense import DenseParams
from shohypernet.hypernets._encoded import EncodedParams
from shohypernet.hypernets._priors import Prior, gaussian_prior
from shohypernet.hypernets._started import StartedParams
from shohypernet.types import Hyperparams, Key, Params

INIT_DEVIATION = 0.001
UNIT_PRIOR = gaussian_prior()


class BayesianParams(NamedTuple):
    """q(φ) of `bayesian`.

    Attributes:
      mean: μ, a tree like the φ of the hypernet inside.
      rho: ρ of what is drawn, which is all but λ₀ and what else is held, and an encoding's numbers.
    """

    mean: Params
    rho: Params

    @property
    def deviation(self) -> Params:
        """Standard deviations, log(1 + exp ρ)."""
        return jax.tree.map(jax.nn.softplus, self.rho)


def bayesian(
    hypernet: Hypernet,
    *,
    prior: Prior = UNIT_PRIOR,
    init_deviation: float = INIT_DEVIATION,
    local: bool = True,
) -> Hypernet:
    """A variational posterior over the φ of another hypernet.

    Methods train it by `response_loss=hypertraining.variational(...)`; by any other they train the
    mean alone.

    Args:
      hypernet: the hypernet inside, whose own start is that of the mean.
      prior: of every number of φ: `gaussian_prior(...)` or `mixture_prior(...)`.
      init_deviation: standard deviation of every φ at first.
      local: whether training draws what the last layer makes, not its φ, where the hypernet is
        dense (`linear`, `mlp`, `factorized`): less to draw and less noise, for a loss of the same
        mean.

    Returns:
      A Hypernet with a posterior, and twice the numbers of the hypernet inside.

    Raises:
      TypeError: for something that is no hypernet, or no prior.
      ValueError: unless the deviation is positive.

    Reference:
      Blundell et al. (2015), arXiv:1505.05424.
    """
    validation.hypernet("bayesian", hypernet)
    validation.positive("bayesian", init_deviation=init_deviation)
    if not isinstance(prior, Prior):
        raise TypeError(
            "bayesian() needs prior to be a distribution, such as "
            f"shn.hypernets.gaussian_prior(1.0), got {prior!r}."
        )

    def init(key: Key, params: Params, hyperparams: Hyperparams) -> BayesianParams:
        mean = hypernet.init(key, params, hyperparams)
        rho = jnp.log(jnp.expm1(init_deviation))
        return BayesianParams(
            mean, jax.tree.map(lambda leaf: jnp.full_like(leaf, rho), _drawn(mean))
        )

    def apply(hypernet_params: BayesianParams, hyperparams: Hyperparams) -> Params:
        return hypernet.apply(hypernet_params.mean, hyperparams)

    def draw(key: Key, hypernet_params: BayesianParams) -> BayesianParams:
        mean, deviation = hypernet_params.mean, hypernet_params.deviation
        drawn = _normal(key, _drawn(mean), deviation)
        return hypernet_params._replace(mean=_with_drawn(mean, drawn))

    def weights(key: Key, hypernet_params: BayesianParams, hyperparams: Hyperparams) -> Params:
        if local and isinstance(_drawn(hypernet_params.mean), DenseParams):
            return _drawn_outputs(key, hypernet, hypernet_params, hyperparams)
        return apply(draw(key, hypernet_params), hyperparams)

    def divergence(key: Key, hypernet_params: BayesianParams) -> jax.Array:
        mean, deviation = _drawn(hypernet_params.mean), hypernet_params.deviation
        each = jax.tree.map(prior.divergence, _normal(key, mean, deviation), mean, deviation)
        return jnp.sum(ravel(each))

    return Hypernet(init, apply, Posterior(draw, weights, divergence))


def _drawn(hypernet_params: Any) -> Any:
    """The part of φ that has a distribution."""
    match hypernet_params:
        case StartedParams():
            return _drawn(hypernet_params.response)
        case EncodedParams():
            return _drawn(hypernet_params.hypernet)
    return hypernet_params


def _with_drawn(hypernet_params: Any, drawn: Any) -> Any:
    """φ with another such part."""
    match hypernet_params:
        case StartedParams(response=inside):
            return hypernet_params._replace(response=_with_drawn(inside, drawn))
        case EncodedParams(hypernet=inside):
            return hypernet_params._replace(hypernet=_with_drawn(inside, drawn))
    return drawn


def _normal(key: Key, mean: Params, deviation: Params) -> Params:
    """Independent normal numbers."""
    noise = random.random_like(key, mean)
    return jax.tree.map(lambda m, s, e: m + s * e, mean, deviation, noise)


def _drawn_outputs(
    key: Key, hypernet: Hypernet, hypernet_params: BayesianParams, hyperparams: Hyperparams
) -> Params:
    """Weights drawn given the hidden layers, which are drawn as they are."""
    key_hidden, key_outputs = jax.random.split(key)
    mean, deviation = _drawn(hypernet_params.mean), hypernet_params.deviation
    mean = mean.replace(hidden=_normal(key_hidden, mean.hidden, deviation.hidden))

    def applied(mean: DenseParams) -> Params:
        return hypernet.apply(_with_drawn(hypernet_params.mean, mean), hyperparams)

    made = applied(mean)
    # What enters the last layer, as the output of one with an identity for a kernel.
    rows = jax.tree.leaves(mean.kernels)[0].shape[0]
    identity = jnp.eye(rows)
    features = mean.replace(
        kernels=identity, shapes=(identity[0].shape,), dtypes=(str(identity.dtype),)
    )
    squared = jnp.square(applied(features))
    variances = jax.tree.map(
        lambda leaf, kernel: (squared.astype(kernel.dtype) @ jnp.square(kernel)).reshape(
            leaf.shape
        ),
        made,
        deviation.kernels,
    )
    deviations = jax.tree.map(lambda leaf, v: jnp.sqrt(v).astype(leaf.dtype), made, variances)
    return _normal(key_outputs, made, deviations)
