"""Best-response models w_φ(λ): from any tree of hyperparameters to any tree of weights."""

from shohypernet.hypernets._base import Hypernet
from shohypernet.hypernets._chunked import chunked
from shohypernet.hypernets._elementwise import elementwise
from shohypernet.hypernets._factorized import factorized
from shohypernet.hypernets._linear import linear
from shohypernet.hypernets._mlp import mlp
from shohypernet.hypernets._structured import structured

__all__ = ["Hypernet", "chunked", "elementwise", "factorized", "linear", "mlp", "structured"]
