"""The black-box methods that hyper-training is compared with, and their one driver, `run`."""

from shohypernet.search._base import Proposal, Search
from shohypernet.search._bayesian import bayesian
from shohypernet.search._driver import (
    Measured,
    Result,
    best_so_far,
    run,
)
from shohypernet.search._freeze_thaw import freeze_thaw
from shohypernet.search._grid_search import grid_search
from shohypernet.search._hyperband import hyperband
from shohypernet.search._random_search import random_search
from shohypernet.search._successive_halving import successive_halving
from shohypernet.search._tpe import optuna_search, tpe

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
