"""Hyper-training: Algorithms 2, 3 and 4 of the paper, one a file, and what came of them later."""

from shohypernet.hypertraining._centered_response import centered_response
from shohypernet.hypertraining._exploring_response import (
    Choice,
    exploring_response,
    optimistic,
    thompson,
)
from shohypernet.hypertraining._global_response import global_response
from shohypernet.hypertraining._local_response import local_response
from shohypernet.hypertraining._predicted_losses import predicted_losses
from shohypernet.hypertraining._self_tuning import self_tuning
from shohypernet.hypertraining._simultaneous import simultaneous
from shohypernet.hypertraining._unrolled_response import unrolled_response
from shohypernet.hypertraining._updates import shared_minibatch, sliced_minibatch
from shohypernet.hypertraining._variational import variational

__all__ = [
    "Choice",
    "centered_response",
    "exploring_response",
    "global_response",
    "local_response",
    "optimistic",
    "predicted_losses",
    "self_tuning",
    "shared_minibatch",
    "simultaneous",
    "sliced_minibatch",
    "thompson",
    "unrolled_response",
    "variational",
]
