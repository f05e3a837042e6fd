"""The problems that the contenders of `hyper_training` run on, and the images of all benchmarks.

One step of Algorithm 3 of the paper, the same for every contender:

    λ_k = λ̂ + s ε_k,  ε_k ~ N(0, I),  w_k = w_φ(λ_k),  k = 1 … K
    φ ← φ − Optimizer of ∇ (1/K) Σ_k [L(training images, w_k) + penalty(λ_k, w_k)]
    λ̂ ← λ̂ − Adam of dL(validation images, w_φ(λ̂))/dλ̂

The hypernet is linear, w_φ(λ) = λ U + b, or factorized, w_φ(λ) = (λ V + c) U + b, with one U and b
for each array of w. L is f·MSE, whose additive constant the comparison does not need; the penalty
is exp(λ) ‖w‖₂ for one λ, and (d/10) Σ_i exp(λ_i) w_i² for one λ per weight. (There λ is relative to
log d, because a factorized hypernet with 89,610 inputs that start at −7 diverges.)
"""

import itertools
import math
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from shohypernet import datasets
from shohypernet.batches import Data

PIXELS = 784
ADAM_DECAYS = (0.9, 0.999)
ADAM_EPSILON = 1e-8
TRAIN_5K, VALID_5K = 2_000, 1_990  # of mnist_5k's 4,000


class Setting(NamedTuple):
    """A problem, and the sizes of a step.

    Attributes:
      name: as it is printed.
      hidden: widths of the network's hidden layers.
      rank: of the factorized hypernet, with one decay per weight; 0 for the linear hypernet, with
        one decay for all.
      train_images: number of images that training minibatches are drawn from.
      valid_images: likewise for validation.
      batch: number of images in each minibatch, drawn with replacement; None takes all.
      samples: K.
      sampling_scale: s.
      start: initial λ̂, a logarithm.
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
        """Shapes of the network's arrays: bias and kernel of each layer, as JAX sorts them."""
        widths = [PIXELS, *self.hidden, datasets.CLASSES]
        layers = itertools.pairwise(widths)
        return [shape for inputs, outputs in layers for shape in ((outputs,), (inputs, outputs))]

    @property
    def weights(self) -> int:
        """Number of weights."""
        return sum(int(np.prod(shape)) for shape in self.shapes)

    @property
    def hyperparams(self) -> int:
        """Number of hyperparameters."""
        return self.weights if self.rank else 1

    @property
    def hyperparam_sizes(self) -> list[int]:
        """Sizes of the hyperparameters' arrays: those of the weights, or one number."""
        return [int(np.prod(shape)) for shape in self.shapes] if self.rank else [1]

    @property
    def hypernet_params(self) -> int:
        """Number of entries of φ."""
        into = self.rank * (self.hyperparams + 1)
        return into + ((self.rank or 1) + 1) * self.weights


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


def images(train: int, valid: int) -> tuple[str, Data]:
    """MNIST with so many training and validation images, and a line that says where it is from.

    Without MNIST the images of mnist_5k are repeated until there are enough.
    """
    try:
        return "mnist", datasets.load("mnist", train=train, valid=valid)
    except datasets.DataError:
        few = datasets.load("mnist_5k", train=min(train, TRAIN_5K), valid=min(valid, VALID_5K))
    repeated = Data(_repeated(few.train, train), _repeated(few.valid, valid), few.test)
    if len(few.train.inputs) == train and len(few.valid.inputs) == valid:
        return "mnist_5k", repeated
    return "mnist_5k, repeated; for as many different images set TFDS_DATA_DIR", repeated


def _repeated(split: Any, count: int) -> Any:
    rows = np.arange(count) % len(split.inputs)
    return jax.tree.map(lambda leaf: leaf[rows], split)
