"""The gradient methods that hyper-training is compared with, one a file.

Each file has a pure `hypergradient(...)`, such as `hypergradients.unrolled.hypergradient`, and a
builder of a `HyperOptimizer` of the file's own name. They count compute in gradients of an
elementary loss on one batch, and a product with second derivatives as two of these. The pure
functions differentiate in λ as the problem's losses read it: in natural units, or in unconstrained
space with `problem.unconstrained(problem)`, as the builders do.
"""

from shohypernet.hypergradients import (
    back_optimization,
    curvature,
    drmad,
    f2sa,
    forward,
    hoag,
    implicit,
    reversible,
    saba,
    soba,
    unrolled,
)

__all__ = [
    "back_optimization",
    "curvature",
    "drmad",
    "f2sa",
    "forward",
    "hoag",
    "implicit",
    "reversible",
    "saba",
    "soba",
    "unrolled",
]
