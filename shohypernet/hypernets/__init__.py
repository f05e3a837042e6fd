"""Best-response models w_φ(λ): from any tree of hyperparameters to any tree of weights."""

from shohypernet.hypernets._base import Hypernet, Posterior
from shohypernet.hypernets._bayesian import BayesianParams, bayesian
from shohypernet.hypernets._chunked import chunked
from shohypernet.hypernets._elementwise import elementwise
from shohypernet.hypernets._factorized import factorized
from shohypernet.hypernets._linear import linear
from shohypernet.hypernets._mlp import mlp
from shohypernet.hypernets._priors import Prior, gaussian_prior, mixture_prior
from shohypernet.hypernets._structured import structured

__all__ = [
    "BayesianParams",
    "Hypernet",
    "Posterior",
    "Prior",
    "bayesian",
    "chunked",
    "elementwise",
    "factorized",
    "gaussian_prior",
    "linear",
    "mixture_prior",
    "mlp",
    "structured",
]
