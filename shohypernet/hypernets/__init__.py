"""Best-response models w_φ(λ): from any tree of hyperparameters to any tree of weights.

They start at the model's own weights, and read how far λ is from where the run starts: at first
w_φ(λ₀) = w₀, with a response of a hundredth of the weights. With `init_scale` they start from
φ ~ N(0, init_scale²) and read λ as it is, as in the paper, whose scale is `PAPER_INIT_SCALE`.
"""

from shohypernet.hypernets import encodings
from shohypernet.hypernets._base import PAPER_INIT_SCALE, Hypernet, Posterior
from shohypernet.hypernets._bayesian import BayesianParams, bayesian
from shohypernet.hypernets._chunked import chunked
from shohypernet.hypernets._elementwise import elementwise
from shohypernet.hypernets._encoded import encoded
from shohypernet.hypernets._factorized import factorized
from shohypernet.hypernets._gated import gated
from shohypernet.hypernets._linear import linear
from shohypernet.hypernets._mlp import mlp
from shohypernet.hypernets._priors import Prior, gaussian_prior, mixture_prior
from shohypernet.hypernets._structured import structured

__all__ = [
    "PAPER_INIT_SCALE",
    "BayesianParams",
    "Hypernet",
    "Posterior",
    "Prior",
    "bayesian",
    "chunked",
    "elementwise",
    "encoded",
    "encodings",
    "factorized",
    "gated",
    "gaussian_prior",
    "linear",
    "mixture_prior",
    "mlp",
    "structured",
]
