"""Stochastic hyperparameter optimization through hypernetworks, in JAX.

A hypernetwork w_φ(λ) learns to output nearly optimal weights for any hyperparameters λ, and λ
follows the validation gradient through it (Lorraine and Duvenaud, 2018, arXiv:1802.09419).
"""

from shohypernet import (
    batches,
    callbacks,
    datasets,
    diagnostics,
    hypergradients,
    hypernets,
    hyperparameters,
    hypertraining,
    jacobians,
    linear_solvers,
    losses,
    metrics,
    models,
    penalties,
    plots,
    priors,
    proximal,
    regularizers,
    response,
    ridge,
    samplers,
    search,
    sources,
)
from shohypernet._supervised import supervised
from shohypernet.datasets import DataError
from shohypernet.fitting import History, Interrupted, NonFiniteLoss, Result, fit
from shohypernet.folds import cross_validation
from shohypernet.hypergradients.back_optimization import back_optimization
from shohypernet.hypergradients.drmad import drmad
from shohypernet.hypergradients.f2sa import f2sa
from shohypernet.hypergradients.forward import forward, real_time
from shohypernet.hypergradients.hoag import hoag
from shohypernet.hypergradients.implicit import implicit
from shohypernet.hypergradients.reversible import reversible
from shohypernet.hypergradients.saba import saba
from shohypernet.hypergradients.soba import soba
from shohypernet.hypergradients.unrolled import truncated, unrolled
from shohypernet.hyperoptimizer import HyperOptimizer, Info
from shohypernet.hypertraining import (
    centered_response,
    exploring_response,
    global_response,
    local_response,
    self_tuning,
    simultaneous,
    unrolled_response,
)
from shohypernet.problem import Problem
from shohypernet.reporting import Report, report
from shohypernet.saving import load, save
from shohypernet.training import Retrained, Trained, retrain, train

__all__ = [
    "DataError",
    "History",
    "HyperOptimizer",
    "Info",
    "Interrupted",
    "NonFiniteLoss",
    "Problem",
    "Report",
    "Result",
    "Retrained",
    "Trained",
    "back_optimization",
    "batches",
    "callbacks",
    "centered_response",
    "cross_validation",
    "datasets",
    "diagnostics",
    "drmad",
    "exploring_response",
    "f2sa",
    "fit",
    "forward",
    "global_response",
    "hoag",
    "hypergradients",
    "hypernets",
    "hyperparameters",
    "hypertraining",
    "implicit",
    "jacobians",
    "linear_solvers",
    "load",
    "local_response",
    "losses",
    "metrics",
    "models",
    "penalties",
    "plots",
    "priors",
    "proximal",
    "real_time",
    "regularizers",
    "report",
    "response",
    "retrain",
    "reversible",
    "ridge",
    "saba",
    "samplers",
    "save",
    "search",
    "self_tuning",
    "simultaneous",
    "soba",
    "sources",
    "supervised",
    "train",
    "truncated",
    "unrolled",
    "unrolled_response",
]
