"""Best-response models w_φ(λ): from any tree of hyperparameters to any tree of weights."""

from shohypernet.hypernets.elementwise import elementwise
from shohypernet.hypernets.factorised import factorised
from shohypernet.hypernets.hypernet import Hypernet
from shohypernet.hypernets.jacobian import Jacobian, Point
from shohypernet.hypernets.kronecker import kronecker
from shohypernet.hypernets.linearised import linearised
from shohypernet.hypernets.mlp import linear, mlp
from shohypernet.hypernets.structured import structured

__all__ = [
    "Hypernet",
    "Jacobian",
    "Point",
    "elementwise",
    "factorised",
    "kronecker",
    "linear",
    "linearised",
    "mlp",
    "structured",
]
