"""Hyper-training: Algorithms 2, 3 and 4 of the paper, one a file, and Algorithm 3 centered."""

from shohypernet.hypertraining._centered_response import centered_response
from shohypernet.hypertraining._global_response import global_response
from shohypernet.hypertraining._local_response import local_response
from shohypernet.hypertraining._simultaneous import simultaneous
from shohypernet.hypertraining._updates import shared_minibatch, sliced_minibatch

__all__ = [
    "centered_response",
    "global_response",
    "local_response",
    "shared_minibatch",
    "simultaneous",
    "sliced_minibatch",
]
