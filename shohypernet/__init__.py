"""Stochastic hyperparameter optimisation through hypernetworks, in JAX.

A hypernetwork w_φ(λ) learns to output nearly optimal weights for any hyperparameters λ, and λ
follows the validation gradient through it (Lorraine and Duvenaud, 2018, arXiv:1802.09419).
"""

from shohypernet import data, hypernets, hyperparameters, losses, penalties
from shohypernet.fit import History, Result, fit
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
    "centred_response",
    "data",
    "fit",
    "global_response",
    "hypernets",
    "hyperparameters",
    "local_response",
    "losses",
    "penalties",
    "simultaneous",
    "supervised",
    "train",
]
