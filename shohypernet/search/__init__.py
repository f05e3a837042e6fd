"""The black-box methods that hyper-training is compared with, and their one driver, `run`."""

from shohypernet.search.bayesian import bayesian
from shohypernet.search.driver import Measured, Result, best_so_far, run
from shohypernet.search.freeze_thaw import freeze_thaw
from shohypernet.search.grid_search import grid_search
from shohypernet.search.hyperband import hyperband
from shohypernet.search.protocol import Proposal, Search
from shohypernet.search.random_search import random_search
from shohypernet.search.successive_halving import successive_halving
from shohypernet.search.tpe import optuna_search, tpe

__all__ = [
    "Measured",
    "Proposal",
    "Result",
    "Search",
    "bayesian",
    "best_so_far",
    "freeze_thaw",
    "grid_search",
    "hyperband",
    "optuna_search",
    "random_search",
    "run",
    "successive_halving",
    "tpe",
]
