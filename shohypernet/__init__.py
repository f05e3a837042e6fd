"""Stochastic hyperparameter optimisation through hypernetworks, in JAX.

A hypernetwork w_φ(λ) learns to output nearly optimal weights for any hyperparameters λ, and λ
follows the validation gradient through it (Lorraine and Duvenaud, 2018, arXiv:1802.09419).
"""

from shohypernet import (
    data,
    diagnostics,
    hypergradients,
    hypernets,
    hyperparameters,
    linear_solvers,
    losses,
    penalties,
    search,
)
from shohypernet.fit import History, Result, fit
from shohypernet.hypergradients.back_optimisation import back_optimisation
from shohypernet.hypergradients.drmad import drmad
from shohypernet.hypergradients.forward import forward, real_time
from shohypernet.hypergradients.hoag import hoag
from shohypernet.hypergradients.implicit import implicit
from shohypernet.hypergradients.reversible import reversible
from shohypernet.hypergradients.unrolled import truncated, unrolled
from shohypernet.hyperoptimizer import HyperOptimizer, Info
from shohypernet.hypertraining import (
    centred_response,
    global_response,
    local_response,
    simultaneous,
)
from shohypernet.problem import Problem, supervised
from shohypernet.training import Trained, train

__all__ = [
    "History",
    "HyperOptimizer",
    "Info",
    "Problem",
    "Result",
    "Trained",
    "back_optimisation",
    "centred_response",
    "data",
    "diagnostics",
    "drmad",
    "fit",
    "forward",
    "global_response",
    "hoag",
    "hypergradients",
    "hypernets",
    "hyperparameters",
    "implicit",
    "linear_solvers",
    "local_response",
    "losses",
    "penalties",
    "real_time",
    "reversible",
    "search",
    "simultaneous",
    "supervised",
    "train",
    "truncated",
    "unrolled",
]
