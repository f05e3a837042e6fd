"""The one algorithm that every contender runs, and the problems that they run it on.

Algorithm 3 of the paper, one step:

    λ_k = λ̂ + s ε_k,  ε_k ~ N(0, I),  w_k = w_φ(λ_k),  k = 1 … K
    φ ← φ − Optimizer of ∇ (1/K) Σ_k [L(training images, w_k) + penalty(λ_k, w_k)]
    λ̂ ← λ̂ − Adam of dL(validation images, w_φ(λ̂))/dλ̂

The hypernet is linear, w_φ(λ) = λ U + b, or factorized, w_φ(λ) = (λ V + c) U + b, with one U and b
for each array of w. L is f·MSE, whose constant the comparison does not need; the penalty is
exp(λ) ‖w‖₂ for one λ, and (d/10) Σ_i exp(λ_i) w_i² for one a weight. (There λ is told from log d,
for a factorized hypernet of 89,610 inputs that start at −7 blows up.)
"""

import itertools
import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from shohypernet.batches import CLASSES, Data

PIXELS = 784
ADAM_DECAYS = (0.9, 0.999)
ADAM_EPSILON = 1e-8


class Setting(NamedTuple):
    """A problem, and the sizes of a step.

    Attributes:
      name: as it is printed.
      hidden: widths of the network's hidden layers.
      rank: of the factorized hypernet, with a decay for each weight; 0 for the linear hypernet,
        with one decay for all.
      train_images: in the pool that training minibatches are drawn from.
      valid_images: likewise.
      batch: images in each minibatch, drawn with replacement; None takes all.
      samples: K.
      sampling_scale: s.
      start: λ̂ of the first step.
      decay_scale: d.
      loss_factor: f.
      optimizer: of φ.
      learning_rate: of φ.
      hyper_learning_rate: of λ̂.
    """

    name: str
    hidden: tuple[int, ...]
    rank: int
    train_images: int
    valid_images: int
    batch: int | None
    samples: int
    sampling_scale: float
    start: float
    decay_scale: float
    loss_factor: float
    optimizer: Literal["sgd", "adam"]
    learning_rate: float
    hyper_learning_rate: float

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of the network's arrays: bias and kernel of each layer, as JAX sorts them."""
        widths = [PIXELS, *self.hidden, CLASSES]
        layers = itertools.pairwise(widths)
        return [shape for inputs, outputs in layers for shape in ((outputs,), (inputs, outputs))]

    @property
    def weights(self) -> int:
        """The number of weights."""
        return sum(int(np.prod(shape)) for shape in self.shapes)

    @property
    def hyperparams(self) -> int:
        """The number of hyperparameters."""
        return self.weights if self.rank else 1

    @property
    def hypernet_params(self) -> int:
        """The number of numbers in φ."""
        into = self.rank * (self.hyperparams + 1)
        return into + ((self.rank or 1) + 1) * self.weights


class Hypernet(NamedTuple):
    """φ as arrays, a list's entries being those of the network's arrays.

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
    """What is random in some steps, so that all contenders can make the same ones.

    Attributes:
      noise: ε, (steps, K, size) for each hyperparameter array.
      train_rows: indices of the training images, (steps, batch).
      valid_rows: of the validation images.
    """

    noise: list[np.ndarray]
    train_rows: np.ndarray
    valid_rows: np.ndarray


class Start(NamedTuple):
    """Where a run starts and what it is run on, in NumPy.

    Attributes:
      setting: the problem.
      hypernet: φ.
      data: images (n, 784) and one-hot targets (n, 10) of the splits.
    """

    setting: Setting
    hypernet: Hypernet
    data: Data


class Contender(NamedTuple):
    """One way to run it.

    Attributes:
      advance: `advance(steps)` goes on from where it is, with its own draws, and waits for the end.
      steps_a_call: the number to ask of it, so that a call is long to the clock but not to us.
      replay: `replay(draws) -> losses`: from the start with the draws given; the penalized training
        loss and the validation loss of each step, shape (2, steps).
    """

    advance: Callable[[int], None]
    steps_a_call: int
    replay: Callable[[Draws], np.ndarray]


_LARGE = Setting(
    name="large",
    hidden=(),
    rank=10,
    train_images=10_000,
    valid_images=10_000,
    batch=1_000,
    samples=2,
    sampling_scale=0.003,
    start=0.0,
    decay_scale=math.exp(-6),
    loss_factor=1.0,
    optimizer="adam",
    learning_rate=1e-4,
    hyper_learning_rate=1e-4,
)
SETTINGS = {
    "small": Setting(
        name="small: 784-10, 1 decay, 10 training and 10,000 validation images",
        hidden=(),
        rank=0,
        train_images=10,
        valid_images=10_000,
        batch=None,
        samples=10,
        sampling_scale=0.06,
        start=-3.5,
        decay_scale=1.0,
        loss_factor=50.0,  # of the Gaussian likelihood with σ = 0.1
        optimizer="sgd",
        learning_rate=1e-4,
        hyper_learning_rate=1e-2,
    ),
    "large": _LARGE._replace(name="large: 784-10, 7,850 decays, minibatches of 1,000"),
    "large_100": _LARGE._replace(name="large: the same, minibatches of 100", batch=100),
    "deeper": _LARGE._replace(
        name="deeper: 784-100-100-10, 89,610 decays, minibatches of 100",
        hidden=(100, 100),
        batch=100,
        decay_scale=math.exp(-7),
    ),
}
