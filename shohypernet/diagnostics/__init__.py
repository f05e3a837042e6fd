"""Measures of hypergradients and best responses, and checks of a method on a problem of yours.

`untunable` is for before a run: which hyperparameters a method can't move, and why. `check` is for
after one, or for any moment of it: whether the method's hypergradient points the right way.
"""

from shohypernet.diagnostics._check import check
from shohypernet.diagnostics._measures import best_response_error, cosine, norm_ratio, sharpness
from shohypernet.diagnostics._untunable import untunable
from shohypernet.diagnostics._verdict import Check, Comparison

__all__ = [
    "Check",
    "Comparison",
    "best_response_error",
    "check",
    "cosine",
    "norm_ratio",
    "sharpness",
    "untunable",
]
