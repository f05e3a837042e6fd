"""The driver of the gradient methods: one compiled run, its history and its files."""

from shohypernet.fitting._driver import NonFiniteLoss, Result, fit
from shohypernet.fitting._history import History
from shohypernet.fitting._signals import Interrupted

__all__ = ["History", "Interrupted", "NonFiniteLoss", "Result", "fit"]
