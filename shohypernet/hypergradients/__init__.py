"""The gradient methods that hyper-training is compared with, one a file.

Each file has a pure `hypergradient(...)`, such as `hypergradients.unrolled.hypergradient`, and a
builder of a `HyperOptimizer` of the file's own name. They count compute in gradients of an
elementary loss on one batch, and a product with second derivatives as two of these.
"""

from shohypernet.hypergradients import _inner as inner
from shohypernet.hypergradients import _lossless as lossless
from shohypernet.hypergradients import (
    back_optimization,
    curvature,
    drmad,
    forward,
    hoag,
    implicit,
    reversible,
    unrolled,
)

__all__ = [
    "back_optimization",
    "curvature",
    "drmad",
    "forward",
    "hoag",
    "implicit",
    "inner",
    "lossless",
    "reversible",
    "unrolled",
]
