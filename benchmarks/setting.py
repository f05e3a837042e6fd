"""The one calculation that every contender makes: Algorithm 3 on the paper's small problem.

    w_k = λ_k s + o with λ_k = λ̂ + 0.06 ε_k,  k = 1 … 10,  ε_k ~ N(0, 1)
    (s, o) ← (s, o) − 1e-4 ∇ (1/10) Σ_k [NLL(10 training images, w_k) + exp(λ_k) ‖w_k‖₂]
    λ̂ ← λ̂ − Adam(1e-2) of dNLL(10,000 validation images, λ̂ s + o)/dλ̂

λ is one log decay, w the 7,850 weights of a linear model from 784 pixels to 10 classes.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

SAMPLES = 10  # K, sampled λ a step
SAMPLING_SCALE = 0.06
HYPERNET_LEARNING_RATE = 1e-4  # SGD
HYPER_LEARNING_RATE = 1e-2  # Adam, with the constants below
ADAM_DECAYS = (0.9, 0.999)
ADAM_EPSILON = 1e-8
START = -3.5  # λ̂

TRAIN_IMAGES = 10
VALID_IMAGES = 10_000
NLL_SCALE = 0.1  # σ
NLL_FACTOR = 1 / (2 * NLL_SCALE**2)
NLL_CONSTANT = math.log(NLL_SCALE * math.sqrt(2 * math.pi))


class Arrays(NamedTuple):
    """Where a run starts and what it is run on, all NumPy float32.

    The slope s and the offset o of the linear hypernet, each as a kernel (784, 10) and a bias
    (10,); images (n, 784) and one-hot targets (n, 10).
    """

    slope_kernel: np.ndarray
    slope_bias: np.ndarray
    offset_kernel: np.ndarray
    offset_bias: np.ndarray
    train_inputs: np.ndarray
    train_targets: np.ndarray
    valid_inputs: np.ndarray
    valid_targets: np.ndarray


class Contender(NamedTuple):
    """One way to make the calculation.

    Attributes:
      advance: `advance(steps)` goes on from where it is, with its own noise, and waits for the end.
      steps_a_call: the number to ask of it, so that a call is long to the clock but not to us.
      replay: `replay(noise) -> losses`: from the start with ε given, shape (steps, 10); the
        training and the validation loss of each step, shape (2, steps).
    """

    advance: Callable[[int], None]
    steps_a_call: int
    replay: Callable[[np.ndarray], np.ndarray]
