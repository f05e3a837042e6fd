"""Regularizers whose strengths are hyperparameters, for `supervised(..., regularizers=[...])`.

Each has a value of its own for every example under `self_tuning`, and serves a black-box search as
it is. Those with a derivative in λ (noise, shifts, smoothing, decays, weights) serve the gradient
methods too.
"""

from shohypernet.regularizers._activations import (
    activation_penalty,
    temporal_activation_penalty,
)
from shohypernet.regularizers._base import Model, Regularizer
from shohypernet.regularizers._dropconnect import dropconnect
from shohypernet.regularizers._dropout import dropout, input_dropout
from shohypernet.regularizers._images import (
    brightness,
    contrast,
    cutout,
    rotate,
    scale,
    translate,
)
from shohypernet.regularizers._inputs import input_noise, label_smoothing, mixup
from shohypernet.regularizers._weight_decay import weight_decay
from shohypernet.regularizers._weights import class_weights, example_weights

__all__ = [
    "Model",
    "Regularizer",
    "activation_penalty",
    "brightness",
    "class_weights",
    "contrast",
    "cutout",
    "dropconnect",
    "dropout",
    "example_weights",
    "input_dropout",
    "input_noise",
    "label_smoothing",
    "mixup",
    "rotate",
    "scale",
    "temporal_activation_penalty",
    "translate",
    "weight_decay",
]
