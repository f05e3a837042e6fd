"""Best-response models w_φ(λ): from any tree of hyperparameters to any tree of weights."""

from shohypernet.hypernets.factorised import factorised
from shohypernet.hypernets.hypernet import Hypernet
from shohypernet.hypernets.mlp import linear, mlp

__all__ = ["Hypernet", "factorised", "linear", "mlp"]
