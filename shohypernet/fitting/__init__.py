"""The driver of gradient methods: one compiled run, its history and its files."""

from shohypernet.fitting._driver import fit
from shohypernet.fitting._health import NonFiniteLoss
from shohypernet.fitting._history import History
from shohypernet.fitting._result import Result
from shohypernet.fitting._signals import Interrupted

__all__ = ["History", "Interrupted", "NonFiniteLoss", "Result", "fit"]
