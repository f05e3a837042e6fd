"""The least time of a step on the measured machine, counted by hand.

Only the work that every order of the calculation has to do:

- the images of each minibatch read once for the outputs and once for the weights' gradients (in
  place, with no copy made; seeds that take all images share the reading);
- φ read for w_φ(λ_k), read and written by its update, and read twice for λ̂, forward and backward;
  Adam's two moments read and written;
- the products of all these: of the network, forward, for the gradients of its weights and of the
  inputs of all layers but the first, and of the hypernet likewise.

Not counted: drawing λ and minibatches, the penalty, λ̂'s own update, and intermediate results that
are written and read.
"""

from typing import NamedTuple

import numpy as np

from benchmarks import _problems as problems
from benchmarks._problems import Setting

FLOAT_BYTES = 4
MULTIPLY_ADD = 2
PASSES_OVER_IMAGES = 2
PASSES_OVER_PHI = {"sgd": 5, "adam": 9}


class Work(NamedTuple):
    """Least work of one step of all seeds.

    Attributes:
      image_bytes: bytes of images and targets read.
      state_bytes: bytes of φ and its optimizer's moments read and written.
      flops: flops of all products.
    """

    image_bytes: float
    state_bytes: float
    flops: float


class Bound(NamedTuple):
    """Least time of a step, in seconds: of moving data, and of computing."""

    seconds_moving: float
    seconds_computing: float

    @property
    def steps_per_second(self) -> float:
        """The rate that the slower of the two allows."""
        return 1 / max(self)

    @property
    def limit(self) -> str:
        """The slower of the two: "memory" or "flops"."""
        return "memory" if self.seconds_moving > self.seconds_computing else "flops"


def work(setting: Setting, seeds: int) -> Work:
    """The work of one step of some seeds."""
    train, valid = (
        setting.batch or images for images in (setting.train_images, setting.valid_images)
    )
    readings = seeds if setting.batch else 1
    row = PASSES_OVER_IMAGES * problems.PIXELS + setting.shapes[-1][-1]
    images = readings * (train + valid) * row * FLOAT_BYTES
    passes = PASSES_OVER_PHI[setting.optimizer]
    state = seeds * passes * setting.hypernet_params * FLOAT_BYTES

    kernels = [int(np.prod(shape)) for shape in setting.shapes[1::2]]
    network = (3 * sum(kernels) - kernels[0]) * (setting.samples * train + valid)
    # Each λ_k needs its weights, and gradients of U, of U's inputs where there is a V, and of V.
    samples, rank = setting.samples, setting.rank
    hypernet = max(rank, 1) * setting.weights * ((3 if rank else 2) * samples + 2)
    hypernet += rank * setting.hyperparams * (2 * samples + 2)
    return Work(images, state, MULTIPLY_ADD * seeds * (network + hypernet))


def bound(work: Work, product: float, image_bandwidth: float, state_bandwidth: float) -> Bound:
    """The bound on a machine with these peaks, in flops/s and bytes/s."""
    moving = work.image_bytes / image_bandwidth + work.state_bytes / state_bandwidth
    return Bound(moving, work.flops / product)
