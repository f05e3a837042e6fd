"""Hyper-training: the paper's Algorithms 2, 3 and 4."""

from shohypernet.hypertraining.centred_response import centred_response
from shohypernet.hypertraining.global_response import global_response
from shohypernet.hypertraining.local_response import local_response
from shohypernet.hypertraining.simultaneous import simultaneous
from shohypernet.hypertraining.updates import shared_minibatch, sliced_minibatch

__all__ = [
    "centred_response",
    "global_response",
    "local_response",
    "shared_minibatch",
    "simultaneous",
    "sliced_minibatch",
]
