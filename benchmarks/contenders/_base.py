"""The protocol of the contenders of `hyper_training`: all start at one φ and can share draws."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from benchmarks._problems import Setting
from shohypernet.batches import Data


class HypernetArrays(NamedTuple):
    """φ as lists of arrays, one for each array of the network.

    Attributes:
      into: V, (size, rank) each; none for the linear hypernet.
      into_bias: c, (rank,); likewise.
      out: U, (rank, *shape) each, or (1, *shape) for the linear hypernet.
      out_bias: b, of the network's shapes.
    """

    into: list[np.ndarray]
    into_bias: list[np.ndarray]
    out: list[np.ndarray]
    out_bias: list[np.ndarray]


class Draws(NamedTuple):
    """Random numbers of some steps, for contenders to repeat the same ones.

    Attributes:
      noise: ε, (steps, K, size) for each hyperparameter array.
      train_rows: indices of the training images, (steps, batch).
      valid_rows: likewise of the validation images.
    """

    noise: list[np.ndarray]
    train_rows: np.ndarray
    valid_rows: np.ndarray


class Start(NamedTuple):
    """Initial state of a run and its data, in NumPy.

    Attributes:
      setting: the problem.
      hypernet: φ.
      data: images (n, 784) and one-hot targets (n, 10) of the splits.
    """

    setting: Setting
    hypernet: HypernetArrays
    data: Data


class Contender(NamedTuple):
    """One implementation of Algorithm 3.

    Attributes:
      advance: `advance(steps)` continues the run with draws of its own, and waits for the end.
      steps_per_call: number of steps to ask of it, enough for the clock.
      replay: `replay(draws) -> losses`: from the start with the draws given; the penalized training
        loss and the validation loss of each step, shape (2, steps).
    """

    advance: Callable[[int], None]
    steps_per_call: int
    replay: Callable[[Draws], np.ndarray]
