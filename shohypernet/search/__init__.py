"""The black-box methods that hyper-training is compared with, and their one driver, `run`."""

from shohypernet.search._base import Asker, Proposal, Search
from shohypernet.search._bayesian import bayesian
from shohypernet.search._driver import run
from shohypernet.search._freeze_thaw import freeze_thaw
from shohypernet.search._grid_search import grid_search
from shohypernet.search._hyperband import hyperband
from shohypernet.search._random_search import random_search
from shohypernet.search._result import Measured, SearchResult, best_so_far
from shohypernet.search._successive_halving import successive_halving
from shohypernet.search._tpe import optuna_search, tpe

__all__ = [
    "Asker",
    "Measured",
    "Proposal",
    "Search",
    "SearchResult",
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
